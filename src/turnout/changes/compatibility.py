"""Whether callers of an endpoint break when its request or reply changes: two JSON Schemas compared.

A request that was right must stay right: the new schema has to take all that the old one took.
A reply must keep its promise: the old schema has to describe all that the new one may give, but
for fields that are added, which callers do not look at. Called by `change`. Pure.

Compared are types, fields, what is required, enums, bounds, items and unions: what pipelines'
types can say. Of a `pattern` or `format` it is only seen that it is another one.
"""

from collections.abc import Iterator, Mapping
from typing import Any, Final, Literal, TypeAlias

from msgspec import Struct

Schema: TypeAlias = Any
Side: TypeAlias = Literal["request", "reply"]

LOWER: Final = ("minimum", "exclusiveMinimum", "minLength", "minItems", "minProperties")
UPPER: Final = ("maximum", "exclusiveMaximum", "maxLength", "maxItems", "maxProperties")
EXACT: Final = ("pattern", "format", "multipleOf", "uniqueItems")
NAMES: Final = {str: "string", bool: "boolean", int: "integer", float: "number", type(None): "null"}
ANYTHING: Final = frozenset({"string", "boolean", "number", "null", "array", "object"})


class Finding(Struct, frozen=True, kw_only=True):
    """One difference that callers may notice.

    Attributes:
        side: Where: "request" or "reply".
        path: The field, as people read it; "" for the whole body.
        text: What is different, as a sentence without its subject.
        breaks: Whether a caller that was right is wrong now.
    """

    side: str
    path: str
    text: str
    breaks: bool


def request(before: Schema, after: Schema) -> list[Finding]:
    """What callers notice of another request type, breaks first.

    >>> old = {"type": "object", "properties": {"text": {"type": "string"}}, "required": ["text"]}
    >>> new = {"type": "object", "properties": {"text": {"type": "string"}, "age": {}}, "required": ["text", "age"]}
    >>> [(found.path, found.text) for found in request(old, new)]
    [('age', 'is required now')]
    """
    return _ordered(_Comparison("request", holds=after, given=before).run())


def reply(before: Schema, after: Schema) -> list[Finding]:
    """What callers notice of another reply type, breaks first."""
    return _ordered(_Comparison("reply", holds=before, given=after).run())


def _ordered(findings: Iterator[Finding]) -> list[Finding]:
    unique = dict.fromkeys((each.path, each.text, each.breaks, each.side) for each in findings)
    found = [Finding(path=path, text=text, breaks=breaks, side=side) for path, text, breaks, side in unique]
    return sorted(found, key=lambda each: (not each.breaks, each.path, each.text))


