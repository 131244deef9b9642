"""The document as a tree in which every key and every value knows its file and line.

`parsing` makes trees, `merging` joins them, `references` fills them in, `findings` and
`checks` look places up in them. `plain` gives the ordinary Python data.
"""

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

Scalar: TypeAlias = str | int | float | bool | None


@dataclass(frozen=True, slots=True)
class Place:
    """Where something is written. Lines count from 1."""

    file: str
    line: int

    def __str__(self) -> str:
        return f"{self.file}:{self.line}"


NOWHERE = Place("", 0)

_STEP = re.compile(r"\[(?P<index>[0-9]+)\]|(?P<key>[^.\[]+)")


@dataclass(slots=True)
class Node:
    """One value of the document.

    Attributes:
        value: A scalar, a list of nodes, or a mapping from key to node.
        place: Where the value is written.
        key: Where the key that holds it is written; the value's own place in lists and at the root.
        written: The text before references were filled in; None where there was none.
            A node with `written` may hold a secret: messages show `written`, never `value`.
    """

    value: "Scalar | list[Node] | dict[str, Node]"
    place: Place
    key: Place
    written: str | None = None

    def __repr__(self) -> str:
        return f"<Node {self.place}>"


def empty(place: Place = NOWHERE) -> Node:
    """A mapping without keys."""
    return Node({}, place, place)


def plain(node: Node) -> Any:
    """The tree as ordinary dicts, lists and scalars."""
    if isinstance(node.value, dict):
        return {key: plain(child) for key, child in node.value.items()}
    if isinstance(node.value, list):
        return [plain(child) for child in node.value]
    return node.value


def canonical(data: Any) -> bytes:
    """One byte string for one meaning: JSON with sorted keys and no spaces. Order and layout do not show."""
    text = json.dumps(data, sort_keys=True, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return text.encode()


def mapping(node: Node | None) -> dict[str, Node]:
    """The children of a mapping by key; nothing for anything else, so that checks walk broken documents too."""
    return node.value if node is not None and isinstance(node.value, dict) else {}


def find(root: Node, path: Sequence[str | int]) -> Node | None:
    """The node at a key path; None when the path leads nowhere."""
    node: Node | None = root
    for step in path:
        if node is None:
            return None
        if isinstance(node.value, dict):
            node = node.value.get(str(step))
        elif isinstance(node.value, list) and isinstance(step, int) and step < len(node.value):
            node = node.value[step]
        else:
            return None
    return node


def nearest(root: Node, path: Sequence[str | int]) -> Node:
    """The deepest node on a key path that exists."""
    for length in range(len(path), 0, -1):
        node = find(root, path[:length])
        if node is not None:
            return node
    return root


def walk(node: Node, path: tuple[str | int, ...] = ()) -> Iterator[tuple[tuple[str | int, ...], Node]]:
    """Every node with its key path, parents first."""
    yield path, node
    if isinstance(node.value, dict):
        for key, child in node.value.items():
            yield from walk(child, (*path, key))
    elif isinstance(node.value, list):
        for index, child in enumerate(node.value):
            yield from walk(child, (*path, index))


def path_text(path: Sequence[str | int]) -> str:
    """A key path for people.

    >>> path_text(("experiments", "a", "overrides", 3))
    'experiments.a.overrides[3]'
    """
    text = ""
    for step in path:
        text += f"[{step}]" if isinstance(step, int) else f".{step}" if text else step
    return text


def path_from(text: str) -> tuple[str | int, ...]:
    """The key path that `path_text` wrote.

    >>> path_from("experiments.a.overrides[3]")
    ('experiments', 'a', 'overrides', 3)
    """
    found = _STEP.finditer(text)
    return tuple(int(step["index"]) if step["index"] is not None else step["key"] for step in found)
