"""The tables and the notes of a report, from a store that answers what it is told."""

import json
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from turnout.errors import NotFoundError
from turnout.experiments import samples
from turnout.reports import experiment, tables
from turnout.spec import snapshot
from turnout.stores import base

NOW = 1_000_000.0
Document = Callable[..., snapshot.Snapshot]
Store = Callable[..., Any]

HEALTHY: dict[str, Any] = {
    "units": {"retrieval": 1010, "generation": 990},
    "reasons": {"SPLIT": 2000},
    "sums": {
        "kept_talking": {
            "retrieval": samples.Moments(n=1010, y=101, yy=101),
            "generation": samples.Moments(n=990, y=198, yy=198),
        },
        "spent": {
            "retrieval": samples.Moments(n=1010, y=2020, yy=9000),
            "generation": samples.Moments(n=990, y=1980, yy=9000),
        },
    },
    "served": {
        "retrieval": base.Serving(requests=3000, errors=0, fallbacks=0, latency_s={0.5: 0.01, 0.95: 0.02, 0.99: 0.03}),
        "generation": base.Serving(requests=2900, errors=29, fallbacks=0, latency_s={0.5: 0.1, 0.95: 0.2, 0.99: 0.3}),
    },
    "names": [
        base.OutcomeName(name="kept_talking", count=299, unmatched=0, first_ts=1.0, last_ts=2.0),
        base.OutcomeName(name="spent", count=1500, unmatched=0, first_ts=1.0, last_ts=2.0),
    ],
}


def codes(made: tables.Report) -> list[str]:
    return [note.code for note in made.notes]


def note(made: tables.Report, code: str) -> tables.Note:
    return next(note for note in made.notes if note.code == code)


def test_a_healthy_experiment_needs_no_words(document: Document, canned: Store) -> None:
    admitted = document()
    made = experiment.report(canned(admitted, **HEALTHY), admitted, "structure", now=NOW)
    assert made.notes == ()
    assert (made.experiment, made.endpoint, made.unit, made.control) == ("structure", "reply", "user_id", "retrieval")
    assert (made.state, made.current, made.units, made.revision) == ("running", True, 2000, admitted.short)
    assert [row.name for row in made.variants] == ["retrieval", "generation"]
    assert [row.expected_units for row in made.variants] == [1000.0, 1000.0]
    assert made.variants[1].serving == tables.Serving(
        requests=2900, errors=29, error_ratio=0.01, fallback_ratio=0.0, p50_s=0.1, p95_s=0.2, p99_s=0.3
    )
    assert made.plan.complete is True
    assert made.sample_ratio is not None
    assert made.sample_ratio.verdict == "fine"
    assert made.sample_ratio.sequential_p == 1.0


def test_the_effect_is_variant_minus_control(document: Document, canned: Store) -> None:
    admitted = document()
    made = experiment.report(canned(admitted, **HEALTHY), admitted, "structure", now=NOW)
    primary, spent = made.metrics
    assert (primary.name, primary.role, primary.outcomes) == ("primary", "primary", 299)
    assert [(row.variant, row.mean) for row in primary.estimates] == [("retrieval", 0.1), ("generation", 0.2)]
    (comparison,) = primary.comparisons
    assert comparison.variant == "generation"
    assert comparison.fixed is not None
    assert comparison.fixed.interval is not None
    assert comparison.always_valid is not None
    assert comparison.fixed.estimate == pytest.approx(0.1)
    assert comparison.fixed.lift == pytest.approx(1.0)
    assert comparison.always_valid.interval.low < comparison.fixed.interval.low
    assert (comparison.reading, spent.comparisons[0].reading) == ("higher", "unclear")
    assert (spent.name, spent.role, spent.kind) == ("spent", "secondary", "mean")


def test_the_report_goes_through_json(document: Document, canned: Store) -> None:
    admitted = document()
    made = experiment.report(canned(admitted, **HEALTHY), admitted, "structure", now=NOW)
    found = json.loads(msgspec.json.encode(made))
    assert found["metrics"][0]["comparisons"][0]["reading"] == "higher"
    assert found["metrics"][0]["comparisons"][0]["fixed"]["df"] is None  # the normal distribution


def test_nothing_yet_says_what_to_do(document: Document, canned: Store) -> None:
    admitted = document()
    made = experiment.report(canned(admitted), admitted, "structure", now=NOW)
    assert codes(made) == ["no-outcome", "no-outcome", "no-exposures"]
    assert "Send requests to the endpoint reply with user_id set." in note(made, "no-exposures").text
    assert note(made, "no-outcome").text == "No outcome named kept_talking yet; no outcome of any name was posted."
    assert (made.units, made.first_ts, made.sample_ratio) == (0, None, None)
    assert [row.unit_ratio for row in made.variants] == [None, None]
    assert [row.mean for row in made.metrics[0].estimates] == [None, None]
    assert made.metrics[0].comparisons[0].fixed is None
    assert made.metrics[0].comparisons[0].reading == "too-early"


