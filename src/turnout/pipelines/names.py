"""Finds fields that a type does not have, for types whose own decoding would ignore them.

msgspec ignores unknown fields of dataclasses, TypedDicts and plain Structs. So a *skeleton*
of the type is made once: Structs that know the names, skip every value unread (`Raw`) and
forbid the rest. Decoding into it costs about 0.15 µs for a small body and looks at nothing
but names, so the type's own decoding stays exactly what msgspec defines.

Called by `typed`; calls nothing of ours.
"""

import typing
from collections.abc import Callable, Iterator
from typing import Any

import msgspec
from msgspec import inspect as types

SKIP = "Raw"
SCALARS = "int | float | str | bool | None"

_OBJECTS = (types.StructType, types.DataclassType, types.TypedDictType)
_LISTS = (types.ListType, types.SetType, types.FrozenSetType, types.VarTupleType)
_TUPLES = (types.TupleType, types.NamedTupleType)


def reader(kind: types.Type, also: frozenset[str]) -> Callable[[bytes], Any] | None:
    """What refuses unknown fields anywhere in a body of this type; None when there is nothing to check.

    Args:
        kind: `msgspec.inspect.type_info` of the type.
        also: Names allowed at the top level beside the type's own.
    """
    skeletons = _Skeletons()
    written = skeletons.write(kind, also)
    return None if written == SKIP else msgspec.json.Decoder(skeletons.resolve(written)).decode


def every(kind: types.Type) -> Iterator[types.Type]:
    """The type and all types inside it, each once."""
    seen: set[int] = set()
    pending = [kind]
    while pending:
        node = pending.pop()
        if id(node) not in seen:
            seen.add(id(node))
            yield node
            pending.extend(_children(node))


def closed(kind: types.Type) -> bool:
    """Whether the type refuses unknown fields by itself, everywhere."""
    return all(getattr(node, "forbid_unknown_fields", False) for node in every(kind) if isinstance(node, _OBJECTS))


def foreign(kind: types.Type) -> list[Any]:
    """Classes inside the type that msgspec does not know."""
    return [node.cls for node in every(kind) if isinstance(node, types.CustomType)]


def own(kind: types.Type) -> frozenset[str] | None:
    """Names of the fields at the top level; None when the type is no object with names."""
    kind = _bare(kind)
    return frozenset(field.encode_name for field in kind.fields) if isinstance(kind, _OBJECTS) else None


def _bare(node: types.Type) -> types.Type:
    while isinstance(node, types.Metadata):
        node = node.type
    return node


def _children(node: types.Type) -> list[types.Type]:
    if isinstance(node, (*_OBJECTS, types.NamedTupleType)):
        return [field.type for field in node.fields]
    if isinstance(node, _LISTS):
        return [node.item_type]
    if isinstance(node, types.TupleType):
        return list(node.item_types)
    if isinstance(node, types.DictType):
        return [node.value_type]
    if isinstance(node, types.UnionType):
        return list(node.types)
    return [node.type] if isinstance(node, types.Metadata) else []


class _Skeletons:
    """Writes types as annotations that name their skeletons, so that a type may contain itself."""

    def __init__(self) -> None:
        self._names: dict[int, str] = {}
        self._made: dict[str, Any] = {}

    def resolve(self, written: str) -> Any:
        """The type behind an annotation; also lets msgspec find the skeletons that others name."""
        for skeleton in self._made.values():
            for name, other in self._made.items():
                setattr(skeleton, name, other)
            skeleton.Raw = msgspec.Raw
        root = type("Root", (), {"__annotations__": {"root": written}})
        return typing.get_type_hints(root, localns=self._made | {SKIP: msgspec.Raw})["root"]

    def write(self, node: types.Type, also: frozenset[str] = frozenset()) -> str:
        node = _bare(node)
        if isinstance(node, _OBJECTS):
            return self._names.get(id(node)) or self._object(node, also)
        inner = [self.write(child) for child in _children(node)]
        if all(each == SKIP for each in inner):
            return SKIP
        if isinstance(node, types.UnionType):
            return " | ".join([SCALARS, *(_member(child, each) for child, each in zip(node.types, inner, strict=True))])
        if isinstance(node, types.DictType):
            return f"dict[str, {inner[0]}]"
        return f"list[{inner[0]}]" if isinstance(node, _LISTS) else f"tuple[{', '.join(inner)}]"

    def _object(self, node: Any, also: frozenset[str]) -> str:
        name = self._names[id(node)] = f"Skeleton{len(self._names)}"
        encoded = [field.encode_name for field in node.fields]
        fields: list[tuple[str, Any, Any]] = []
        for number, field in enumerate(node.fields):
            fields.append((f"f{number}", self.write(field.type), None))
        for extra in sorted(also.difference(encoded)):
            fields.append((f"f{len(encoded)}", SKIP, None))
            encoded.append(extra)
        self._made[name] = msgspec.defstruct(
            name,
            fields,
            rename={f"f{number}": each for number, each in enumerate(encoded)}.get,
            forbid_unknown_fields=True,
            tag=getattr(node, "tag", None),
            tag_field=getattr(node, "tag_field", None),
            array_like=getattr(node, "array_like", False),
            gc=False,
        )
        return name


def _member(node: types.Type, written: str) -> str:
    """A member of a union that has named objects somewhere; members without any are let through by their JSON kind."""
    node = _bare(node)
    if written != SKIP:
        return written
    if isinstance(node, types.DictType):
        return f"dict[str, {SKIP}]"
    return f"list[{SKIP}]" if isinstance(node, (*_LISTS, *_TUPLES)) else "None"
