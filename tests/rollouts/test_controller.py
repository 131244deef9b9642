"""The controller in a small world: it looks in time, writes overlays and records, goes on where it was killed."""

import math

import pytest
from tests.rollouts import world

from turnout.errors import ConflictError, NotFoundError
from turnout.rollouts import commands, progress
from turnout.spec import snapshot
from turnout.stores import control

HEALTHY = [("ramping", 0.25), ("ramping", 0.5), ("promoting", 1.0), ("baking", 1.0), ("done", 1.0)]


def test_a_healthy_canary_goes_through_its_steps_to_done() -> None:
    made = world.World(world.document(), failing=lambda side, now: 0.001)
    made.run(1_500, made.steering())
    assert made.path == HEALTHY
    assert made.standing.note.startswith("baked without a hard failure")


def test_a_canary_that_starts_to_fail_midway_is_taken_back_for_that_reason() -> None:
    def failing(side: str, now: float) -> float:
        return 0.15 if side == "new" and now > 100 else 0.002

    made = world.World(
        world.document(world.TIMES + ", guardrails: {broken: {signal: error, margin: 0.01}}"), failing=failing
    )
    steering = made.steering()
    made.run(90, steering)
    assert made.standing.state == "ramping"
    made.run(400, steering)
    assert made.path[-1] == ("rolled_back", 0.0)
    assert made.standing.note.startswith("broken: new ")
    assert "worse by" in made.standing.note


def test_a_canary_that_gets_slow_is_taken_back_for_being_slow() -> None:
    slow = "{signal: latency, kind: share_over, threshold: 800ms, margin: 0.02}"
    guardrails = "guardrails: {errors: {signal: error, margin: 0.01}, slow: " + slow + "}"
    made = world.World(
        world.document(f"{world.TIMES}, {guardrails}"), slow=lambda side, now: 0.3 if side == "new" else 0.01
    )
    made.run(400, made.steering())
    assert made.standing.state == "rolled_back"
    assert made.standing.note.startswith("slow: new ")


def test_what_fails_on_both_sides_blames_nobody() -> None:
    made = world.World(world.document(), failing=lambda side, now: 0.2 if now > 100 else 0.01)
    made.run(600, made.steering())
    assert made.path[-1] == ("baking", 1.0), "held up by the noise at most, and never taken back"
    assert "rolled_back" not in {state for state, _ in made.path}


def test_where_the_request_is_the_unit_requests_are_the_sample() -> None:
    made = world.World(
        world.document(unit=False), users=None, failing=lambda side, now: 0.08 if side == "new" else 0.01
    )
    made.run(400, made.steering())
    assert made.standing.state == "rolled_back"
    reading = made.records[-1].record.seen
    assert reading is not None
    assert reading.guardrails[0].n == sum(reading.units)


def test_without_traffic_it_holds_and_the_deadline_takes_it_back() -> None:
    made = world.World(world.document(world.QUICK + ", deadline: 10m"), per_s=0)
    made.run(590, made.steering())
    assert made.path == [("ramping", 0.25), ("holding", 0.25)]
    made.run(60, made.steering())
    assert made.path[-1] == ("rolled_back", 0.0)
    assert "the deadline is over: too few requests" in made.standing.note


def test_outcomes_hold_the_last_step_until_their_windows_close() -> None:
    keys = world.QUICK + ", outcomes: {kept: {outcome: kept, window: 10m, margin: 0.1}}, tightest_at: 500"
    made = world.World(
        world.document(keys),
        failing=lambda side, now: 0.0,
        kept={"canary": 0.5, "control": 0.5},
        users=100_000,
        per_s=8,
    )
    steering = made.steering()
    made.run(600, steering, every_s=30)
    assert made.path[-1] == ("holding", 0.5)
    assert "the windows of" in made.standing.note
    made.per_s = 0
    made.run(600, steering, every_s=30)
    assert ("promoting", 1.0) in made.path


def test_proven_harm_to_an_outcome_takes_it_back() -> None:
    keys = world.QUICK + ", outcomes: {kept: {outcome: kept, window: 1m, margin: 0.02}}, tightest_at: 500"
    made = world.World(world.document(keys), kept={"canary": 0.2, "control": 0.6}, users=100_000)
    made.run(600, made.steering())
    assert made.standing.state == "rolled_back"
    assert made.standing.note.startswith("kept: ")


