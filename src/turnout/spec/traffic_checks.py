"""What may stand together on one endpoint: experiments, layers, holdouts, rollouts, shadows.

At most one experiment or rollout replaces the pipeline of a request. Experiments that share a
layer exclude each other by its slots; experiments that change nothing but params may stand beside.

Called by `checks`, on the tree, so that a document's other errors come out as well.
"""

from collections.abc import Iterator
from typing import Final

from pydantic import ConfigDict, TypeAdapter

from turnout.errors import SpecError
from turnout.spec import fields, findings, lookup, measures, traffic, tree, units
from turnout.spec.tree import Node, mapping

_LATER: Final = ConfigDict(defer_build=True)  # most documents have no rollout, and every process imports this
_RATIO: Final[TypeAdapter[float]] = TypeAdapter(fields.Ratio, config=_LATER)
_DURATION: Final[TypeAdapter[float]] = TypeAdapter(fields.Duration, config=_LATER)


def check(root: Node) -> Iterator[SpecError]:
    """Errors of what shares an endpoint."""
    for name, endpoint in lookup.section(root, "endpoints"):
        yield from _shown(root, ("endpoints", name, "unit"))
        for attribute in mapping(mapping(endpoint).get("attributes")):
            yield from _shown(root, ("endpoints", name, "attributes", attribute))
    for name, _ in lookup.section(root, "experiments"):
        for key in ("targeting", "header"):
            yield from _shown(root, ("experiments", name, key))
        yield from _assign(root, ("experiments", name))
        yield from _attributes(root, ("experiments", name))
    yield from _layers(root)
    yield from _clashes(root)
    yield from _rollouts(root)
    for name, _ in lookup.section(root, "shadows"):
        yield from lookup.exists(root, ("shadows", name, "endpoint"), "endpoints")
        yield from target(root, ("shadows", name), ("shadows", name))
    yield from _holdouts(root)


def sides(root: Node) -> Iterator[dict[str, Node]]:
    """Everything that names a pipeline or models beside the endpoints: variants, rollouts' targets, shadows."""
    for _, experiment in lookup.section(root, "experiments"):
        for variant in mapping(mapping(experiment).get("variants")).values():
            yield mapping(variant)
    for _, rollout in lookup.section(root, "rollouts"):
        yield mapping(mapping(rollout).get("to"))
    for _, shadow in lookup.section(root, "shadows"):
        yield mapping(shadow)


def _shown(root: Node, path: tuple[str, ...]) -> Iterator[SpecError]:
    """What `/status`, `/docs`, the log and reports show is no secret."""
    node = tree.find(root, path)
    if node is not None and (node.written or "").startswith("secret:"):
        yield findings.at(root, path, f"{path[-1]!r} is shown to everybody, so it can be no secret.", "Write it out.")


def _assign(root: Node, path: tuple[str, ...]) -> Iterator[SpecError]:
    keys = mapping(tree.find(root, path))
    external = lookup.text(keys.get("assign")) == "external"
    if external and "header" not in keys:
        yield findings.at(root, (*path, "header"), "assign: external needs 'header'.", "Write header: X-Variant.")
    if not external and "header" in keys:
        hint = "Write assign: external, or remove it."
        yield findings.at(
            root, (*path, "header"), "'header' has no effect without assign: external.", hint, at_key=True
        )


def _attributes(root: Node, path: tuple[str, ...]) -> Iterator[SpecError]:
    keys = mapping(tree.find(root, path))
    endpoint = mapping(tree.find(root, ("endpoints", lookup.text(keys.get("endpoint")) or "")))
    if "targeting" in keys and endpoint and not mapping(endpoint.get("attributes")):
        message = "targeting needs attributes, and the endpoint declares none."
        hint = "Add to the endpoint: attributes: {country: user.country}."
        yield findings.at(root, (*path, "targeting"), message, hint)


def _layers(root: Node) -> Iterator[SpecError]:
    """Slots of one layer belong to one enabled experiment; a layer has one seed."""
    owned: dict[str, list[tuple[tuple[int, int], str]]] = {}
    seeds: dict[str, tuple[str | None, str]] = {}
    for name, experiment in _enabled(root):
        layer = mapping(mapping(experiment).get("layer"))
        known, written = lookup.text(layer.get("name")), layer.get("slots")
        if known is None or written is None:
            continue
        seed = lookup.text(layer.get("seed"))
        first_seed, first = seeds.setdefault(known, (seed, name))
        if seed != first_seed:
            message = f"layer {known!r} has another seed here than in experiment {first!r}."
            yield findings.at(root, ("experiments", name, "layer", "seed"), message, "Write the same seed in both.")
        for taken in _ranges(written):
            for other, owner in owned.get(known, []):
                if taken[0] <= other[1] and other[0] <= taken[1]:
                    message = f"slots {taken[0]}-{taken[1]} of layer {known!r} belong to experiment {owner!r} too."
                    hint = f"Take slots outside {other[0]}-{other[1]}."
                    yield findings.at(root, ("experiments", name, "layer", "slots"), message, hint)
        owned.setdefault(known, []).extend((taken, name) for taken in _ranges(written))


