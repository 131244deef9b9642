"""The closed form of who moves is what assignment does, for random weights, ramps, slots, holdouts, seeds, hashes."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from turnout.changes import journeys
from turnout.experiments import assignment, holdouts, layers, movement

UNITS = 4_000
NAMES = ("a", "b", "c", "d")
HASHES = ("v1", "v1", "v1", "growthbook-v1", "growthbook-v2")


@st.composite
def sides(draw: st.DrawFn) -> journeys.Traffic:
    names = draw(st.lists(st.sampled_from(NAMES), min_size=2, max_size=4, unique=True))
    raw = [draw(st.integers(0, 10)) for _ in names]
    raw[0] += 1
    hashed = draw(st.sampled_from(HASHES))
    total = sum(raw)
    layer = draw(st.sampled_from(["", "layer:shared", "layer:other"])) if hashed == "v1" else ""
    first, last = sorted((draw(st.integers(0, 999)), draw(st.integers(0, 999))))
    split = journeys.Split(
        name="x",
        seed=draw(st.sampled_from(["s", "s", "s", "t"])),
        source="user_id",
        control=names[0],
        weights={name: weight / total for name, weight in zip(names, raw, strict=True)},
        hash=hashed,
        ramp_ppm=draw(st.sampled_from([0, 50_000, 300_000, 1_000_000])),
        layer=layer,
        slots=((first, last),) if layer else None,
        fixed=draw(st.sampled_from(["", "", "", "", names[1]])),
    )
    holdout = draw(st.sampled_from([None, journeys.Gate("h", 100_000), journeys.Gate("h", 400_000)]))
    return journeys.Traffic(splits=(split,), holdout=holdout)


def allocated(side: journeys.Traffic) -> assignment.Allocation:
    """The same split as requests meet it."""
    (split,) = side.splits
    layer = layers.Layer("x", split.slots, seed=split.layer) if split.slots is not None else None
    held = holdouts.holdout("h", side.holdout.ppm, side.holdout.seed) if side.holdout else None
    gates = assignment.Gates(winner=split.fixed, hash=split.hash, layer=layer, holdout=held, unit_type=split.source)
    return assignment.Allocation(
        split.name, split.weights, split.control, seed=split.seed, ramp_ppm=split.ramp_ppm, gates=gates
    )


def variants(before: journeys.Traffic, after: journeys.Traffic) -> dict[tuple[str, str], float]:
    names = [{(split.name, variant): variant for split in side.splits for variant in NAMES} for side in (before, after)]
    return journeys.regrouped(journeys.places(before, after), names)


@settings(max_examples=60)
@given(sides(), sides())
def test_every_flow_is_what_assignment_does(before: journeys.Traffic, after: journeys.Traffic) -> None:
    old, new = allocated(before), allocated(after)
    counted: dict[tuple[str, str], int] = {}
    for number in range(UNITS):
        unit = f"unit-{number}"
        pair = (assignment.assign(unit, old).variant, assignment.assign(unit, new).variant)
        counted[pair] = counted.get(pair, 0) + 1
    found = variants(before, after)
    assert math.isclose(sum(found.values()), 1.0, abs_tol=1e-9)
    for pair in counted.keys() | found.keys():
        share = found.get(pair, 0.0)
        noise = 5 * math.sqrt(max(share * (1 - share), 1 / UNITS) / UNITS)
        assert abs(counted.get(pair, 0) / UNITS - share) <= noise, (pair, counted, found)


@given(sides(), sides())
def test_flows_sum_to_what_moves_and_each_side_keeps_its_shares(
    before: journeys.Traffic, after: journeys.Traffic
) -> None:
    found = variants(before, after)
    flows = dict(journeys.largest(found))
    assert math.isclose(sum(flows.values()), journeys.moved(found), abs_tol=1e-9)
    for index, side in enumerate((before, after)):
        alone = variants(side, side)
        for name in NAMES:
            marginal = sum(share for pair, share in found.items() if pair[index] == name)
            assert math.isclose(marginal, sum(s for pair, s in alone.items() if pair[0] == name), abs_tol=1e-9)


@given(sides())
def test_the_same_document_moves_nobody(side: journeys.Traffic) -> None:
    assert journeys.moved(journeys.places(side, side)) == 0.0


@given(st.lists(st.floats(0.01, 100), min_size=2, max_size=4), st.lists(st.floats(0.01, 100), min_size=2, max_size=4))
def test_weights_alone_move_what_the_closed_form_says(old: list[float], new: list[float]) -> None:
    weights = [dict(zip(NAMES, each, strict=False)) for each in (old, new)]
    sides = [
        journeys.alone(journeys.Split(name="x", seed="x", source="u", control="a", weights=each), None)
        for each in weights
    ]
    assert math.isclose(journeys.moved(variants(*sides)), movement.moved(*weights), abs_tol=1e-9)


def split(name: str, slots: tuple[int, int], *, fixed: str = "", layer: str = "layer:shared") -> journeys.Split:
    return journeys.Split(
        name=name,
        seed=name,
        source="u",
        control="a",
        weights={"a": 1, "b": 1},
        layer=layer,
        slots=(slots,),
        fixed=fixed,
        won=bool(fixed),
    )


def test_an_experiment_that_takes_another_ones_slots_takes_its_units() -> None:
    before = journeys.Traffic(splits=(split("one", (0, 999)),))
    after = journeys.Traffic(splits=(split("one", (0, 599)), split("two", (600, 999))))
    found = journeys.places(before, after)
    assert math.isclose(sum(share for (_, new), share in found.items() if new[0] == "two"), 0.4)
    assert math.isclose(found[("one", "b"), ("one", "b")], 0.3)
    assert math.isclose(found[("one", "a"), ("two", "b")], 0.1)


def test_another_seed_of_a_layer_draws_the_slots_anew() -> None:
    before = journeys.Traffic(splits=(split("one", (0, 499)),))
    after = journeys.Traffic(splits=(split("one", (0, 499), layer="layer:else"),))
    assert math.isclose(journeys.moved(journeys.places(before, after)), 0.25)


def test_a_decided_experiment_of_a_layer_takes_whom_no_other_claims() -> None:
    before = journeys.Traffic(splits=(split("one", (0, 499)), split("two", (500, 999))))
    after = journeys.Traffic(splits=(split("one", (0, 499)), split("two", (500, 999), fixed="b")))
    found = journeys.places(before, after)
    assert math.isclose(sum(share for (_, new), share in found.items() if new == ("two", "b")), 0.5)
    assert math.isclose(sum(share for (_, new), share in found.items() if new[0] == "one"), 0.5)


@pytest.mark.parametrize(("ramp", "part"), [(1_000_000, 0.25), (200_000, 0.05)])
def test_who_takes_part_is_the_product_of_holdout_slots_and_ramp(ramp: int, part: float) -> None:
    one = journeys.Split(
        name="one",
        seed="s",
        source="u",
        control="a",
        weights={"a": 1, "b": 1},
        ramp_ppm=ramp,
        layer="l",
        slots=((0, 499),),
    )
    assert math.isclose(journeys.taking_part(journeys.alone(one, journeys.Gate("h", 500_000))), part)
