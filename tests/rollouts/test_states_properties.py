"""What holds on every path: of looks of any kind, at any times, with commands of people between."""

import contextlib

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from turnout.errors import ConflictError
from turnout.rollouts import evidence, progress, states
from turnout.spec import traffic

ORDER = ("pending", "ramping", "holding", "promoting", "baking", "done")

readings = st.builds(
    lambda state, closed: evidence.Reading(
        name="r", state=state, new=0.1, old=0.1, low=0.0, high=0.1, margin=0.01, closed=closed
    ),
    st.sampled_from(["safe", "harmful", "inconclusive", "no data"]),
    st.sampled_from([0.0, 0.5, 0.8, 1.0]),
)
counts = st.tuples(st.sampled_from([0, 49, 50, 500]), st.sampled_from([0, 49, 50, 500]))
looks = st.builds(
    evidence.Evidence,
    converged=st.booleans(),
    hard=st.sampled_from(["", "", "", "circuit open"]),
    units=counts,
    fresh=counts,
    balanced=st.sampled_from([True, True, False]),
    guardrails=st.lists(readings, max_size=2).map(tuple),
    outcomes=st.lists(readings, max_size=2).map(tuple),
)
healthy = st.builds(
    lambda state, closed: evidence.Evidence(
        units=(500, 500),
        fresh=(500, 500),
        guardrails=(evidence.Reading(name="r", state=state),),
        outcomes=(evidence.Reading(name="o", state="safe", closed=closed),),
    ),
    st.sampled_from(["safe", "safe", "inconclusive"]),
    st.sampled_from([0.5, 1.0]),
)
"""Drawn at random alone, looks hardly ever let a canary out of its first step."""
commands = st.sampled_from(["pause", "resume", "abort", "promote"])
waits = st.sampled_from([0.0, 1.0, 59.0, 60.0, 301.0, 3_600.0, 90_000.0])
events = st.lists(st.tuples(waits, st.one_of(looks, healthy, healthy, commands)), max_size=40)
specs = st.builds(
    lambda kind, policy: traffic.RolloutSpec.model_validate(
        {"endpoint": "e", "to": {"pipeline": "n"}, "kind": kind, "bake": "60s"}
        | ({"on_inconclusive": policy, "step": {"min": "60s", "max": "300s"}} if kind == "canary" else {})
    ),
    st.sampled_from(["canary", "blue-green"]),
    st.sampled_from(["auto", "advance", "hold"]),
)
Happening = evidence.Evidence | states.Command
Event = tuple[float, Happening]


def walk(spec: traffic.RolloutSpec, happenings: list[Event]) -> list[tuple[progress.Progress, Happening, states.Move]]:
    """Every transition on a path: where it was, what happened, what came of it."""
    now, here = 1_000.0, progress.Progress(phase="p")
    made: list[tuple[progress.Progress, Happening, states.Move]] = []
    for wait, happening in happenings:
        now += wait
        if isinstance(happening, evidence.Evidence):
            move = states.step(here, happening, spec, now)
            made.append((here, happening, move))
            here = move.progress
            continue
        with contextlib.suppress(ConflictError):
            move = states.by_hand(here, happening, spec, now=now, author="mia")
            made.append((here, happening, move))
            here = move.progress
    return made


def test_the_walks_come_through_every_state_paused_and_forced() -> None:
    """Without it, what is asserted below of a state might be asserted of nothing."""
    seen: set[tuple[str, str]] = set()

    @settings(deadline=None, derandomize=True)
    @given(specs, events)
    def note(spec: traffic.RolloutSpec, happenings: list[Event]) -> None:
        for before, happening, _ in walk(spec, happenings):
            by = "look" if isinstance(happening, evidence.Evidence) else "hand"
            how = "paused" if before.paused else "forced" if before.forced else "free"
            seen.update({(before.state, by), (how, by)})

    note()
    assert seen >= {(each, by) for each in (*ORDER, "rolled_back", "paused", "forced") for by in ("look", "hand")}


@settings(deadline=None, derandomize=True)
@given(specs, events)
def test_out_of_rolled_back_only_a_hand_leads(spec: traffic.RolloutSpec, happenings: list[Event]) -> None:
    for before, happening, move in walk(spec, happenings):
        if before.state == "rolled_back" and move.progress.state != "rolled_back":
            assert happening in ("resume", "promote")


