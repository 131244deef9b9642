"""Whether units can be assigned as the document says: hashes, layers, names, and what would have no effect.

Called by `checks`, on the tree, so that a document's other errors come out as well.
"""

from collections.abc import Iterator

from turnout.errors import SpecError
from turnout.spec import findings, lookup
from turnout.spec.tree import Node, mapping

V1 = "v1"
TOLERANCE = 0.01
"""How far from 1 the weights may sum under GrowthBook's hashes; beyond, its SDKs take equal weights."""


def check(root: Node) -> Iterator[SpecError]:
    """Errors: units would not be where the document says."""
    kinds: dict[str, tuple[str, str]] = {}
    for name, experiment in lookup.section(root, "experiments"):
        keys = mapping(experiment)
        hashed = lookup.text(keys.get("hash")) or V1
        if hashed != V1:
            yield from _weights(root, name, keys)
        layer = lookup.text(mapping(keys.get("layer")).get("name"))
        if layer is not None:
            first, how = kinds.setdefault(layer, (name, _slots_by(hashed)))
            if how != _slots_by(hashed):
                message = (
                    f"layer {layer!r} is cut by {how} for {first!r} and by {_slots_by(hashed)} here; they overlap."
                )
                hint = "Experiments of one layer all have hash v1, or all a growthbook hash."
                yield findings.at(root, ("experiments", name, "layer", "name"), message, hint)
    experiments = mapping(mapping(root).get("experiments"))
    for name, _ in lookup.section(root, "rollouts"):
        if name in experiments:
            message = f"{name!r} is an experiment, too; events and reports could not tell them apart."
            yield findings.at(root, ("rollouts", name), message, "Rename the rollout.", at_key=True)


def warnings(root: Node) -> Iterator[SpecError]:
    """Legal, but hardly meant."""
    for name, experiment in lookup.section(root, "experiments"):
        keys = mapping(experiment)
        path = ("experiments", name)
        if lookup.text(keys.get("assign")) == "external":
            for key in ("ramp", "targeting", "layer", "hash", "seed"):
                if key in keys:
                    message = f"{key!r} has no effect with assign: external; the header decides."
                    yield findings.at(root, (*path, key), message, "Remove it.", at_key=True)
        seed = lookup.text(keys.get("seed"))
        if (lookup.text(keys.get("hash")) or V1) != V1 and seed is not None and not seed.isascii():
            message = "GrowthBook's SDKs disagree on text beyond ASCII; Turnout hashes as its JavaScript SDK."
            yield findings.at(root, (*path, "seed"), message, "Take a seed of ASCII letters; ids should be ASCII, too.")


def _weights(root: Node, name: str, keys: dict[str, Node]) -> Iterator[SpecError]:
    weights = [mapping(variant).get("weight") for variant in mapping(keys.get("variants")).values()]
    numbers = [lookup.number(weight) for weight in weights if weight is not None]
    total = sum(numbers)
    if len(numbers) == len(weights) and total > 0 and abs(total - 1) > TOLERANCE:
        as_written = ", ".join(f"{number / total:.4g}" for number in numbers)
        message = f"the weights sum to {total:g}; with a growthbook hash they must sum to 1, or its SDKs split evenly."
        yield findings.at(root, ("experiments", name, "variants"), message, f"Write {as_written}.")


def _slots_by(hashed: str) -> str:
    return "slots of v1" if hashed == V1 else "GrowthBook's namespace"
