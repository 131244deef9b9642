"""Experiments, layers, holdouts, rollouts and shadows on one endpoint; metrics and their keys."""

from collections.abc import Callable
from typing import Any

import pytest
import yaml

from turnout.errors import DocumentError
from turnout.spec import snapshot, stages

BASE: dict[str, Any] = {
    "pipelines": {name: {"code": f"app:{name}"} for name in ("p", "q", "r")},
    "endpoints": {"e": {"pipeline": "p", "unit": "user_id"}},
}
Admit = Callable[..., snapshot.Snapshot]


def admitted(overlay: str | None = None, **sections: Any) -> snapshot.Snapshot:
    text = yaml.safe_dump({**BASE, **sections}, sort_keys=False)
    files = {"turnout.yaml": text} if overlay is None else {"turnout.yaml": text, stages.OVERLAY: overlay}
    return snapshot.admit(files, environment={})


def refused(overlay: str | None = None, **sections: Any) -> str:
    with pytest.raises(DocumentError) as told:
        admitted(overlay, **sections)
    return " | ".join(str(error) for error in told.value.errors)


def experiment(pipeline: str | None = "q", **more: Any) -> dict[str, Any]:
    other: dict[str, Any] = {"weight": 1, **({"pipeline": pipeline} if pipeline else {"params": {"k": 1}})}
    return {"endpoint": "e", "variants": {"a": {"weight": 1, "control": True}, "b": other}, **more}


def rollout(**more: Any) -> dict[str, Any]:
    return {"endpoint": "e", "to": {"pipeline": "q"}, **more}


def layer(slots: Any, **more: Any) -> dict[str, Any]:
    return {"layer": {"name": "main", "slots": slots, **more}}


def test_experiments_that_replace_one_pipeline_clash() -> None:
    message = refused(experiments={"x": experiment(), "y": experiment("r")})
    assert "both decide what endpoint 'e' runs" in message
    assert "slots of one layer" in message


def test_experiments_that_share_a_layer_exclude_each_other() -> None:
    found = admitted(experiments={"x": experiment(**layer("0-499")), "y": experiment("r", **layer(["500-999"]))})
    assert list(found.document.experiments_on("e")) == ["x", "y"]
    assert found.document.experiments["y"].layer is not None
    assert found.document.experiments["y"].layer.slots == ((500, 999),)


def test_slots_that_two_experiments_own_are_told_with_both_names() -> None:
    message = refused(experiments={"x": experiment(**layer("0-500")), "y": experiment("r", **layer(["500-999"]))})
    assert "slots 500-999 of layer 'main' belong to experiment 'x' too" in message


def test_a_layer_has_one_seed() -> None:
    sections = {"x": experiment(**layer("0-1", seed="s")), "y": experiment("r", **layer("2-3", seed="t"))}
    assert "has another seed here than in experiment 'x'" in refused(experiments=sections)


@pytest.mark.parametrize("slots", ["0-1000", "5", "9-3", [], ["0-5", "5-9"], 7, "a-b"])
def test_slots_that_are_none_are_refused(slots: Any) -> None:
    assert "experiments.x.layer.slots: found" in refused(experiments={"x": experiment(**layer(slots))})


def test_an_experiment_on_params_may_stand_beside_another() -> None:
    assert admitted(experiments={"x": experiment(), "y": experiment(None)}).document.experiments_on("e").keys() == {
        "x",
        "y",
    }


def test_a_rollout_and_an_experiment_do_not_move_one_endpoint_together() -> None:
    message = refused(experiments={"x": experiment()}, rollouts={"new": rollout()})
    assert "rollout 'new' moves endpoint 'e' already" in message
    assert admitted(experiments={"x": experiment(None)}, rollouts={"new": rollout()}).document.rollouts
    off = admitted(experiments={"x": experiment(enabled=False)}, rollouts={"new": rollout()})
    assert off.document.rollout_on("e") == ("new", off.document.rollouts["new"])


def test_an_endpoint_has_one_rollout() -> None:
    assert "moves endpoint 'e' already" in refused(rollouts={"one": rollout(), "two": rollout()})