def test_blue_green_waits_for_warm_workers_switches_and_bakes() -> None:
    made = world.World(world.document("kind: blue-green, bake: 60s"), failing=lambda side, now: 0.0)
    steering = made.steering()
    made.lagging = True
    made.run(100, steering)
    assert made.path == []
    assert {each.record.reason for each in made.records} == {"not every worker has the new side loaded yet"}
    made.lagging = False
    made.run(150, steering)
    assert made.path == [("promoting", 1.0), ("baking", 1.0), ("done", 1.0)]


def test_after_a_switch_more_failures_than_before_only_alert() -> None:
    made = world.World(
        world.document("kind: blue-green, bake: 60s"), failing=lambda side, now: 0.3 if side == "new" else 0.0, per_s=60
    )
    steering = made.steering()
    made.lagging = True
    made.run(60, steering)
    made.lagging = False
    made.run(150, steering)
    assert "alert" in {each.record.decision for each in made.records}
    assert made.path[-1] == ("done", 1.0)


def test_an_open_circuit_takes_it_back_without_waiting_for_the_next_look() -> None:
    made = world.World(world.document(world.QUICK + ", look: 1h"))
    steering = made.steering()
    made.run(60, steering)
    assert made.path == [("ramping", 0.25)]
    made.break_down("'canary' is not asked since it failed 5 times in a row")
    made.run(1, steering, every_s=1)
    assert made.standing.state == "rolled_back"
    assert made.standing.note == "'canary' is not asked since it failed 5 times in a row (box)"


def test_a_circuit_of_an_earlier_revision_takes_nothing_back() -> None:
    made = world.World(world.document())
    made.break_down("an old story")
    steering = made.steering()
    made.run(30, steering)
    assert made.path == [("ramping", 0.25)]


def test_workers_that_lag_behind_stop_the_next_step_but_not_the_way_back() -> None:
    made = world.World(world.document(), failing=lambda side, now: 0.0)
    steering = made.steering()
    made.run(50, steering)
    made.lagging = True
    made.run(150, steering)
    assert made.path == [("ramping", 0.25)]
    made.break_down("circuit open")
    made.run(10, steering)
    assert made.path[-1] == ("rolled_back", 0.0)


@pytest.mark.parametrize("kill_every_s", [10, 70, 130])
def test_killed_and_started_again_it_decides_what_it_would_have_decided(kill_every_s: int) -> None:
    def failing(side: str, now: float) -> float:
        return 0.10 if side == "new" and now > 150 else 0.01

    whole, killed = (world.World(world.document(), failing=failing) for _ in range(2))
    whole.run(600, whole.steering())
    for _ in range(0, 600, kill_every_s):
        killed.run(min(kill_every_s, whole.now - killed.now), killed.steering())
    assert killed.path == whole.path
    assert whole.path[-1] == ("rolled_back", 0.0), "else the comparison shows little"
    assert [each.record for each in killed.records] == [each.record for each in whole.records]


def test_a_controller_killed_between_overlay_and_record_goes_on() -> None:
    class Dying(Exception):
        pass

    made = world.World(world.document(), failing=lambda side, now: 0.001)

    class Store:
        """Dies when it has written an overlay."""

        def __getattr__(self, name: str) -> object:
            return getattr(made.control, name)

        def add_look(self, look: control.Look) -> None:
            if look.kind == "move":
                raise Dying

    dying = made.steering()
    dying._control = Store()  # type: ignore[assignment]  # the store is what fails here
    with pytest.raises(Dying):
        made.run(100, dying)
    made.run(1_500, made.steering())
    assert made.path == HEALTHY


def test_only_one_controller_of_a_fleet_acts_and_another_takes_over() -> None:
    made = world.World(world.document())
    one, other = made.steering("one"), made.steering("other")
    made.traffic(1)
    assert one.act(made.content, made.everywhere)
    assert other.act(made.content, made.everywhere) == []
    made.now += 14
    assert other.act(made.content, made.everywhere) == [], "the lease of 15 s still holds"
    made.now += 2
    assert other.act(made.content, made.everywhere)
    assert one.act(made.content, made.everywhere) == []


