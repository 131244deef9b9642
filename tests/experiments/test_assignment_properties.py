"""Shares, movement, ramp and independence, on real hashes."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from turnout.experiments import assignment, movement

NAMES = "abcdefgh"
UNITS = 20_000


def variants(weights: tuple[float, ...], *, seed: str = "movement", units: int = UNITS) -> list[str]:
    allocation = assignment.Allocation("e", dict(zip(NAMES, weights, strict=False)), "a", seed=seed)
    return [assignment.assign(number, allocation).variant for number in range(units)]


TABLE = [
    ((90, 10), (50, 50), 0.40, 0.40),
    ((34, 33, 33), (40, 30, 30), 0.06, 0.06),
    ((50, 50), (40, 40, 20), 0.20, 0.20),
    ((25, 25, 25, 25), (10, 30, 30, 30), 0.15, 0.15),
    ((50, 30, 20), (40, 35, 25), 0.104, 0.10),
    ((40, 30, 20, 10), (10, 20, 30, 40), 0.457, 0.40),
    ((50, 30, 20), (20, 30, 50), 0.369, 0.30),
    ((50, 25, 25), (50, 40, 10), 0.215, 0.15),
]


@pytest.mark.parametrize(("before", "after", "moved", "minimum"), TABLE, ids=lambda value: str(value))
def test_the_table_of_movement(
    before: tuple[float, ...], after: tuple[float, ...], moved: float, minimum: float
) -> None:
    w, v = dict(zip(NAMES, before, strict=False)), dict(zip(NAMES, after, strict=False))
    assert movement.moved(w, v) == pytest.approx(moved, abs=0.0005)
    assert movement.minimum(w, v) == pytest.approx(minimum, abs=1e-12)
    pairs = list(zip(variants(before), variants(after), strict=True))
    for source in NAMES[: len(before)]:
        for target in NAMES[: len(after)]:
            if source != target:
                flow = movement.flow(w, v, source, target)
                count = pairs.count((source, target))
                assert abs(count - UNITS * flow) <= 4.5 * math.sqrt(UNITS * flow * (1 - flow)), (source, target)


weights = st.lists(st.floats(0.01, 100), min_size=2, max_size=6).map(tuple)


@settings(max_examples=25, deadline=None)
@given(before=weights, after=weights)
def test_units_move_only_in_the_direction_of_the_ratio(before: tuple[float, ...], after: tuple[float, ...]) -> None:
    w, v = dict(zip(NAMES, before, strict=False)), dict(zip(NAMES, after, strict=False))
    for source, target in zip(variants(before, units=1000), variants(after, units=1000), strict=True):
        if source != target:
            new = v[target] / v[source] if source in v else math.inf
            assert new > w.get(target, 0) / w[source]


@settings(max_examples=15, deadline=None, derandomize=True)
@given(before=weights, after=weights)
def test_any_change_of_weights_moves_what_the_closed_form_says(
    before: tuple[float, ...], after: tuple[float, ...]
) -> None:
    w, v = dict(zip(NAMES, before, strict=False)), dict(zip(NAMES, after, strict=False))
    units = 4000
    pairs = list(zip(variants(before, units=units), variants(after, units=units), strict=True))
    for source in w:
        for target in v:
            if source != target:
                flow = movement.flow(w, v, source, target)
                spread = 5.5 * math.sqrt(units * flow * (1 - flow))
                assert abs(pairs.count((source, target)) - units * flow) <= spread + 1, (source, target)


@given(before=weights, after=weights)
def test_flows_sum_to_what_moves_and_stay_in_their_bounds(before: tuple[float, ...], after: tuple[float, ...]) -> None:
    w, v = dict(zip(NAMES, before, strict=False)), dict(zip(NAMES, after, strict=False))
    moved, minimum = movement.moved(w, v), movement.minimum(w, v)
    flows = movement.flows(w, v)
    assert math.fsum(flows.values()) == pytest.approx(moved, abs=1e-12)
    assert minimum - 1e-12 <= moved <= 2 * minimum / (1 + minimum) + 1e-12
    for name in w.keys() | v.keys():  # what leaves and enters makes the new share
        net = math.fsum(share for (_, to), share in flows.items() if to == name)
        net -= math.fsum(share for (source, _), share in flows.items() if source == name)
        change = v.get(name, 0) / sum(v.values()) - w.get(name, 0) / sum(w.values())
        assert net == pytest.approx(change, abs=1e-12)


def test_scaled_weights_move_nobody() -> None:
    assert variants((5, 3, 2), units=2000) == variants((50, 30, 20), units=2000)
    assert movement.moved({"a": 5, "b": 3}, {"a": 50, "b": 30}) == pytest.approx(0, abs=1e-15)
    assert movement.flows({"a": 1, "b": 2, "c": 0.1}, {"a": 3, "b": 6, "c": 0.3}) == {}


@pytest.mark.parametrize("wrong", [{}, {"a": 0}, {"a": -1, "b": 2}, {"a": math.inf}, {"a": math.nan}])
def test_weights_that_mean_nothing_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="weights must be finite"):
        movement.moved(wrong, {"a": 1})


def test_raising_the_ramp_never_moves_a_unit_that_is_in() -> None:
    ramps = (0, 1, 10_000, 100_000, 500_000, 999_999, 1_000_000)
    inside: set[tuple[int, str]] = set()
    for ramp_ppm in ramps:
        allocation = assignment.Allocation("e", {"a": 1, "b": 1}, "a", ramp_ppm=ramp_ppm)
        answers = [(number, assignment.assign(number, allocation)) for number in range(3000)]
        now = {(number, answer.variant) for number, answer in answers if answer.reason == "SPLIT"}
        assert inside <= now
        inside = now
    assert len(inside) == 3000


def test_the_ramp_does_not_depend_on_the_split() -> None:
    allocation = assignment.Allocation("e", {"a": 1, "b": 1}, "a", ramp_ppm=200_000)
    full = assignment.Allocation("e", {"a": 1, "b": 1}, "a")
    table = [[0, 0], [0, 0]]
    for number in range(UNITS):
        inside = assignment.assign(number, allocation).reason == "SPLIT"
        table[inside][assignment.assign(number, full).variant == "a"] += 1
    assert stats.chi2_contingency(table).pvalue > 0.001
    assert stats.binomtest(sum(table[1]), UNITS, 0.2).pvalue > 0.001


def test_two_seeds_are_independent() -> None:
    pairs = list(zip(variants((1, 1, 1), seed="one"), variants((1, 1, 1), seed="two"), strict=True))
    table = [[pairs.count((x, y)) for x in "abc"] for y in "abc"]
    assert stats.chi2_contingency(table).pvalue > 0.001


def test_sub_buckets_are_even_and_independent_of_the_split() -> None:
    allocation = assignment.Allocation("e", {"a": 1, "b": 1}, "a")
    table = [[0] * 100, [0] * 100]
    for number in range(UNITS):
        answer = assignment.assign(number, allocation)
        table[answer.variant == "a"][answer.sub_bucket] += 1
    assert stats.chi2_contingency(table).pvalue > 0.001
    assert stats.chisquare([a + b for a, b in zip(*table, strict=True)]).pvalue > 0.001


def test_sequential_ids_split_as_the_weights_say() -> None:
    shares = (50, 30, 15, 5)
    found = variants(shares, seed="sequential", units=100_000)
    counts = [found.count(name) for name in NAMES[:4]]
    assert stats.chisquare(counts, [1000 * share for share in shares]).pvalue > 0.001