@pytest.mark.parametrize(
    ("written", "told"),
    [
        (rollout(to={}), "rollouts.new.to: 'to' names nothing to move to"),
        (rollout(to={"pipeline": "z"}), "no pipeline 'z'"),
        (rollout(to={"models": {"rank": "m"}}), "binds no model as 'rank'"),
        (rollout(endpoint="f"), "no endpoint 'f'"),
        (rollout(steps=["10%", "60%"]), "expected more than 0 and at most 50%"),
        (rollout(steps=["10%", "5%"]), "is not above the one before it"),
        (rollout(steps=[]), "found 0; expected at least 1 of them"),
        (rollout(step={"min": "1h", "max": "5m"}), "the longest time '5m' is below the shortest"),
        (rollout(kind="blue-green", steps=["1%"]), "'steps' has no effect with kind blue-green"),
        (
            rollout(kind="blue-green", outcomes={"kept": {"outcome": "k"}}),
            "'outcomes' has no effect with kind blue-green",
        ),
        (
            rollout(outcomes={"kept": {"outcome": "k"}}),
            "its window of 1d is not over before the rollout's deadline of 1d",
        ),
        (
            rollout(outcomes={"kept": {"outcome": "k", "window": "3h"}}, deadline="2h"),
            "rollouts.new.outcomes.kept.window: its window of 3h is not over before the rollout's deadline of 2h",
        ),
        (rollout(kind="blue-green", guardrails={"slow": {"signal": "latency"}}), "signal latency is not watched with"),
        (rollout(progress={"phase": "x", "state": "done"}), "only Turnout writes 'progress'"),
        (rollout(guardrails={"kept": {"outcome": "kept"}}), "a rollout's guardrails watch signals"),
        (rollout(outcomes={"slow": {"signal": "error"}}), "a rollout's outcomes watch outcomes"),
        (rollout(guardrails={"p95": {"signal": "latency", "quantile": 0.9}}), "no bound that holds at every look"),
    ],
)
def test_a_wrong_rollout_is_told(written: dict[str, Any], told: str) -> None:
    assert told in refused(rollouts={"new": written})


@pytest.mark.parametrize(
    ("written", "told"),
    [
        ({}, "needs either 'outcome' or 'signal'"),
        ({"outcome": "o", "signal": "error"}, "it has both"),
        ({"outcome": "o", "kind": "ratio"}, "key 'per' is missing; ratio needs it"),
        ({"outcome": "o", "kind": "share"}, "an outcome has no kind 'share'"),
        ({"outcome": "o", "per": "v", "kind": "mean"}, "'per' has no effect with kind mean"),
        ({"outcome": "o", "cap": 3}, "'cap' has no effect with kind conversion"),
        ({"outcome": "o", "margin": 0.1}, "'margin' belongs to guardrails"),
        ({"signal": "error", "window": "1d"}, "'window' has no effect on a signal"),
        ({"signal": "error", "threshold": "1s"}, "'threshold' has no effect with kind share"),
        ({"signal": "latency", "kind": "share_over"}, "key 'threshold' is missing; share_over needs it"),
        ({"signal": "latency", "kind": "conversion"}, "signal latency has no kind 'conversion'"),
    ],
)
def test_a_wrong_metric_is_told(written: dict[str, Any], told: str) -> None:
    assert told in refused(experiments={"x": experiment(metrics={"primary": written})})


@pytest.mark.parametrize(
    ("written", "kind", "direction"),
    [
        ({"outcome": "o"}, "conversion", "up"),
        ({"outcome": "o", "per": "v"}, "ratio", "up"),
        ({"outcome": "o", "kind": "count", "direction": "down"}, "count", "down"),
        ({"signal": "latency"}, "mean", "down"),
        ({"signal": "latency", "threshold": "1s"}, "share_over", "down"),
        ({"signal": "latency", "quantile": 0.95}, "quantile", "down"),
        ({"signal": "error"}, "share", "down"),
    ],
)
def test_a_metric_without_kind_is_what_its_keys_tell(written: dict[str, Any], kind: str, direction: str) -> None:
    spec = admitted(experiments={"x": experiment(metrics={"primary": written})}).document.experiments["x"]
    assert spec.metrics.primary is not None
    assert (spec.metrics.primary.kind, spec.metrics.primary.direction) == (kind, direction)


