"""Codec of types that msgspec knows: dataclasses, TypedDicts, Structs, NamedTuples and builtins.

Called by `codec.of`; calls `names`, `encoding`, `complaints`, `schemas`.
"""

import sys
from collections.abc import Callable
from typing import Any

import msgspec
from msgspec import inspect as types

from turnout.errors import InputError, StepError
from turnout.pipelines import complaints, encoding, names, schemas

DECODING = (msgspec.DecodeError, RecursionError, UnicodeDecodeError)
"""What decoding bytes can raise; ValidationError is a DecodeError."""


class TypedCodec:
    """JSON to and from one type.

    The last of duplicate keys counts, as in every common JSON decoder. A Struct that says
    `forbid_unknown_fields` itself keeps doing so, whatever the endpoint says.

    Attributes:
        name: The type as people read it.
        kind: The type.
    """

    def __init__(
        self, kind: Any, *, extra_fields: str = "forbid", extra_names: frozenset[str] = frozenset(), pipeline: str = ""
    ) -> None:
        self.kind = kind
        self.name = _named(kind)
        self._pipeline = pipeline
        self._extra_names = extra_names
        info = types.type_info(kind)
        for foreign in names.foreign(info):
            if not _is_numpy(foreign):
                raise TypeError(f"{_named(foreign)!r} cannot be read from JSON")
        self._own = names.own(info)
        self._decode: Callable[[bytes], Any] = msgspec.json.Decoder(kind, dec_hook=_numpy).decode
        self._dropped = extra_names - self._own if self._own is not None and _forbids(info) else frozenset()
        self._names: Callable[[bytes], Any] | None = None
        self._strict = extra_fields == "forbid"
        if self._strict and not (names.closed(info) and not self._dropped):
            self._names = names.reader(info, extra_names)
        self._check = _instance(kind, info)
        self._schema: schemas.Schema | None = None

    def decode(self, body: bytes) -> Any:
        """The value in `body`.

        Raises:
            InputError: Not JSON, not of this type, or with fields the type does not have.

        Complexity: one pass in C, and one more over the names unless the type forbids unknown fields itself.
        """
        try:
            if self._names is not None:
                self._names(body)
            return self._decode(body if not self._dropped else self._without(body))
        except DECODING as error:
            raise self._complaint(error, body) from None

    def encode(self, value: Any) -> bytes:
        """JSON of one reply.

        Raises:
            StepError: It is of another type, or has no form in JSON (NaN, unknown classes).
        """
        if not isinstance(value, self._check):
            raise self._failed(f"returned {_named(type(value))}, but declares {_named(self.kind)}.")
        try:
            return encoding.encode(value)
        except encoding.NotEncodable as error:
            raise self._failed(f"reply cannot be encoded: {error}.") from error

    def json_schema(self, ref_template: str = "#/$defs/{name}") -> schemas.Schema:
        """JSON Schema 2020-12; other types it refers to are under "$defs"."""
        (schema,), definitions = msgspec.json.schema_components(
            (self.kind,), schema_hook=_numpy_schema, ref_template=ref_template
        )
        if definitions:
            schema = {**schema, "$defs": definitions}
        return schemas.closed(schema) if self._strict else schema

    def example(self) -> Any:
        """A small body that `decode` takes, as JSON-able value."""
        value = schemas.repaired(schemas.example(self._described()), self._refusal)
        if isinstance(value, dict):
            value |= {
                name: "u1"
                for name in self._extra_names
                if name not in value and (self._own is None or name not in self._own)
            }
        return value

    def _refusal(self, value: Any) -> schemas.Steps | None:
        try:
            self.decode(msgspec.json.encode(value))
        except InputError as error:
            return complaints.parse(f"$.{error.path}")
        return None

    def _described(self) -> schemas.Schema:
        if self._schema is None:
            self._schema = self.json_schema()
        return self._schema

    def _without(self, body: bytes) -> bytes:
        found = msgspec.json.decode(body, type=dict[str, msgspec.Raw])
        for name in self._dropped:
            found.pop(name, None)
        return msgspec.json.encode(found)

    def _complaint(self, error: Exception, body: bytes) -> InputError:
        if isinstance(error, msgspec.ValidationError) and "unknown field" not in str(error):
            try:
                self._decode(body)  # it says more than the skeleton
            except DECODING as better:
                error = better if "unknown field" not in str(better) else error
        return complaints.from_msgspec(error, body, self._described())

    def _failed(self, text: str) -> StepError:
        return StepError(f"pipeline {self._pipeline!r} {text}", pipeline=self._pipeline, step="code")


def _forbids(info: types.Type) -> bool:
    while isinstance(info, types.Metadata):
        info = info.type
    return bool(getattr(info, "forbid_unknown_fields", False))


def _instance(kind: Any, info: types.Type) -> Any:
    """The class a reply must be of; `object` where one look cannot tell."""
    while isinstance(info, types.Metadata):
        info = info.type
    if isinstance(info, types.StructType | types.DataclassType):
        return info.cls
    if isinstance(info, types.TypedDictType | types.DictType):
        return dict
    return object


def _named(kind: Any) -> str:
    return str(getattr(kind, "__name__", kind))


def _is_numpy(kind: Any) -> bool:
    return getattr(getattr(kind, "__origin__", kind), "__module__", "") == "numpy"


def _numpy(kind: Any, value: Any) -> Any:
    """An array or scalar of numpy in a request type, made from nested lists or a number, of the dtype declared."""
    numpy = sys.modules["numpy"]  # whoever wrote the annotation imported it
    origin = getattr(kind, "__origin__", kind)
    dtypes = [getattr(argument, "__args__", (None,))[0] for argument in getattr(kind, "__args__", ())[1:]]
    dtype = dtypes[0] if dtypes and isinstance(dtypes[0], type) else None
    try:
        with numpy.errstate(over="ignore"):  # seen as infinity below
            found = numpy.asarray(value, dtype=dtype) if origin is numpy.ndarray else kind(value)
    except (TypeError, OverflowError) as error:
        raise ValueError(str(error)) from error
    if found.dtype.kind in "OUS" or (found.dtype.kind == "f" and not numpy.isfinite(found).all()):
        raise ValueError("numbers are expected, in nested arrays of one shape and in the range of the dtype")
    return found


def _numpy_schema(kind: Any) -> schemas.Schema:
    return (
        {"type": "array"} if getattr(kind, "__origin__", kind) is sys.modules["numpy"].ndarray else {"type": "number"}
    )
