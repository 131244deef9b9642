"""Codec of types that contain pydantic models. Imported by name, only when a user's type is one.

The model's own configuration decides how lenient it is ("12" for an int, for instance);
unknown fields are refused at every level whatever it says. What pydantic's JSON parser
lets through and JSON does not (NaN, Infinity, numbers beyond double precision) is refused
before or after. Called by `codec.of`; calls `complaints`, `encoding`, `schemas`.
"""

import re
from typing import Any

import msgspec
import pydantic

from turnout.errors import InputError, StepError
from turnout.pipelines import complaints, encoding, schemas

_SYNTAX = msgspec.json.Decoder(msgspec.Raw).decode
_LARGE = re.compile(rb"[eE]\+?\d{3}|\d{300}")
"""Text that may be a number beyond double precision; pydantic reads it as infinity."""

UNKNOWN = ("extra_forbidden", "unexpected_keyword_argument")
"""What pydantic calls an unknown field, of models and of dataclasses."""

DECODING = (msgspec.DecodeError, RecursionError, UnicodeDecodeError)


class PydanticCodec:
    """JSON to and from a pydantic model, or a type with pydantic models inside.

    Attributes:
        name: The type as people read it.
        kind: The type.
    """

    def __init__(
        self, kind: Any, *, extra_fields: str = "forbid", extra_names: frozenset[str] = frozenset(), pipeline: str = ""
    ) -> None:
        self.kind = kind
        self.name = str(getattr(kind, "__name__", kind))
        self._pipeline = pipeline
        self._extra_names = extra_names
        self._strict = extra_fields == "forbid"
        adapter: pydantic.TypeAdapter[Any] = pydantic.TypeAdapter(kind)
        self._adapter = adapter
        self._schema = self.json_schema()
        properties = {name for node in schemas.at(self._schema, ()) for name in node.get("properties", {})}
        self._dropped = extra_names - properties if self._strict else frozenset()
        self._check = kind if isinstance(kind, type) else object

    def decode(self, body: bytes) -> Any:
        """The value in `body`.

        Raises:
            InputError: Not JSON, refused by the model, or with fields the type does not have.
        """
        try:
            _SYNTAX(body)
            text = self._without(body) if self._dropped else body
        except DECODING as error:
            raise complaints.from_msgspec(error, body, self._schema) from None
        try:
            value = self._adapter.validate_json(text, extra="forbid" if self._strict else None)
        except pydantic.ValidationError as error:
            raise self._complaint(error, body) from None
        if _LARGE.search(body):
            steps = encoding.search(value, encoding.not_finite)
            if steps is not None:
                raise complaints.refused(steps, "the number is out of range", b"")
        return value

    def encode(self, value: Any) -> bytes:
        """JSON of one reply.

        Raises:
            StepError: It is of another type, or has no form in JSON (NaN, unknown classes).
        """
        if not isinstance(value, self._check):
            raise self._failed(
                f"returned {type(value).__name__}, but declares {getattr(self.kind, '__name__', self.kind)}."
            )
        try:
            return encoding.checked(self._dump, value)
        except encoding.NotEncodable as error:
            raise self._failed(f"reply cannot be encoded: {error}.") from error

    def json_schema(self, ref_template: str = "#/$defs/{name}") -> schemas.Schema:
        """JSON Schema 2020-12; other types it refers to are under "$defs"."""
        schema = self._adapter.json_schema(ref_template=ref_template.replace("{name}", "{model}"))
        return schemas.closed(schema) if self._strict else schema

    def example(self) -> Any:
        """A small body, as JSON-able value; validators and patterns of the author's own may still refuse it."""
        value = schemas.example(self._schema)
        if isinstance(value, dict):
            value |= {
                name: "u1"
                for name in self._extra_names
                if name not in value and name in (self._dropped or self._extra_names)
            }
        return value

    def _dump(self, value: Any) -> bytes:
        return self._adapter.dump_json(value, fallback=encoding.listed, warnings="error")

    def _without(self, body: bytes) -> bytes:
        if body.lstrip()[:1] != b"{":
            return body
        found = msgspec.json.decode(body, type=dict[str, msgspec.Raw])
        for name in self._dropped:
            found.pop(name, None)
        return msgspec.json.encode(found)

    def _complaint(self, error: pydantic.ValidationError, body: bytes) -> InputError:
        found = error.errors(include_url=False, include_context=False)
        first = _telling(found)
        kind, steps = first["type"], _steps(first["loc"], body, absent=first["type"] == "missing")
        if (
            kind == "json_invalid"
        ):  # JSON by msgspec's reading: what is left are numbers of thousands of digits and bad text
            return InputError(f"the body cannot be read: {first['msg'].removeprefix('Invalid JSON: ')}.", kind="syntax")
        if kind in UNKNOWN:
            return complaints.unknown(steps, self._schema)
        if kind == "missing":
            return complaints.missing(steps, self._schema)
        reason = first["msg"][:1].lower() + first["msg"][1:]
        return complaints.refused(steps, reason, body)

    def _failed(self, text: str) -> StepError:
        return StepError(f"pipeline {self._pipeline!r} {text}", pipeline=self._pipeline, step="code")


def _telling(found: list[Any]) -> Any:
    """The error that helps most: a misspelt field explains a missing one; in a union, the deepest."""
    top = found[0]["loc"][:1]
    beside = [each for each in found if each["type"] in UNKNOWN and len(each["loc"]) == 1]
    if beside and len(found[0]["loc"]) == 1:
        return beside[0]
    return max((each for each in found if each["loc"][:1] == top), key=lambda each: len(each["loc"]))


def _steps(location: tuple[int | str, ...], body: bytes, *, absent: bool) -> schemas.Steps:
    """The place in the body: pydantic's location without the names of union members, which are no fields."""
    try:
        value: Any = msgspec.json.decode(body)
    except DECODING:
        return location
    steps: list[int | str] = []
    for position, step in enumerate(location):
        last = position == len(location) - 1
        try:
            value = value[step]
        except (LookupError, TypeError):
            if not (last and absent and isinstance(value, dict)):
                continue
        steps.append(step)
    return tuple(steps)