@settings(deadline=None, derandomize=True)
@given(specs, events)
def test_the_share_only_rises_but_to_nothing(spec: traffic.RolloutSpec, happenings: list[Event]) -> None:
    for before, _, move in walk(spec, happenings):
        after = move.progress
        assert after.share >= before.share or (after.state == "rolled_back" and after.share == 0)
        assert after.share in (0.0, 1.0, *spec.steps)
        assert (after.share == 1.0) == (after.state in ("promoting", "baking", "done"))


@settings(deadline=None, derandomize=True)
@given(specs, events)
def test_silence_is_never_success(spec: traffic.RolloutSpec, happenings: list[Event]) -> None:
    """No step and no end is reached by a look without fresh requests on the new side, or with a silent guardrail."""
    for before, happening, move in walk(spec, happenings):
        if not isinstance(happening, evidence.Evidence) or before.state not in ("ramping", "holding", "baking"):
            continue
        silent = before.state != "baking" and any(each.state == "no data" for each in happening.guardrails)
        if happening.fresh[0] == 0 or silent:
            assert move.decision in ("wait", "hold", "alert", "roll back")


@settings(deadline=None, derandomize=True)
@given(specs, events)
def test_a_deadline_without_data_takes_a_canary_back(spec: traffic.RolloutSpec, happenings: list[Event]) -> None:
    silent = evidence.Evidence()
    for _, _, move in walk(spec, happenings):
        here = move.progress
        if here.state in ("ramping", "holding") and not here.paused:
            assert states.step(here, silent, spec, states.due(spec, here)).progress.state == "rolled_back"


@settings(deadline=None, derandomize=True)
@given(specs, events)
def test_a_pause_is_left_only_backwards_or_by_hand(spec: traffic.RolloutSpec, happenings: list[Event]) -> None:
    for before, happening, move in walk(spec, happenings):
        if before.paused and isinstance(happening, evidence.Evidence) and move.progress is not before:
            assert move.progress.state == "rolled_back"
            assert happening.hard or any(
                each.state == "harmful" for each in (*happening.guardrails, *happening.outcomes)
            )


@settings(deadline=None, derandomize=True)
@given(specs, events)
def test_what_a_person_promoted_no_look_takes_back(spec: traffic.RolloutSpec, happenings: list[Event]) -> None:
    for before, happening, move in walk(spec, happenings):
        if before.forced and isinstance(happening, evidence.Evidence):
            assert move.progress.state != "rolled_back"


@settings(deadline=None, derandomize=True)
@given(specs, events, waits)
def test_abort_always_takes_it_back(spec: traffic.RolloutSpec, happenings: list[Event], wait: float) -> None:
    made = walk(spec, happenings)
    here = made[-1][2].progress if made else progress.Progress(phase="p")
    if here.state != "rolled_back":
        move = states.by_hand(here, "abort", spec, now=1e6 + wait, author="mia")
        assert (move.progress.state, move.progress.share) == ("rolled_back", 0.0)


@settings(deadline=None, derandomize=True)
@given(specs, events)
def test_harm_takes_back_whatever_runs_and_was_not_forced(spec: traffic.RolloutSpec, happenings: list[Event]) -> None:
    for before, happening, move in walk(spec, happenings):
        if isinstance(happening, evidence.Evidence) and happening.hard and not before.forced:
            ran = before.state not in ("pending", "done", "rolled_back")
            assert (move.progress.state == "rolled_back") == (ran or before.state == "rolled_back")


@settings(deadline=None, derandomize=True)
@given(specs, events)
def test_looks_lead_forward_in_the_order_of_states(spec: traffic.RolloutSpec, happenings: list[Event]) -> None:
    for before, happening, move in walk(spec, happenings):
        after = move.progress.state
        if isinstance(happening, evidence.Evidence) and after != "rolled_back" and before.state != "rolled_back":
            forward = ORDER.index(after) >= ORDER.index(before.state)
            assert forward or (before.state, after) == ("holding", "ramping")
            assert ORDER.index(after) - ORDER.index(before.state) <= (3 if before.state == "pending" else 2)


@settings(deadline=None, derandomize=True)
@given(specs, events)
def test_every_move_says_why_and_survives_being_written(spec: traffic.RolloutSpec, happenings: list[Event]) -> None:
    for before, _, move in walk(spec, happenings):
        assert move.reason
        assert (move.progress is before) == (move.progress == before)
        assert progress.read(progress.write("", "r", move.progress), "r", "p") == move.progress
        traffic.ProgressSpec.model_validate(msgspec.to_builtins(move.progress))


@settings(deadline=None, derandomize=True)
@given(specs, events)
def test_the_same_looks_at_the_same_times_decide_the_same(spec: traffic.RolloutSpec, happenings: list[Event]) -> None:
    assert walk(spec, happenings) == walk(spec, happenings)
