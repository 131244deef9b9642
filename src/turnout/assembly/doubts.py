"""Warnings that need the user's types: paths of an endpoint that its request hardly has.

The endpoint's unit and attributes may stand in the body beside what the request's type has, so a
path that is not in the type is no error; one that is nearly in it, or leads into a part that has
no such field, is hardly meant. Called by `routing`.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from turnout.assembly import reading
from turnout.errors import SpecError, did_you_mean, nearest
from turnout.pipelines import binding
from turnout.spec import document


def doubts(name: str, spec: document.EndpointSpec, contract: binding.BoundPipeline) -> Iterator[SpecError]:
    """Warnings about the paths of one endpoint.

    Args:
        contract: Its request's type is looked at.
    """
    paths = {f"endpoints.{name}.attributes.{key}": path for key, path in spec.attributes.items()}
    if spec.unit:
        paths[f"endpoints.{name}.unit"] = spec.unit
    schema = contract.request.json_schema()
    for place, path in paths.items():
        doubt = _doubt(schema, path, contract.request.name)
        if doubt is not None:
            yield SpecError(doubt[0], path=place, hint=doubt[1])


def _doubt(schema: Mapping[str, Any], path: str, kind: str) -> tuple[str, str] | None:
    node: Any = schema
    keys = reading.keys_of(path)
    for depth, key in enumerate(keys):
        known = _fields(schema, node)
        if not known:
            return None  # a type that does not say what it holds
        if key not in known:
            near = nearest(key, known)
            if depth == 0:
                told = f"{kind} has no field {key!r}; requests would carry it beside the others."
                return (told, f"Did you mean {near!r}?") if near else None
            told = f"{'.'.join(keys[:depth])!r} of {kind} has no field {key!r}, so nothing is ever found there."
            return told, did_you_mean(key, known, f"It has: {', '.join(sorted(known))}.")
        node = known[key]
    return None


def _fields(schema: Mapping[str, Any], node: Any) -> dict[str, Any]:
    """Fields of an object type, of all objects where it may be several; empty where it says none."""
    reference = node.get("$ref") if isinstance(node, Mapping) else None
    if isinstance(reference, str):
        return _fields(schema, schema.get("$defs", {}).get(reference.rpartition("/")[2], {}))
    if not isinstance(node, Mapping):
        return {}
    found = dict(node.get("properties") or {})
    for each in node.get("anyOf") or ():
        found.update(_fields(schema, each))
    return found