class _Comparison:
    """Whether everything `given` describes fits what `holds` allows."""

    def __init__(self, side: Side, *, holds: Schema, given: Schema) -> None:
        self.side = side
        self.roots = (holds, given)
        self.definitions = [root.get("$defs", {}) if isinstance(root, Mapping) else {} for root in self.roots]
        self.seen: set[tuple[str, str]] = set()

    def run(self) -> Iterator[Finding]:
        yield from self._compare(*self.roots, "")

    def _found(self, path: str, in_request: str, in_reply: str, *, breaks: bool = True) -> Finding:
        text = in_request if self.side == "request" else in_reply
        return Finding(side=self.side, path=path, text=text, breaks=breaks)

    def _compare(self, holds: Schema, given: Schema, path: str) -> Iterator[Finding]:
        names = (_reference(holds), _reference(given))
        if all(names):
            if names in self.seen:  # a type that contains itself
                return
            self.seen.add(names)
        holds, given = self._resolved(holds, 0), self._resolved(given, 1)
        ours, theirs = self._members(holds, 0), self._members(given, 1)
        for member in theirs:
            tried = [list(self._single(our, member, path)) for our in ours]
            if all(any(finding.breaks for finding in findings) for findings in tried):
                yield from self._worst(ours, member, tried, path)
            else:
                yield from next(found for found in tried if not any(finding.breaks for finding in found))

    def _worst(self, ours: list[Schema], member: Schema, tried: list[list[Finding]], path: str) -> Iterator[Finding]:
        """No member of the union takes it: what the most similar one says, or that the whole form is new."""
        alike = [found for our, found in zip(ours, tried, strict=True) if _types(our) & _types(member)]
        if alike:
            yield from min(alike, key=len)
            return
        kinds = [" or ".join(sorted(_types(each))) or "nothing" for each in ({"anyOf": ours}, member)]
        taken = " or ".join(sorted({kind for our in ours for kind in _types(our)}))
        yield self._found(path, f"takes {taken}, no longer {kinds[1]}", f"may be {kinds[1]}, was {taken}")

    def _single(self, holds: Schema, given: Schema, path: str) -> Iterator[Finding]:
        """Two schemas without references and unions."""
        if not holds:
            return
        yield from self._kinds(holds, given, path)
        yield from self._bounds(holds, given, path)
        if "object" in _types(holds) & _types(given):
            yield from self._fields(holds, given, path)
        if "array" in _types(holds) & _types(given):
            yield from self._items(holds, given, path)

    def _kinds(self, holds: Schema, given: Schema, path: str) -> Iterator[Finding]:
        allowed, possible = _types(holds), _types(given)
        beyond = {kind for kind in possible if kind not in allowed and not (kind == "integer" and "number" in allowed)}
        if beyond:
            old, new = " or ".join(sorted(allowed)), " or ".join(sorted(beyond))
            yield self._found(path, f"takes {old}, no longer {new}", f"may be {new}, was {old}")
            return
        values, others = _values(holds), _values(given)
        if values is not None and others is None:
            yield self._found(
                path, f"takes only {_listed(values)} now", f"was one of {_listed(values)}, may be any now"
            )
        elif values is not None and others is not None:
            beyond_values = [value for value in others if value not in values]
            if beyond_values:
                listed = _listed(beyond_values)
                yield self._found(path, f"no longer takes {listed}", f"may be {listed} now")

    def _bounds(self, holds: Schema, given: Schema, path: str) -> Iterator[Finding]:
        breaks = self.side == "request"
        for names, tighter in ((LOWER, max), (UPPER, min)):
            for name in names:
                bound, other = holds.get(name), given.get(name)
                if bound is not None and (other is None or tighter(bound, other) != other):
                    was = "was unbounded" if other is None else f"was {other:g}"
                    yield self._found(
                        path, f"{name} is {bound:g}, {was}", f"{name} {bound:g} no longer holds", breaks=breaks
                    )
        for name in EXACT:
            if holds.get(name) not in (None, False, given.get(name)):
                yield self._found(
                    path, f"{name} is {holds[name]} now", f"{name} {holds[name]} no longer holds", breaks=breaks
                )

    def _fields(self, holds: Schema, given: Schema, path: str) -> Iterator[Finding]:
        allowed, possible = holds.get("properties", {}), given.get("properties", {})
        required, promised = set(holds.get("required", ())), set(given.get("required", ()))
        for name in sorted(required - promised):
            below = _below(path, name)
            if self.side == "reply" and name not in possible:
                continue  # said below: it is gone
            yield self._found(below, "is required now", "may be missing now")
        others = holds.get("additionalProperties", True)
        for name, schema in possible.items():
            if name in allowed:
                yield from self._compare(allowed[name], schema, _below(path, name))
            elif self.side == "reply":
                yield self._found(_below(path, name), "", "is new", breaks=False)
            elif others is False:
                yield self._found(_below(path, name), "is refused now, it was allowed", "")
            else:
                yield self._found(_below(path, name), "is no longer read", "", breaks=False)
        for name in allowed.keys() - possible.keys():
            if self.side == "reply":
                yield self._found(_below(path, name), "", "is gone")
            elif name not in required:
                yield self._found(_below(path, name), "may be given now", "", breaks=False)
        yield from self._others(others, given.get("additionalProperties", True), path)

    def _others(self, allowed: Schema, possible: Schema, path: str) -> Iterator[Finding]:
        """Fields without a name of their own."""
        if allowed is False and possible is not False and self.side == "request":
            yield self._found(path, "refuses unknown fields now", "")
        elif isinstance(allowed, Mapping) and possible is not False:
            yield from self._compare(allowed, possible if isinstance(possible, Mapping) else {}, _below(path, "*"))

    def _items(self, holds: Schema, given: Schema, path: str) -> Iterator[Finding]:
        first, others = holds.get("prefixItems", []), given.get("prefixItems", [])
        for index in range(max(len(first), len(others))):
            allowed = first[index] if index < len(first) else holds.get("items", {})
            possible = others[index] if index < len(others) else given.get("items", {})
            if possible is not False:
                yield from self._compare(allowed, possible, f"{path}[{index}]")
        if given.get("items", True) is not False:
            yield from self._compare(holds.get("items", {}), given.get("items", {}), f"{path}[]")

    def _resolved(self, schema: Schema, side: int) -> Schema:
        for _ in range(20):
            name = _reference(schema)
            if not name:
                break
            schema = self.definitions[side].get(name, {})
        return {} if schema is True else schema if isinstance(schema, Mapping) else {"enum": []}

    def _members(self, schema: Schema, side: int, depth: int = 0) -> list[Schema]:
        """The members of a union, each without reference; a schema that is none as its only member."""
        union = schema.get("anyOf") or schema.get("oneOf")
        parts = schema.get("allOf")
        if parts and depth < 8:
            joined: dict[str, Any] = {key: value for key, value in schema.items() if key != "allOf"}
            for part in parts:
                joined |= self._resolved(part, side)
            return self._members(joined, side, depth + 1)
        if not union or depth >= 8:
            return [schema]
        resolved = [self._resolved(each, side) for each in union]
        return [member for each in resolved for member in self._members(each, side, depth + 1)]


def _reference(schema: Schema) -> str:
    return str(schema["$ref"]).rpartition("/")[2] if isinstance(schema, Mapping) and "$ref" in schema else ""


def _types(schema: Schema) -> frozenset[str]:
    """What JSON types a schema without reference and union allows."""
    kind = schema.get("type")
    if kind is not None:
        return frozenset([kind] if isinstance(kind, str) else kind)
    values = _values(schema)
    if values is not None:
        return frozenset(NAMES.get(type(value), "array" if isinstance(value, list) else "object") for value in values)
    if "properties" in schema:
        return frozenset({"object"})
    return ANYTHING


def _values(schema: Schema) -> list[Any] | None:
    if "const" in schema:
        return [schema["const"]]
    return list(schema["enum"]) if "enum" in schema else None


def _listed(values: list[Any]) -> str:
    return ", ".join(map(repr, values[:5])) + (", ..." if len(values) > 5 else "") or "nothing"


def _below(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name
