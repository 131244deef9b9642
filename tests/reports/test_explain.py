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
    found = explain.explain(document(), "structure", explain.Asked(unit="user-1"))
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
    found = explain.explain(document(replaced), "structure", explain.Asked(unit=unit))
    assert (found.variant, found.reason, found.analysed) == (variant, reason, False)
    assert words in " ".join(found.words)


def test_a_request_id_is_explained_where_it_stands_in(document: Document) -> None:
    admitted = document({"endpoint: reply\n": "endpoint: reply\n    on_missing_unit: request\n"})
    found = explain.explain(admitted, "structure", explain.Asked(unit=None, request_id="r-1"))
    assert (found.unit, found.unit_type, found.reason) == ("r-1", "request_id", assignment.Reason.SPLIT)


def test_an_unknown_experiment_is_told(document: Document) -> None:
    with pytest.raises(NotFoundError, match="Did you mean 'structure'"):
        explain.explain(document(), "structre", explain.Asked(unit="u"))


WHOLE = {
    "endpoint: reply\n": """endpoint: reply
    ramp: 60%
    targeting: country == "KR" && age > 17
    layer: {name: reply, slots: ["0-499", "600-899"]}
""",
    "unit: user_id}": "unit: user_id, attributes: {country: user.country, age: age, plan: plan}}",
    "experiments:\n": "holdouts: {everyone: {ratio: 20%}}\nexperiments:\n",
}


def test_every_step_is_told_until_the_one_that_decides(document: Document) -> None:
    admitted = document(WHOLE)
    told: dict[str, tuple[str, ...]] = {}
    for number in range(200):
        asked = explain.Asked(unit=number, attributes={"country": "KR", "age": 18})
        found = explain.explain(admitted, "structure", asked)
        told.setdefault(found.reason, found.words)
        assert found.points is not None
        assert (found.points.holdout_point_ppm is None, found.points.slot is None) == (False, False)
    assert {reason: len(words) for reason, words in told.items()} == {
        "HOLDOUT": 1,
        "NOT_IN_LAYER": 2,
        "NOT_IN_RAMP": 4,
        "SPLIT": 5,
    }
    held = told["HOLDOUT"][0]
    assert "is held out: its point is" in held
    assert "the holdout 'everyone' ends at 200,000. It gets the control, retrieval." in held
    assert "is not held out" in told["SPLIT"][0]
    assert "of layer 'reply', structure owns 0-499, 600-899." in told["SPLIT"][1]
    assert told["NOT_IN_LAYER"][1].endswith("It gets the control, retrieval.")
    assert told["SPLIT"][2] == 'Targeting (country == "KR" && age > 17) is true.'
    assert "takes part" in told["SPLIT"][3]


@pytest.mark.parametrize(
    ("attributes", "reason", "words", "missing"),
    [
        ({"country": "JP", "age": 18}, "TARGETING", "is false. It gets the control", ""),
        ({"country": "KR"}, "TARGETING", "needs age, which the request does not say", "age"),
        ({}, "TARGETING", "which the request does not say: that counts as false", "country"),
        ({"country": "KR", "age": "old"}, "ERROR", "failed: ValueError: targeting:", ""),
    ],
)
def test_targeting_is_told_with_its_cause(
    document: Document, attributes: dict[str, object], reason: str, words: str, missing: str
) -> None:
    admitted = document({key: value for key, value in WHOLE.items() if not key.startswith("experiments")})
    owned = next(
        number
        for number in range(100)
        if explain.explain(admitted, "structure", explain.Asked(unit=number)).reason == "TARGETING"
    )
    found = explain.explain(admitted, "structure", explain.Asked(unit=owned, attributes=attributes))
    assert found.reason == reason
    assert words in found.words[-1]
    assert found.missing == missing


def test_an_attribute_that_is_not_declared_is_refused(document: Document) -> None:
    with pytest.raises(NotFoundError, match="declares no attribute 'contry'"):
        explain.explain(document(WHOLE), "structure", explain.Asked(unit=1, attributes={"contry": "KR"}))


def test_growthbooks_number_and_ranges_are_told(document: Document) -> None:
    admitted = document(
        {
            "endpoint: reply\n": "endpoint: reply\n    hash: growthbook-v2\n    ramp: 50%\n",
            "pipeline: generation, weight: 50": "pipeline: generation, weight: 0.5",
            "retrieval: {weight: 50": "retrieval: {weight: 0.5",
        }
    )
    found = explain.explain(admitted, "structure", explain.Asked(unit="Zo\u00eb"))
    assert found.points is not None
    assert (found.points.draws, found.points.number is None) == ((), False)
    assert "the variants own generation [0, 0.25), retrieval [0.5, 0.75)." in found.words[0]
    assert "not plain ASCII" in found.words[1]


def test_what_another_system_chose_is_told(document: Document) -> None:
    replaced = {"endpoint: reply\n": "endpoint: reply\n    assign: external\n    header: X-Variant\n"}
    asked = explain.Asked(unit="u", external="generation")
    found = explain.explain(document(replaced), "structure", asked)
    assert (found.reason, found.analysed) == ("EXTERNAL", True)
    assert found.words == ("The header X-Variant names generation; another system chose it.",)
    found = explain.explain(document(replaced), "structure", explain.Asked(unit="u"))
    assert "X-Variant names no variant" in found.words[0]


def test_a_rollout_is_explained_too(document: Document) -> None:
    rollout = "rollouts: {next: {endpoint: reply, to: {pipeline: generation}}}\nexperiments:\n"
    admitted = document({"experiments:\n": rollout, "endpoint: reply\n": "endpoint: reply\n    enabled: false\n"})
    found = explain.explain(admitted, "next", explain.Asked(unit="u"))
    assert (found.variant, found.pipeline, found.reason) == ("rest", "retrieval", "DISABLED")
    assert found.words == ("Rollout next is pending: everybody gets rest.",)
