"""What every event store sums up for reports and rollouts: values per unit, signals per request, flow, shadows."""

import pytest
from tests.contracts.event_stores import (
    PHASE,
    Put,
    comparison,
    exposure,
    outcome,
    postgresql_url,
    prediction,
    put,
    sqlite_template,
    store,
    unit_query,
)

from turnout.stores import base

__all__ = ["postgresql_url", "put", "sqlite_template", "store"]


def signal_query(**more: object) -> base.SignalQuery:
    fields: dict[str, object] = {"experiment": "structure", "phase": PHASE, "signal": "error"}
    return base.SignalQuery(**{**fields, **more})  # type: ignore[arg-type]


def unit_sums(n: int, y: float, yy: float, **more: object) -> base.UnitSums:
    fields: dict[str, object] = {"variant": "a", "bucket": 0, "closed": True, "n": n, "y": y, "yy": yy}
    return base.UnitSums(**{**fields, **more})  # type: ignore[arg-type]


def cells(store: base.EventStore, **more: object) -> list[tuple[object, ...]]:
    """Signal sums as (variant, sub_bucket, bucket, s, c)."""
    found = store.signal_sums(signal_query(**more))
    return [(one.variant, one.sub_bucket, one.bucket, one.s, one.c) for one in found]


def test_nothing_is_measured_of_an_unknown_experiment(store: base.EventStore) -> None:
    assert store.unit_sums(unit_query()) == []
    assert store.unit_values(unit_query(), 10).total == 0
    assert store.signal_sums(signal_query()) == []
    assert store.signal_ranks("structure", PHASE, 0.5, 0.05) == {}
    assert store.exposure_days("structure", PHASE) == []
    assert store.comparisons("next").runs == 0
    assert store.comparisons("next").statuses == {}
    assert store.lateness("kept") is None


# -- values of units


def test_a_count_counts_outcomes_whatever_their_value(store: base.EventStore, put: Put) -> None:
    put(
        exposure("u1", "a"),
        exposure("u2", "a"),
        outcome("o1", unit="u1", value=0.0),
        outcome("o2", unit="u1", value=9.0),
        outcome("o3", unit="u1", name="another"),
    )

    assert store.unit_sums(unit_query(kind="count")) == [unit_sums(2, 2.0, 4.0)]


def test_a_ratio_pairs_a_numerator_and_a_denominator_of_each_unit(store: base.EventStore, put: Put) -> None:
    pairs = {"u1": (1, 2), "u2": (0, 1), "u3": (3, 4), "u4": (2, 3), "u5": (1, 1)}
    for unit, (clicks, views) in pairs.items():
        put(exposure(unit, "a"))
        put(*(outcome(f"{unit}-c{at}", unit=unit, name="click") for at in range(clicks)))
        put(outcome(f"{unit}-v", unit=unit, name="view", value=float(views)))

    found = store.unit_sums(unit_query(kind="ratio", outcome="click", per="view"))

    assert found == [unit_sums(5, 7.0, 15.0, d=11.0, dd=31.0, yd=21.0)]


def test_another_kind_than_a_ratio_has_no_denominator(store: base.EventStore, put: Put) -> None:
    put(exposure("u1", "a"), outcome("o1", unit="u1"), outcome("o2", unit="u1", name="view"))

    assert store.unit_sums(unit_query(kind="mean", per="view")) == [unit_sums(1, 1.0, 1.0)]


@pytest.mark.parametrize(
    ("kind", "y"),
    [("conversion", 1.0), ("mean", 100.0), ("count", 3.0), ("ratio", 100.0)],
    ids=lambda value: str(value),
)
def test_a_unit_is_capped_after_its_outcomes_are_summed(store: base.EventStore, put: Put, kind: str, y: float) -> None:
    put(exposure("u1", "a"), *(outcome(f"o{at}", unit="u1", value=60.0) for at in range(3)))
    put(outcome("v1", unit="u1", name="view", value=500.0))

    found = store.unit_sums(unit_query(kind=kind, cap=100.0, per="view"))

    d = 500.0 if kind == "ratio" else 0.0
    assert found == [unit_sums(1, y, y * y, d=d, dd=d * d, yd=y * d)]


