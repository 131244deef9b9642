"""Which keys belong to which kind of metric, and which metrics can be guardrails.

Called by `checks`, on the tree, so that a document's other errors come out as well.
"""

from collections.abc import Iterator

from turnout.errors import SpecError
from turnout.spec import findings, lookup, measures, tree
from turnout.spec.tree import Node, mapping

_NEEDS = {"ratio": "per", "share_over": "threshold", "quantile": "quantile"}
"""Kind to the key that only it has, and must have."""

_OF_OUTCOMES = ("window", "cap", "covariate", "per")
_CAPPED = ("mean", "count")


def check(root: Node) -> Iterator[SpecError]:
    """Errors in the metrics of all experiments and rollouts."""
    for name, experiment in lookup.section(root, "experiments"):
        metrics = mapping(mapping(experiment).get("metrics"))
        path: tuple[str, ...] = ("experiments", name, "metrics")
        if "primary" in metrics:
            yield from _metric(root, (*path, "primary"))
        for group in ("secondary", "guardrails"):
            for key in mapping(metrics.get(group)):
                yield from _metric(root, (*path, group, key), guards=group == "guardrails")
    for name, rollout in lookup.section(root, "rollouts"):
        for group in ("guardrails", "outcomes"):
            for key in mapping(mapping(rollout).get(group)):
                yield from _metric(root, ("rollouts", name, group, key), guards=True)
                yield from _of_rollout(root, ("rollouts", name, group, key), group)


def _metric(root: Node, path: tuple[str, ...], *, guards: bool = False) -> Iterator[SpecError]:
    node = tree.find(root, path)
    keys = mapping(node)
    if node is None or not isinstance(node.value, dict):
        return
    if ("outcome" in keys) == ("signal" in keys):
        message = "needs either 'outcome' or 'signal'" + ("; it has both." if "signal" in keys else ".")
        yield findings.at(root, path, message, "Write outcome: NAME, or signal: latency.")
        return
    kind = _kind(keys)
    yield from _kinds(root, path, keys, kind)
    for owner, key in _NEEDS.items():
        if kind == owner and key not in keys:
            yield findings.at(root, (*path, key), f"key {key!r} is missing; {owner} needs it.", _EXAMPLES[key])
        if kind != owner and key in keys:
            yield findings.at(root, (*path, key), f"{key!r} has no effect with kind {kind}.", "Remove it.", at_key=True)
    yield from _without_effect(root, path, keys, kind, guards)


_EXAMPLES = {
    "per": "Write per: NAME, the outcome to divide by.",
    "threshold": "Write threshold: 800ms.",
    "quantile": "Write quantile: 0.95.",
}


def _kind(keys: dict[str, Node]) -> str:
    return lookup.text(keys.get("kind")) or measures.implied_kind(lookup.text(keys.get("signal")), keys)


def _kinds(root: Node, path: tuple[str, ...], keys: dict[str, Node], kind: str) -> Iterator[SpecError]:
    signal = lookup.text(keys.get("signal"))
    allowed = measures.OUTCOME_KINDS if "outcome" in keys else measures.SIGNAL_KINDS.get(signal or "", ())
    if allowed and kind not in allowed and kind in (*measures.OUTCOME_KINDS, "share", "share_over", "quantile"):
        of = "an outcome" if "outcome" in keys else f"signal {signal}"
        yield findings.at(root, (*path, "kind"), f"{of} has no kind {kind!r}.", f"Kinds: {', '.join(allowed)}.")


def _without_effect(
    root: Node, path: tuple[str, ...], keys: dict[str, Node], kind: str, guards: bool
) -> Iterator[SpecError]:
    if "signal" in keys:
        for key in _OF_OUTCOMES:
            if key in keys and key not in _NEEDS.values():
                yield findings.at(root, (*path, key), f"{key!r} has no effect on a signal.", "Remove it.", at_key=True)
    elif "cap" in keys and kind not in _CAPPED:
        yield findings.at(root, (*path, "cap"), f"'cap' has no effect with kind {kind}.", "Remove it.", at_key=True)
    if "margin" in keys and not guards:
        hint = "Put the metric under guardrails, or write effect."
        yield findings.at(root, (*path, "margin"), "'margin' belongs to guardrails.", hint, at_key=True)


def _of_rollout(root: Node, path: tuple[str, ...], group: str) -> Iterator[SpecError]:
    keys = mapping(tree.find(root, path))
    wanted = "signal" if group == "guardrails" else "outcome"
    other = "outcome" if group == "guardrails" else "signal"
    if other in keys and wanted not in keys:
        to = "outcomes" if group == "guardrails" else "guardrails"
        message = f"a rollout's {group} watch {wanted}s."
        yield findings.at(root, (*path, other), message, f"Move it to {to}.", at_key=True)
    elif _kind(keys) == "quantile":
        message = "a quantile has no bound that holds at every look."
        yield findings.at(root, (*path, "kind"), message, "Use kind: share_over with a threshold.")
