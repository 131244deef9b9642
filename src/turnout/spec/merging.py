"""Several files make one document; a stage file changes it.

`merge` joins files as equals: sections join, but a model, pipeline, endpoint or experiment
may be written once only. `overlay` lays a stage over the result: mappings merge at every
depth, scalars and lists replace, null deletes. Every key keeps the place it was written at.

Called by `snapshot`.
"""

from collections.abc import Sequence

from turnout.errors import SpecError, did_you_mean
from turnout.spec.tree import NOWHERE, Node, Place, empty, path_text


def merge(roots: Sequence[Node]) -> tuple[Node, list[SpecError]]:
    """Join the files of one document.

    Args:
        roots: Their root mappings, in the order of the files' names.

    Returns:
        The joined mapping and an error, naming both places, for everything written twice.
    """
    joined = empty(roots[0].place if roots else NOWHERE)
    sections: dict[str, Node] = {}
    errors: list[SpecError] = []
    for root in roots:
        for section, node in _children(root).items():
            known = sections.get(section)
            if known is None or known.value is None:
                value = dict(node.value) if isinstance(node.value, dict) else node.value
                sections[section] = Node(value, node.place, node.key)
            elif node.value is not None:
                errors.extend(_join(section, known, node))
    joined.value = dict(sections)
    return joined, errors


def _join(section: str, known: Node, node: Node) -> list[SpecError]:
    if not isinstance(known.value, dict) or not isinstance(node.value, dict):
        return [_twice((section,), known, node)]
    errors = []
    for name, child in node.value.items():
        if name in known.value:
            errors.append(_twice((section, name), known.value[name], child))
        else:
            known.value[name] = child
    return errors


def _twice(path: tuple[str, ...], first: Node, second: Node) -> SpecError:
    return SpecError(
        f"{path_text(path)} is defined twice; first in {first.key}.",
        path=path_text(path),
        file=second.key.file,
        line=second.key.line,
        hint="Remove one of the two. To vary a key by stage, use a stage file.",
    )


def overlay(base: Node, stage: Node) -> tuple[Node, list[SpecError], list[SpecError]]:
    """Lay a stage over the document.

    Args:
        base: The document's root; left as it is.
        stage: The stage's root.

    Returns:
        The new root, errors (null for a key that is not there), and warnings (a value that is there already).
    """
    errors: list[SpecError] = []
    warnings: list[SpecError] = []
    if not _children(stage):
        warnings.append(_report("the stage file changes nothing.", (), stage.place))
    return _laid(base, stage, (), errors, warnings), errors, warnings


def _laid(base: Node, over: Node, path: tuple[str, ...], errors: list[SpecError], warnings: list[SpecError]) -> Node:
    children = dict(_children(base))
    for key, change in _children(over).items():
        here = (*path, key)
        known = children.get(key)
        if change.value is None:
            if known is None:
                errors.append(_absent(here, change, tuple(children)))
            children.pop(key, None)
        elif known is not None and isinstance(known.value, dict) and isinstance(change.value, dict):
            if not change.value and known.value:
                warnings.append(_report("{} changes nothing; null deletes.", here, change.key))
            children[key] = _laid(known, change, here, errors, warnings)
        else:
            if known is not None and _same(known, change):
                warnings.append(_report(f"changes nothing: {known.key} says the same.", here, change.key))
            children[key] = _without_nulls(change, here, errors)
    return Node(children, base.place, base.key)


def _without_nulls(node: Node, path: tuple[str, ...], errors: list[SpecError]) -> Node:
    """A new part that a stage adds; a null in it deletes nothing."""
    if not isinstance(node.value, dict):
        return node
    kept = {}
    for key, child in node.value.items():
        if child.value is None:
            errors.append(_absent((*path, key), child, ()))
        else:
            kept[key] = _without_nulls(child, (*path, key), errors)
    return Node(kept, node.place, node.key)


def _absent(path: tuple[str, ...], node: Node, known: Sequence[str]) -> SpecError:
    hint = did_you_mean(path[-1], known, "Remove the line.")
    return _report("null deletes a key, and the document has no such key.", path, node.key, hint)


def _report(message: str, path: tuple[str, ...], place: Place, hint: str = "") -> SpecError:
    return SpecError(message, path=path_text(path), file=place.file, line=place.line, hint=hint)


def _same(one: Node, other: Node) -> bool:
    if isinstance(one.value, list) and isinstance(other.value, list):
        return len(one.value) == len(other.value) and all(map(_same, one.value, other.value))
    if isinstance(one.value, dict) and isinstance(other.value, dict):
        return one.value.keys() == other.value.keys() and all(_same(one.value[k], other.value[k]) for k in one.value)
    return type(one.value) is type(other.value) and one.value == other.value


def _children(node: Node) -> dict[str, Node]:
    return node.value if isinstance(node.value, dict) else {}
