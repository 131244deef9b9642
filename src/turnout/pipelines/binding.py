"""Joins a definition with the models and params of the document: a BoundPipeline that can run.

Everything that can be wrong between the two is found here, once, so that running checks
nothing. Called by assembly, which adds file and line to the errors; calls `definition`
and `codec`.
"""

import functools
import typing
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import msgspec

from turnout.authoring import Inputs, Model, Outputs, Query
from turnout.errors import DocumentError, InputError, SpecError, did_you_mean
from turnout.pipelines import alarm, codec, definition
from turnout.wire import Signature


class BoundPipeline:
    """A pipeline with everything it needs.

    Attributes:
        name: Name in the document.
        definition: What its author declared.
        start: Calls the author's function with a request; returns a coroutine or an async generator.
        request: Codec of the request.
        reply: Codec of the reply, or of one chunk.
        models: "alias@version" of every bound model, in the order of the ports.
        steps: The port that holds each model, by the model's alias; for errors.
        streams: Whether it answers chunk by chunk.
        clock: Deadlines of the runs under way.
    """

    __slots__ = ("clock", "definition", "encode", "models", "name", "reply", "request", "start", "steps", "streams")

    def __init__(
        self,
        name: str,
        declared: definition.Definition,
        *,
        models: Mapping[str, Model[Any, Any] | None],
        params: Mapping[str, Any],
        request: codec.Codec,
        reply: codec.Codec,
    ) -> None:
        self.name = name
        self.definition = declared
        self.clock = alarm.Clock()
        self.start: Callable[[Any], Any] = functools.partial(declared.function, **models, **params)
        self.request = request
        self.reply = reply
        self.encode: Callable[[Any], bytes] = reply.encode
        self.streams = declared.streams
        bound = {port: model for port, model in models.items() if model is not None}
        self.models = tuple(dict.fromkeys(_identity(port, model) for port, model in bound.items()))
        self.steps = {str(getattr(model, "model", port)): port for port, model in bound.items()}

    def __repr__(self) -> str:
        return f"<bound pipeline {self.name!r}>"


def bind(  # noqa: PLR0913  # all that the document says of one pipeline
    name: str,
    declared: definition.Definition,
    models: Mapping[str, Model[Any, Any]],
    *,
    params: Mapping[str, Any],
    signatures: Mapping[str, Signature | None],
    filled: frozenset[str] = frozenset(),
    extra_request_fields: frozenset[str] = frozenset(),
    extra_fields: str = "forbid",
) -> BoundPipeline:
    """Bind a definition under a name.

    Args:
        name: The pipeline's key in the document.
        declared: As `definition.define` read it.
        models: Handles by port name.
        params: Values by param name, as the document has them.
        signatures: By port name; None or absent when the model does not say. `Inputs` of such a model
            are any JSON object, given to it whole.
        filled: Names of params that hold what `${NAME}` or `secret:NAME` stood for; messages keep their values back.
        extra_request_fields: Top-level fields allowed beside the request type's own, such as the endpoint's unit.
        extra_fields: The endpoint's word on unknown request fields: "forbid" or "ignore".

    Raises:
        DocumentError: Every mismatch, each with a path relative to the pipeline's key, such as "params.top_k".
    """
    binding = _Binding(name, declared)
    ports = binding.ports(models)
    values = binding.values(params, filled)
    binding.fit(ports, signatures)
    request = binding.codec("request", signatures, ports, extra_fields=extra_fields, extra_names=extra_request_fields)
    reply = binding.codec("reply", signatures, ports, extra_fields="forbid", extra_names=frozenset())
    if binding.errors or request is None or reply is None:
        raise DocumentError(binding.errors)
    optional: dict[str, Model[Any, Any] | None] = dict.fromkeys(declared.models)
    return BoundPipeline(name, declared, models=optional | dict(models), params=values, request=request, reply=reply)


