"""Units of the log, assigned by both documents: exact, and where the closed form says within noise."""

import math

import pytest
from msgspec import Struct

from turnout.changes import comparison, logged
from turnout.spec import snapshot

DOCUMENT = """\
pipelines: {a: {code: "chat:a"}, b: {code: "chat:b"}}
endpoints: {reply: {pipeline: a, unit: user_id, attributes: {country: country}}}
experiments:
  structure:
    endpoint: reply
    variants: {a: {weight: 50, control: true}, b: {pipeline: b, weight: 50}}
"""
TARGETED = f"{DOCUMENT}    targeting: country == 'KR'\n"


class Seen(Struct, frozen=True):
    unit: str
    attributes: str = "{}"


def admit(text: str) -> snapshot.Snapshot:
    return snapshot.admit({"turnout.yaml": text}, environment={})


def test_counts_agree_with_the_closed_form_within_noise() -> None:
    before, after = admit(DOCUMENT), admit(DOCUMENT.replace("pipeline: b, weight: 50", "pipeline: b, weight: 10"))
    units = [Seen(f"user-{number}") for number in range(5_000)]
    counted = logged.compare(before, after, "structure", units)
    (experiment,) = comparison.change(before, after).experiments
    noise = 5 * math.sqrt(experiment.moved * (1 - experiment.moved) / len(units))
    assert abs(counted.moved / counted.units - experiment.moved) < noise
    assert counted.flows == {"b -> a": counted.moved}


def test_targeting_is_asked_with_what_the_log_has_seen() -> None:
    pytest.importorskip("cel_expr_python", reason="the extra `rules` is not installed")
    units = [Seen(f"user-{number}", '{"country":"KR"}' if number % 2 else '{"country":"DE"}') for number in range(400)]
    counted = logged.compare(admit(DOCUMENT), admit(TARGETED), "structure", units)
    only_germans = logged.compare(admit(DOCUMENT), admit(TARGETED), "structure", units[::2])
    assert counted.moved == only_germans.moved > 50
    assert set(counted.flows) == {"b -> a"}


def test_the_same_document_moves_nobody() -> None:
    counted = logged.compare(admit(DOCUMENT), admit(DOCUMENT), "structure", [Seen("ada"), Seen("bob")])
    assert (counted.units, counted.moved, counted.complete) == (2, 0, True)


def test_no_more_than_the_limit_is_looked_at_and_that_is_said() -> None:
    units = [Seen("ada"), Seen("bob"), Seen("cleo")]
    counted = logged.compare(admit(DOCUMENT), admit(DOCUMENT), "structure", units, limit=2)
    assert (counted.units, counted.complete) == (2, False)
