"""What every event store answers to reports."""

import pytest
from tests.contracts.event_stores import (
    PHASE,
    Put,
    exposure,
    outcome,
    postgresql_url,
    prediction,
    put,
    sqlite_template,
    store,
    totals,
)

from turnout.stores import base

__all__ = ["postgresql_url", "put", "sqlite_template", "store"]

OTHER_PHASE = "ffffffffffffffff"


# -- phases


def test_phases_come_last_seen_first_with_their_builds(store: base.EventStore, put: Put) -> None:
    put(
        exposure("u1", ts=100.0, phase=OTHER_PHASE),
        exposure("u2", ts=120.0, phase=OTHER_PHASE),
        exposure("u2", ts=130.0, phase=OTHER_PHASE),
        exposure("u3", ts=200.0),
        exposure("u4", ts=300.0, experiment="another"),
        prediction("q1", phase=OTHER_PHASE, build="b2"),
        prediction("q2", phase=OTHER_PHASE, build="b1"),
    )

    assert store.phases("structure") == [
        base.Phase(experiment="structure", phase=PHASE, first_ts=200.0, last_ts=200.0, units=1),
        base.Phase(
            experiment="structure", phase=OTHER_PHASE, first_ts=100.0, last_ts=130.0, units=2, builds=("b1", "b2")
        ),
    ]


def test_an_unknown_experiment_has_nothing(store: base.EventStore) -> None:
    assert store.phases("nobody") == []
    assert store.exposed("nobody", PHASE) == base.Exposed(units={}, crossed=0, reasons={})
    assert totals(store) == {}
    assert store.serving("nobody", PHASE) == {}
    assert store.outcome_names() == []


# -- units


def test_units_are_counted_once_and_only_when_randomised(store: base.EventStore, put: Put) -> None:
    put(
        exposure("u1", "a"),
        exposure("u1", "a", ts=200.0),
        exposure("u2", "b", reason="EXTERNAL"),
        exposure("u3", "a", reason="OVERRIDE"),
        exposure("u4", "a", reason="NOT_IN_RAMP"),
        exposure("u5", "a", phase=OTHER_PHASE),
    )

    found = store.exposed("structure", PHASE)

    assert found.units == {"a": 1, "b": 1}
    assert found.crossed == 0
    assert found.reasons == {"SPLIT": 1, "EXTERNAL": 1, "OVERRIDE": 1, "NOT_IN_RAMP": 1}


def test_a_unit_seen_in_two_variants_is_in_no_count(store: base.EventStore, put: Put) -> None:
    put(exposure("u1", "a"), exposure("u1", "b", ts=200.0), exposure("u2", "a"), outcome("o1", unit="u1"))
    put(exposure("u3", "b", ts=50.0), exposure("u3", "a", ts=60.0), exposure("u3", "a", ts=40.0, reason="OVERRIDE"))

    found = store.exposed("structure", PHASE)

    assert (found.units, found.crossed) == ({"a": 1}, 2)
    assert found.crossed_from == {"a": 1, "b": 1}
    assert totals(store) == {"a": (1, 0, 0)}


def test_an_override_elsewhere_does_not_cross_a_unit(store: base.EventStore, put: Put) -> None:
    put(exposure("u1", "a"), exposure("u1", "b", ts=200.0, reason="OVERRIDE"))

    assert store.exposed("structure", PHASE).units == {"a": 1}


def test_requests_that_another_system_assigned_without_a_unit_are_nobody(store: base.EventStore, put: Put) -> None:
    put(
        exposure("u1", "a", reason="EXTERNAL"),
        exposure("", "a", reason="EXTERNAL", request_id="r2"),
        exposure("", "b", reason="EXTERNAL", request_id="r3"),
    )

    found = store.exposed("structure", PHASE)

    assert (dict(found.units), found.crossed, dict(found.crossed_from)) == ({"a": 1}, 0, {})
    query = base.SignalQuery(experiment="structure", phase=PHASE, signal="error", as_of=1e9)
    assert {each.sub_bucket for each in store.signal_sums(query)} <= set(range(100))


def test_the_units_of_a_phase_can_be_listed(store: base.EventStore, put: Put) -> None:
    put(
        exposure("u2", "a", attributes={"country": "KR"}),
        exposure("u2", "a", ts=200.0, attributes={"country": "KR"}),
        exposure("u1", "b", reason="NOT_IN_RAMP"),
        exposure("", "a", reason="NO_UNIT"),
        exposure("r1", "a", unit_type="request_id"),
        exposure("u3", "a", phase=OTHER_PHASE),
    )

    seen = [
        base.SeenUnit(unit="u1", attributes="{}"),
        base.SeenUnit(unit="u2", attributes='{"country":"KR"}'),
    ]
    assert store.units("structure", PHASE, 10) == seen
    assert store.units("structure", PHASE, 1) == seen[:1]
    assert store.units("nobody", PHASE, 10) == []


# -- metrics