def test_two_that_act_at_once_write_one_overlay() -> None:
    """A lease can be lost without notice; the overlay's number stands behind it."""
    made = world.World(world.document())
    content, everywhere = made.content, made.everywhere

    class Raced:
        """Somebody else writes just before each proposal."""

        def __getattr__(self, name: str) -> object:
            return getattr(made.control, name)

        def propose(self, text: str, *, after: int, author: str, reason: str, at: float) -> control.Overlay:
            commands.command(made.control, content, "next", "pause", author="mia", reason="", now=at)
            return made.control.propose(text, after=after, author=author, reason=reason, at=at)

    steering = made.steering()
    steering._control = Raced()  # type: ignore[assignment]  # the store is what is raced here
    made.now += 10
    assert steering.act(content, everywhere) == []
    assert made.standing.paused, "the person's command stands"


def test_a_rollout_that_is_defined_anew_starts_anew() -> None:
    made = world.World(world.document(), failing=lambda side, now: 0.2 if side == "new" and now < 300 else 0.01)
    steering = made.steering()
    made.run(200, steering)
    assert made.path[-1] == ("rolled_back", 0.0)
    made.text = world.document(top_k=9)
    assert made.standing == progress.Progress(phase=made.phase)
    made.now += 300
    made.run(20, steering)
    assert made.standing.state == "ramping"


def test_a_block_that_a_person_deletes_is_forgotten() -> None:
    made = world.World(world.document())
    steering = made.steering()
    made.run(50, steering)
    made.text = world.document("")
    made.run(10, steering)
    newest = made.control.overlay()
    assert newest is not None
    assert newest.content == ""
    assert "the document has no rollout 'next' any more" in newest.reason
    assert not any("overlay" in str(warning) for warning in made.content.warnings)


def test_while_servers_differ_nothing_is_forgotten() -> None:
    """The server that holds the lease may be the one that has not seen the new document yet."""
    made = world.World(world.document())
    steering = made.steering()
    made.run(50, steering)
    made.text, made.lagging = world.document(""), True
    made.run(50, steering)
    newest = made.control.overlay()
    assert newest is not None
    assert progress.rollouts_of(newest.content) == ("next",)


def test_every_look_leaves_a_record_with_its_numbers() -> None:
    made = world.World(world.document())
    made.run(60, made.steering())
    look = made.records[-1]
    assert (look.kind, look.at) == ("look", made.now)
    assert look.record.revision == made.content.revision
    seen = look.record.seen
    assert seen is not None
    (errors,) = seen.guardrails
    assert errors.name == "errors"
    assert errors.n >= 100
    assert errors.low is not None
    assert errors.high is not None
    assert errors.low < (errors.harm or 0) < errors.high
    assert (errors.margin, errors.alpha) == (0.03, 0.01)
    assert len(made.records) == 6


def test_records_that_are_broken_neither_hide_the_others_nor_stop_the_controller() -> None:
    made = world.World(world.document())
    steering = made.steering()
    made.run(60, steering)
    known = len(made.records)
    for kind in ("look", "failure"):
        for payload in ("{bad", "[]", "[" * 5_000):
            look = control.Look(rollout="next", phase=made.phase, at=made.now, kind=kind, payload=payload)
            made.control.add_look(look)
    assert len(made.records) == known
    made.run(60, steering)
    assert len(made.records) > known


def test_a_rollout_that_has_ended_is_not_looked_at() -> None:
    made = world.World(world.document())
    steering = made.steering()
    made.run(50, steering)
    commands.command(made.control, made.content, "next", "abort", author="mia", reason="", now=made.now)
    before = len(made.records)
    made.run(100, steering)
    assert len(made.records) == before


def test_a_pause_of_a_person_holds_until_the_person_resumes() -> None:
    made = world.World(world.document(), failing=lambda side, now: 0.001)
    steering = made.steering()
    made.run(100, steering)
    move, overlay = commands.command(
        made.control, made.content, "next", "pause", author="mia", reason="lunch", now=made.now
    )
    assert (overlay.author, move.reason) == ("mia", "pause by mia: lunch")
    made.per_s = 0
    made.run(900, steering, every_s=60)
    made.per_s = 20
    assert made.standing.paused
    hand = [each for each in made.records if each.kind == "hand"]
    assert [each.record.author for each in hand] == ["mia"]
    commands.command(made.control, made.content, "next", "resume", author="mia", reason="", now=made.now)
    made.run(900, steering)
    assert made.standing.state == "done"