def test_too_early_is_said(document: Document, canned: Store) -> None:
    admitted = document()
    made = experiment.report(
        canned(admitted, units={"retrieval": 30, "generation": 120}, names=HEALTHY["names"], closed=0.5),
        admitted,
        "structure",
        now=NOW,
    )
    assert "Too early: retrieval has 30 units; at least 100" in note(made, "too-early").text
    assert made.metrics[0].comparisons[0].always_valid is None
    assert "50.0 % of the units are still inside their window" in note(made, "open-windows").text
    assert "1,850 of 2,000 planned units" in note(made, "plan").text
    assert made.plan.complete is False


@pytest.mark.parametrize(("lasted_s", "complete"), [(3_600.0, False), (7 * 86_400.0, True)])
def test_a_plan_is_open_until_its_shortest_duration_has_passed(
    document: Document, canned: Store, lasted_s: float, complete: bool
) -> None:
    admitted = document({"units: 2000": "units: 2000, min_duration: 7d"})
    made = experiment.report(canned(admitted, **HEALTHY), admitted, "structure", now=10.0 + lasted_s)
    assert made.plan.complete is complete
    if not complete:
        assert note(made, "duration").text == "The shortest planned duration ends in 7.0 days."


def test_a_wrong_outcome_name_is_told_with_the_names_seen(document: Document, canned: Store) -> None:
    admitted = document({"outcome: kept_talking": "outcome: kept_talkin"})
    answers = {**HEALTHY, "sums": {}}
    made = experiment.report(canned(admitted, **answers), admitted, "structure", now=NOW)
    text = note(made, "no-outcome").text
    assert text == "No outcome named kept_talkin yet; names seen: kept_talking, spent. Did you mean 'kept_talking'?"


def test_a_sample_ratio_mismatch_comes_first(document: Document, canned: Store) -> None:
    admitted = document()
    answers = {**HEALTHY, "units": {"retrieval": 1200, "generation": 800}, "reasons": {"SPLIT": 1900, "NO_UNIT": 100}}
    made = experiment.report(canned(admitted, **answers), admitted, "structure", now=NOW)
    assert made.notes[0].level == "alarm"
    assert "retrieval 1200 (expected 1000), generation 800 (expected 1000)" in made.notes[0].text
    assert codes(made) == ["sample-ratio", "no-unit"]
    assert "100 requests (5.0 % of what was exposed) had no user_id" in note(made, "no-unit").text


@pytest.mark.parametrize(("planned", "verdict", "level"), [(2_000, "mismatch", "alarm"), (9_000, "suspect", "warning")])
def test_one_look_at_the_sample_ratio_is_enough_at_the_planned_end(
    document: Document, canned: Store, planned: int, verdict: str, level: str
) -> None:
    admitted = document({"units: 2000": f"units: {planned}"})
    answers = {**HEALTHY, "units": {"retrieval": 1080, "generation": 920}}
    made = experiment.report(canned(admitted, **answers), admitted, "structure", now=NOW)
    assert made.sample_ratio is not None
    assert made.sample_ratio.verdict == verdict
    assert note(made, "sample-ratio").level == level


@pytest.mark.parametrize(
    ("answers", "code", "level", "text"),
    [
        pytest.param({"crossed": 5}, "crossed", "info", "5 units (0.2 %)", id="few-crossed"),
        pytest.param({"crossed": 50}, "crossed", "alarm", "50 units (2.4 %)", id="many-crossed"),
        pytest.param(
            {"reasons": {"SPLIT": 2000, "ERROR": 3}}, "assignment-error", "warning", "3 assignments", id="error"
        ),
        pytest.param({"builds": ("b1", "b2")}, "mixed-builds", "warning", "2 builds of the code", id="builds"),
        pytest.param(
            {"others": [base.Phase(experiment="structure", phase="f" * 16, first_ts=1, last_ts=2, units=7)]},
            "other-phases",
            "info",
            "the last ffffffffffffffff with 7 units",
            id="phases",
        ),
        pytest.param(
            {
                "served": {
                    **HEALTHY["served"],
                    "generation": base.Serving(
                        requests=100, errors=7, fallbacks=0, latency_s={0.5: 1.0, 0.95: 1.0, 0.99: 1.0}
                    ),
                }
            },
            "errors",
            "warning",
            "generation answers 7.0 % of its requests with an error; retrieval: 0.0 %.",
            id="errors",
        ),
        pytest.param(
            {
                "served": {
                    **HEALTHY["served"],
                    "generation": base.Serving(
                        requests=100, errors=0, fallbacks=9, latency_s={0.5: 1.0, 0.95: 1.0, 0.99: 1.0}
                    ),
                }
            },
            "fallback",
            "warning",
            "retrieval answered 9.0 % of the requests of generation, which failed.",
            id="fallback",
        ),
        pytest.param(
            {
                "names": [
                    base.OutcomeName(name="kept_talking", count=300, unmatched=40, first_ts=1, last_ts=2),
                    HEALTHY["names"][1],
                ]
            },
            "unmatched",
            "warning",
            "40 of 300 outcomes named kept_talking belong to nobody that was seen. Do they carry the same user_id",
            id="unmatched",
        ),
    ],
)
def test_each_trouble_is_one_note(
    document: Document, canned: Store, answers: dict[str, Any], code: str, level: str, text: str
) -> None:
    admitted = document()
    made = experiment.report(canned(admitted, **{**HEALTHY, **answers}), admitted, "structure", now=NOW)
    assert codes(made) == [code]
    assert (made.notes[0].level, text in made.notes[0].text) == (level, True)


