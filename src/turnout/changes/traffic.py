"""What one document does with the units of one endpoint: who splits them, and what each place gets.

Called by `change`, for both sides. Pure.
"""

import hashlib
from collections.abc import Mapping
from typing import Any

from msgspec import Struct

from turnout.changes import journeys
from turnout.experiments import allocations, phases
from turnout.spec import document, snapshot
from turnout.spec import traffic as traffic_spec


class Seen(Struct, frozen=True):
    """What a unit gets.

    Attributes:
        label: For people: the pipeline, with what is laid over it.
        content: Digest of the pipeline's code, models with versions, and params.
    """

    label: str
    content: str


class Served(Struct, frozen=True, kw_only=True):
    """One endpoint of one document.

    Attributes:
        seen: What each place gets.
        conditions: Targeting of the experiments that split, by name; "" for none.
        external: Experiments whose variant another system names.
        beside: Experiments that lay params over whatever the others give.
    """

    traffic: journeys.Traffic
    seen: Mapping[journeys.Place, Seen]
    conditions: Mapping[str, str]
    external: tuple[str, ...] = ()
    beside: tuple[str, ...] = ()


def served(admitted: snapshot.Snapshot, name: str) -> Served:
    """One endpoint.

    Args:
        name: A key of the document's endpoints.
    """
    content = admitted.document
    own = content.endpoints[name]
    rollout = content.rollout_on(name)
    if rollout is not None:
        rolling, seen = _rollout(admitted, *rollout)
        beside = tuple(content.experiments_on(name))
        return Served(traffic=journeys.Traffic(splits=(rolling,)), seen=seen, conditions={}, beside=beside)
    deciding, beside = _deciding(content, name)
    if not deciding:
        plain = look(admitted, own.pipeline, {}, {}, "")
        return Served(traffic=journeys.Traffic(), seen={("", ""): plain}, conditions={}, beside=beside)
    places = {
        (each, variant): variant_look(admitted, each, variant)
        for each in deciding
        for variant in content.experiments[each].variants
    }
    splits = tuple(split(content, each) for each in deciding)
    return Served(
        traffic=journeys.Traffic(splits=splits, holdout=holdout(content, name)),
        seen=places,
        conditions={each: content.experiments[each].targeting or "" for each in deciding},
        external=tuple(each for each in deciding if content.experiments[each].assign == "external"),
        beside=beside,
    )


def _deciding(content: document.Document, endpoint: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Experiments that decide what is run, and those that lay params over it; those of one layer go together."""
    specs = content.experiments_on(endpoint)
    if not specs:
        switched_off = content.experiment_on(endpoint)
        return ((switched_off[0],) if switched_off else ()), ()
    groups: dict[str, list[str]] = {}
    for name, spec in specs.items():
        groups.setdefault(f"layer {spec.layer.name}" if spec.layer else f"alone {name}", []).append(name)
    replacing = [
        names
        for names in groups.values()
        if any(each.pipeline or each.models for name in names for each in specs[name].variants.values())
    ]
    first = (replacing or list(groups.values()))[0]
    return tuple(first), tuple(name for name in specs if name not in first)


def split(content: document.Document, name: str) -> journeys.Split:
    """One experiment as the numbers of a unit meet it."""
    spec = content.experiments[name]
    unit = content.endpoints[spec.endpoint].unit or ""
    fixed = spec.winner or ("" if spec.enabled else spec.control)
    if not unit and spec.on_missing_unit == "control":
        fixed = fixed or spec.control
    layer = allocations.layer_of(spec)
    return journeys.Split(
        name=name,
        seed=spec.seed or name,
        source=unit or spec.on_missing_unit,
        control=spec.control,
        weights={variant: each.weight for variant, each in spec.variants.items()},
        hash=spec.hash,
        ramp_ppm=spec.ramp_ppm,
        layer=f"{'namespace' if layer.namespace else 'slots'} of {layer.seed}" if layer else "",
        slots=layer.slots if layer else None,
        fixed=fixed,
        won=bool(spec.winner),
    )


def holdout(content: document.Document, endpoint: str) -> journeys.Gate | None:
    """The holdout of an endpoint."""
    found = content.holdout_on(endpoint)
    if found is None:
        return None
    name, spec = found
    return journeys.Gate(spec.seed or f"holdout:{name}", spec.ratio_ppm)


def _rollout(
    admitted: snapshot.Snapshot, name: str, spec: traffic_spec.RolloutSpec
) -> tuple[journeys.Split, dict[journeys.Place, Seen]]:
    content = admitted.document
    endpoint = content.endpoints[spec.endpoint]
    phase = phases.of_rollout(name, content, written=admitted.written, digests=admitted.digests)
    made = allocations.of_rollout(name, spec, phase=phase, unit_type=endpoint.unit or "")
    stable = look(admitted, endpoint.pipeline, {}, {}, "")
    target = target_look(admitted, spec.endpoint, spec.to, f"rollouts.{name}.to")
    fixed = made.gates.winner or ("" if made.gates.enabled else made.control)
    split = journeys.Split(
        name=name,
        seed=made.seed,
        source=endpoint.unit or "request",
        control=made.control,
        weights={share.name: share.weight for share in made.shares},
        fixed=fixed,
    )
    new = (allocations.CANARY, allocations.GREEN)
    return split, {(name, each.name): target if each.name in new else stable for each in made.shares}


def variant_look(admitted: snapshot.Snapshot, experiment: str, variant: str) -> Seen:
    """What one variant gives."""
    spec = admitted.document.experiments[experiment]
    each = spec.variants[variant]
    endpoint = admitted.document.endpoints[spec.endpoint]
    path = f"experiments.{experiment}.variants.{variant}"
    return look(admitted, each.pipeline or endpoint.pipeline, each.models, each.params, path)


def target_look(
    admitted: snapshot.Snapshot, endpoint: str, to: traffic_spec.TargetSpec | traffic_spec.ShadowSpec, path: str
) -> Seen:
    """What a rollout moves to, or a shadow runs."""
    own = admitted.document.endpoints[endpoint].pipeline
    return look(admitted, to.pipeline or own, to.models, to.params, path)


def look(
    admitted: snapshot.Snapshot, pipeline: str, models: Mapping[str, str], params: Mapping[str, Any], path: str
) -> Seen:
    """A pipeline with models and params laid over it.

    Args:
        path: Key path of what lays them over, for params as they are written; "" for nothing.
    """
    content, written, digests = admitted.document, admitted.written, admitted.digests
    bound = content.pipelines[pipeline]
    over = {**params, **_params(written, path)}
    inside = {
        "pipeline": [pipeline, bound.code],
        "models": {
            port: phases.version(alias, content, written=written, digests=digests)
            for port, alias in {**bound.models, **models}.items()
        },
        "params": {**bound.params, **_params(written, f"pipelines.{pipeline}"), **over},
    }
    digest = hashlib.sha256(phases.canonical(inside)).hexdigest()[:12]
    laid = [f"{port}: {alias}" for port, alias in models.items() if bound.models.get(port) != alias]
    laid += [f"{name}: {value}" for name, value in over.items() if bound.params.get(name) != value]
    return Seen(f"{pipeline} ({', '.join(laid)})" if laid else pipeline, digest)


def _params(written: Mapping[str, Any], path: str) -> Mapping[str, Any]:
    found: Any = written
    for key in path.split(".") if path else ():
        found = found.get(key) if isinstance(found, Mapping) else None
    params = found.get("params") if isinstance(found, Mapping) and path else None
    return params if isinstance(params, Mapping) else {}
