"""What no single part of a document can know: names that must exist, weights that must add up.

The checks walk the tree, not the typed document, so that they also run over a document with
wrong shapes elsewhere and all errors come out at once. They skip what has a wrong shape:
`findings` reports that.

Called by `snapshot`.
"""

from collections.abc import Iterator

from turnout.errors import SpecError
from turnout.spec import findings, tree
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
        *_clashes(root),
    ]
    return errors, [*_unused(root), *_same_seeds(root), *_pointless(root)]


def _served(root: Node) -> Iterator[SpecError]:
    endpoints = tree.find(root, ("endpoints",))
    if endpoints is None or endpoints.value is None or endpoints.value == {}:
        message = "the document has no endpoints; nothing would be served."
        if not mapping(root):
            message = "the document is empty; nothing would be served."
        yield findings.at(root, ("endpoints",), message, "Add endpoints: NAME: {pipeline: PIPELINE}.")


def _pipelines(root: Node) -> Iterator[SpecError]:
    for name, pipeline in _section(root, "pipelines"):
        for keyword in mapping(mapping(pipeline).get("models")):
            yield from _exists(root, ("pipelines", name, "models", keyword), "models")


def _endpoints(root: Node) -> Iterator[SpecError]:
    for name, endpoint in _section(root, "endpoints"):
        yield from _exists(root, ("endpoints", name, "pipeline"), "pipelines")
        yield from _exists(root, ("endpoints", name, "fallback"), "pipelines")
        fallback, pipeline = (mapping(endpoint).get(key) for key in ("fallback", "pipeline"))
        if fallback is not None and _text(fallback) is not None and _text(fallback) == _text(pipeline):
            message = f"fallback {findings.shown(fallback)} is the endpoint's own pipeline, which has just failed."
            yield findings.at(root, ("endpoints", name, "fallback"), message, "Name another pipeline, or remove it.")


def _experiments(root: Node) -> Iterator[SpecError]:
    for name, experiment in _section(root, "experiments"):
        path = ("experiments", name)
        yield from _exists(root, (*path, "endpoint"), "endpoints")
        variants = mapping(mapping(experiment).get("variants"))
        if variants:
            yield from _controls(root, path, variants)
            yield from _weights(root, path, variants)
            yield from _winner(root, path, variants)
            yield from _overrides(root, path, variants)
        for variant in variants:
            yield from _variant(root, path, variant)
        yield from _unit(root, path)


def _controls(root: Node, path: tuple[str, ...], variants: dict[str, Node]) -> Iterator[SpecError]:
    controls = [name for name, variant in variants.items() if _flag(mapping(variant).get("control"))]
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
        hint = findings.alternatives(_hintable(winner), variants, "Variants")
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


def _variant(root: Node, path: tuple[str, ...], variant: str) -> Iterator[SpecError]:
    here = (*path, "variants", variant)
    yield from _exists(root, (*here, "pipeline"), "pipelines")
    node = mapping(tree.find(root, here))
    endpoint = _text(tree.find(root, (*path, "endpoint"))) or ""
    pipeline = node.get("pipeline") or tree.find(root, ("endpoints", endpoint, "pipeline"))
    known = tree.find(root, ("pipelines", _text(pipeline) or ""))
    bound = mapping(mapping(known).get("models"))
    for keyword in mapping(node.get("models")):
        yield from _exists(root, (*here, "models", keyword), "models")
        if known is not None and keyword not in bound:
            hint = findings.alternatives(keyword, bound, f"Models of {findings.shown(pipeline)}")
            message = f"pipeline {findings.shown(pipeline)} binds no model as {keyword!r}."
            yield findings.at(root, (*here, "models", keyword), message, hint, at_key=True)


def _unit(root: Node, path: tuple[str, ...]) -> Iterator[SpecError]:
    experiment = mapping(tree.find(root, path))
    named = experiment.get("endpoint")
    endpoint = tree.find(root, ("endpoints", _text(named) or ""))
    if endpoint is None or mapping(endpoint).get("unit") is not None or not isinstance(endpoint.value, dict):
        return
    if _text(experiment.get("on_missing_unit")) in (None, "control"):
        message = f"endpoint {findings.shown(named)} has no unit, so everybody would get control."
        hint = "Add 'unit: user_id' to the endpoint, or 'on_missing_unit: request' here."
        yield findings.at(root, (*path, "endpoint"), message, hint)


