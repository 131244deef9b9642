"""Every way between the states of a rollout, and what it says about each."""

import msgspec
import pytest
from tests.rollouts.conftest import Rollout, Seen

from turnout.errors import ConflictError
from turnout.rollouts import progress, states

START = 1_000.0


def at(state: str, **changes: object) -> progress.Progress:
    shares = {"ramping": 0.01, "holding": 0.01, "promoting": 1.0, "baking": 1.0, "done": 1.0}
    usual = {"phase": "p", "state": state, "share": shares.get(state, 0.0), "since": START}
    begun = {"step_since": START, "started": START if state != "pending" else 0.0}
    return msgspec.convert(usual | begun | changes, progress.Progress)


def test_a_rollout_begins_when_every_worker_has_the_new_side_loaded(rollout: Rollout, seen: Seen) -> None:
    waits = states.step(at("pending"), seen(converged=False), rollout(), START)
    assert (waits.decision, waits.progress) == ("wait", at("pending"))
    begins = states.step(at("pending"), seen(), rollout(), START + 5)
    assert begins.decision == "start"
    assert (begins.progress.state, begins.progress.share, begins.progress.step) == ("ramping", 0.01, 1)
    assert begins.progress.started == begins.progress.step_since == START + 5
    assert "step 1 of 5, 1 %" in begins.reason


def test_a_step_goes_on_when_its_time_is_over_and_harm_is_ruled_out(rollout: Rollout, seen: Seen) -> None:
    early = states.step(at("ramping"), seen(), rollout(), START + 59)
    assert early.progress == at("ramping")
    move = states.step(at("ramping"), seen(), rollout(), START + 60)
    assert (move.decision, move.progress.share, move.progress.step) == ("advance", 0.05, 2)
    assert "worse by 0.40 % at most, margin 0.50 %" in move.reason


def test_the_last_step_leads_to_everybody(rollout: Rollout, seen: Seen) -> None:
    move = states.step(at("ramping", share=0.5, step=5), seen(), rollout(), START + 60)
    assert (move.decision, move.progress.state, move.progress.share) == ("promote", "promoting", 1.0)


def test_a_share_that_is_no_step_any_more_goes_to_the_next_one_above(rollout: Rollout, seen: Seen) -> None:
    move = states.step(at("ramping", share=0.1, step=3), seen(), rollout(steps=["2%", "20%"]), START + 60)
    assert (move.progress.share, move.progress.step) == (0.2, 2)


def test_proven_harm_takes_it_back_at_once(rollout: Rollout, seen: Seen) -> None:
    move = states.step(at("ramping"), seen("harmful"), rollout(), START + 1)
    assert (move.decision, move.progress.state, move.progress.share) == ("roll back", "rolled_back", 0.0)
    assert move.reason.startswith("errors: new 1.00 %, old 1.00 %; worse by")


def test_a_hard_failure_takes_it_back_at_once_also_in_a_bake(rollout: Rollout, seen: Seen) -> None:
    for state in ("ramping", "holding", "promoting", "baking"):
        move = states.step(at(state), seen(hard="circuit open on w0"), rollout(), START + 1)
        assert (move.progress.state, move.reason) == ("rolled_back", "circuit open on w0")


def test_without_requests_it_holds_and_at_the_deadline_goes_back(rollout: Rollout, seen: Seen) -> None:
    silent = seen(fresh=(0, 0), units=(0, 0))
    assert states.step(at("ramping"), silent, rollout(), START + 599).progress.state == "ramping"
    holds = states.step(at("ramping"), silent, rollout(), START + 600)
    assert (holds.decision, holds.progress.state) == ("hold", "holding")
    assert "too few requests in this step: 0 on the new side, 0 on the old, 50 are needed" in holds.reason
    still = states.step(holds.progress, silent, rollout(), START + 700)
    assert still.progress is holds.progress, "holding on makes no new revision"
    ends = states.step(holds.progress, silent, rollout(), START + 86_400)
    assert ends.progress.state == "rolled_back"
    assert "the deadline is over: too few requests" in ends.reason


def test_evidence_of_earlier_steps_does_not_move_a_silent_step(rollout: Rollout, seen: Seen) -> None:
    move = states.step(at("ramping"), seen(fresh=(49, 60)), rollout(), START + 120)
    assert move.decision == "wait"


def test_fewer_than_fifty_units_are_never_enough(rollout: Rollout, seen: Seen) -> None:
    few = rollout(step={"min": "60s", "max": "600s", "units": 1})
    move = states.step(at("ramping"), seen(units=(49, 80)), few, START + 120)
    assert (move.decision, "50 are needed" in move.reason) == ("wait", True)


def test_a_guardrail_without_data_holds_whatever_the_document_says(rollout: Rollout, seen: Seen) -> None:
    move = states.step(at("ramping"), seen("no data"), rollout(on_inconclusive="advance"), START + 600)
    assert (move.decision, move.reason) == ("hold", "no data yet for errors")