def _ranges(node: Node) -> tuple[tuple[int, int], ...]:
    try:
        return traffic.slots(tree.plain(node))
    except ValueError:
        return ()  # reported as a wrong value


def _clashes(root: Node) -> Iterator[SpecError]:
    """Experiments that replace the pipeline of one endpoint share a layer; nothing does beside a rollout."""
    first: dict[str, tuple[str, str | None]] = {}
    rolling = {
        lookup.text(mapping(rollout).get("endpoint")): name for name, rollout in lookup.section(root, "rollouts")
    }
    for name, experiment in _enabled(root):
        node = mapping(experiment).get("endpoint")
        endpoint = lookup.text(node)
        if endpoint is None or not _replaces(experiment):
            continue
        path = ("experiments", name, "endpoint")
        if endpoint in rolling:
            message = f"rollout {rolling[endpoint]!r} moves endpoint {findings.shown(node)} already."
            yield findings.at(root, path, message, "End one of the two first.")
        layer = lookup.text(mapping(mapping(experiment).get("layer")).get("name"))
        other, shared = first.setdefault(endpoint, (name, layer))
        if other != name and (layer is None or layer != shared):
            message = f"experiments {other!r} and {name!r} both decide what endpoint {findings.shown(node)} runs."
            hint = (
                f"Give both slots of one layer (layer: {{name: {endpoint}, slots: 0-499}} and 500-999), set "
                f"'enabled: false' on one, or end {other!r} with a winner written into the endpoint."
            )
            yield findings.at(root, path, message, hint)


def _replaces(experiment: Node) -> bool:
    """Whether some variant brings a pipeline or models of its own; params alone may stand beside others."""
    variants = mapping(mapping(experiment).get("variants")).values()
    return any({"pipeline", "models"} & mapping(variant).keys() for variant in variants)


def _enabled(root: Node) -> list[tuple[str, Node]]:
    found = []
    for name, experiment in lookup.section(root, "experiments"):
        enabled = mapping(experiment).get("enabled")
        if enabled is None or enabled.value is not False:
            found.append((name, experiment))
    return found


def _rollouts(root: Node) -> Iterator[SpecError]:
    first: dict[str, str] = {}
    for name, rollout in lookup.section(root, "rollouts"):
        path = ("rollouts", name)
        keys = mapping(rollout)
        endpoint = lookup.text(keys.get("endpoint"))
        if endpoint is not None and first.setdefault(endpoint, name) != name:
            message = f"rollout {first[endpoint]!r} moves endpoint {endpoint!r} already."
            yield findings.at(root, (*path, "endpoint"), message, "Run one after the other.")
        to = keys.get("to")
        if to is not None and not mapping(to):
            message = "'to' names nothing to move to."
            yield findings.at(root, (*path, "to"), message, "Write to: {pipeline: NAME}, or models, or params.")
        yield from lookup.exists(root, (*path, "endpoint"), "endpoints")
        yield from target(root, path, (*path, "to"))
        yield from _steps(root, path, keys)
        yield from _times(root, path, keys)
        yield from _windows(root, path, keys)
        if lookup.text(keys.get("kind")) == "blue-green":
            for key in ("steps", "step", "on_inconclusive", "outcomes"):
                if key in keys:
                    message = f"{key!r} has no effect with kind blue-green, which switches at once."
                    yield findings.at(root, (*path, key), message, "Remove it.", at_key=True)
            yield from _watched(root, path, mapping(keys.get("guardrails")))


def _watched(root: Node, path: tuple[str, ...], guardrails: dict[str, Node]) -> Iterator[SpecError]:
    """While everybody has the new side there is no old one beside it: only failures are told from before."""
    for name, guardrail in guardrails.items():
        signal = lookup.text(mapping(guardrail).get("signal"))
        if signal not in (None, "error"):
            message = f"signal {signal} is not watched with kind blue-green, which has nothing beside it to compare."
            yield findings.at(root, (*path, "guardrails", name, "signal"), message, "Use kind: canary, or remove it.")


