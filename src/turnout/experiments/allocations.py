"""Allocations of a document: its experiments and rollouts as `assignment.assign` takes them.

Called by assembly and `reports/explain.py`, once per document. Phases come from `phases`,
compiled conditions from `turnout.expressions`.
"""

from collections.abc import Mapping
from typing import Final

from turnout.experiments import assignment, holdouts, layers
from turnout.spec import document, traffic


def of(
    name: str,
    spec: document.ExperimentSpec,
    *,
    phase: str = "",
    unit_type: str = "",
    holdout: holdouts.Holdout | None = None,
    targeting: assignment.Condition | None = None,
) -> assignment.Allocation:
    """The document's experiment as the hot path needs it.

    Args:
        phase: From `phases.of`.
        unit_type: The endpoint's unit field; "" without one.
        holdout: The one that holds on the endpoint, from `holdout_on`.
        targeting: `spec.targeting` compiled over the endpoint's attributes, by `expressions.catalog.compile`.
    """
    return assignment.Allocation(
        name,
        {variant: each.weight for variant, each in spec.variants.items()},
        spec.control,
        phase=phase,
        seed=spec.seed,
        ramp_ppm=spec.ramp_ppm,
        gates=assignment.Gates(
            enabled=spec.enabled,
            winner=spec.winner or "",
            overrides={unit: variant for variant, each in spec.variants.items() for unit in each.overrides},
            on_missing_unit=spec.on_missing_unit,
            unit_type=unit_type,
            hash=spec.hash,
            external=spec.assign == "external",
            holdout=holdout,
            layer=layer_of(spec),
            targeting=targeting,
        ),
    )


def layer_of(spec: document.ExperimentSpec) -> layers.Layer | None:
    """The slots that belong to an experiment; None when all do. With a GrowthBook hash, a layer is its namespace."""
    if spec.layer is None:
        return None
    namespace = spec.hash != assignment.V1
    return layers.Layer(spec.layer.name, spec.layer.slots, seed=spec.layer.seed, namespace=namespace)


def holdout_on(content: document.Document, endpoint: str) -> holdouts.Holdout | None:
    """The holdout that holds on an endpoint; None without one."""
    found = content.holdout_on(endpoint)
    return holdouts.holdout(found[0], found[1].ratio_ppm, found[1].seed) if found else None


REST: Final = "rest"
CONTROL: Final = "control"
CANARY: Final = "canary"
BLUE: Final = "blue"
GREEN: Final = "green"

VARIANTS: Final[Mapping[str, tuple[str, ...]]] = {"canary": (REST, CONTROL, CANARY), "blue-green": (BLUE, GREEN)}
"""The variants of a rollout by its kind, the new side last."""

MOVED: Final = frozenset({"promoting", "baking", "done"})
"""States of a rollout in which everybody gets the new side."""
SHARED: Final = frozenset({"ramping", "holding"})
"""States of a canary in which some get it."""


def of_rollout(name: str, spec: traffic.RolloutSpec, *, phase: str, unit_type: str = "") -> assignment.Allocation:
    """A rollout as the hot path needs it: an allocation whose weights are its progress.

    A canary has three variants: `rest` and `control` run what the endpoint runs, `canary` the new. Control and
    canary have equal weights, so only these two are compared; a rising share moves units from `rest` only. Blue-green
    has two: `blue` runs what the endpoint runs, `green` the new. Where nobody or everybody has the new side the
    reason is DISABLED or WINNER, and nothing is analysed.

    A request without unit is split by its request id: a rollout watches requests.

    Args:
        phase: From `phases.of_rollout`; progress of another phase counts as none.
    """
    progress = spec.progress if spec.progress is not None and spec.progress.phase == phase else None
    state = progress.state if progress else "pending"
    share = progress.share if progress and state in SHARED else 0.0
    canary = spec.kind == "canary"
    old, new = (REST, CANARY) if canary else (BLUE, GREEN)
    weights = {REST: 1 - 2 * share, CONTROL: share, CANARY: share} if canary else {BLUE: 1.0, GREEN: 0.0}
    return assignment.Allocation(
        name,
        weights,
        old,
        phase=phase,
        seed=spec.seed or name,
        gates=assignment.Gates(
            enabled=canary and share > 0,
            winner=new if state in MOVED else "",
            on_missing_unit="request",
            unit_type=unit_type,
        ),
    )
