"""Hashes, layers and names: where units would not be where the document says."""

from typing import Any

import pytest
import yaml

from turnout.errors import DocumentError
from turnout.spec import snapshot

BASE: dict[str, Any] = {
    "pipelines": {name: {"code": f"app:{name}"} for name in ("p", "q", "r")},
    "endpoints": {"e": {"pipeline": "p", "unit": "user_id"}, "f": {"pipeline": "r", "unit": "user_id"}},
}


def admitted(**sections: Any) -> snapshot.Snapshot:
    return snapshot.admit({"turnout.yaml": yaml.safe_dump({**BASE, **sections}, sort_keys=False)}, environment={})


def refused(**sections: Any) -> list[str]:
    with pytest.raises(DocumentError) as told:
        admitted(**sections)
    return [str(error) for error in told.value.errors]


def warned(**sections: Any) -> str:
    return " | ".join(str(warning) for warning in admitted(**sections).warnings)


def experiment(weights: tuple[float, float] = (0.5, 0.5), **more: Any) -> dict[str, Any]:
    a, b = weights
    variants = {"a": {"weight": a, "control": True}, "b": {"weight": b, "pipeline": "q"}}
    return {"endpoint": "e", "variants": variants, **more}


@pytest.mark.parametrize("hashed", ["growthbook-v1", "growthbook-v2"])
def test_weights_that_growthbook_would_not_take_are_refused_with_those_it_would(hashed: str) -> None:
    (told,) = refused(experiments={"x": experiment((90, 10), hash=hashed)})
    assert told.startswith("turnout.yaml:")
    assert "experiments.x.variants: the weights sum to 100; with a growthbook hash they must sum to 1" in told
    assert told.endswith("Write 0.9, 0.1.")
    admitted(experiments={"x": experiment((0.9, 0.1), hash=hashed)})
    admitted(experiments={"x": experiment((0.333, 0.66), hash=hashed)})
    admitted(experiments={"x": experiment((90, 10), hash="v1")})


def test_one_layer_is_cut_in_one_way() -> None:
    first = experiment(layer={"name": "main", "slots": "0-499"})
    second = experiment(hash="growthbook-v2", layer={"name": "main", "slots": "500-999"})
    (told,) = refused(experiments={"x": first, "y": second})
    assert "experiments.y.layer.name: layer 'main' is cut by slots of v1 for 'x'" in told
    assert "all a growthbook hash" in told
    admitted(experiments={"x": {**first, "hash": "growthbook-v1"}, "y": second})


def test_a_rollout_has_a_name_of_its_own() -> None:
    rollout = {"endpoint": "f", "to": {"pipeline": "q"}}
    (told,) = refused(experiments={"x": experiment()}, rollouts={"x": rollout})
    assert "rollouts.x: 'x' is an experiment, too" in told
    admitted(experiments={"x": experiment()}, rollouts={"y": rollout})


def test_what_another_system_decides_needs_no_ramp() -> None:
    external = experiment(assign="external", header="X-Variant", ramp=0.5, seed="s")
    told = warned(experiments={"x": external})
    assert "'ramp' has no effect with assign: external" in told
    assert "'seed' has no effect with assign: external" in told
    assert "no effect" not in warned(experiments={"x": experiment(ramp=0.5, seed="s")})


def test_a_seed_beyond_ascii_is_warned_of_under_growthbook() -> None:
    assert "disagree" in warned(experiments={"x": experiment(hash="growthbook-v2", seed="s\u00e9")})
    assert "disagree" not in warned(experiments={"x": experiment(hash="growthbook-v2", seed="s")})
    assert "disagree" not in warned(experiments={"x": experiment(seed="s\u00e9")})


def test_broken_shapes_are_left_to_their_own_errors() -> None:
    broken = {"endpoint": "e", "hash": 3, "layer": [], "variants": {"a": {"weight": "x"}, "b": None}}
    assert any("weight" in each for each in refused(experiments={"x": broken}, rollouts=[]))
