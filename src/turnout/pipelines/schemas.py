"""Reads JSON Schemas: example bodies, the fields known at a path, what a value must be.

All codecs describe their type as JSON Schema, so everything that explains a type to
people works on schemas and not on four kinds of classes. Called by the other codec
modules; calls nothing of ours. No I/O.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

Schema = dict[str, Any]
Steps = tuple[str | int, ...]
"""A place in a body: names and array positions from the root."""

FULL_DEPTH = 3
"""Below this depth, examples have empty lists where the type allows them."""

MAX_REPAIRS = 20
"""An example with more texts of unknown form than this stays wrong."""

MAX_EXAMPLE_DEPTH = 8
"""A type that contains itself is cut here."""

FORMAT_EXAMPLES = {
    "date-time": "2025-01-31T12:00:00Z",
    "date": "2025-01-31",
    "time": "12:00:00",
    "duration": "PT5S",
    "uuid": "00000000-0000-4000-8000-000000000000",
    "email": "person@example.org",
    "uri": "https://example.org",
}


def dotted(steps: Sequence[str | int]) -> str:
    """The path as people read it.

    >>> dotted(("items", 3, "price"))
    'items[3].price'
    """
    text = ""
    for step in steps:
        text += f"[{step}]" if isinstance(step, int) else f".{step}" if text else step
    return text


def closed(schema: Any) -> Any:
    """The same schema with `additionalProperties: false` on every object that lists its properties."""
    if isinstance(schema, list):
        return [closed(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    result = {key: closed(each) for key, each in schema.items() if key not in ("default", "examples", "enum", "const")}
    result |= {key: schema[key] for key in ("default", "examples", "enum", "const") if key in schema}
    if isinstance(schema.get("properties"), dict) and schema.get("type") == "object":
        result["properties"] = {name: closed(each) for name, each in schema["properties"].items()}
        result["additionalProperties"] = False
    return result


def members(schema: Schema, definitions: Mapping[str, Schema]) -> Iterator[Schema]:
    """The schema itself behind references, or each member of its union."""
    pending, left = [schema], 200
    while pending and left:
        left -= 1
        node = pending.pop()
        if "$ref" in node:
            pending.append(definitions.get(node["$ref"].rpartition("/")[2], {}))
            continue
        union = node.get("anyOf") or node.get("oneOf") or node.get("allOf")
        if union:
            pending.extend(reversed(union))
        else:
            yield node


def at(schema: Schema, steps: Steps) -> list[Schema]:
    """Every schema that may apply at a place in the body; empty when the type says nothing about it."""
    definitions = schema.get("$defs", {})
    nodes = list(members(schema, definitions))
    for step in steps:
        found: list[Schema] = []
        for node in nodes:
            child = _child(node, step)
            if isinstance(child, dict):
                found.extend(members(child, definitions))
        nodes = found
    return nodes


def _child(node: Schema, step: str | int) -> Any:
    if isinstance(step, int):
        first = node.get("prefixItems", [])
        return first[step] if step < len(first) else node.get("items")
    properties = node.get("properties", {})
    return properties[step] if step in properties else node.get("additionalProperties")


def field_names(schema: Schema, steps: Steps) -> list[str]:
    """Names of the fields an object at this place may have."""
    return sorted({name for node in at(schema, steps) for name in node.get("properties", {})})


def example(schema: Schema) -> Any:
    """A small valid value: required fields only, unless the author gave examples or there are none required."""
    return _example(schema, schema.get("$defs", {}), 0)


def repaired(value: Any, refusal: Callable[[Any], Steps | None]) -> Any:
    """The example with other texts where the decoder refused one: msgspec's schemas do not say that a text is a date.

    Args:
        value: An example made from a schema.
        refusal: Where the decoder refuses a value; None when it takes it.
    """
    steps = refusal(value)
    for _ in range(MAX_REPAIRS):
        if steps is None:
            break
        parents = [value]
        for step in steps[:-1]:
            parents.append(parents[-1][step])
        if not steps or not isinstance(parents[-1][steps[-1]], str):
            break
        for text in FORMAT_EXAMPLES.values():
            parents[-1][steps[-1]] = text
            if (following := refusal(value)) != steps:
                steps = following
                break
        else:
            break
    return value


def _example(schema: Schema, definitions: Mapping[str, Schema], depth: int) -> Any:
    node: Schema = next(members(schema, definitions), {})
    for given in ("examples", "enum"):
        if isinstance(node.get(given), list) and node[given]:
            return node[given][0]
    for given in ("const", "default"):
        if node.get(given) is not None:
            return node[given]
    kind = node.get("type")
    if isinstance(kind, list):
        kind = kind[0]
    if kind == "object":
        return _object(node, definitions, depth)
    if kind == "array":
        return _array(node, definitions, depth)
    if kind == "string":
        return _string(node)
    if kind in ("number", "integer"):
        return _number(node, whole=kind == "integer")
    if kind == "boolean":
        return True
    return None if kind == "null" else "anything"


def _object(node: Schema, definitions: Mapping[str, Schema], depth: int) -> dict[str, Any]:
    properties = node.get("properties", {})
    required = node.get("required", [])
    names = [name for name in properties if name in required] or (list(properties)[:3] if depth == 0 else [])
    if depth >= MAX_EXAMPLE_DEPTH:
        return {}
    return {name: _example(properties[name], definitions, depth + 1) for name in names}


def _array(node: Schema, definitions: Mapping[str, Schema], depth: int) -> list[Any]:
    if depth >= MAX_EXAMPLE_DEPTH:
        return []
    first = [_example(each, definitions, depth + 1) for each in node.get("prefixItems", [])]
    items = node.get("items")
    if not isinstance(items, dict):
        return first
    wanted = max(node.get("minItems", 0), min(1, node.get("maxItems", 1)) if depth < FULL_DEPTH else 0)
    return first + [_example(items, definitions, depth + 1) for _ in range(wanted - len(first))]


def _string(node: Schema) -> str:
    text = FORMAT_EXAMPLES.get(node.get("format", ""), "text")
    text = text.ljust(node.get("minLength", 0), "x")
    return text[: node.get("maxLength", len(text))]


def _number(node: Schema, *, whole: bool) -> float | int:
    step = 1 if whole else 0.5
    if "minimum" in node:
        return int(node["minimum"]) if whole else float(node["minimum"])
    if "exclusiveMinimum" in node:
        least = node["exclusiveMinimum"] + step
        return least if least < node.get("exclusiveMaximum", least + 1) else (least - step / 2)  # type: ignore[no-any-return]
    for bound, shift in (("maximum", 0), ("exclusiveMaximum", -step)):
        if bound in node and node[bound] + shift < 1:
            return node[bound] + shift  # type: ignore[no-any-return]
    return 1 if whole else 1.0