def _steps(root: Node, path: tuple[str, ...], keys: dict[str, Node]) -> Iterator[SpecError]:
    steps = keys.get("steps")
    before = 0.0
    for index, node in enumerate(steps.value if steps is not None and isinstance(steps.value, list) else ()):
        share = _share(node)
        if share is None:
            continue
        if not 0 < share <= 0.5:
            message = f"a step of {findings.shown(node)}; expected more than 0 and at most 50%."
            hint = "The old side gets an equal share as control; after the last step everybody gets the new side."
            yield findings.at(root, (*path, "steps", index), message, hint)
        elif share <= before:
            message = f"step {findings.shown(node)} is not above the one before it."
            yield findings.at(root, (*path, "steps", index), message, "Steps rise.")
        before = share


def _times(root: Node, path: tuple[str, ...], keys: dict[str, Node]) -> Iterator[SpecError]:
    step = mapping(keys.get("step"))
    shortest, longest = step.get("min"), step.get("max")
    if shortest is None or longest is None:
        return
    low, high = _seconds(shortest), _seconds(longest)
    if low is not None and high is not None and low > high:
        message = f"the longest time {findings.shown(longest)} is below the shortest."
        yield findings.at(root, (*path, "step", "max"), message, "Raise max, or lower min.")


def _windows(root: Node, path: tuple[str, ...], keys: dict[str, Node]) -> Iterator[SpecError]:
    """An outcome that is not known before the deadline would take back every rollout."""
    written = keys.get("deadline")
    deadline = _seconds(written) if written is not None else measures.DAY_S
    for name, outcome in mapping(keys.get("outcomes")).items():
        window = mapping(outcome).get("window")
        seconds = _seconds(window) if window is not None else measures.DAY_S
        if deadline is not None and seconds is not None and seconds >= deadline:
            at = (*path, "outcomes", name) if window is None else (*path, "outcomes", name, "window")
            told = [units.duration_text(each) for each in (seconds, deadline)]
            message = f"its window of {told[0]} is not over before the rollout's deadline of {told[1]}."
            yield findings.at(root, at, message, "Raise 'deadline', or shorten 'window'.", at_key=True)


def _share(node: Node) -> float | None:
    try:
        return _RATIO.validate_python(node.value)
    except ValueError:
        return None  # reported as a wrong value


def _seconds(node: Node) -> float | None:
    try:
        return _DURATION.validate_python(node.value)
    except ValueError:
        return None


def target(root: Node, path: tuple[str, ...], at: tuple[str, ...]) -> Iterator[SpecError]:
    """What a variant, a rollout or a shadow names exists, and the pipeline binds the models it replaces."""
    yield from lookup.exists(root, (*at, "pipeline"), "pipelines")
    node = mapping(tree.find(root, at))
    endpoint = lookup.text(tree.find(root, (*path, "endpoint"))) or ""
    pipeline = node.get("pipeline") or tree.find(root, ("endpoints", endpoint, "pipeline"))
    known = tree.find(root, ("pipelines", lookup.text(pipeline) or ""))
    bound = mapping(mapping(known).get("models"))
    for keyword in mapping(node.get("models")):
        yield from lookup.exists(root, (*at, "models", keyword), "models")
        if known is not None and keyword not in bound:
            hint = findings.alternatives(keyword, bound, f"Models of {findings.shown(pipeline)}")
            message = f"pipeline {findings.shown(pipeline)} binds no model as {keyword!r}."
            yield findings.at(root, (*at, "models", keyword), message, hint, at_key=True)


def _holdouts(root: Node) -> Iterator[SpecError]:
    """One holdout at most holds on an endpoint."""
    endpoints = [name for name, _ in lookup.section(root, "endpoints")]
    holds: dict[str, str] = {}
    for name, holdout in lookup.section(root, "holdouts"):
        keys = mapping(holdout)
        named = keys.get("endpoints")
        listed = named.value if named is not None and isinstance(named.value, list) else []
        for index in range(len(listed)):
            yield from lookup.exists(root, ("holdouts", name, "endpoints", index), "endpoints")
        enabled = keys.get("enabled")
        if enabled is not None and enabled.value is False:
            continue
        for endpoint in [lookup.text(node) or "" for node in listed] or endpoints:
            other = holds.setdefault(endpoint, name)
            if other != name:
                message = f"holdout {other!r} holds on endpoint {endpoint!r} already."
                yield findings.at(root, ("holdouts", name), message, "One holdout per endpoint; disable one.")
