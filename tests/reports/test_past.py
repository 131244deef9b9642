"""What the history of revisions adds to a report: a ramp that went down, a plan that was changed on the way."""

from collections.abc import Callable

import pytest

from turnout.reports import experiment, past, tables
from turnout.spec import document, snapshot

Document = Callable[..., snapshot.Snapshot]


def spec(made: snapshot.Snapshot) -> document.ExperimentSpec:
    return made.document.experiments["structure"]


def ramped(document: Document, share: str, at: float) -> past.Past:
    return past.Past(at=at, spec=spec(document({"endpoint: reply\n": f"endpoint: reply\n    ramp: {share}\n"})))


def test_the_ramp_of_the_phase_begins_with_what_was_in_force(document: Document) -> None:
    found = [
        ramped(document, share, at) for share, at in (("5%", 0), ("10%", 50), ("10%", 60), ("50%", 200), ("20%", 900))
    ]
    assert past.ramps(found, 100.0, 500.0) == ((60.0, 0.1), (200.0, 0.5))
    assert past.ramps(found, 100.0, 1000.0) == ((60.0, 0.1), (200.0, 0.5), (900.0, 0.2))
    assert past.ramps(found, None, None) == ()
    assert past.ramps([], 0.0, 1.0) == ()


@pytest.mark.parametrize(
    ("replaced", "words"),
    [
        ({"units: 2000": "units: 3000"}, ["plan.units was 2000, is 3000"]),
        ({"units: 2000": "units: 2000, alpha: 0.1"}, ["plan.alpha was 0.05, is 0.1"]),
        ({"units: 2000": "units: 2000, tightest_at: 500"}, ["plan.tightest_at was not said, is 500"]),
        ({"units: 2000": "units: 2000, horizon: fixed"}, ["plan.horizon was always, is fixed"]),
        (
            {"primary: {outcome: kept_talking, kind: conversion": "primary: {outcome: other, kind: mean"},
            ["the primary metric was kept_talking (conversion), is other (mean)"],
        ),
        (
            {"    plan:": "      guardrails: {e: {signal: error, margin: 0.1}}\n    plan:"},
            ["the guardrail e was added"],
        ),
        ({"endpoint: reply\n": "endpoint: reply\n    ramp: 20%\n"}, []),
    ],
)
def test_a_changed_plan_is_told(document: Document, replaced: dict[str, str], words: list[str]) -> None:
    then = [past.Past(at=0.0, spec=spec(document())), past.Past(at=99.0, spec=spec(document(replaced)))]
    assert list(past.changed(then, spec(document(replaced)), 50.0)) == words
    assert past.changed(then, spec(document(replaced)), 100.0) == ()
    assert past.changed(then, spec(document(replaced)), None) == ()


def test_a_report_warns_of_both(document: Document, canned: Callable[..., object]) -> None:
    now = document({"units: 2000": "units: 2000, alpha: 0.1"})
    steps = (ramped(document, "50%", 1.0), ramped(document, "20%", 15.0))
    store = canned(now, units={"retrieval": 1000, "generation": 1000})
    made = experiment.report(
        store,  # type: ignore[arg-type]
        now,
        "structure",
        now=1_000_000.0,
        known=experiment.Known(versions=lambda first, last: steps),
    )
    assert made.verdict is not None
    checks: dict[str, tables.Check] = {check.code: check for check in made.verdict.checks}
    assert (checks["ramp"].state, "was lowered" in checks["ramp"].text) == ("warning", True)
    assert "plan.alpha was 0.05, is 0.1" in checks["plan-changed"].text
