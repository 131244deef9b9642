"""The phase changes on everything that allocates or changes a variant, and on nothing else."""

from typing import Any

import msgspec
import pytest

from turnout.experiments import phases

OLD = phases.VariantContent(
    weight=50,
    pipeline="retrieval",
    code="chat.pipelines:retrieve",
    models={"embed": ("embed", "aa"), "rank": ("rank", "bb")},
    params={"top_k": 20, "nested": {"x": [1, 2]}},
)
NEW = phases.VariantContent(weight=50, pipeline="generation", code="chat.pipelines:generate", models={}, params={})
BASE: dict[str, Any] = {"seed": "structure", "unit": "user_id", "control": "old", "variants": {"old": OLD, "new": NEW}}


def digest(**changes: Any) -> str:
    arguments = {**BASE, **changes}
    return phases.phase(arguments.pop("seed"), arguments.pop("unit"), **arguments)


def variant(**changes: Any) -> dict[str, Any]:
    return {"variants": {"old": msgspec.structs.replace(OLD, **changes), "new": NEW}}


def test_the_phase_is_frozen() -> None:
    assert digest() == "5a8c3aaf5bec9945"


def test_order_and_number_type_of_weights_do_not_matter() -> None:
    turned = {"new": msgspec.structs.replace(NEW, weight=50.0), "old": OLD}
    assert digest(variants=turned) == digest()


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"seed": "other"}, id="seed"),
        pytest.param({"unit": "account_id"}, id="unit"),
        pytest.param({"unit": None}, id="no-unit"),
        pytest.param({"layer": {"name": "reply", "slots": [[0, 499]]}}, id="layer"),
        pytest.param({"targeting": 'country in ["KR"]'}, id="targeting"),
        pytest.param({"control": "new"}, id="control"),
        pytest.param({"variants": {"old": OLD, "newer": NEW}}, id="name"),
        pytest.param({"variants": {"old": OLD, "new": NEW, "third": NEW}}, id="added"),
        pytest.param(variant(weight=51), id="weight"),
        pytest.param(variant(pipeline="other"), id="pipeline"),
        pytest.param(variant(code="chat.pipelines:other"), id="code"),
        pytest.param(variant(models={"embed": ("embed", "aa"), "rank": ("rank", "cc")}), id="version"),
        pytest.param(variant(models={"embed": ("embed", "aa"), "rank": ("rank2", "bb")}), id="model"),
        pytest.param(variant(params={"top_k": 21, "nested": {"x": [1, 2]}}), id="param"),
        pytest.param(variant(params={"top_k": 20, "nested": {"x": [2, 1]}}), id="nested-param"),
        pytest.param(variant(policy="strict"), id="policy"),
    ],
)
def test_what_allocates_starts_a_new_phase(changes: dict[str, Any]) -> None:
    assert digest(**changes) != digest()


def test_only_json_has_a_canonical_form() -> None:
    with pytest.raises(TypeError):
        phases.canonical({"x": object()})
    with pytest.raises(ValueError, match="JSON"):
        phases.canonical({"x": float("nan")})
    assert phases.canonical({"b": (1, 2), "a": "ä"}) == '{"a":"ä","b":[1,2]}'.encode()