def test_a_conversion_is_one_however_often_it_happens(store: base.EventStore, put: Put) -> None:
    put(
        *(exposure(unit, "a") for unit in ("u1", "u2", "u3")),
        exposure("u4", "b"),
        outcome("o1", unit="u1"),
        outcome("o2", unit="u1", ts=111.0),
        outcome("o3", unit="u2", value=25.0),
        outcome("o4", unit="u4", name="another"),
        outcome("o5", unit="nobody"),
    )

    assert totals(store) == {"a": (3, 2, 2), "b": (1, 0, 0)}


def test_an_outcome_of_value_zero_is_no_conversion(store: base.EventStore, put: Put) -> None:
    put(exposure("u1", "a"), outcome("o1", unit="u1", value=0.0))

    assert totals(store) == {"a": (1, 0, 0)}


def test_a_mean_sums_the_values_of_a_unit(store: base.EventStore, put: Put) -> None:
    put(
        *(exposure(unit, "a") for unit in ("u1", "u2", "u3")),
        outcome("o1", unit="u1", value=2.0),
        outcome("o2", unit="u1", value=3.0),
        outcome("o3", unit="u2", value=-1.5),
    )

    assert totals(store, kind="mean") == {"a": (3, 3.5, 27.25)}


@pytest.mark.parametrize(
    ("ts", "counts"),
    [(99.9, 0), (100.0, 1), (149.9, 1), (150.0, 0)],
    ids=["before", "at the first exposure", "inside", "at the window's end"],
)
def test_the_window_begins_with_the_first_exposure(store: base.EventStore, put: Put, ts: float, counts: int) -> None:
    put(exposure("u1", "a", ts=130.0), exposure("u1", "a", ts=100.0), outcome("o1", unit="u1", ts=ts))

    assert totals(store) == {"a": (1, counts, counts)}


def test_an_outcome_finds_its_unit_by_the_request(store: base.EventStore, put: Put) -> None:
    put(
        *(exposure(unit, "a") for unit in ("u1", "u2", "u3", "q-is-the-unit")),
        prediction("q1", "u1"),
        prediction("q-without-unit", ""),
        outcome("o1", request_id="q1"),
        outcome("o2", request_id="q-u2"),  # its prediction was sampled away; the exposure names the request
        outcome("o3", request_id="q-is-the-unit"),
        outcome("o4", request_id="q-without-unit"),
        outcome("o5", request_id="never-seen"),
    )

    assert totals(store) == {"a": (4, 3, 3)}


def test_an_outcome_with_unit_and_request_counts_once_for_the_unit(store: base.EventStore, put: Put) -> None:
    put(exposure("u1", "a"), exposure("u2", "a"), prediction("q2", "u2"), outcome("o1", unit="u1", request_id="q2"))

    assert totals(store, kind="mean") == {"a": (2, 1, 1)}


def test_an_outcome_of_another_unit_type_does_not_match(store: base.EventStore, put: Put) -> None:
    put(
        exposure("u1", "a"),
        exposure("u2", "a"),
        outcome("o1", unit="u1", unit_type="order_id"),
        outcome("o2", unit="u2", unit_type="user_id"),
    )

    assert totals(store) == {"a": (2, 1, 1)}


def test_a_correction_replaces_its_outcome(store: base.EventStore, put: Put) -> None:
    put(exposure("u1", "a"), outcome("o1", unit="u1", value=10.0))
    put(outcome("o2", unit="u1", value=4.0, correction_of="o1"))

    assert totals(store, kind="mean") == {"a": (1, 4, 16)}


def test_of_two_corrections_the_last_one_to_arrive_wins(store: base.EventStore, put: Put) -> None:
    put(exposure("u1", "a"), outcome("o1", unit="u1", value=10.0))
    put(outcome("o9", unit="u1", value=4.0, correction_of="o1"))
    put(outcome("o2", unit="u1", value=6.0, correction_of="o1"))

    assert totals(store, kind="mean") == {"a": (1, 6, 36)}


def test_within_one_batch_the_later_correction_wins(store: base.EventStore, put: Put) -> None:
    put(
        exposure("u1", "a"),
        outcome("o1", unit="u1", value=10.0),
        outcome("o9", unit="u1", value=4.0, correction_of="o1"),
        outcome("o2", unit="u1", value=6.0, correction_of="o1"),
    )

    assert totals(store, kind="mean") == {"a": (1, 6, 36)}


def test_a_correction_of_a_correction_replaces_both(store: base.EventStore, put: Put) -> None:
    put(exposure("u1", "a"), outcome("o1", unit="u1", value=10.0))
    put(outcome("o2", unit="u1", value=4.0, correction_of="o1"))
    put(outcome("o3", unit="u1", value=0.0, correction_of="o2"))

    assert totals(store) == {"a": (1, 0, 0)}


def test_a_correction_that_arrives_first_holds(store: base.EventStore, put: Put) -> None:
    put(exposure("u1", "a"), outcome("o2", unit="u1", value=4.0, correction_of="o1"))
    put(outcome("o1", unit="u1", value=10.0))

    assert totals(store, kind="mean") == {"a": (1, 4, 16)}