def test_assign_external_needs_a_header_and_nothing_else_takes_one() -> None:
    assert "needs 'header'" in refused(experiments={"x": experiment(assign="external")})
    assert "no effect without assign: external" in refused(experiments={"x": experiment(header="X-Variant")})
    found = admitted(experiments={"x": experiment(assign="external", header="X-Variant")})
    assert found.document.experiments["x"].header == "X-Variant"


def test_targeting_needs_declared_attributes() -> None:
    assert "the endpoint declares none" in refused(experiments={"x": experiment(targeting="a == 1")})


@pytest.mark.parametrize(
    ("where", "section"),
    [
        ("endpoints.e.unit", {"endpoints": {"e": {"pipeline": "p", "unit": "secret:s"}}}),
        (
            "endpoints.e.attributes.a",
            {"endpoints": {"e": {"pipeline": "p", "unit": "u", "attributes": {"a": "secret:s"}}}},
        ),
        ("experiments.x.targeting", {"experiments": {"x": experiment(targeting="secret:s")}}),
        ("experiments.x.header", {"experiments": {"x": experiment(assign="external", header="secret:s")}}),
    ],
)
def test_what_everybody_sees_is_no_secret(where: str, section: dict[str, Any]) -> None:
    text = yaml.safe_dump({**BASE, **section}, sort_keys=False)
    with pytest.raises(DocumentError) as told:
        snapshot.admit({"turnout.yaml": text}, environment={}, read_secret=lambda _: "hidden")
    assert where in [error.path for error in told.value.errors if "can be no secret" in error.message]
    assert "hidden" not in str(told.value)


def test_one_holdout_holds_on_an_endpoint() -> None:
    everyone = {"ratio": "5%"}
    assert "holdout 'one' holds on endpoint 'e' already" in refused(
        holdouts={"one": everyone, "two": {**everyone, "endpoints": ["e"]}}
    )
    found = admitted(holdouts={"one": {**everyone, "enabled": False}, "two": everyone}).document.holdout_on("e")
    assert found is not None
    assert found[0] == "two"
    assert found[1].ratio_ppm == 50_000
    assert "no endpoint 'f'" in refused(holdouts={"one": {**everyone, "endpoints": ["f"]}})


PROGRESS = "rollouts: {new: {progress: {phase: abc, state: ramping, share: 5%, step: 1}}}"


def test_the_overlay_moves_a_rollout_and_makes_a_revision() -> None:
    plain, moved = admitted(rollouts={"new": rollout()}), admitted(PROGRESS, rollouts={"new": rollout()})
    progress = moved.document.rollouts["new"].progress
    assert progress is not None
    assert (progress.state, progress.share) == ("ramping", 0.05)
    assert plain.document.rollouts["new"].progress is None
    assert plain.revision != moved.revision


def test_an_empty_overlay_changes_nothing() -> None:
    assert admitted("", rollouts={"new": rollout()}).revision == admitted(rollouts={"new": rollout()}).revision


def test_the_overlay_sets_managed_keys_only() -> None:
    assert "experiments.x.winner: the overlay may not set this key" in refused(
        "experiments: {x: {winner: b}}", experiments={"x": experiment()}
    )
    won = admitted("experiments: {x: {winner: b}}", experiments={"x": experiment(managed=["winner"])})
    assert won.document.experiments["x"].winner == "b"


@pytest.mark.parametrize(
    "overlay", ["models: {}", "endpoints: {e: {pipeline: q}}", "rollouts: {new: {alpha: 0.1}}", "rollouts: {new: 3}"]
)
def test_the_overlay_never_touches_what_a_person_owns(overlay: str) -> None:
    if overlay == "models: {}":
        assert admitted(overlay, rollouts={"new": rollout()}).document.rollouts["new"].alpha == 0.01
    else:
        assert "the overlay may not set this key" in refused(overlay, rollouts={"new": rollout()})


def test_an_overlay_for_a_part_that_is_gone_is_a_warning() -> None:
    found = admitted(PROGRESS)
    assert [str(warning) for warning in found.warnings if "overlay" in warning.message] == [
        "turnout.overlay:1: rollouts.new is not in the document any more; its overlay is left out."
    ]


def test_an_overlay_that_is_no_yaml_is_refused_with_its_place() -> None:
    assert "turnout.overlay:2: not YAML" in refused("rollouts: {", rollouts={"new": rollout()})