def test_a_covariate_is_the_same_value_before_the_first_exposure(store: base.EventStore, put: Put) -> None:
    put(
        exposure("u1", "a", ts=100.0),
        exposure("u1", "a", ts=130.0),
        exposure("u2", "a", ts=100.0),
        exposure("u3", "a", ts=100.0),
        outcome("o1", unit="u1", ts=69.9, value=1000.0),  # before the look-back
        outcome("o2", unit="u1", ts=70.0, value=2.0),
        outcome("o3", unit="u1", ts=99.9, value=3.0),
        outcome("o4", unit="u1", ts=100.0, value=7.0),
        outcome("o5", unit="u2", ts=80.0, value=4.0),
        outcome("o6", unit="u3", ts=120.0, value=1.0),
    )

    found = store.unit_sums(unit_query(kind="mean", covariate_s=30.0))

    assert found == [unit_sums(3, 8.0, 50.0, x=9.0, xx=41.0, xy=35.0, n_x=2)]


def test_a_covariate_is_capped_like_the_value(store: base.EventStore, put: Put) -> None:
    put(exposure("u1", "a"), outcome("o1", unit="u1", ts=90.0, value=50.0), outcome("o2", unit="u1", value=9.0))

    found = store.unit_sums(unit_query(kind="mean", covariate_s=30.0, cap=10.0))

    assert found == [unit_sums(1, 9.0, 81.0, x=10.0, xx=100.0, xy=90.0, n_x=1)]


def test_a_ratios_covariate_is_what_its_unit_had_above_the_common_ratio(store: base.EventStore, put: Put) -> None:
    before = {"u1": ("a", 3, 4), "u2": ("b", 1, 4), "u3": ("b", 0, 0)}
    for unit, (variant, clicks, views) in before.items():
        put(exposure(unit, variant), outcome(f"{unit}-now", unit=unit, name="view"))
        put(*(outcome(f"{unit}-c{at}", unit=unit, ts=90.0, name="click") for at in range(clicks)))
        put(*(outcome(f"{unit}-v{at}", unit=unit, ts=90.0, name="view") for at in range(views)))

    found = store.unit_sums(unit_query(kind="ratio", outcome="click", per="view", covariate_s=30.0))

    # The common ratio is 4/8: u1 is 1 above, u2 1 below, u3 has no past and stands at the mean.
    assert found == [
        unit_sums(1, 0.0, 0.0, d=1.0, dd=1.0, x=1.0, xx=1.0, xd=1.0, n_x=1),
        unit_sums(2, 0.0, 0.0, d=2.0, dd=2.0, x=-1.0, xx=1.0, xd=-1.0, n_x=1, variant="b"),
    ]


def test_units_are_summed_by_the_bucket_of_their_first_exposure(store: base.EventStore, put: Put) -> None:
    put(
        exposure("u1", "a", ts=9.99),
        exposure("u1", "a", ts=25.0),
        exposure("u2", "a", ts=10.0),
        exposure("u3", "a", ts=25.0),
        outcome("o3", unit="u3", ts=30.0),
    )

    assert store.unit_sums(unit_query(bucket_s=10.0)) == [
        unit_sums(1, 0.0, 0.0, bucket=0),
        unit_sums(1, 0.0, 0.0, bucket=1),
        unit_sums(1, 1.0, 1.0, bucket=2),
    ]


def test_a_window_closes_after_its_end_and_the_lateness_of_outcomes(store: base.EventStore, put: Put) -> None:
    put(exposure("u1", "a", ts=100.0), exposure("u2", "a", ts=105.0), outcome("o1", unit="u2", ts=110.0))

    open_cell = unit_sums(1, 1.0, 1.0, closed=False)
    assert store.unit_sums(unit_query(as_of=160.0, lateness_s=10.0)) == [open_cell, unit_sums(1, 0.0, 0.0)]
    assert store.unit_sums(unit_query(as_of=165.0, lateness_s=10.0)) == [unit_sums(2, 1.0, 1.0)]
    assert [one.n for one in store.unit_sums(unit_query(as_of=149.9))] == [2]
    assert not store.unit_sums(unit_query(as_of=149.9))[0].closed