def _clashes(root: Node) -> Iterator[SpecError]:
    """Until there are layers, one endpoint takes part in one experiment at a time."""
    first: dict[str, str] = {}
    for name, experiment in _section(root, "experiments"):
        node = mapping(experiment).get("endpoint")
        endpoint = _text(node)
        enabled = mapping(experiment).get("enabled")
        if endpoint is None or (enabled is not None and enabled.value is False):
            continue
        if endpoint in first:
            other = first[endpoint]
            message = f"experiments {other!r} and {name!r} both decide what endpoint {findings.shown(node)} runs."
            hint = f"Set 'enabled: false' on one of them, or end {other!r} with a winner written into the endpoint."
            yield findings.at(root, ("experiments", name, "endpoint"), message, hint)
        first.setdefault(endpoint, name)


def _unused(root: Node) -> Iterator[SpecError]:
    pipelines, models = set(), set()
    for _, endpoint in _section(root, "endpoints"):
        pipelines |= {_text(mapping(endpoint).get(key)) for key in ("pipeline", "fallback")}
    bindings = [mapping(pipeline).get("models") for _, pipeline in _section(root, "pipelines")]
    for _, experiment in _section(root, "experiments"):
        for variant in mapping(mapping(experiment).get("variants")).values():
            pipelines.add(_text(mapping(variant).get("pipeline")))
            bindings.append(mapping(variant).get("models"))
    for binding in bindings:
        models |= {_text(model) for model in mapping(binding).values()}
    for section, used in (("models", models), ("pipelines", pipelines)):
        for name, _ in _section(root, section):
            if name not in used:
                yield findings.at(root, (section, name), f"nothing uses {section[:-1]} {name!r}.", "Remove it.")


def _same_seeds(root: Node) -> Iterator[SpecError]:
    first: dict[str, str] = {}
    for name, experiment in _section(root, "experiments"):
        seed = _text(mapping(experiment).get("seed")) or name
        if seed in first:
            message = f"experiments {first[seed]!r} and {name!r} share a seed, so their splits go together."
            yield findings.at(root, ("experiments", name, "seed"), message, "Give one of them another seed.")
        first.setdefault(seed, name)


def _pointless(root: Node) -> Iterator[SpecError]:
    for name, model in _section(root, "models"):
        keys = mapping(model)
        exact, batching = keys.get("exact"), mapping(keys.get("batching"))
        if "expansion" in keys and (exact is None or exact.value is True):
            message = "'expansion' has no effect on an exact search."
            yield findings.at(root, ("models", name, "expansion"), message, "Remove it, or write exact: false.")
        rows, queue = batching.get("max_rows"), batching.get("max_queue")
        if rows is not None and queue is not None and _number(queue) < _number(rows):
            message = f"only {findings.shown(queue)} rows may wait, so no batch reaches {findings.shown(rows)} rows."
            yield findings.at(root, ("models", name, "batching", "max_queue"), message, "Raise it, or lower max_rows.")
    for name, experiment in _section(root, "experiments"):
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


def _section(root: Node, name: str) -> list[tuple[str, Node]]:
    return list(mapping(mapping(root).get(name)).items())


def _exists(root: Node, path: tuple[str, ...], section: str) -> Iterator[SpecError]:
    """The text at a path names an entry of a section."""
    node = tree.find(root, path)
    known = mapping(mapping(root).get(section))
    if node is not None and isinstance(node.value, str) and node.value not in known:
        hint = findings.alternatives(_hintable(node), known, section.capitalize())
        yield findings.at(root, path, f"no {section[:-1]} {findings.shown(node)}.", hint)


def _hintable(node: Node) -> str:
    """A name to look for near ones; not a filled-in one, which must not show."""
    return node.value if isinstance(node.value, str) and node.written is None else ""


def _text(node: Node | None) -> str | None:
    return node.value if node is not None and isinstance(node.value, str) else None


def _number(node: Node) -> float:
    return node.value if isinstance(node.value, int | float) else 0.0


def _flag(node: Node | None) -> bool:
    return node is not None and node.value is True
