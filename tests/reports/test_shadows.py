"""`turnout shadow`: what is said of a mirrored pipeline, from the records of its copies."""

import pytest

from turnout.errors import NotFoundError
from turnout.events import Comparison
from turnout.reports import shadows
from turnout.spec import document
from turnout.stores import catalog

CONTENT = document.Document.model_validate(
    {
        "pipelines": {name: {"code": f"app:{name}"} for name in ("old", "new")},
        "endpoints": {"ask": {"pipeline": "old"}},
        "shadows": {"next": {"endpoint": "ask", "pipeline": "new", "ratio": "10%"}},
    }
)


def copy(number: int, *, agree: bool | None = True, status: str = "ok", difference: float | None = None) -> Comparison:
    return Comparison(
        event_id=f"c{number}",
        ts=100.0 + number,
        revision="r",
        endpoint="ask",
        shadow="next",
        request_id=f"q{number}",
        unit="",
        pipeline="new",
        status=status,
        error="",
        latency_s=0.2,
        primary_pipeline="old",
        primary_latency_s=0.1,
        agree=agree,
        difference=difference,
    )


def report(
    events: list[Comparison], name: str = "next", *, copies: shadows.Copies | None = None, since: float = 0.0
) -> shadows.ShadowReport:
    store = catalog.open_store("memory:shadows")
    store.append(events, None, ingested_at=1_000.0, subject=lambda unit: unit)
    return shadows.report(store, CONTENT, name, since=since, copies=copies)


def test_agreement_counts_only_replies_that_could_be_compared() -> None:
    events = [copy(n, agree=n % 4 != 0) for n in range(200)]
    events += [copy(300 + n, agree=None, status="deadline-exceeded") for n in range(10)]

    made = report(events)

    assert (made.runs, made.agreed, made.disagreed) == (210, 150, 50)
    assert made.agreement == 0.75
    assert made.agreement_interval is not None
    assert 0.68 < made.agreement_interval.low < 0.75 < made.agreement_interval.high < 0.81
    assert made.statuses == {"ok": 200, "deadline-exceeded": 10}
    assert made.notes == ()


def test_differences_of_numbers_are_told_by_mean_and_greatest() -> None:
    made = report([copy(1, agree=False, difference=0.5), copy(2, agree=False, difference=1.5), copy(3)])

    assert (made.differences, made.difference_mean, made.difference_max) == (2, 1.0, 1.5)


def test_latency_stands_beside_that_of_the_same_callers() -> None:
    made = report([copy(1), copy(2)])

    assert made.latency_s[0.5] == pytest.approx(0.2, rel=0.02)
    assert made.primary_latency_s[0.5] == pytest.approx(0.1, rel=0.02)


def test_earlier_copies_can_be_left_out() -> None:
    assert report([copy(n) for n in range(10)], since=105.0).runs == 5


def test_few_copies_and_many_dropped_ones_are_told() -> None:
    made = report([copy(1)], copies=shadows.Copies(sent=1, done=1, dropped=9))

    assert "Only 1 copies" in made.notes[0]
    assert made.notes[1].startswith("90% of the copies were dropped")


def test_a_shadow_without_copies_says_so() -> None:
    assert report([]).notes == ("No copy was compared yet.",)


def test_a_shadow_that_nobody_knows_is_an_error_with_the_nearest_name() -> None:
    with pytest.raises(NotFoundError, match="there is no shadow 'nxt'") as told:
        report([], "nxt")
    assert "Did you mean 'next'?" in told.value.hint
