"""What no single part of a document can know: names that must exist, weights that must add up.

The checks walk the tree, not the typed document, so that they also run over a document with
wrong shapes elsewhere and all errors come out at once. They skip what has a wrong shape:
`findings` reports that.

Called by `snapshot`.
"""

from collections.abc import Iterator

from turnout.errors import SpecError
from turnout.spec import assignment_checks, findings, lookup, metric_checks, traffic_checks, tree
from turnout.spec.tree import Node, mapping


def check(root: Node) -> tuple[list[SpecError], list[SpecError]]:
    """Errors and warnings across the parts of a document.

    Args:
        root: The merged document with references filled in.
    """
    errors = [
        *_served(root),
        *_pipelines(root),
        *_endpoints(root),
        *_experiments(root),
        *assignment_checks.check(root),
        *traffic_checks.check(root),
        *metric_checks.check(root),
    ]
    return errors, [*_unused(root), *_same_seeds(root), *_pointless(root), *assignment_checks.warnings(root)]


def _served(root: Node) -> Iterator[SpecError]:
    endpoints = tree.find(root, ("endpoints",))
    if endpoints is None or endpoints.value is None or endpoints.value == {}:
        message = "the document has no endpoints; nothing would be served."
        if not mapping(root):
            message = "the document is empty; nothing would be served."
        yield findings.at(root, ("endpoints",), message, "Add endpoints: NAME: {pipeline: PIPELINE}.")


def _pipelines(root: Node) -> Iterator[SpecError]:
    for name, pipeline in lookup.section(root, "pipelines"):
        for keyword in mapping(mapping(pipeline).get("models")):
            yield from lookup.exists(root, ("pipelines", name, "models", keyword), "models")


def _endpoints(root: Node) -> Iterator[SpecError]:
    for name, endpoint in lookup.section(root, "endpoints"):
        yield from lookup.exists(root, ("endpoints", name, "pipeline"), "pipelines")
        yield from lookup.exists(root, ("endpoints", name, "fallback"), "pipelines")
        fallback, pipeline = (mapping(endpoint).get(key) for key in ("fallback", "pipeline"))
        if (
            fallback is not None
            and lookup.text(fallback) is not None
            and lookup.text(fallback) == lookup.text(pipeline)
        ):
            message = f"fallback {findings.shown(fallback)} is the endpoint's own pipeline, which has just failed."
            yield findings.at(root, ("endpoints", name, "fallback"), message, "Name another pipeline, or remove it.")


def _experiments(root: Node) -> Iterator[SpecError]:
    for name, experiment in lookup.section(root, "experiments"):
        path = ("experiments", name)
        yield from lookup.exists(root, (*path, "endpoint"), "endpoints")
        variants = mapping(mapping(experiment).get("variants"))
        if variants:
            yield from _controls(root, path, variants)
            yield from _weights(root, path, variants)
            yield from _winner(root, path, variants)
            yield from _overrides(root, path, variants)
        for variant in variants:
            yield from traffic_checks.target(root, path, (*path, "variants", variant))
        yield from _unit(root, path)


def _controls(root: Node, path: tuple[str, ...], variants: dict[str, Node]) -> Iterator[SpecError]:
    controls = [name for name, variant in variants.items() if lookup.flag(mapping(variant).get("control"))]
    if not controls:
        hint = f"Add 'control: true' to the variant the others are compared with: {', '.join(variants)}."
        yield findings.at(root, (*path, "variants"), "no variant is control; expected exactly one.", hint)
    for name in controls[1:]:
        message = f"variants {controls[0]!r} and {name!r} are both control; expected exactly one."
        yield findings.at(root, (*path, "variants", name, "control"), message, "Remove one 'control: true'.")


def _weights(root: Node, path: tuple[str, ...], variants: dict[str, Node]) -> Iterator[SpecError]:
    weights = [mapping(variant).get("weight") for variant in variants.values()]
    if all(weight is not None and weight.value == 0 and not isinstance(weight.value, bool) for weight in weights):
        message = "all weights are 0, so nobody would get any variant."
        yield findings.at(root, (*path, "variants"), message, "Give at least one variant a weight above 0.")


def _winner(root: Node, path: tuple[str, ...], variants: dict[str, Node]) -> Iterator[SpecError]:
    winner = mapping(tree.find(root, path)).get("winner")
    if winner is not None and isinstance(winner.value, str) and winner.value not in variants:
        hint = findings.alternatives(lookup.hintable(winner), variants, "Variants")
        yield findings.at(root, (*path, "winner"), f"winner {findings.shown(winner)} is no variant.", hint)