def test_an_outcome_of_another_project_does_not_count(store: base.EventStore, put: Put) -> None:
    put(
        exposure("u1", "a"),
        outcome("o1", unit="u1", project="another"),
        exposure("u2", "a", project="another"),
        outcome("o2", unit="u2", project="another"),
    )

    assert store.unit_sums(unit_query()) == [unit_sums(2, 1.0, 1.0)]


def test_values_of_units_come_as_columns(store: base.EventStore, put: Put) -> None:
    put(
        exposure("u2", "b", ts=101.0, sub_bucket=3),
        exposure("u1", "a", ts=100.0),
        exposure("u3", "a"),
        exposure("u3", "b"),
        outcome("o1", unit="u1", value=5.0),
        outcome("o2", unit="u1", ts=90.0, value=2.0),
    )

    found = store.unit_values(unit_query(kind="mean", covariate_s=20.0, as_of=150.5), 10)

    assert found == base.UnitValues(
        subjects=found.subjects,
        variants=found.variants,
        sub_buckets=found.sub_buckets,
        t0=found.t0,
        closed=found.closed,
        y=found.y,
        d=found.d,
        x=found.x,
        total=2,
    )
    assert list(found.subjects) == ["subject of u1", "subject of u2"]
    assert list(found.variants) == ["a", "b"]
    assert list(found.sub_buckets) == [7, 3]
    assert list(found.t0) == [100.0, 101.0]
    assert list(found.closed) == [True, False]
    assert (list(found.y), list(found.d), list(found.x)) == ([5.0, 0.0], [0.0, 0.0], [2.0, 0.0])


def test_of_many_units_the_first_by_hash_are_given_and_all_are_counted(store: base.EventStore, put: Put) -> None:
    put(*(exposure(f"u{number}", "a") for number in (3, 1, 2)))

    found = store.unit_values(unit_query(), 2)

    assert (list(found.subjects), found.total) == (["subject of u1", "subject of u2"], 3)


# -- signals of requests


def test_errors_are_summed_by_assigned_variant_sub_bucket_and_time(store: base.EventStore, put: Put) -> None:
    put(
        exposure("u1", "a", sub_bucket=3),
        exposure("u2", "b", sub_bucket=99),
        prediction("q1", "u1", "a", sub_bucket=3),
        prediction("q2", "u1", "a", sub_bucket=3, status="model", error="it raised"),
        prediction("q3", "u1", "a", sub_bucket=3, ts=205.0),
        prediction("q4", "u2", "a", variant="b", fallback=True),  # control answered: b failed
    )

    assert cells(store, bucket_s=100.0) == [("a", 3, 1, 1.0, 2), ("a", 3, 2, 0.0, 1), ("b", 99, 1, 1.0, 1)]
    assert cells(store, bucket_s=100.0, signal="fallback") == [
        ("a", 3, 1, 0.0, 2),
        ("a", 3, 2, 0.0, 1),
        ("b", 99, 1, 1.0, 1),
    ]


def test_latencies_are_summed_or_compared_with_a_threshold(store: base.EventStore, put: Put) -> None:
    put(exposure("u1", "a"), *(prediction(f"q{at}", "u1", "a", latency_s=at / 4) for at in range(1, 5)))

    assert cells(store, signal="latency", kind="mean") == [("a", 7, 0, 2.5, 4)]
    assert cells(store, signal="latency", kind="share_over", threshold_s=0.5) == [("a", 7, 0, 2.0, 4)]


