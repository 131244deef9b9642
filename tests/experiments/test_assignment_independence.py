"""Holdout, layer, ramp and split ask different questions of a unit: the answer to one tells nothing of another."""

import itertools
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from turnout.experiments import assignment, holdouts, layers

UNITS = 30_000


def allocation(name: str = "e", **gates: object) -> assignment.Allocation:
    return assignment.Allocation(name, {"a": 1, "b": 1}, "a", gates=assignment.Gates(**gates))  # type: ignore[arg-type]


SPLIT, OTHER_SPLIT = allocation(), allocation("f")
RAMP = assignment.Allocation("e", {"a": 1, "b": 1}, "a", ramp_ppm=500_000)

ASPECTS: dict[str, Callable[[str], bool]] = {
    "split": lambda unit: assignment.assign(unit, SPLIT).variant == "b",
    "another split": lambda unit: assignment.assign(unit, OTHER_SPLIT).variant == "b",
    "ramp": lambda unit: assignment.assign(unit, RAMP).reason == "SPLIT",
    "layer": layers.Layer("e", [(0, 499)]).owns,
    "another layer": layers.Layer("f", [(0, 499)]).owns,
    "holdout": holdouts.holdout("e", 500_000).holds,
    "another holdout": holdouts.holdout("f", 500_000).holds,
    "namespace": layers.Layer("e", [(0, 499)], namespace=True).owns,
}


@pytest.fixture(scope="module")
def columns() -> dict[str, list[bool]]:
    return {name: [ask(str(number)) for number in range(UNITS)] for name, ask in ASPECTS.items()}


@pytest.mark.parametrize("aspect", ASPECTS)
def test_sequential_ids_are_halved(columns: dict[str, list[bool]], aspect: str) -> None:
    assert stats.binomtest(sum(columns[aspect]), UNITS, 0.5).pvalue > 0.0005


@pytest.mark.parametrize(("one", "other"), list(itertools.combinations(ASPECTS, 2)))
def test_one_answer_tells_nothing_of_another(columns: dict[str, list[bool]], one: str, other: str) -> None:
    table = [[0, 0], [0, 0]]
    for x, y in zip(columns[one], columns[other], strict=True):
        table[x][y] += 1
    assert stats.chi2_contingency(table).pvalue > 0.0005


def test_slots_are_even_over_a_hundred_thousand_sequential_ids() -> None:
    layer = layers.Layer("reply", [(0, 999)])
    counts = [0] * layers.SLOTS
    for number in range(100_000):
        counts[layer.slot(str(number))] += 1
    assert stats.chisquare(counts).pvalue > 0.001


def test_experiments_of_one_layer_never_share_a_unit_and_leave_none_out() -> None:
    first = allocation("first", layer=layers.Layer("reply", [(0, 299), (900, 999)]))
    second = allocation("second", layer=layers.Layer("reply", [(300, 899)]))
    inside = [0, 0]
    for number in range(5000):
        reasons = [assignment.assign(number, each).reason for each in (first, second)]
        assert sorted(reasons) == ["NOT_IN_LAYER", "SPLIT"]
        inside[reasons.index("SPLIT")] += 1
    assert stats.binomtest(inside[0], 5000, 0.4).pvalue > 0.001


def test_raising_a_holdout_never_lets_a_unit_in() -> None:
    held: set[int] = set()
    for ratio_ppm in (0, 1, 10_000, 100_000, 500_000, 999_999, 1_000_000):
        holdout = holdouts.holdout("everyone", ratio_ppm)
        now = {number for number in range(3000) if holdout.holds(str(number))}
        assert held <= now
        held = now
    assert len(held) == 3000


def test_a_holdout_holds_the_same_units_back_from_every_experiment() -> None:
    holdout = holdouts.holdout("everyone", 50_000)
    one, other = allocation("one", holdout=holdout), allocation("other", holdout=holdout)
    for number in range(2000):
        reasons = {assignment.assign(number, each).reason for each in (one, other)}
        assert reasons == ({"HOLDOUT"} if holdout.holds(str(number)) else {"SPLIT"})


slot_ranges = st.lists(
    st.tuples(st.integers(0, 999), st.integers(0, 999)).map(lambda pair: (min(pair), max(pair))), max_size=6
)


@given(slot_ranges)
def test_joined_slots_are_the_same_slots_in_one_spelling(ranges: list[tuple[int, int]]) -> None:
    found = layers.joined(ranges)
    assert {s for a, b in found for s in range(a, b + 1)} == {s for a, b in ranges for s in range(a, b + 1)}
    assert all(one[1] + 1 < other[0] for one, other in itertools.pairwise(found))
    assert layers.joined(reversed(found)) == found


def test_slots_outside_of_a_layer_are_a_programmers_error() -> None:
    with pytest.raises(AssertionError, match="slots 0-1000"):
        layers.joined([(0, 1000)])
    with pytest.raises(AssertionError, match="0x00"):
        layers.Layer("l", [(0, 1)], seed="a\0b")
    with pytest.raises(AssertionError, match="ratio_ppm"):
        holdouts.holdout("h", 1_000_001)


FROZEN = [  # unit, slot of layer "reply", point of holdout "everyone" (ppm)
    ("user-1", 262, 97545),
    ("user-2", 947, 576000),
    ("42", 778, 264318),
    ("Zo\u00eb", 648, 962696),
]


@pytest.mark.parametrize(("unit", "slot", "point_ppm"), FROZEN)
def test_slots_and_holdout_points_are_frozen(unit: str, slot: int, point_ppm: int) -> None:
    assert layers.Layer("reply", [(0, 499)]).slot(unit) == slot
    assert holdouts.holdout("everyone", 50_000).point_ppm(unit) == point_ppm
