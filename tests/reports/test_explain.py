"""Why one unit gets its variant."""

from collections.abc import Callable

import msgspec
import pytest

from turnout.errors import NotFoundError
from turnout.experiments import assignment
from turnout.reports import explain
from turnout.spec import snapshot

Document = Callable[..., snapshot.Snapshot]


def test_a_split_is_explained_in_words_and_numbers(document: Document) -> None:
    found = explain.explain(document(), "structure", "user-1")
    assert (found.variant, found.pipeline, found.reason, found.analysed) == ("generation", "generation", "SPLIT", True)
    assert found.points is not None
    assert [(draw.variant, draw.word) for draw in found.points.draws] == [
        ("generation", "8e5c8ca42af71173"),
        ("retrieval", "2ae9124d057c7fd4"),
    ]
    assert found.words == (
        "user-1 takes part: its ramp point is 455,015 of 1,000,000, the ramp ends at 1,000,000.",
        "generation has the highest score, -0.0117362 (against retrieval -0.0357212); "
        "50 % of the units that take part get it.",
    )
    assert msgspec.json.decode(msgspec.json.encode(found))["points"]["sub_bucket"] == 22


@pytest.mark.parametrize(
    ("replaced", "unit", "variant", "reason", "words"),
    [
        ({"endpoint: reply\n": "endpoint: reply\n    ramp: 10%\n"}, "user-1", "retrieval", "NOT_IN_RAMP", "455,015"),
        ({"endpoint: reply\n": "endpoint: reply\n    winner: generation\n"}, "u", "generation", "WINNER", "winner"),
        ({"endpoint: reply\n": "endpoint: reply\n    enabled: false\n"}, "u", "retrieval", "DISABLED", "off"),
        ({"weight: 50}": "weight: 50, overrides: [qa]}"}, "qa", "generation", "OVERRIDE", "override list"),
        ({}, None, "retrieval", "NO_UNIT", "no user_id"),
        ({}, "\ud800", "retrieval", "ERROR", "lone surrogate"),
    ],
)
def test_every_reason_has_words(
    document: Document, replaced: dict[str, str], unit: str | None, variant: str, reason: str, words: str
) -> None:
    found = explain.explain(document(replaced), "structure", unit)
    assert (found.variant, found.reason, found.analysed) == (variant, reason, False)
    assert words in " ".join(found.words)


def test_a_request_id_is_explained_where_it_stands_in(document: Document) -> None:
    admitted = document({"endpoint: reply\n": "endpoint: reply\n    on_missing_unit: request\n"})
    found = explain.explain(admitted, "structure", None, request_id="r-1")
    assert (found.unit, found.unit_type, found.reason) == ("r-1", "request_id", assignment.Reason.SPLIT)


def test_an_unknown_experiment_is_told(document: Document) -> None:
    with pytest.raises(NotFoundError, match="Did you mean 'structure'"):
        explain.explain(document(), "structre", "u")