def test_a_command_wins_over_a_controller_that_writes_meanwhile() -> None:
    made = world.World(world.document())

    class Busy:
        """Twice somebody else is faster."""

        times = 0

        def __getattr__(self, name: str) -> object:
            return getattr(made.control, name)

        def propose(self, text: str, *, after: int, author: str, reason: str, at: float) -> control.Overlay:
            if self.times < 2:
                self.times += 1
                made.control.propose("", after=after, author="x", reason="", at=at)
            return made.control.propose(text, after=after, author=author, reason=reason, at=at)

    commands.command(Busy(), made.content, "next", "abort", author="mia", reason="", now=made.now)  # type: ignore[arg-type]
    assert made.standing.state == "rolled_back"


def test_a_command_for_a_rollout_that_is_not_there_names_those_that_are() -> None:
    made = world.World(world.document())
    with pytest.raises(NotFoundError, match=r"no rollout 'nxt'.*Did you mean 'next'"):
        commands.command(made.control, made.content, "nxt", "abort", author="mia", reason="", now=made.now)
    with pytest.raises(ConflictError, match="not paused but pending"):
        commands.command(made.control, made.content, "next", "resume", author="mia", reason="", now=made.now)


@pytest.mark.parametrize("reason", ["${HOME} costs", "secret:x", "a\x7fb\u2028c\n", "süß 🚋", "x" * 5_000])
def test_whatever_a_person_gives_as_reason_the_overlay_is_admitted(reason: str) -> None:
    made = world.World(world.document())
    commands.command(made.control, made.content, "next", "pause", author="mia", reason=reason, now=made.now)
    carried = made.content.document.rollouts["next"].progress
    assert carried is not None
    assert carried.note == made.standing.note


@pytest.mark.parametrize("share", ["1%", "0.001%", "33.3%"])
def test_any_share_survives_the_overlay(share: str) -> None:
    made = world.World(world.document(f"steps: [{share}]"))
    made.run(20, made.steering())
    carried = made.content.document.rollouts["next"].progress
    assert carried is not None
    assert carried.share == made.standing.share > 0


def test_other_entries_of_the_overlay_stay_as_they_are() -> None:
    made = world.World(world.document())
    made.control.propose("experiments: {e: {winner: a}}", after=0, author="x", reason="", at=0.0)
    plain = snapshot.admit({"turnout.yaml": made.text}, environment={})
    commands.command(made.control, plain, "next", "pause", author="mia", reason="", now=made.now)
    newest = made.control.overlay()
    assert newest is not None
    assert '"winner": "a"' in newest.content
    assert progress.rollouts_of(newest.content) == ("next",)


BROKEN = ["{[", "[1]", "[" * 5_000, "endpoints: {reply: {pipeline: new}}"]


@pytest.mark.parametrize("broken", [*BROKEN, "rollouts: {next: {progress: {phase: 5, state: flying}}}"], ids=range(5))
def test_a_person_can_command_on_top_of_an_overlay_that_is_broken(broken: str) -> None:
    made = world.World(world.document())
    plain = made.content
    commands.command(made.control, plain, "next", "promote", author="mia", reason="", now=made.now)
    made.control.propose(broken, after=1, author="x", reason="", at=0.0)
    commands.command(made.control, plain, "next", "abort", author="mia", reason="", now=made.now)
    carried = made.content.document.rollouts["next"].progress
    assert carried is not None
    assert carried.state == "rolled_back"


@pytest.mark.parametrize("broken", BROKEN[:3], ids=range(3))
def test_the_controller_goes_on_from_the_last_overlay_that_can_be_read(broken: str) -> None:
    made = world.World(world.document())
    steering = made.steering()
    made.run(100, steering)
    content, standing, newest = made.content, made.standing, made.control.overlay()
    assert newest is not None
    made.control.propose(broken, after=newest.number, author="x", reason="", at=0.0)
    assert commands.standing(made.control, content, "next") == standing
    made.failing = lambda side, _: 0.5 if side == "new" else 0.0
    for _ in range(30):
        made.now += 10
        steering.act(content, content.revision)
    assert commands.standing(made.control, content, "next").since >= standing.since
    written = made.control.overlay()
    assert written is not None
    assert written.number > newest.number + 1


def test_it_says_when_the_next_look_is_due() -> None:
    made = world.World(world.document(world.QUICK + ", look: 30s"))
    steering = made.steering()
    assert steering.wait_s() == math.inf
    made.run(10, steering)
    assert steering.wait_s() == 30.0
    made.run(20, steering)
    assert steering.wait_s() == 10.0
    made.text = world.document("")
    made.run(10, steering)
    assert steering.wait_s() == math.inf
