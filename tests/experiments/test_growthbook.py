"""GrowthBook's hashes give the variants that its own SDK gives."""

import math

import growthbook as sdk
import pytest
from growthbook import core
from hypothesis import assume, example, given
from hypothesis import strategies as st

from turnout.experiments import assignment, growthbook, layers

VERSIONS = {growthbook.V1: 1, growthbook.V2: 2}

weights = st.one_of(
    st.lists(st.integers(1, 100), min_size=2, max_size=6).map(lambda parts: [part / sum(parts) for part in parts]),
    st.sampled_from([[0.5, 0.5], [0.1, 0.9], [0.0, 1.0], [0.333, 0.333, 0.333], [0.34, 0.33, 0.33], [0.5, 0.505]]),
)
coverages = st.one_of(st.integers(0, assignment.MILLION), st.sampled_from([0, 1, 100_000, 500_000, 1_000_000]))
units = st.one_of(st.integers(0, 10**12).map(str), st.uuids().map(str), st.text(min_size=1))
versions = st.sampled_from(list(VERSIONS))


def encodes(text: str) -> bool:
    """Whether UTF-8 carries it; what holds a lone surrogate is an ERROR here, and split there."""
    return not any("\ud800" <= letter <= "\udfff" for letter in text)


@given(unit=units, seed=st.text(min_size=1, max_size=20), version=versions)
def test_numbers_are_those_of_the_sdk(unit: str, seed: str, version: str) -> None:
    assert growthbook.number(version, seed, unit) == core.gbhash(seed, unit, VERSIONS[version])


@given(weights=weights, coverage=coverages)
def test_ranges_are_those_of_the_sdk(weights: list[float], coverage: int) -> None:
    found = growthbook.ranges(weights, coverage / assignment.MILLION)
    assert list(found) == core.getBucketRanges(len(weights), coverage / assignment.MILLION, weights)


@pytest.mark.parametrize("weights", [[50, 50], [0.2, 0.2], [0.9, 0.12], [90, 10]])
@pytest.mark.parametrize("coverage", [-1.0, 0.3, 2.0])
def test_weights_that_do_not_sum_to_one_count_as_equal_and_coverage_is_clamped(
    weights: list[float], coverage: float
) -> None:
    assert not growthbook.fits(weights)
    assert list(growthbook.ranges(weights, coverage)) == core.getBucketRanges(len(weights), coverage, weights)


@given(
    unit=units,
    key=st.text(min_size=1, max_size=12),
    weights=weights,
    coverage=coverages,
    version=versions,
    namespace=st.one_of(st.none(), st.tuples(st.integers(0, 999), st.integers(0, 999))),
)
@example(unit="1", key="e", weights=[0.5, 0.5], coverage=1_000_000, version="growthbook-v2", namespace=(0, 499))
def test_a_unit_gets_the_variant_that_the_sdk_gives(
    unit: str, key: str, weights: list[float], coverage: int, version: str, namespace: tuple[int, int] | None
) -> None:
    assume(encodes(unit) and encodes(key) and "\0" not in key)
    names = [f"v{len(weights) - index}" for index in range(len(weights))]  # not in the order of the bytes
    slots = None if namespace is None else (min(namespace), max(namespace))
    allocation = assignment.Allocation(
        key,
        dict(zip(names, weights, strict=True)),
        names[0],
        ramp_ppm=coverage,
        gates=assignment.Gates(hash=version, layer=slots and layers.Layer("reply", [slots], namespace=True)),
    )
    ours = assignment.assign(unit, allocation)
    theirs = sdk.GrowthBook(attributes={"id": unit}).run(
        sdk.Experiment(
            key=key,
            variations=names,
            weights=weights,
            coverage=coverage / assignment.MILLION,
            hashVersion=VERSIONS[version],
            namespace=slots and ("reply", slots[0] / 1000, (slots[1] + 1) / 1000),
        )
    )
    assert (ours.reason == "SPLIT") == theirs.inExperiment
    assert ours.variant == theirs.value
    if not theirs.inExperiment:
        assert ours.reason in ("NOT_IN_RAMP", "NOT_IN_LAYER")


@given(version=versions, weights=weights, coverage=st.integers(1, assignment.MILLION))
def test_propensities_are_the_shares_of_those_who_take_part(version: str, weights: list[float], coverage: int) -> None:
    names = [f"v{index}" for index in range(len(weights))]
    allocation = assignment.Allocation(
        "e", dict(zip(names, weights, strict=True)), "v0", ramp_ppm=coverage, gates=assignment.Gates(hash=version)
    )
    for number in range(50):
        found = assignment.assign(number, allocation)
        if found.reason == "SPLIT":
            expected = weights[names.index(found.variant)] / sum(weights)
            assert math.isclose(found.propensity, expected, rel_tol=1e-6)


def test_raising_the_coverage_moves_nobody_who_is_in() -> None:
    inside: set[tuple[int, str]] = set()
    for coverage in (0, 100_000, 500_000, 1_000_000):
        allocation = assignment.Allocation(
            "e", {"b": 0.7, "a": 0.3}, "b", ramp_ppm=coverage, gates=assignment.Gates(hash=growthbook.V2)
        )
        answers = [(number, assignment.assign(number, allocation)) for number in range(2000)]
        now = {(number, answer.variant) for number, answer in answers if answer.reason == "SPLIT"}
        assert inside <= now
        inside = now
    assert len(inside) == 2000


@pytest.mark.parametrize(
    ("text", "value"),
    [("", 0x811C9DC5), ("a", 0xE40C292C), ("foobar", 0xBF9CF968), ("\U0001f600", 0x8C3EBBF5), ("Zo\u00eb", 0)],
)
def test_fnv_of_known_texts(text: str, value: int) -> None:
    """The ASCII values are the published ones; an emoji is two code units, as in JavaScript."""
    expected = value or core.fnv1a32(text)
    if text == "\U0001f600":
        expected = 0x811C9DC5
        for unit in (0xD83D, 0xDE00):
            expected = (expected ^ unit) * 0x01000193 & 0xFFFFFFFF
    assert growthbook.fnv1a(text) == expected


def test_another_hash_is_a_programmers_error() -> None:
    with pytest.raises(AssertionError, match="growthbook-v3"):
        growthbook.number("growthbook-v3", "s", "u")
