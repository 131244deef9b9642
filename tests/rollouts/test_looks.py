"""What is made of a store's sums: the right side is harmed, and too little is no data."""

import math

import pytest

from turnout.experiments import sequences
from turnout.rollouts import evidence, looks
from turnout.spec import measures, traffic
from turnout.stores import base

SIDES = looks.Sides("canary", "control")
TERMS = looks.Terms(alpha=0.01, tightest_at=1_000)


def metric(**keys: object) -> measures.MetricSpec:
    return measures.MetricSpec.model_validate({"margin": 0.01} | keys)


def signals(variant: str, bad: int, requests: int) -> list[base.SignalSums]:
    """Spread evenly over the sub-buckets."""
    return [
        base.SignalSums(
            variant=variant,
            sub_bucket=cell,
            bucket=cell % 3,
            s=float(bad // 100 + (cell < bad % 100)),
            c=requests // 100 + (cell < requests % 100),
        )
        for cell in range(100)
    ]


def signal(
    new: tuple[int, int], old: tuple[int, int], units: tuple[int, int] | None = None, **keys: object
) -> evidence.Reading:
    sums = [*signals("canary", *new), *signals("control", *old), *signals("rest", 900, 1_000)]
    return looks.of_signal(
        "errors", metric(**({"signal": "error"} | keys)), sums, sides=SIDES, terms=TERMS, units=units
    )


def units(variant: str, n: int, yes: int, *, closed: bool = True) -> base.UnitSums:
    return base.UnitSums(variant=variant, bucket=3, closed=closed, n=n, y=float(yes), yy=float(yes))


def outcome(*sums: base.UnitSums, **keys: object) -> evidence.Reading:
    return looks.of_outcome("kept", metric(**({"outcome": "kept"} | keys)), sums, sides=SIDES, terms=TERMS)


def test_where_the_request_is_the_unit_the_bound_is_that_of_the_formula() -> None:
    found = signal((60, 2_500), (50, 2_500))
    p, q = 60.5 / 2_501, 50.5 / 2_501
    se = math.sqrt(p * (1 - p) / 2_500 + q * (1 - q) / 2_500)
    half = se * sequences.one_sided_width(5_000, tightest_at=1_000, alpha=0.01)
    assert (found.n, found.new, found.old) == (5_000, 0.024, 0.02)
    assert found.low == pytest.approx(0.004 - half)
    assert found.high == pytest.approx(0.004 + half)
    assert found.state == "inconclusive"


def test_more_errors_are_harm_and_fewer_are_safe() -> None:
    assert signal((500, 1_000), (100, 1_000)).state == "harmful"
    assert signal((100, 1_000), (500, 1_000)).state == "safe"


@pytest.mark.parametrize("count", [0, 49])
def test_fewer_than_fifty_on_a_side_are_no_data(count: int) -> None:
    assert signal((count, count), (0, 1_000)).state == "no data"
    assert signal((1_000, 1_000), (0, 1_000), units=(count, 500)).state == "no data"


def test_no_failure_among_few_units_proves_little_however_many_requests_they_sent() -> None:
    many_requests = signal((0, 100_000), (0, 100_000), units=(60, 60))
    many_units = signal((0, 100_000), (0, 100_000), units=(50_000, 50_000))
    assert (many_requests.state, many_units.state) == ("inconclusive", "safe")


def test_latency_may_be_watched_as_a_mean_with_a_margin_in_seconds() -> None:
    sums = [
        base.SignalSums(variant=variant, sub_bucket=cell, bucket=0, s=20 * mean * (1 + cell % 5 / 10), c=20)
        for variant, mean in (("canary", 0.2), ("control", 0.1))
        for cell in range(100)
    ]
    watched = metric(signal="latency", kind="mean", margin=0.05)
    found = looks.of_signal("slow", watched, sums, sides=SIDES, terms=TERMS, units=(900, 900))
    assert (found.state, found.unit) == ("harmful", "seconds")
    assert found.words.startswith("slow: new 240.0 ms, old 120.0 ms; worse by ")


def test_an_outcome_that_falls_is_harm_unless_down_is_better() -> None:
    fell = units("canary", 2_000, 400), units("control", 2_000, 1_000)
    assert outcome(*fell).state == "harmful"
    assert outcome(*fell, direction="down").state == "safe"


def test_outcomes_are_judged_two_sided_on_closed_units_alone() -> None:
    found = outcome(
        units("canary", 1_000, 500),
        units("control", 1_000, 500),
        units("canary", 250, 0, closed=False),
        units("control", 250, 250, closed=False),
        units("rest", 9_000, 0),
    )
    half = math.sqrt(2 * 0.25 / 1_000) * sequences.width(2_000, tightest_at=1_000, alpha=0.01)
    assert (found.n, found.harm, found.closed) == (2_000, 0.0, 0.8)
    assert found.high == pytest.approx(half, rel=1e-3)
    assert found.low == pytest.approx(-half, rel=1e-3)


def test_without_units_an_outcome_has_no_data() -> None:
    assert (outcome().state, outcome().closed) == ("no data", 0.0)
    assert outcome(units("canary", 99, 9), units("control", 500, 9), kind="mean").state == "no data"


def test_the_p_value_of_harm_is_small_where_the_bound_is_beyond_the_margin() -> None:
    harmful, fine = signal((500, 1_000), (100, 1_000)), signal((100, 1_000), (100, 1_000))
    assert harmful.p is not None
    assert harmful.p < 0.01
    assert fine.p == 1.0


def test_every_reading_gets_its_part_of_the_error() -> None:
    def terms(**keys: object) -> looks.Terms:
        common = {"endpoint": "reply", "to": {"pipeline": "new"}, "alpha": 0.01, "tightest_at": 500}
        return looks.terms_of(traffic.RolloutSpec.model_validate(common | keys))

    kept = {"kept": {"outcome": "kept_talking", "margin": 0.01}}
    assert terms() == looks.Terms(0.01, 500), "errors are guarded by default"
    assert terms(outcomes=kept) == looks.Terms(0.005, 500)
    assert terms(guardrails={}) == looks.Terms(0.01, 500)


@pytest.mark.parametrize(("counts", "balanced"), [((0, 0), True), ((500, 480), True), ((900, 300), False)])
def test_both_sides_get_as_many_units(counts: tuple[int, int], balanced: bool) -> None:
    assert looks.ratio_of(counts, SIDES)[0] is balanced


def test_after_a_switch_what_was_lost_is_compared_with_before() -> None:
    calm, worse = base.Answered(requests=5_000, lost=50), base.Answered(requests=5_000, lost=500)
    assert looks.since_switch(worse, calm, terms=TERMS, margin=0.005).state == "harmful"
    assert looks.since_switch(calm, calm, terms=TERMS, margin=0.02).state == "safe"
    assert looks.since_switch(worse, base.Answered(requests=0, lost=0), terms=TERMS, margin=0.0).state == "no data"


def test_words_name_both_sides_the_bound_and_the_margin() -> None:
    told = signal((500, 1_000), (100, 1_000)).words
    assert told.startswith("errors: new 50.00 %, old 10.00 %; worse by 3")
    assert told.endswith(" % at least, margin 1.00 %")
    assert outcome().words == "kept: no data"
