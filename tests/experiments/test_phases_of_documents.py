"""Which keys of a document start a new phase, and which do not."""

import copy
from collections.abc import Callable
from typing import Any

import pytest

from turnout.experiments import allocations, assignment, phases
from turnout.spec import document

DOCUMENT: dict[str, Any] = {
    "models": {
        "rank": {"runtime": "onnx", "source": "rank.onnx"},
        "rank-v2": {"runtime": "onnx", "source": "rank2.onnx"},
        "embed": {"runtime": "python", "code": "chat.models:Embed", "params": {"size": 8, "key": "secret:EMBED"}},
        "unused": {"runtime": "onnx", "source": "x.onnx"},
    },
    "pipelines": {
        "retrieval": {"code": "chat:retrieve", "models": {"rank": "rank", "embed": "embed"}, "params": {"top_k": 20}},
        "generation": {"code": "chat:generate", "models": {"rank": "rank"}},
        "other": {"code": "chat:other"},
    },
    "endpoints": {"reply": {"pipeline": "retrieval", "unit": "user_id"}, "elsewhere": {"pipeline": "other"}},
    "experiments": {
        "structure": {
            "endpoint": "reply",
            "variants": {
                "old": {"weight": 50, "control": True},
                "new": {"weight": 50, "pipeline": "generation", "params": {"candidates": 4}},
            },
        }
    },
}
DIGESTS = {"rank": "sha256:" + "a" * 64, "rank-v2": "sha256:" + "b" * 64, "unused": "sha256:" + "c" * 64}
EXPERIMENT = ("experiments", "structure")


def phase(tree: dict[str, Any], digests: dict[str, str] | None = None) -> str:
    return phases.of("structure", document.Document.model_validate(tree), written=tree, digests=digests or DIGESTS)


def put(*path: str, value: Any) -> Callable[[dict[str, Any]], None]:
    def change(tree: dict[str, Any]) -> None:
        for key in path[:-1]:
            tree = tree.setdefault(key, {})
        tree[path[-1]] = value

    return change


def changed(change: Callable[[dict[str, Any]], None]) -> dict[str, Any]:
    tree = copy.deepcopy(DOCUMENT)
    change(tree)
    return tree


def rename(tree: dict[str, Any]) -> None:
    variants = tree["experiments"]["structure"]["variants"]
    variants["newer"] = variants.pop("new")


def swap_control(tree: dict[str, Any]) -> None:
    variants = tree["experiments"]["structure"]["variants"]
    del variants["old"]["control"]
    variants["new"]["control"] = True


VARIANTS = (*EXPERIMENT, "variants")


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(put(*EXPERIMENT, "seed", value="again"), id="seed"),
        pytest.param(put("endpoints", "reply", "unit", value="account_id"), id="unit"),
        pytest.param(put(*VARIANTS, "new", "weight", value=60), id="weight"),
        pytest.param(put(*VARIANTS, "third", value={"weight": 0}), id="variant-added"),
        pytest.param(rename, id="variant-renamed"),
        pytest.param(swap_control, id="control"),
        pytest.param(put(*VARIANTS, "new", "pipeline", value="other"), id="pipeline"),
        pytest.param(put("endpoints", "reply", "pipeline", value="other"), id="endpoint-pipeline"),
        pytest.param(put("pipelines", "retrieval", "code", value="chat:retrieve2"), id="pipeline-code"),
        pytest.param(put(*VARIANTS, "new", "params", "candidates", value=5), id="variant-params"),
        pytest.param(put("pipelines", "retrieval", "params", "top_k", value=21), id="pipeline-params"),
        pytest.param(put(*VARIANTS, "old", "models", value={"rank": "rank-v2"}), id="variant-models"),
        pytest.param(put("pipelines", "retrieval", "models", "rank", value="rank-v2"), id="pipeline-models"),
        pytest.param(put("models", "embed", "params", "size", value=9), id="model-params"),
        pytest.param(put("models", "embed", "code", value="chat.models:Other"), id="model-code"),
    ],
)
def test_what_allocates_or_answers_starts_a_new_phase(change: Callable[[dict[str, Any]], None]) -> None:
    assert phase(changed(change)) != phase(DOCUMENT)


