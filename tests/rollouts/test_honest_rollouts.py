"""Whole rollouts of the real controller: a healthy one is not taken back for its users, a bad one is, in time."""

import hashlib

import pytest
from tests.rollouts import world

TIMES = "steps: [10%, 25%, 50%], step: {min: 30s, max: 60s, units: 20}, bake: 60s, on_inconclusive: advance"


def clumsy(unit: str, side: str) -> float:
    """Most users never meet an error, a few nearly always; 5 % of them all, whatever side they are on."""
    word = hashlib.sha256(unit.encode()).digest()
    return 0.9 if word[0] < 14 else 0.0


def rolled_back(seed: int, *, alpha: float, worse: float = 0.0) -> float | None:
    """When a rollout whose guardrail has no margin is taken back, in seconds; None if never."""
    guard = f"guardrails: {{errors: {{signal: error, margin: 0}}}}, alpha: {alpha}, tightest_at: 300"

    def failing(unit: str, side: str) -> float:
        return clumsy(unit + str(seed), side) + (worse if side == "new" else 0.0)

    made = world.World(world.document(f"{TIMES}, {guard}"), users=1_500, per_s=20, clumsy=failing, seed=seed)
    steering = made.steering()
    made.run(240, steering)
    found = next((each for each in made.records if each.record.after == "rolled_back"), None)
    return None if found is None else found.at - made.started


def test_a_healthy_canary_is_taken_back_at_most_as_often_as_alpha_though_users_come_again() -> None:
    assert sum(rolled_back(seed, alpha=0.1) is not None for seed in range(12)) <= 2


def test_one_that_fails_for_everybody_now_and_then_is_taken_back_soon() -> None:
    found = [rolled_back(seed, alpha=0.01, worse=0.3) for seed in range(4)]
    assert all(each is not None and each <= 120 for each in found)


def test_a_unit_counts_once_over_all_steps_and_the_rest_never() -> None:
    made = world.World(world.document(f"{TIMES}, guardrails: {{errors: {{signal: error, margin: 0.2}}}}"), users=1_500)
    steering = made.steering()
    made.run(100, steering)
    assert made.standing.share == 0.5
    last = made.records[-1].record.seen
    assert last is not None
    counts = made.events.exposed("next", made.phase)
    assert last.units == (counts.units["canary"], counts.units["control"])
    assert counts.units.keys() == {"canary", "control"}
    assert counts.crossed == 0
    assert sum(counts.units.values()) <= 1_500
    (errors,) = last.guardrails
    assert errors.n == sum(last.units), "the sequence counts units, not their requests"


@pytest.mark.long
@pytest.mark.slow
def test_a_hundred_healthy_canaries() -> None:
    assert sum(rolled_back(seed, alpha=0.1) is not None for seed in range(100, 160)) <= 10
