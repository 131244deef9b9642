"""Looking things up in a document's tree, for the checks: sections, texts, names that must exist.

All of them take broken documents: what has a wrong shape is not there.

Called by `checks` and the modules that it is made of.
"""

from collections.abc import Iterator

from turnout.errors import SpecError
from turnout.spec import findings, tree
from turnout.spec.tree import Node, mapping


def section(root: Node, name: str) -> list[tuple[str, Node]]:
    """The entries of a section, such as all endpoints."""
    return list(mapping(mapping(root).get(name)).items())


def exists(root: Node, path: tuple[str | int, ...], among: str) -> Iterator[SpecError]:
    """The text at a path names an entry of a section."""
    node = tree.find(root, path)
    known = mapping(mapping(root).get(among))
    if node is not None and isinstance(node.value, str) and node.value not in known:
        hint = findings.alternatives(hintable(node), known, among.capitalize())
        yield findings.at(root, path, f"no {among[:-1]} {findings.shown(node)}.", hint)


def hintable(node: Node) -> str:
    """A name to look for near ones; not a filled-in one, which must not show."""
    return node.value if isinstance(node.value, str) and node.written is None else ""


def text(node: Node | None) -> str | None:
    """The node's text; None for anything else."""
    return node.value if node is not None and isinstance(node.value, str) else None


def number(node: Node) -> float:
    """The node's number; 0 for anything else."""
    return node.value if isinstance(node.value, int | float) else 0.0


def flag(node: Node | None) -> bool:
    """Whether true is written there."""
    return node is not None and node.value is True