def test_lost_events_are_told(document: Document, canned: Store) -> None:
    admitted = document()
    lost = {"prediction generation": 4, "prediction retrieval": 0}
    made = experiment.report(
        canned(admitted, **HEALTHY), admitted, "structure", now=NOW, known=experiment.Known(dropped=lost)
    )
    assert note(made, "dropped").text == "Events were lost before they were logged: prediction generation 4."


@pytest.mark.parametrize(
    ("replaced", "code", "text"),
    [
        ({"endpoint: reply": "endpoint: reply\n    ramp: 20%"}, "ramp-share", "20.0 % of the units take part"),
        ({"endpoint: reply": "endpoint: reply\n    enabled: false"}, "disabled", "everybody gets retrieval"),
        ({"endpoint: reply": "endpoint: reply\n    winner: generation"}, "winner", "the winner generation"),
        ({"    plan: {units: 2000}\n": ""}, "no-plan", "there is no planned end"),
    ],
)
def test_the_documents_own_state_is_told(
    document: Document, canned: Store, replaced: dict[str, str], code: str, text: str
) -> None:
    admitted = document(replaced)
    made = experiment.report(canned(admitted, **HEALTHY), admitted, "structure", now=NOW)
    assert codes(made) == [code]
    assert text in made.notes[0].text


def test_an_experiment_without_metrics_shows_traffic(document: Document, canned: Store) -> None:
    metrics = "    metrics:\n      primary: {outcome: kept_talking, kind: conversion, window: 1d}\n"
    metrics += "      secondary: {spent: {outcome: spent, kind: mean, window: 1d}}\n"
    admitted = document({metrics: ""})
    made = experiment.report(canned(admitted, **HEALTHY), admitted, "structure", now=NOW)
    assert made.metrics == ()
    assert codes(made) == ["no-metric"]
    assert "names seen: kept_talking, spent" in made.notes[0].text


def test_an_older_phase_can_be_read_and_is_marked(document: Document, canned: Store) -> None:
    admitted = document()
    store = canned(admitted, phase="0" * 16, **{**HEALTHY, "units": {"retrieval": 500, "former": 500}})
    made = experiment.report(store, admitted, "structure", now=NOW, phase="0" * 16)
    assert (made.current, made.sample_ratio) == (False, None)
    assert [(row.name, row.weight) for row in made.variants] == [
        ("retrieval", None),
        ("former", None),
        ("generation", None),
    ]
    assert "old-phase" in codes(made)
    empty = experiment.report(store, admitted, "structure", now=NOW)
    assert (empty.units, [each.phase for each in empty.other_phases]) == (0, ["0" * 16])
    assert {"no-exposures", "other-phases"} <= set(codes(empty))


def test_three_variants_share_the_error(document: Document, canned: Store) -> None:
    two, three = document(), document({"retrieval: {weight: 50": "third: {weight: 50}\n      retrieval: {weight: 50"})
    answers = {**HEALTHY, "units": {"retrieval": 1000, "generation": 1000, "third": 1000}}
    widths = []
    for admitted in (two, three):
        made = experiment.report(canned(admitted, **answers), admitted, "structure", now=NOW)
        always = made.metrics[0].comparisons[0].always_valid
        assert always is not None
        widths.append(always.interval.high - always.interval.low)
    assert widths[0] < widths[1]


def test_unknown_names_are_told_with_the_nearest(document: Document, canned: Store) -> None:
    admitted = document()
    store = canned(admitted, **HEALTHY)
    with pytest.raises(NotFoundError, match=r"no experiment 'structur'\. Did you mean 'structure'"):
        experiment.report(store, admitted, "structur", now=NOW)
    with pytest.raises(NotFoundError, match="Experiments in the document: structure"):
        experiment.report(store, admitted, "zzz", now=NOW)
    with pytest.raises(NotFoundError, match=r"no phase 'nope'\. Phases seen: "):
        experiment.report(store, admitted, "structure", now=NOW, phase="nope")