def _overrides(root: Node, path: tuple[str, ...], variants: dict[str, Node]) -> Iterator[SpecError]:
    seen: dict[str, Node] = {}
    for name, variant in variants.items():
        units = mapping(variant).get("overrides")
        for index, unit in enumerate(units.value if units is not None and isinstance(units.value, list) else ()):
            if isinstance(unit.value, bool) or not isinstance(unit.value, str | int):
                continue
            text = str(unit.value)
            if text in seen:
                message = f"unit {findings.shown(unit)} is overridden twice; first in {seen[text].place}."
                yield findings.at(root, (*path, "variants", name, "overrides", index), message, "Remove one.")
            seen.setdefault(text, unit)


def _unit(root: Node, path: tuple[str, ...]) -> Iterator[SpecError]:
    experiment = mapping(tree.find(root, path))
    named = experiment.get("endpoint")
    endpoint = tree.find(root, ("endpoints", lookup.text(named) or ""))
    if endpoint is None or mapping(endpoint).get("unit") is not None or not isinstance(endpoint.value, dict):
        return
    if lookup.text(experiment.get("on_missing_unit")) in (None, "control"):
        message = f"endpoint {findings.shown(named)} has no unit, so everybody would get control."
        hint = "Add 'unit: user_id' to the endpoint, or 'on_missing_unit: request' here."
        yield findings.at(root, (*path, "endpoint"), message, hint)


def _unused(root: Node) -> Iterator[SpecError]:
    pipelines, models = set(), set()
    for _, endpoint in lookup.section(root, "endpoints"):
        pipelines |= {lookup.text(mapping(endpoint).get(key)) for key in ("pipeline", "fallback")}
    bindings = [mapping(pipeline).get("models") for _, pipeline in lookup.section(root, "pipelines")]
    for side in traffic_checks.sides(root):
        pipelines.add(lookup.text(side.get("pipeline")))
        bindings.append(side.get("models"))
    for binding in bindings:
        models |= {lookup.text(model) for model in mapping(binding).values()}
    for section, used in (("models", models), ("pipelines", pipelines)):
        for name, _ in lookup.section(root, section):
            if name not in used:
                yield findings.at(root, (section, name), f"nothing uses {section[:-1]} {name!r}.", "Remove it.")


def _same_seeds(root: Node) -> Iterator[SpecError]:
    first: dict[str, str] = {}
    for name, experiment in lookup.section(root, "experiments"):
        seed = lookup.text(mapping(experiment).get("seed")) or name
        if seed in first:
            message = f"experiments {first[seed]!r} and {name!r} share a seed, so their splits go together."
            yield findings.at(root, ("experiments", name, "seed"), message, "Give one of them another seed.")
        first.setdefault(seed, name)


def _pointless(root: Node) -> Iterator[SpecError]:
    for name, model in lookup.section(root, "models"):
        keys = mapping(model)
        exact, batching = keys.get("exact"), mapping(keys.get("batching"))
        if "expansion" in keys and (exact is None or exact.value is True):
            message = "'expansion' has no effect on an exact search."
            yield findings.at(root, ("models", name, "expansion"), message, "Remove it, or write exact: false.")
        rows, queue = batching.get("max_rows"), batching.get("max_queue")
        if rows is not None and queue is not None and lookup.number(queue) < lookup.number(rows):
            message = f"only {findings.shown(queue)} rows may wait, so no batch reaches {findings.shown(rows)} rows."
            yield findings.at(root, ("models", name, "batching", "max_queue"), message, "Raise it, or lower max_rows.")
    for name, experiment in lookup.section(root, "experiments"):
        keys = mapping(experiment)
        if mapping(keys.get("metrics")).get("primary") is None:
            message = "no primary metric, so there will be no verdict."
            yield findings.at(
                root, ("experiments", name, "metrics"), message, "Add metrics: {primary: {outcome: NAME}}."
            )
        enabled = keys.get("enabled")
        if keys.get("winner") is not None and enabled is not None and enabled.value is False:
            message = "'enabled: false' has no effect beside a winner: everybody gets the winner."
            yield findings.at(root, ("experiments", name, "enabled"), message, "Remove one of the two.")
