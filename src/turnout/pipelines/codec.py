"""What turns a body into a pipeline's request and a reply into a body.

`of` chooses by type; `tensors` is the codec of `Inputs` and `Outputs`. pydantic is
touched only if the user's own type contains one of its models. Called by `binding`;
calls `typed`, `tensors`, `pydantic_codec` (the last two by name).
"""

import importlib
import sys
import typing
from typing import Any, Protocol

import msgspec

from turnout.errors import SpecError
from turnout.pipelines import schemas, typed
from turnout.wire import TensorSpec


class Codec(Protocol):
    """JSON to and from one type.

    Attributes:
        name: The type as people read it.
        kind: The Python type.
    """

    name: str
    kind: Any

    def decode(self, body: bytes) -> Any:
        """The value in `body`.

        Raises:
            InputError: It does not fit; `.path` names the field, `.kind` is "syntax" if it is not even JSON.
        """
        ...

    def encode(self, value: Any) -> bytes:
        """JSON of a value.

        Raises:
            StepError: The pipeline's author returned what its type does not allow.
        """
        ...

    def json_schema(self, ref_template: str = "#/$defs/{name}") -> schemas.Schema:
        """JSON Schema 2020-12 (as OpenAPI 3.1 uses); types it refers to are under "$defs"."""
        ...

    def example(self) -> Any:
        """A small valid body as JSON-able value."""
        ...


def of(
    kind: Any, *, extra_fields: str = "forbid", extra_names: frozenset[str] = frozenset(), pipeline: str = ""
) -> Codec:
    """The codec of a type: dataclass, TypedDict, msgspec Struct, pydantic model, builtins and unions of them.

    Args:
        kind: The type.
        extra_fields: "forbid" refuses unknown fields at every level, "ignore" leaves them to the type.
        extra_names: Names allowed at the top level though the type does not have them.
        pipeline: Who encodes with it, for errors.

    Raises:
        SpecError: The type has no form in JSON.
    """
    try:
        if _has_pydantic(kind):
            made: Codec = importlib.import_module("turnout.pipelines.pydantic_codec").PydanticCodec(
                kind, extra_fields=extra_fields, extra_names=extra_names, pipeline=pipeline
            )
            return made
        return typed.TypedCodec(kind, extra_fields=extra_fields, extra_names=extra_names, pipeline=pipeline)
    except (TypeError, NotImplementedError, NameError) as error:
        raise SpecError(
            f"type {getattr(kind, '__name__', kind)!r} has no form in JSON: {error}",
            hint="Use a dataclass, a TypedDict, a msgspec Struct, a pydantic model, or builtin types.",
        ) from error


def tensors(
    specs: tuple[TensorSpec, ...],
    *,
    extra_fields: str = "forbid",
    extra_names: frozenset[str] = frozenset(),
    pipeline: str = "",
) -> Codec:
    """The codec of named tensors; imports numpy.

    Raises:
        SpecError: A dtype has no form in JSON.
    """
    made: Codec = importlib.import_module("turnout.pipelines.tensors").TensorCodec(
        specs, extra_fields=extra_fields, extra_names=extra_names, pipeline=pipeline
    )
    return made


def _has_pydantic(kind: Any) -> bool:
    """Whether a pydantic model stands anywhere in the type; False without a look if pydantic was never imported."""
    pydantic = sys.modules.get("pydantic")
    if pydantic is None:
        return False
    seen: list[Any] = []
    pending = [kind]
    while pending:
        node = pending.pop()
        if any(node is other for other in seen):
            continue
        seen.append(node)
        if isinstance(node, type) and issubclass(node, pydantic.BaseModel):
            return True
        if hasattr(node, "__pydantic_core_schema__"):  # pydantic's own dataclasses
            return True
        pending.extend(typing.get_args(node))
        if isinstance(node, type) and getattr(node, "__annotations__", None) and not issubclass(node, msgspec.Struct):
            pending.extend(typing.get_type_hints(node).values())
    return False