def test_data_that_come_back_lead_out_of_holding(rollout: Rollout, seen: Seen) -> None:
    move = states.step(at("holding"), seen(), rollout(), START + 5_000)
    assert (move.decision, move.progress.state, move.progress.share) == ("advance", "ramping", 0.05)


@pytest.mark.parametrize(
    ("share", "policy", "expected"),
    [
        (0.01, "auto", "advance"),
        (0.10, "auto", "advance"),
        (0.25, "auto", "hold"),
        (0.50, "auto", "hold"),
        (0.01, "hold", "hold"),
        (0.25, "advance", "advance"),
        (0.50, "advance", "promote"),
    ],
)
def test_what_is_not_known_at_a_steps_longest_time_is_decided_as_the_document_says(
    rollout: Rollout, seen: Seen, share: float, policy: str, expected: str
) -> None:
    spec = rollout(on_inconclusive=policy)
    now_at = at("ramping", share=share)
    assert states.step(now_at, seen("inconclusive"), spec, START + 599).decision == "wait"
    assert states.step(now_at, seen("inconclusive"), spec, START + 600).decision == expected


def test_a_sample_ratio_mismatch_holds_at_once(rollout: Rollout, seen: Seen) -> None:
    move = states.step(at("ramping"), seen(balanced=False, units=(900, 300)), rollout(), START + 5)
    assert move.progress.state == "holding"
    assert "sample ratio mismatch: 900 units on the new side, 300 on the old" in move.reason


def test_workers_that_do_not_follow_stop_the_next_step(rollout: Rollout, seen: Seen) -> None:
    move = states.step(at("ramping"), seen(converged=False), rollout(), START + 60)
    assert (move.decision, move.reason) == ("wait", "not every worker follows the last move")


@pytest.mark.parametrize(
    ("outcome", "closed", "expected"),
    [
        ("safe", 1.0, "promote"),
        ("safe", 0.79, "hold"),
        ("inconclusive", 1.0, "hold"),
        ("no data", 0.0, "hold"),
        ("harmful", 0.3, "roll back"),
    ],
)
def test_outcomes_stand_before_the_step_to_everybody(
    rollout: Rollout, seen: Seen, outcome: str, closed: float, expected: str
) -> None:
    move = states.step(at("ramping", share=0.5), seen(outcome=outcome, closed=closed), rollout(), START + 60)
    assert move.decision == expected


def test_outcomes_do_not_stop_a_smaller_step(rollout: Rollout, seen: Seen) -> None:
    move = states.step(at("ramping", share=0.25), seen(outcome="no data", closed=0.0), rollout(), START + 60)
    assert (move.decision, move.progress.share) == ("advance", 0.5)


def test_outcomes_never_known_end_at_the_deadline(rollout: Rollout, seen: Seen) -> None:
    now_at = at("holding", share=0.5)
    move = states.step(now_at, seen(outcome="no data", closed=0.0), rollout(deadline="2h"), START + 7_200)
    assert move.progress.state == "rolled_back"
    assert "kept" in move.reason


def test_it_bakes_once_every_worker_serves_the_new_side(rollout: Rollout, seen: Seen) -> None:
    waits = states.step(at("promoting"), seen(converged=False), rollout(), START + 5)
    assert waits.decision == "wait"
    bakes = states.step(at("promoting"), seen(), rollout(), START + 6)
    assert (bakes.decision, bakes.progress.state, bakes.progress.step_since) == ("bake", "baking", START + 6)
    waits = states.step(bakes.progress, seen(), rollout(), START + 605)
    assert waits.progress.state == "baking"
    done = states.step(bakes.progress, seen(), rollout(), START + 606)
    assert (done.decision, done.progress.state) == ("finish", "done")
    assert "delete the rollout's block" in done.reason


def test_after_the_switch_what_looks_worse_only_alerts(rollout: Rollout, seen: Seen) -> None:
    alerts = states.step(at("baking"), seen("harmful"), rollout(), START + 5)
    assert (alerts.decision, alerts.progress) == ("alert", at("baking"))
    done = states.step(at("baking"), seen("harmful"), rollout(), START + 600)
    assert (done.progress.state, "alert" in done.reason) == ("done", True)


def test_a_bake_without_requests_is_no_success(rollout: Rollout, seen: Seen) -> None:
    silent = seen(fresh=(3, 0))
    assert states.step(at("baking"), silent, rollout(), START + 3_600).progress.state == "baking"
    assert states.step(at("baking"), silent, rollout(), START + 90_000).progress.state == "rolled_back"


