"""What `/status` says of an assembly, and what a worker tells the supervisor of a prepared one.

Called by the gateway. The keys are public; docs/reference.md lists them.
"""

from typing import Any

from turnout.assembly import assembly, endpoint


def describe(each: endpoint.Endpoint) -> dict[str, Any]:
    """An endpoint for `/status`: contract, experiments, rollout, circuits, shadows, and an example body that works.

    `experiment`, `phase` and `variants` are of the experiment or rollout that brings the pipeline.
    """
    main = each.groups[0][0] if each.groups else None
    described: dict[str, Any] = {
        "pipeline": each.contract.name,
        "deadline_s": each.deadline_s,
        "unit": each.unit_type or None,
        "experiment": main.name if main else None,
        "phase": main.phase if main else None,
        "example": each.contract.request.example(),
    }
    if main is not None:
        described["variants"] = _variants(main)
        described["experiments"] = {
            split.name: {
                "phase": split.phase,
                "layer": split.layer or None,
                "also": number > 0,
                "rollout": _rollout(split),
                "variants": _variants(split),
            }
            for number, group in enumerate(each.groups)
            for split in group
        }
    described["circuits"] = {
        split.name: route.circuit.describe()
        for split in each.splits
        for route in split.routes.values()
        if route.circuit is not None and route.circuit.guards
    }
    described["shadows"] = {shadow.name: shadow.describe() for shadow in each.shadows}
    return described


def _rollout(split: endpoint.Split) -> dict[str, Any] | None:
    if split.rollout is None:
        return None
    progress = split.rollout.progress
    known = progress is not None and progress.phase == split.phase
    return {
        "kind": split.rollout.kind,
        "state": progress.state if progress and known else "pending",
        "share": progress.share if progress and known else 0.0,
        "step": progress.step if progress and known else 0,
        "note": progress.note if progress and known else "",
    }


def _variants(split: endpoint.Split) -> dict[str, Any]:
    found: dict[str, dict[str, Any]] = {}
    for share in split.allocation.shares:
        told = found[share.name] = {"weight": share.weight, "control": share.name == split.allocation.control}
        route = split.routes.get(share.name)
        if route is not None:
            told |= {"pipeline": route.pipeline.name, "models": list(route.pipeline.models)}
            if route.circuit is not None:
                told["failures"] = route.circuit.total
    return found


def summary(built: assembly.Assembly) -> dict[str, Any]:
    """What a worker tells the supervisor about a prepared document."""
    return {
        "endpoints": {name: describe(each) for name, each in sorted(built.endpoints.items())},
        "models": {alias: loaded.version for alias, loaded in sorted(built.hosts.items())},
        "warnings": [str(warning) for warning in built.warnings],
    }
