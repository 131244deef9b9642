"""What Turnout itself may lay over a document: where rollouts stand, and keys that are declared `managed`.

The overlay is text like any other file, under the reserved name `stages.OVERLAY`, written by the
control plane. A person's file is never rewritten. Entries for parts that the document no longer
has are left out with a warning: deleting a rollout's block must not make the document invalid.

Called by `snapshot`, after the stage has been laid on.
"""

from collections.abc import Iterator, Mapping

from turnout.errors import SpecError
from turnout.spec import findings, merging, parsing, stages, tree
from turnout.spec.tree import Node, mapping


def split(files: Mapping[str, str]) -> tuple[dict[str, str], str | None]:
    """The files a person wrote, and the overlay's text; None without one."""
    written = dict(files)
    return written, written.pop(stages.OVERLAY, None)


def lay(base: Node, text: str | None) -> tuple[Node, list[SpecError], list[SpecError]]:
    """Lay the overlay over the merged document.

    Returns:
        The new root, errors, and warnings.
    """
    errors = list(_by_hand(base))
    if text is None or not text.strip():
        return base, errors, []
    root, found = parsing.parse(stages.OVERLAY, text)
    if found:
        return base, errors + found, []
    kept = tree.empty(root.place)
    warnings: list[SpecError] = []
    for path, node in _leaves(root):
        allowed = _allowed(base, path)
        if allowed is None:
            message = f"{tree.path_text(path[:2])} is not in the document any more; its overlay is left out."
            warnings.append(SpecError(message, file=stages.OVERLAY, line=node.key.line))
        elif not allowed:
            errors.append(_refused(path, node))
        else:
            _put(kept, path, node)
    if not kept.value:
        return base, errors, warnings
    laid, absent, _ = merging.overlay(base, kept)
    return laid, errors + absent, warnings


def _by_hand(base: Node) -> Iterator[SpecError]:
    """`progress` in a person's file: nobody could tell whose is right."""
    for name, rollout in mapping(mapping(base).get("rollouts")).items():
        if "progress" in mapping(rollout):
            hint = "Remove it; `turnout rollout` moves a rollout by hand."
            message = "only Turnout writes 'progress', into its overlay."
            yield findings.at(base, ("rollouts", name, "progress"), message, hint, at_key=True)


def _leaves(root: Node) -> Iterator[tuple[tuple[str, ...], Node]]:
    """Section, name and key of everything the overlay sets."""
    for section, entries in mapping(root).items():
        for name, keys in mapping(entries).items():
            for key, node in mapping(keys).items():
                yield (section, name, key), node
            if not isinstance(keys.value, dict):
                yield (section, name), keys
        if not isinstance(entries.value, dict):
            yield (section,), entries


def _allowed(base: Node, path: tuple[str, ...]) -> bool | None:
    """Whether the overlay may set this; None when the document has no such part."""
    if len(path) < 3 or path[0] not in ("rollouts", "experiments"):
        return False
    part = tree.find(base, path[:2])
    if part is None:
        return None
    if path[0] == "rollouts":
        return path[2] == "progress"
    managed = mapping(part).get("managed")
    return path[2] in (tree.plain(managed) or []) if managed is not None else False


def _refused(path: tuple[str, ...], node: Node) -> SpecError:
    return SpecError(
        "the overlay may not set this key.",
        path=tree.path_text(path),
        file=node.key.file,
        line=node.key.line,
        hint="It may set the progress of rollouts, and keys that an experiment lists under 'managed'.",
    )


def _put(root: Node, path: tuple[str, ...], node: Node) -> None:
    here = root
    for step in path[:-1]:
        children = mapping(here)
        here = children.setdefault(step, tree.empty(node.key))
    mapping(here)[path[-1]] = node
