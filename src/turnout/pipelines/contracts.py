"""Whether one pipeline can stand in for another behind an endpoint. Called by assembly."""

from collections.abc import Mapping
from typing import Any

from turnout.pipelines import binding, codec, definition

_COSMETIC = ("title", "description", "default", "examples")


def mismatch(first: binding.BoundPipeline, second: binding.BoundPipeline) -> str:
    """Why `second` cannot stand in for `first` behind one endpoint; "" when it can.

    Types are compared as callers see them: same class, or the same JSON Schema.
    """
    for side in ("request", "reply"):
        mine, other = getattr(first, side), getattr(second, side)
        if mine.kind is other.kind and mine.kind is not dict:
            continue
        if _comparable(mine.json_schema()) != _comparable(other.json_schema()):
            return f"pipeline {second.name!r} has the {side} {_fields(other)}, but {first.name!r} has {_fields(mine)}"
    if first.streams != second.streams:
        how = "streams" if second.streams else "answers at once"
        return f"pipeline {second.name!r} {how}, but {first.name!r} does not"
    return ""


def _comparable(schema: Any, definitions: Mapping[str, Any] | None = None, depth: int = 0) -> Any:
    """A schema without what callers do not see: titles, descriptions, names of definitions."""
    if isinstance(schema, list):
        return [_comparable(each, definitions, depth) for each in schema]
    if not isinstance(schema, dict):
        return schema
    known = schema.get("$defs", {}) if definitions is None else definitions
    if "$ref" in schema:
        return _comparable(known.get(schema["$ref"].rpartition("/")[2], {}), known, depth + 1) if depth < 8 else "..."
    found = {
        key: _comparable(each, known, depth)
        for key, each in schema.items()
        if key not in (*_COSMETIC, "$defs", "properties")
    }
    if "properties" in schema:
        found["properties"] = {name: _comparable(each, known, depth) for name, each in schema["properties"].items()}
    return found


def _fields(side: codec.Codec) -> str:
    example = side.json_schema()
    target = example.get("$defs", {}).get(example.get("$ref", "").rpartition("/")[2], example)
    names = ", ".join(target.get("properties", {}))
    return f"{definition.named(side.kind)}({names})"