def test_an_outcome_that_corrects_itself_counts(store: base.EventStore, put: Put) -> None:
    put(exposure("u1", "a"), outcome("o1", unit="u1", correction_of="o1"))

    assert totals(store) == {"a": (1, 1, 1)}


def test_a_correction_in_another_project_touches_nothing(store: base.EventStore, put: Put) -> None:
    put(exposure("u1", "a"), outcome("o1", unit="u1", value=3.0))
    put(outcome("o2", unit="nobody", value=4.0, correction_of="o1", project="another"))

    assert totals(store, kind="mean") == {"a": (1, 3, 9)}


def test_as_of_ignores_what_came_later(store: base.EventStore, put: Put) -> None:
    put(
        exposure("u1", "a", ts=100.0),
        exposure("u2", "a", ts=200.0),
        exposure("u1", "b", ts=300.0),
        outcome("o1", unit="u1", ts=120.0),
        outcome("o2", unit="u1", ts=140.0),
    )

    assert totals(store, kind="mean", as_of=130.0) == {"a": (1, 1, 1)}
    assert totals(store, kind="mean", as_of=210.0) == {"a": (2, 2, 4)}


def test_closed_windows_only(store: base.EventStore, put: Put) -> None:
    put(exposure("u1", "a", ts=100.0), exposure("u2", "a", ts=101.0), outcome("o1", unit="u2"))

    assert totals(store, as_of=150.0, closed_only=True) == {"a": (1, 0, 0)}
    assert totals(store, as_of=151.0, closed_only=True) == {"a": (2, 1, 1)}


# -- serving


def test_requests_are_counted_under_the_variant_their_unit_was_assigned(store: base.EventStore, put: Put) -> None:
    put(
        exposure("u1", "a"),
        exposure("u2", "b"),
        exposure("u3", "a", reason="NOT_IN_RAMP"),
        exposure("u4", "a"),
        exposure("u4", "b"),
        prediction("q1", "u1", served="a"),
        prediction("q2", "u1", served="a", status="deadline", error="too late"),
        prediction("q3", "u2", served="a", variant="b", fallback=True),
        prediction("q4", "u1", served="a", shadow=True),
        prediction("q5", "u1", served="a", phase=OTHER_PHASE),
        prediction("q6", "u1", served="a", ts=99.0),
        prediction("q7", "u1", served="b"),  # u1 left the split, or it was forced upon it
        prediction("q8", "u3", served="a"),
        prediction("q9", "u4", served="a"),
    )

    found = store.serving("structure", PHASE)

    assert {name: (one.requests, one.errors, one.fallbacks) for name, one in found.items()} == {
        "a": (3, 1, 0),
        "b": (1, 0, 1),
    }


def test_what_a_variant_answered_is_counted_whoever_asked(store: base.EventStore, put: Put) -> None:
    put(
        prediction("q1", "u1", served="a", ts=49.0),
        prediction("q2", "u1", served="a", ts=50.0),
        prediction("q3", "u2", served="a", ts=51.0, status="deadline", error="too late"),
        prediction("q4", "u3", served="b", variant="a", ts=52.0, fallback=True),
        prediction("q5", "u4", served="b", ts=53.0),
        prediction("q6", "u1", served="a", ts=54.0, shadow=True),
        prediction("q7", "u1", served="a", ts=55.0, phase=OTHER_PHASE),
    )

    assert store.answered("structure", PHASE, 50.0) == {
        "a": base.Answered(requests=3, lost=2),
        "b": base.Answered(requests=1, lost=0),
    }


def test_latency_quantiles_from_100_microseconds_on_are_right_within_a_percent(
    store: base.EventStore, put: Put
) -> None:
    latencies = [10 ** (-4 + 6 * at / 999) for at in range(1_000)]
    put(exposure("u1"), *(prediction(f"q{at}", "u1", latency_s=latency) for at, latency in enumerate(latencies)))

    found = store.serving("structure", PHASE, (0.01, 0.5, 0.95, 0.99, 1.0))["control"].latency_s

    assert found == pytest.approx(
        {0.01: latencies[9], 0.5: latencies[499], 0.95: latencies[949], 0.99: latencies[989], 1.0: latencies[999]},
        rel=0.01,
    )


# -- outcomes


def test_outcome_names_tell_how_many_match_nobody(store: base.EventStore, put: Put) -> None:
    put(
        exposure("u1"),
        prediction("q1"),
        outcome("o1", unit="u1", ts=5.0),
        outcome("o2", request_id="q1", ts=9.0),
        outcome("o3", unit="nobody", ts=7.0),
        outcome("o4", request_id="nothing", name="bought"),
        outcome("o5", request_id="q-u1", name="bought"),
    )

    assert store.outcome_names() == [
        base.OutcomeName(name="bought", count=2, unmatched=1, first_ts=110.0, last_ts=110.0),
        base.OutcomeName(name="kept", count=3, unmatched=1, first_ts=5.0, last_ts=9.0),
    ]
