"""What the requests of an endpoint may run, read from the document alone: its experiments and its rollout, in groups.

Called by `building`, which loads what is named here and binds it. Pure: nothing is imported or loaded.

    first group   brings the pipeline: the rollout; else the experiments that replace it; else the first experiment
    other groups  only lay params over it; experiments of one layer stand in one group
"""

import itertools
import math
from collections.abc import Iterator, Mapping
from typing import Any

from msgspec import Struct

from turnout.errors import SpecError
from turnout.experiments import allocations
from turnout.spec import document, traffic

COMBINATIONS = 64
"""Most combinations of variants on one endpoint: each is a bound pipeline, and a sample of its own that must grow."""


class Side(Struct, frozen=True, kw_only=True):
    """One variant: a pipeline, and what is laid over it.

    Attributes:
        path: Where it stands in the document.
    """

    pipeline: str
    models: Mapping[str, str] = {}
    params: Mapping[str, Any] = {}
    path: str = ""


class Part(Struct, frozen=True, kw_only=True):
    """One experiment or rollout.

    Attributes:
        path: Where it stands in the document.
        sides: By variant; a rollout's old or new side is left out where it is not needed (any more).
        default: The variant of requests that take no part.
        stable: Variant that answers where one of `covered` fails.
        covered: Variants that it answers for; none where nobody does.
        guarded: Whether failures of the covered ones open a circuit.
        over: Whether a rollout is done, so that the endpoint's own pipeline is not needed any more.
        spec: In the document.
    """

    name: str
    path: str
    sides: Mapping[str, Side]
    default: str
    stable: str = ""
    covered: frozenset[str] = frozenset()
    guarded: bool = False
    over: bool = False
    spec: document.ExperimentSpec | traffic.RolloutSpec


Groups = tuple[tuple[Part, ...], ...]
Chosen = tuple[tuple[Part, str], ...]
"""A variant of one part of each group after the first."""


def groups(content: document.Document, endpoint: str, rollout_phase: str) -> Groups:
    """The experiments and the rollout of an endpoint, in groups of which each decides for itself.

    Args:
        rollout_phase: From `phases.of_rollout`; "" without a rollout.
    """
    rollout = content.rollout_on(endpoint)
    specs = content.experiments_on(endpoint)
    if not specs and rollout is None:
        switched_off = content.experiment_on(endpoint)
        specs = dict([switched_off]) if switched_off else {}
    by_layer: dict[str, list[Part]] = {}
    for name, spec in specs.items():
        alone = f"\0{name}"  # no layer has such a name
        by_layer.setdefault(spec.layer.name if spec.layer else alone, []).append(_experiment(content, name, spec))
    found = [tuple(parts) for parts in by_layer.values()]
    if rollout is not None:
        return ((_rollout(content, *rollout, rollout_phase),), *found)
    return tuple(sorted(found, key=lambda group: not any(_replaces(part) for part in group)))


def _experiment(content: document.Document, name: str, spec: document.ExperimentSpec) -> Part:
    own = content.endpoints[spec.endpoint].pipeline
    path = f"experiments.{name}"
    sides = {
        key: Side(
            pipeline=variant.pipeline or own,
            models=variant.models,
            params=variant.params,
            path=f"{path}.variants.{key}",
        )
        for key, variant in spec.variants.items()
    }
    covered = sides.keys() - {spec.control} if spec.fallback == "control" else ()
    return Part(
        name=name,
        path=path,
        sides=sides,
        default=spec.control,
        stable=spec.control,
        covered=frozenset(covered),
        spec=spec,
    )


def _rollout(content: document.Document, name: str, spec: traffic.RolloutSpec, phase: str) -> Part:
    """Both sides while a switch lies ahead or may be taken back, one when it is over: the other's models go."""
    own, path = content.endpoints[spec.endpoint].pipeline, f"rollouts.{name}"
    canary = spec.kind == "canary"
    old = (allocations.REST, allocations.CONTROL) if canary else (allocations.BLUE,)
    new = allocations.CANARY if canary else allocations.GREEN
    state = spec.progress.state if spec.progress is not None and spec.progress.phase == phase else "pending"
    sides = {}
    if state != "done":
        sides.update(dict.fromkeys(old, Side(pipeline=own, path=f"pipelines.{own}")))
    if state != "rolled_back":
        to = spec.to
        sides[new] = Side(pipeline=to.pipeline or own, models=to.models, params=to.params, path=f"{path}.to")
    return Part(
        name=name,
        path=path,
        sides=sides,
        default=new if state == "done" else old[0],
        stable=old[-1],
        covered=frozenset(() if state in ("done", "rolled_back") else (new,)),
        guarded=True,
        over=state == "done",
        spec=spec,
    )


def models(content: document.Document, endpoint: str, found: Groups) -> set[str]:
    """Aliases that requests of an endpoint can reach, its shadows and its fallback included."""
    spec = content.endpoints[endpoint]
    own = () if found and found[0][0].over else (spec.pipeline,)
    sides = [Side(pipeline=name) for name in (*own, *filter(None, [spec.fallback]))]
    sides += [side for group in found for part in group for side in part.sides.values()]
    for shadow in content.shadows_on(endpoint).values():
        sides.append(Side(pipeline=shadow.pipeline or spec.pipeline, models=shadow.models))
    bound = ({**content.pipelines[side.pipeline].models, **side.models} for side in sides)
    return {alias for aliases in bound for alias in aliases.values()}


def _replaces(part: Part) -> bool:
    assert isinstance(part.spec, document.ExperimentSpec)
    return any(variant.pipeline or variant.models for variant in part.spec.variants.values())


def combinations(others: Groups) -> list[Chosen]:
    """Every way in which the groups after the first can choose."""
    choices = ([(part, variant) for part in group for variant in part.sides] for group in others)
    return list(itertools.product(*choices))


def clashes(endpoint: str, found: Groups) -> Iterator[SpecError]:
    """What lets experiments not stand side by side on one endpoint: too many combinations, one param set by two."""
    count = math.prod(sum(len(part.sides) for part in group) for group in found)
    if len(found) > 1 and count > COMBINATIONS:
        names = ", ".join(repr(part.name) for group in found for part in group)
        yield SpecError(
            f"{names} on endpoint {endpoint!r} make {count} combinations; at most {COMBINATIONS} are bound.",
            path=found[-1][0].path,
            hint="Put some into one layer, so that they exclude each other, or run them one after the other.",
        )
    owners: dict[str, tuple[int, str]] = {}
    for number, group in enumerate(found):
        for part in group:
            for param, path in _params(part):
                first, owner = owners.setdefault(param, (number, part.name))
                if first != number:
                    yield SpecError(
                        f"param {param!r} is set by {owner!r} too, and both may be in one request of {endpoint!r}.",
                        path=path,
                        hint="Put both experiments into one layer, or vary the param in one of them.",
                    )


def _params(part: Part) -> Iterator[tuple[str, str]]:
    for side in part.sides.values():
        for param in side.params:
            yield param, f"{side.path}.params.{param}"