def test_another_artifact_starts_a_new_phase_and_another_path_does_not() -> None:
    assert phase(DOCUMENT, {**DIGESTS, "rank": "sha256:" + "d" * 64}) != phase(DOCUMENT)
    assert phase(changed(put("models", "rank", "source", value="moved/rank.onnx"))) == phase(DOCUMENT)


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(put(*EXPERIMENT, "ramp", value=0.2), id="ramp"),
        pytest.param(put(*EXPERIMENT, "enabled", value=False), id="enabled"),
        pytest.param(put(*EXPERIMENT, "winner", value="new"), id="winner"),
        pytest.param(put(*EXPERIMENT, "on_missing_unit", value="request"), id="on-missing-unit"),
        pytest.param(put(*EXPERIMENT, "fallback", value="control"), id="fallback"),
        pytest.param(put(*EXPERIMENT, "metrics", value={"primary": {"outcome": "bought"}}), id="metrics"),
        pytest.param(put(*EXPERIMENT, "plan", value={"units": 100, "alpha": 0.1}), id="plan"),
        pytest.param(put(*EXPERIMENT, "description", value="why"), id="description"),
        pytest.param(put(*EXPERIMENT, "seed", value="structure"), id="default-seed-written-out"),
        pytest.param(put(*VARIANTS, "new", "overrides", value=["qa"]), id="overrides"),
        pytest.param(put(*VARIANTS, "old", "params", value={"top_k": 20}), id="same-params-written-twice"),
        pytest.param(put(*VARIANTS, "new", "weight", value=50.0), id="weight-as-float"),
        pytest.param(put("endpoints", "reply", "deadline", value="3s"), id="deadline"),
        pytest.param(put("endpoints", "elsewhere", "unit", value="x"), id="other-endpoint"),
        pytest.param(put("models", "rank", "batching", value={"max_rows": 8}), id="batching"),
        pytest.param(put("models", "rank", "threads", value=2), id="threads"),
        pytest.param(put("models", "rank", "timeout", value="5s"), id="timeout"),
        pytest.param(put("models", "rank", "digest", value=DIGESTS["rank"]), id="digest-pinned"),
        pytest.param(put("models", "unused", "source", value="y.onnx"), id="unused-model"),
    ],
)
def test_nothing_else_starts_a_new_phase(change: Callable[[dict[str, Any]], None]) -> None:
    assert phase(changed(change)) == phase(DOCUMENT)


def test_the_phase_is_computed_before_references_are_filled_in() -> None:
    filled = changed(put("models", "embed", "params", "key", value="hunter2"))
    content = document.Document.model_validate(filled)
    assert phases.of("structure", content, written=DOCUMENT, digests=DIGESTS) == phase(DOCUMENT)


def test_an_allocation_is_built_from_the_document() -> None:
    tree = changed(put(*EXPERIMENT, "ramp", value=0.25))
    tree["experiments"]["structure"]["variants"]["new"]["overrides"] = ["qa", 7]
    spec = document.Document.model_validate(tree).experiments["structure"]
    allocation = allocations.of("structure", spec, phase="p", unit_type="user_id")
    assert (allocation.seed, allocation.control, allocation.ramp_ppm) == ("structure", "old", 250_000)
    assert repr(allocation) == "<allocation structure p>"
    assert [(share.name, share.weight) for share in allocation.shares] == [("new", 50.0), ("old", 50.0)]
    answers = [assignment.assign(unit, allocation) for unit in ("qa", 7)]
    assert [(answer.variant, answer.reason) for answer in answers] == [("new", "OVERRIDE")] * 2
    winner = document.ExperimentSpec.model_validate({**tree["experiments"]["structure"], "winner": "new"})
    assert assignment.assign(None, allocations.of("structure", winner)).variant == "new"