def test_blue_green_switches_everybody_in_one_step_and_back_in_one(rollout: Rollout, seen: Seen) -> None:
    spec = rollout(kind="blue-green")
    warm = states.step(at("pending"), seen(converged=False), spec, START)
    assert warm.decision == "wait"
    switched = states.step(at("pending"), seen(), spec, START + 1)
    assert (switched.decision, switched.progress.state, switched.progress.share) == ("promote", "promoting", 1.0)
    baking = states.step(switched.progress, seen(), spec, START + 2).progress
    back = states.by_hand(baking, "abort", spec, now=START + 3, author="mia", reason="wrong prices")
    assert (back.progress.state, back.progress.share) == ("rolled_back", 0.0)
    assert back.reason == "abort by mia: wrong prices"


def test_paused_it_goes_nowhere_and_its_clocks_stand_still(rollout: Rollout, seen: Seen) -> None:
    spec = rollout(deadline="2h")
    paused = states.by_hand(at("ramping"), "pause", spec, now=START + 30, author="mia").progress
    assert (paused.state, paused.paused, paused.share) == ("holding", True, 0.01)
    assert states.step(paused, seen(), spec, START + 9_000).progress is paused, "no step, no deadline"
    resumed = states.by_hand(paused, "resume", spec, now=START + 9_030, author="mia").progress
    assert (resumed.state, resumed.step_since, resumed.started) == ("ramping", START + 9_000, START + 9_000)
    assert states.step(resumed, seen(), spec, START + 9_059).decision == "wait"
    assert states.step(resumed, seen(), spec, START + 9_060).decision == "advance"


def test_what_is_proven_harmful_is_taken_back_even_while_paused(rollout: Rollout, seen: Seen) -> None:
    paused = states.by_hand(at("ramping"), "pause", rollout(), now=START + 30, author="mia").progress
    assert states.step(paused, seen("harmful"), rollout(), START + 40).progress.state == "rolled_back"


def test_a_paused_bake_goes_on_where_it_stood(rollout: Rollout, seen: Seen) -> None:
    paused = states.by_hand(at("baking"), "pause", rollout(), now=START + 100, author="mia").progress
    assert states.step(paused, seen(), rollout(), START + 5_000).progress is paused
    resumed = states.by_hand(paused, "resume", rollout(), now=START + 5_100, author="mia").progress
    assert (resumed.state, resumed.step_since) == ("baking", START + 5_000)


def test_promoted_by_hand_nothing_but_a_hand_takes_it_back(rollout: Rollout, seen: Seen) -> None:
    moved = states.by_hand(at("holding"), "promote", rollout(), now=START + 9, author="mia", reason="urgent").progress
    assert (moved.state, moved.share, moved.forced) == ("promoting", 1.0, True)
    alert = states.step(moved, seen(hard="circuit open on w0"), rollout(), START + 10)
    assert (alert.decision, alert.progress) == ("alert", moved)
    assert "a person promoted it" in alert.reason
    back = states.by_hand(moved, "abort", rollout(), now=START + 20, author="mia").progress
    assert (back.state, back.forced) == ("rolled_back", False)


def test_promoting_in_a_bake_cuts_it_short(rollout: Rollout) -> None:
    move = states.by_hand(at("baking"), "promote", rollout(), now=START + 9, author="mia")
    assert move.progress.state == "done"


def test_rolled_back_only_a_hand_starts_it_again_and_counts_from_then(rollout: Rollout, seen: Seen) -> None:
    back = at("rolled_back")
    assert states.step(back, seen(), rollout(), START + 9).progress is back
    again = states.by_hand(back, "resume", rollout(), now=START + 50, author="mia").progress
    assert (again.state, again.share, again.step) == ("ramping", 0.01, 1)
    assert again.counts_from == again.started == START + 50


@pytest.mark.parametrize(
    ("state", "command", "told"),
    [
        ("rolled_back", "abort", "rolled back already"),
        ("rolled_back", "pause", "nothing to pause"),
        ("done", "pause", "nothing to pause"),
        ("done", "promote", "done already"),
        ("done", "resume", "not paused but done"),
        ("ramping", "resume", "not paused but ramping"),
        ("promoting", "promote", "being moved over already"),
    ],
)
def test_a_command_without_meaning_says_so(rollout: Rollout, state: str, command: states.Command, told: str) -> None:
    with pytest.raises(ConflictError, match=told):
        states.by_hand(at(state), command, rollout(), now=START, author="mia")


def test_pausing_twice_says_so(rollout: Rollout) -> None:
    paused = states.by_hand(at("ramping"), "pause", rollout(), now=START, author="mia").progress
    with pytest.raises(ConflictError, match="paused already"):
        states.by_hand(paused, "pause", rollout(), now=START, author="mia")


def test_a_long_reason_fits_into_the_overlay(rollout: Rollout) -> None:
    move = states.by_hand(at("ramping"), "abort", rollout(), now=START, author="mia", reason="x" * 5_000)
    assert len(move.progress.note) == progress.NOTE_CHARACTERS
