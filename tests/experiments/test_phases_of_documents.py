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


def changed(change: Callable[[dict[str, Any]], None], of: dict[str, Any] = DOCUMENT) -> dict[str, Any]:
    tree = copy.deepcopy(of)
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


WHOLE = changed(
    put(
        *EXPERIMENT,
        value={
            **DOCUMENT["experiments"]["structure"],
            "targeting": "country == 'KR' && plan != 'pro'",
            "layer": {"name": "reply", "slots": ["0-99", "200-299"]},
        },
    )
)
WHOLE["endpoints"]["reply"]["attributes"] = {"country": "user.country", "plan": "header:X-Plan", "age": "user.age"}
GROWTHBOOK = changed(put(*EXPERIMENT, "hash", value="growthbook-v2"))
EXTERNAL = changed(put(*EXPERIMENT, "assign", value="external"))
EXTERNAL["experiments"]["structure"]["header"] = "X-Variant"


def reordered(tree: dict[str, Any]) -> None:
    variants = tree["experiments"]["structure"]["variants"]
    variants["old"] = variants.pop("old")


def from_whole(*path: str, value: Any) -> dict[str, Any]:
    return changed(put(*path, value=value), WHOLE)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        pytest.param(DOCUMENT, WHOLE, id="targeting-and-layer"),
        pytest.param(WHOLE, from_whole(*EXPERIMENT, "targeting", value="country == 'JP'"), id="targeting"),
        pytest.param(WHOLE, from_whole("endpoints", "reply", "attributes", "plan", value="plan"), id="attribute-read"),
        pytest.param(WHOLE, from_whole(*EXPERIMENT, "layer", "slots", value="0-99"), id="slots"),
        pytest.param(WHOLE, from_whole(*EXPERIMENT, "layer", "name", value="other"), id="layer-and-so-its-seed"),
        pytest.param(WHOLE, from_whole(*EXPERIMENT, "layer", "seed", value="s"), id="layer-seed"),
        pytest.param(DOCUMENT, GROWTHBOOK, id="hash"),
        pytest.param(DOCUMENT, EXTERNAL, id="assign"),
        pytest.param(GROWTHBOOK, changed(reordered, GROWTHBOOK), id="order-under-growthbook"),
    ],
)
def test_whom_it_takes_starts_a_new_phase(before: dict[str, Any], after: dict[str, Any]) -> None:
    assert phase(before) != phase(after)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        pytest.param(
            WHOLE, from_whole("endpoints", "reply", "attributes", "age", value="header:Age"), id="attribute-not-read"
        ),
        pytest.param(
            WHOLE, from_whole(*EXPERIMENT, "layer", "slots", value=["200-250", "0-99", "251-299"]), id="slots-respelt"
        ),
        pytest.param(WHOLE, from_whole(*EXPERIMENT, "layer", "seed", value="layer:reply"), id="default-layer-seed"),
        pytest.param(DOCUMENT, changed(reordered), id="order"),
        pytest.param(DOCUMENT, changed(put("holdouts", value={"everyone": {"ratio": 0.05}})), id="holdout"),
        pytest.param(DOCUMENT, changed(put(*EXPERIMENT, "managed", value=["ramp"])), id="managed"),
        pytest.param(DOCUMENT, changed(put("override_key", value="k")), id="override-key"),
        pytest.param(
            DOCUMENT,
            changed(put("rollouts", value={"next": {"endpoint": "elsewhere", "to": {"pipeline": "generation"}}})),
            id="rollout",
        ),
        pytest.param(DOCUMENT, changed(put(*EXPERIMENT, "hash", value="v1")), id="default-hash-written-out"),
    ],
)
def test_what_changes_nobodys_variant_keeps_the_phase(before: dict[str, Any], after: dict[str, Any]) -> None:
    assert phase(before) == phase(after)


def test_targeting_is_digested_as_written() -> None:
    written = from_whole(*EXPERIMENT, "targeting", value="country == '${HOME_COUNTRY}'")
    filled = from_whole(*EXPERIMENT, "targeting", value="country == 'KR'")
    other = from_whole(*EXPERIMENT, "targeting", value="country == 'JP'")
    found = [
        phases.of("structure", document.Document.model_validate(each), written=written, digests=DIGESTS)
        for each in (filled, other)
    ]
    assert found[0] == found[1]
    assert found[0] != phase(filled)


ROLLOUT: dict[str, Any] = changed(
    put(
        "rollouts", value={"next": {"endpoint": "reply", "to": {"models": {"rank": "rank-v2"}, "params": {"top_k": 9}}}}
    )
)
NEXT = ("rollouts", "next")


def rollout_phase(tree: dict[str, Any]) -> str:
    content = document.Document.model_validate(tree)
    return phases.of_rollout("next", content, written=tree, digests=DIGESTS)


def of_next(*path: str, value: Any) -> dict[str, Any]:
    return changed(put(*path, value=value), ROLLOUT)


@pytest.mark.parametrize(
    "tree",
    [
        pytest.param(of_next(*NEXT, "kind", value="blue-green"), id="kind"),
        pytest.param(of_next(*NEXT, "seed", value="again"), id="seed"),
        pytest.param(of_next(*NEXT, "to", "params", "top_k", value=10), id="params"),
        pytest.param(of_next(*NEXT, "to", "models", value={"rank": "unused"}), id="models"),
        pytest.param(of_next(*NEXT, "to", "pipeline", value="generation"), id="pipeline"),
        pytest.param(of_next("pipelines", "retrieval", "code", value="chat:other"), id="old-code"),
        pytest.param(of_next("endpoints", "reply", "unit", value="account_id"), id="unit"),
    ],
)
def test_what_a_rollout_moves_or_whom_starts_a_new_phase(tree: dict[str, Any]) -> None:
    assert rollout_phase(tree) != rollout_phase(ROLLOUT)


@pytest.mark.parametrize(
    "tree",
    [
        pytest.param(of_next(*NEXT, "steps", value=[0.1, 0.2]), id="steps"),
        pytest.param(of_next(*NEXT, "step", value={"units": 9}), id="step"),
        pytest.param(of_next(*NEXT, "alpha", value=0.05), id="alpha"),
        pytest.param(of_next(*NEXT, "deadline", value="2d"), id="deadline"),
        pytest.param(of_next(*NEXT, "progress", value={"phase": "p", "state": "ramping", "share": 0.1}), id="progress"),
        pytest.param(of_next(*NEXT, "seed", value="next"), id="default-seed-written-out"),
    ],
)
def test_a_rollout_has_one_phase_over_its_steps(tree: dict[str, Any]) -> None:
    assert rollout_phase(tree) == rollout_phase(ROLLOUT)


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