class _Binding:
    """One attempt to bind; collects every error."""

    def __init__(self, name: str, declared: definition.Definition) -> None:
        self.name = name
        self.declared = declared
        self.errors: list[SpecError] = []

    def refuse(self, path: str, what: str, hint: str = "") -> None:
        self.errors.append(SpecError(f"pipeline {self.name!r}: {what}", path=path, hint=hint))

    def ports(self, models: Mapping[str, Any]) -> dict[str, definition.Port]:
        """The port of each bound model that has one."""
        declared = self.declared
        for port in declared.models.values():
            if port.name not in models and not port.optional:
                self.refuse(
                    "models",
                    f"model {port.name!r} is not bound; the code declares '{port}'.",
                    f"Add '{port.name}: <model>' under models.",
                )
        found: dict[str, definition.Port] = {}
        for name in models:
            if name in declared.models:
                found[name] = declared.models[name]
            elif declared.more is not None and name not in declared.params:
                found[name] = msgspec.structs.replace(declared.more, name=name)
            else:
                self.refuse(
                    f"models.{name}",
                    f"the code has no model {name!r}.",
                    self._near(name, declared.models, declared.params, "param"),
                )
        if declared.more is not None and len(found) <= sum(name in found for name in declared.models):
            self.refuse(
                "models",
                f"no models are bound for '**{declared.more.name}'.",
                "Bind at least one, under a name of your choice.",
            )
        return found

    def values(self, params: Mapping[str, Any], filled: frozenset[str]) -> dict[str, Any]:
        """The params as the code gets them, converted to their declared types."""
        declared = self.declared
        for param in declared.params.values():
            if param.default is definition.REQUIRED and param.name not in params:
                self.refuse(
                    "params",
                    f"param {param.name!r} is not set; the code declares '{param}'.",
                    f"Add '{param.name}: <value>' under params.",
                )
        found: dict[str, Any] = {}
        for name, value in params.items():
            if name not in declared.params:
                self.refuse(
                    f"params.{name}",
                    f"the code has no param {name!r}.",
                    self._near(name, declared.params, declared.models, "model"),
                )
                continue
            param = declared.params[name]
            try:
                found[name] = (
                    codec.of(param.kind).decode(msgspec.json.encode(value)) if param.kind is not Any else value
                )
            except InputError as error:
                if name in filled:
                    told = f"param {name!r} does not fit as it was filled in; the code declares '{param}'."
                    self.refuse(f"params.{name}", told, "A reference always gives text; what it gave is not shown.")
                    continue
                place = f"params.{name}{'.' if error.path[:1] not in ('', '[') else ''}{error.path}"
                self.refuse(
                    place, f"param {name!r} is {value!r}; the code declares '{param}'. {_reason(error)}", error.hint
                )
            except (SpecError, TypeError) as error:
                self.refuse(f"params.{name}", f"param {name!r} cannot be set from a document: {error}")
        return found

    def _near(self, name: str, valid: Mapping[str, Any], other: Mapping[str, Any], kind: str) -> str:
        if name in other:
            return f"{name!r} is a {kind}; move it under {kind}s."
        return did_you_mean(name, valid, f"It has: {', '.join(sorted(valid))}." if valid else "It has none.")

    def fit(self, ports: Mapping[str, definition.Port], signatures: Mapping[str, Signature | None]) -> None:
        """Declared item types against what the models say they take."""
        for name, port in ports.items():
            signature = signatures.get(name)
            if signature is None:
                continue
            reason = _unfit(port, signature)
            if reason:
                self.refuse(
                    f"models.{name}",
                    f"the code declares '{port}', but the model takes {_tensors(signature.inputs)} "
                    f"and gives {_tensors(signature.outputs)}: {reason}.",
                    "Bind another model, or change the port's types.",
                )

    def codec(
        self,
        side: str,
        signatures: Mapping[str, Signature | None],
        ports: Mapping[str, definition.Port],
        *,
        extra_fields: str,
        extra_names: frozenset[str],
    ) -> codec.Codec | None:
        """The codec of the request or the reply; None when an error was noted."""
        kind = self.declared.request if side == "request" else self.declared.reply
        try:
            if kind not in (Inputs, Outputs):
                return codec.of(kind, extra_fields=extra_fields, extra_names=extra_names, pipeline=self.name)
            signature = self._signature(kind, side, ports, signatures)
            if signature is None:
                return codec.of(dict[str, Any], extra_fields="ignore", pipeline=self.name)
            specs = signature.inputs if kind is Inputs else signature.outputs
            return codec.tensors(specs, extra_fields=extra_fields, extra_names=extra_names, pipeline=self.name)
        except SpecError as error:
            self.refuse("code", f"its {side} type: {error.message}", error.hint)
            return None

    def _signature(
        self, kind: Any, side: str, ports: Mapping[str, definition.Port], signatures: Mapping[str, Signature | None]
    ) -> Signature | None:
        """The signature that stands for Inputs or Outputs; None when its model does not say what it takes."""
        typed = [name for name, port in ports.items() if (port.item if kind is Inputs else port.answer) is kind]
        names = typed or list(ports)
        if not names:
            return None
        known = [signatures.get(name) for name in names]
        sides = [None if each is None else each.inputs if kind is Inputs else each.outputs for each in known]
        for name, other in zip(names[1:], sides[1:], strict=True):
            if other != sides[0]:
                self.refuse(
                    f"models.{name}",
                    f"its {side} is {kind.__name__}, so all models must agree; "
                    f"{names[0]!r} has {_tensors(sides[0])}, {name!r} has {_tensors(other)}.",
                    "Bind models with one signature, or write a pipeline with a type of its own.",
                )
        return known[0]


def _unfit(port: definition.Port, signature: Signature) -> str:
    """Why a declared item type cannot be what the model takes; "" when it may."""
    item = typing.get_origin(port.item) or port.item
    if item in (Any, Inputs, object) or isinstance(item, typing.TypeVar):
        return ""
    if item is Query:
        return "a Query is for vector indexes"
    many = len(signature.inputs) != 1
    if isinstance(item, type) and issubclass(item, Mapping):
        return ""
    if many:
        return f"an item must name its {len(signature.inputs)} inputs, as a dict"
    only = signature.inputs[0]
    text = item is str
    if text and only.dtype != "BYTES":
        return f"text is no {only.dtype}"
    if item in (int, float, bool) and (only.dtype == "BYTES" or only.shape not in ((), (1,), (-1,))):
        return f"one number is no {only.dtype}{list(only.shape)}"
    return ""


def _tensors(specs: Iterable[Any] | None) -> str:
    return "an unknown signature" if specs is None else ", ".join(map(str, specs)) or "nothing"


def _reason(error: InputError) -> str:
    _, _, reason = error.message.partition("; ")
    return reason[:1].upper() + reason[1:] if reason else error.message


def _identity(port: str, model: Any) -> str:
    alias = getattr(model, "model", port)
    version = getattr(model, "version", "")
    return f"{alias}@{version}" if version else str(alias)
