"""Which keys of two documents say something else, as written, with file and line.

Called by `change` and by `turnout check --only`. Values that stand for secrets are not filled in,
and the one key that may hold a secret itself is not shown. Pure.
"""

from collections.abc import Iterator, Sequence
from typing import Any, Final

from turnout.changes import tables
from turnout.spec import tree
from turnout.spec.tree import Node

HIDDEN: Final = "(not shown)"
SECRET: Final = (("override_key",),)
"""Key paths whose values are never shown."""


def differences(before: Node | None, after: Node | None, path: Sequence[str | int] = ()) -> Iterator[tables.Key]:
    """Every key that was added, removed or says something else: the deepest mapping key that tells, lists whole.

    Args:
        before: The value at `path`; None where there is none.
        after: The same in the other document.
    """
    if before is None and after is None:
        return
    olds, news = _children(before, after, len(path)), _children(after, before, len(path))
    if olds is not None and news is not None:
        for key in dict.fromkeys((*olds, *news)):
            yield from differences(olds.get(key), news.get(key), (*path, key))
        return
    if before is not None and after is not None and _same(before, after):
        return
    there = after if after is not None else before
    assert there is not None
    yield tables.Key(
        path=tree.path_text(path), before=_shown(before, path), after=_shown(after, path), place=str(there.key)
    )


def _children(node: Node | None, other: Node | None, depth: int) -> dict[str, Node] | None:
    """A mapping's children; of a section that is not there, none, so that each of the other's names is told."""
    if node is not None and isinstance(node.value, dict):
        return node.value
    absent = node is None or node.value is None
    return {} if absent and depth < 2 and other is not None and isinstance(other.value, dict) else None


def _same(one: Node, other: Node) -> bool:
    return tree.canonical(tree.plain(one)) == tree.canonical(tree.plain(other))


def _shown(node: Node | None, path: Sequence[str | int]) -> Any:
    if node is None:
        return None
    return HIDDEN if tuple(path) in SECRET else tree.plain(node)