def test_requests_count_from_the_first_exposure_to_the_time_asked_for(store: base.EventStore, put: Put) -> None:
    put(exposure("u1", "a", ts=100.0), *(prediction(f"q{ts}", "u1", "a", ts=ts) for ts in (99.9, 100.0, 110.0, 120.0)))

    assert cells(store) == [("a", 7, 0, 0.0, 3)]
    assert cells(store, as_of=120.0) == [("a", 7, 0, 0.0, 2)]
    assert cells(store, as_of=120.0, since=110.0) == [("a", 7, 0, 0.0, 1)]
    assert cells(store, as_of=100.0) == []


def test_requests_of_units_that_are_not_analysed_are_in_no_sum(store: base.EventStore, put: Put) -> None:
    put(
        exposure("u1", "a", reason="OVERRIDE"),
        exposure("u2", "a"),
        exposure("u2", "b"),
        exposure("u3", "a"),
        prediction("q1", "u1", "a"),
        prediction("q2", "u2", "a"),
        prediction("q3", "u3", "b"),  # forced upon it
        prediction("q4", "u3", "a", shadow=True),
        prediction("q5", "u3", "a", experiment="another"),
        prediction("q6", "nobody", "a"),
    )

    assert cells(store) == []


def test_where_the_request_is_the_unit_it_is_found_by_its_id(store: base.EventStore, put: Put) -> None:
    put(exposure("q1", "a", unit_type="request"), prediction("q1", "", "a"), prediction("q2", "", "a"))

    assert cells(store) == [("a", 7, 0, 0.0, 1)]


def test_a_covariate_ends_where_the_unit_began_in_any_phase(store: base.EventStore, put: Put) -> None:
    put(
        exposure("u1", "a", ts=50.0, phase="p0"),
        exposure("u1", "a", ts=100.0),
        exposure("u2", "a", ts=60.0, phase="p0", reason="NOT_IN_RAMP"),
        exposure("u2", "a", ts=100.0),
        outcome("before", unit="u1", ts=45.0, value=3.0),
        outcome("earlier", unit="u1", ts=75.0, value=50.0),  # what the earlier phase made of it
        outcome("too long ago", unit="u1", ts=39.0, value=70.0),
        outcome("not treated yet", unit="u2", ts=95.0, value=5.0),
        outcome("now", unit="u1", ts=110.0, value=2.0),
    )

    (found,) = store.unit_sums(unit_query(kind="mean", covariate_s=10.0, window_s=20.0))

    assert (found.n, found.y, found.x, found.xx, found.n_x) == (2, 2.0, 8.0, 34.0, 2)


def test_requests_after_a_unit_left_the_split_count_for_both_sides_or_for_none(
    store: base.EventStore, put: Put
) -> None:
    put(
        exposure("u1", "a", sub_bucket=1),
        exposure("u2", "b", sub_bucket=2),
        exposure("u3", "b", sub_bucket=3),
        prediction("q1", "u1", served="b"),
        prediction("q2", "u2", served="b"),
        prediction("q3", "u3", "other", also=(("structure", PHASE, "a"),), experiment="layout"),
        prediction("q4", "u3", "other", also=(("structure", "p9", "a"),), experiment="layout"),
    )
    assert cells(store) == [("b", 2, 0, 0.0, 1)], "under the variant that the unit was assigned"
    everything = [("a", 1, 0, 0.0, 1), ("b", 2, 0, 0.0, 1), ("b", 3, 0, 0.0, 1)]
    assert cells(store, whole=True) == everything, "whatever the unit got"


def test_requests_of_an_experiment_beside_another_one_are_found_by_also(store: base.EventStore, put: Put) -> None:
    put(
        exposure("u1", "warm_", experiment="colours", phase="p2", sub_bucket=5),
        exposure("u2", "cold", experiment="colours", phase="p2", sub_bucket=6),
        prediction("q1", "u1", "a", also=(("layout", "p9", "b"), ("colours", "p2", "warm_")), status="model"),
        prediction("q2", "u1", "a", also=(("colours", "p1", "warm_"),)),
        prediction("q3", "u1", "a", also=(("colours", "p2", "warmer"),)),
        prediction("q4", "u2", "a", also=(("colours", "p2", "cold"),)),
        prediction("q5", "u2", "a"),
    )

    assert cells(store, experiment="colours", phase="p2") == [("cold", 6, 0, 0.0, 1), ("warm_", 5, 0, 1.0, 1)]


