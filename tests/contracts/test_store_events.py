"""What every event store promises about writing: once each, checkpoint and events together, nothing half."""

import msgspec
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
    subject,
    totals,
)

from turnout.stores import base

__all__ = ["postgresql_url", "put", "sqlite_template", "store"]


def requests(store: base.EventStore, put: Put, *units: str) -> int:
    """Predictions kept of these units, which are exposed for it: requests are counted of analysed units."""
    put(*(exposure(unit, ts=1.0) for unit in units))
    return sum(found.requests for found in store.serving("structure", PHASE).values())


def test_an_event_that_comes_twice_is_kept_once(store: base.EventStore, put: Put) -> None:
    for _ in range(2):
        put(exposure("u1"), prediction("q1", "u1"), outcome("o1", unit="u1"))
    put(prediction("q1", "u1"), prediction("q2", "u1"))

    assert [found.count for found in store.outcome_names()] == [1]
    assert store.exposed("structure", PHASE).units == {"control": 1}
    assert requests(store, put, "u1") == 2


def test_an_id_that_comes_twice_in_one_batch_is_kept_once(store: base.EventStore, put: Put) -> None:
    put(prediction("q1", "u1"), prediction("q1", "u1"))

    assert requests(store, put, "u1") == 1


def test_the_first_of_two_records_with_one_id_stays(store: base.EventStore, put: Put) -> None:
    put(outcome("o1", unit="u1", name="kept"))
    put(outcome("o1", unit="u1", name="another"))

    assert [found.name for found in store.outcome_names()] == ["kept"]


def test_the_same_outcome_id_of_two_projects_is_two_outcomes(store: base.EventStore, put: Put) -> None:
    put(outcome("o1", unit="u1"), outcome("o1", unit="u1", project="another"))

    assert [found.count for found in store.outcome_names()] == [2]


def test_a_new_store_has_no_checkpoints(store: base.EventStore) -> None:
    assert store.checkpoints() == {}


def test_a_checkpoint_moves_with_its_events(store: base.EventStore, put: Put) -> None:
    put(prediction("q1"), checkpoint=base.Checkpoint("a.seg", 100))
    put(prediction("q2"), checkpoint=base.Checkpoint("b.seg", 50))
    put(prediction("q3"), checkpoint=base.Checkpoint("a.seg", 200))

    assert store.checkpoints() == {"a.seg": 200, "b.seg": 50}


def test_a_checkpoint_may_move_without_events(store: base.EventStore, put: Put) -> None:
    put(checkpoint=base.Checkpoint("a.seg", 8))

    assert store.checkpoints() == {"a.seg": 8}


def test_forgotten_checkpoints_are_gone_and_unknown_ones_do_no_harm(store: base.EventStore, put: Put) -> None:
    put(checkpoint=base.Checkpoint("a.seg", 8))
    put(checkpoint=base.Checkpoint("b.seg", 9))

    store.forget(["a.seg", "never-seen.seg"])
    store.forget([])

    assert store.checkpoints() == {"b.seg": 9}


@pytest.mark.parametrize(
    "text",
    ["O'Brien; DROP TABLE exposures", "%s %(x)s ? :name", "ünïcödé 🚂", "with \x00 nul", "x" * 100_000],
    ids=["quotes", "placeholders", "unicode", "nul", "long"],
)
def test_any_text_is_kept(store: base.EventStore, put: Put, text: str) -> None:
    put(
        exposure(text, attributes={"note": text}),
        prediction("q1", text, error=text),
        outcome("o1", unit=text, source=text),
    )

    assert store.exposed("structure", PHASE).units == {"control": 1}
    assert requests(store, put, text) == 1
    assert totals(store, window_s=1e6) == {"control": (1, 1.0, 1.0)}


def test_extreme_numbers_are_kept(store: base.EventStore, put: Put) -> None:
    put(exposure("u1", ts=0.0), outcome("o1", unit="u1", ts=1.0, value=-1e308))

    assert totals(store, kind="conversion") == {"control": (1, 1.0, 1.0)}


def test_steps_and_attributes_of_any_depth_are_kept(store: base.EventStore, put: Put) -> None:
    event = prediction("q1", "u1")
    put(
        msgspec.structs.replace(event, steps=event.steps * 100),
        exposure("u1", attributes={"a": [1, {"b": None}]}, also=(("other", "p2", "b"),)),
    )

    assert requests(store, put, "u1") == 1


def test_a_batch_of_thousands_is_kept_whole(store: base.EventStore, put: Put) -> None:
    put(*(prediction(f"q{number}", f"u{number}") for number in range(5_000)))

    assert requests(store, put, *(f"u{number}" for number in range(5_000))) == 5_000


def test_subjects_are_asked_for_units_only(store: base.EventStore) -> None:
    asked: list[str] = []

    def ask(unit: str) -> str:
        asked.append(unit)
        return subject(unit)

    store.append([prediction("q1", "u1"), outcome("o1", request_id="q1")], None, ingested_at=1.0, subject=ask)

    assert set(asked) - {""} == {"u1"}