def test_ranks_are_of_the_units_mean_latencies(store: base.EventStore, put: Put) -> None:
    for number in range(1, 101):
        put(exposure(f"u{number}", "a"))
        put(prediction(f"q{number}", f"u{number}", "a", latency_s=float(number)))
    put(prediction("q-more", "u100", "a", latency_s=300.0), exposure("b1", "b"), prediction("b1", "b1", "b"))

    found = store.signal_ranks("structure", PHASE, 0.5, 0.05)

    # 100 · (0.5 ∓ 1.96 · 0.05): ranks ⌊40.2⌋ and ⌈59.8⌉
    assert found["a"] == base.Ranks(n=100, low=40.0, value=50.0, high=60.0)
    assert found["b"] == base.Ranks(n=1, low=0.002, value=0.002, high=0.002)
    assert store.signal_ranks("structure", PHASE, 0.999, 0.05)["a"].high == 200.0
    assert store.signal_ranks("structure", PHASE, 0.5, 0.05, as_of=100.0) == {}


# -- flow, shadows, lateness


def test_new_units_are_counted_once_each_on_the_day_they_came(store: base.EventStore, put: Put) -> None:
    day = base.DAY_S
    put(
        exposure("u1", "a", ts=day * 3 + 5),
        exposure("u1", "a", ts=day * 4),
        exposure("u2", "b", ts=day * 3 + 9),
        exposure("u3", "a", ts=day * 4 - 0.1),
        exposure("u4", "a", ts=day * 4),
        exposure("u5", "a", ts=day * 4),
        exposure("u5", "b", ts=day * 4),
        exposure("u6", "a", ts=day * 4, reason="NO_UNIT"),
    )

    found = store.exposure_days("structure", PHASE)

    assert [(one.bucket, one.variant, one.units) for one in found] == [(3, "a", 2), (3, "b", 1), (4, "a", 1)]
    assert [one.bucket for one in store.exposure_days("structure", PHASE, 2 * day)] == [1, 1, 2]


def test_a_shadows_runs_are_summed_up(store: base.EventStore, put: Put) -> None:
    put(
        comparison("q1", agree=True, difference=0.0),
        comparison("q2", agree=False, difference=0.5, ts=120.0),
        comparison("q3", agree=False, latency_s=0.008),
        comparison("q4", status="model", error="it raised", latency_s=9.0, primary_latency_s=0.006),
        comparison("q5", ts=99.0),
        comparison("q6", shadow="another"),
    )
    put(comparison("q1", agree=False))  # the same event again

    found = store.comparisons("next", since=100.0)

    assert (found.runs, dict(found.statuses)) == (4, {"ok": 3, "model": 1})
    assert (found.agreed, found.disagreed) == (1, 2)
    assert (found.differences, found.difference_mean, found.difference_max) == (2, 0.25, 0.5)
    assert found.latency_s == pytest.approx({0.5: 0.004, 0.95: 0.008, 0.99: 0.008})
    assert found.primary_latency_s == pytest.approx({0.5: 0.002, 0.95: 0.006, 0.99: 0.006})
    assert (found.first_ts, found.last_ts) == (100.0, 120.0)


def test_lateness_is_the_time_from_the_fact_to_the_store(store: base.EventStore, put: Put) -> None:
    late = [*range(1, 100), 5_000]  # `put` ingests one batch a second, from 1,000 on
    for at, seconds in enumerate(late):
        put(outcome(f"o{at}", ts=1_000.0 + at - seconds), outcome(f"x{at}", ts=9e9, name="from the future"))

    found = store.lateness("kept")

    assert found is not None
    assert found.count == 100
    assert (found.p50_s, found.p99_s) == pytest.approx((50.0, 99.0), rel=0.01)
    ahead = store.lateness("from the future")
    assert ahead == base.Lateness(count=100, p50_s=0.0, p99_s=0.0)
