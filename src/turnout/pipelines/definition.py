"""Reads what an author declared: the signature of a `@pipeline` function as ports, params and types.

    first parameter            the request
    return annotation          the reply; AsyncIterator[T] of an async generator streams T
    keyword-only `Model[...]`  a model port; `Model | None = None` may stay unbound
    `**models: Model`          a port for any number of models, under the names the document gives
    other keyword-only         params

Called by `binding` and assembly. Pure: imports nothing, runs nothing of the author's.
"""

import collections.abc
import inspect
import types
import typing
from collections.abc import Mapping
from typing import Any

from msgspec import Struct

from turnout.authoring import Model, Pipeline
from turnout.errors import DocumentError, SpecError

REQUIRED: Any = inspect.Parameter.empty
"""Default of a param that has none."""

_STREAMS = (collections.abc.AsyncIterator, collections.abc.AsyncGenerator, collections.abc.AsyncIterable)


class Port(Struct, frozen=True, kw_only=True):
    """A place for a model.

    Attributes:
        name: The keyword.
        item: Declared type of an item, `Any` for a bare `Model`.
        answer: Declared type of its answer.
        optional: Whether it may stay unbound; the pipeline then gets None.
    """

    name: str
    item: Any = Any
    answer: Any = Any
    optional: bool = False

    def __str__(self) -> str:
        if self.item is Any and self.answer is Any:
            return f"{self.name}: Model"
        return f"{self.name}: Model[{named(self.item)}, {named(self.answer)}]"


class Param(Struct, frozen=True, kw_only=True):
    """A value the document may set.

    Attributes:
        kind: Declared type.
        default: `REQUIRED` when there is none.
    """

    name: str
    kind: Any = Any
    default: Any = REQUIRED

    def __str__(self) -> str:
        text = f"{self.name}: {named(self.kind)}"
        return text if self.default is REQUIRED else f"{text} = {self.default!r}"


class Definition(Struct, frozen=True, kw_only=True):
    """A pipeline function, read.

    Attributes:
        name: The function's name.
        function: What runs.
        request: Type of the request.
        reply: Type of the reply, or of one chunk.
        streams: Whether it is an async generator.
        models: Ports by keyword.
        params: By keyword.
        more: The port of `**models`; None without.
    """

    name: str
    function: Any
    request: Any
    reply: Any
    streams: bool
    models: Mapping[str, Port]
    params: Mapping[str, Param]
    more: Port | None = None


def named(kind: Any) -> str:
    """A type as its author wrote it, shortly."""
    if kind is None or kind is type(None):
        return "None"
    if isinstance(kind, type) and not typing.get_args(kind):
        return kind.__name__
    return str(kind).replace("typing.", "").replace("collections.abc.", "").replace("turnout.authoring.", "")


def define(pipeline: Any) -> Definition:
    """Read a pipeline.

    Raises:
        DocumentError: Everything wrong with the signature, each with what to write instead.
    """
    if not isinstance(pipeline, Pipeline):
        kind = (
            "a function without @pipeline"
            if inspect.isfunction(pipeline)
            else f"{type(pipeline).__name__}, not a pipeline"
        )
        raise DocumentError(
            [SpecError(f"code is {kind}.", hint="Write @pipeline (from turnout) above an async function.")]
        )
    return _Reading(pipeline).definition()


class _Reading:
    """One signature on its way to a Definition; collects every error."""

    def __init__(self, pipeline: Pipeline[Any, Any]) -> None:
        self.function = pipeline.function
        self.name = pipeline.name
        self.errors: list[SpecError] = []
        self.streams = inspect.isasyncgenfunction(self.function)
        self.models: dict[str, Port] = {}
        self.params: dict[str, Param] = {}
        self.more: Port | None = None

    def definition(self) -> Definition:
        if not self.streams and not inspect.iscoroutinefunction(self.function):
            self.refuse("it is not async.", "Write 'async def'; a plain function would block every other request.")
        hints = self._hints()
        parameters = list(inspect.signature(self.function).parameters.values())
        request = self._request(parameters, hints)
        reply = self._reply(hints)
        for parameter in parameters[1:]:
            self._parameter(parameter, hints)
        if self.errors:
            raise DocumentError(self.errors)
        return Definition(
            name=self.name,
            function=self.function,
            request=request,
            reply=reply,
            streams=self.streams,
            models=self.models,
            params=self.params,
            more=self.more,
        )

    def refuse(self, what: str, hint: str) -> None:
        self.errors.append(SpecError(f"pipeline function {self.name!r}: {what}", hint=hint))

    def _hints(self) -> dict[str, Any]:
        try:
            return typing.get_type_hints(self.function, include_extras=True)
        except (NameError, TypeError, AttributeError, SyntaxError) as error:
            self.refuse(
                f"its annotations cannot be resolved: {error}.",
                "Import or define the type at the top level of the module, not under TYPE_CHECKING or in a function.",
            )
            raise DocumentError(self.errors) from error

    def _request(self, parameters: list[inspect.Parameter], hints: dict[str, Any]) -> Any:
        first = parameters[0] if parameters else None
        if first is None or first.kind not in (first.POSITIONAL_ONLY, first.POSITIONAL_OR_KEYWORD):
            self.refuse(
                "it takes no request.",
                "Its first parameter is the request, before any '*': 'async def answer(chat: Chat, *, rank: Model)'.",
            )
            return Any
        if first.name not in hints:
            self.refuse(
                f"its request {first.name!r} has no type.",
                f"Annotate it: '{first.name}: Chat', or Inputs for whatever the model takes.",
            )
        kind = hints.get(first.name, Any)
        if _port(first.name, kind) is not None:
            self.refuse(
                f"its first parameter {first.name!r} is a model; it must be the request.", "Put models after '*'."
            )
        return kind

    def _reply(self, hints: dict[str, Any]) -> Any:
        if "return" not in hints:
            kind = "AsyncIterator[Chunk]" if self.streams else "Reply"
            self.refuse("its reply has no type.", f"Annotate the return value: '-> {kind}'.")
            return Any
        kind = hints["return"]
        streaming = typing.get_origin(kind) in _STREAMS or kind in _STREAMS
        if self.streams and not streaming:
            self.refuse(f"it yields, but declares '-> {named(kind)}'.", "Declare '-> AsyncIterator[Chunk]'.")
        if not self.streams and streaming:
            self.refuse(
                f"it declares '-> {named(kind)}' but does not yield.", "Yield the chunks in the function itself."
            )
        return next(iter(typing.get_args(kind)), Any) if streaming else kind

    def _parameter(self, parameter: inspect.Parameter, hints: dict[str, Any]) -> None:
        name = parameter.name
        port = _port(name, hints.get(name, Any))
        if parameter.kind is parameter.VAR_KEYWORD:
            if port is None:
                self.refuse(f"'**{name}' must be annotated Model.", f"Write '**{name}: Model', or name each param.")
            self.more = port
        elif parameter.kind is parameter.VAR_POSITIONAL:
            self.refuse(f"'*{name}' cannot be bound.", f"Take several models as '**{name}: Model'.")
        elif parameter.kind is not parameter.KEYWORD_ONLY:
            self.refuse(
                f"parameter {name!r} comes after the request but is not keyword-only.", f"Write '*' before {name!r}."
            )
        elif port is not None:
            if port.optional != (parameter.default is None):
                self.refuse(
                    f"model {name!r} has a default or is optional, but not both.",
                    f"Write '{name}: Model | None = None'.",
                )
            self.models[name] = port
        else:
            self.params[name] = Param(name=name, kind=hints.get(name, Any), default=parameter.default)


def _port(name: str, kind: Any) -> Port | None:
    """The port that an annotation declares; None when it is no model."""
    if typing.get_origin(kind) is typing.Annotated:
        kind = typing.get_args(kind)[0]
    optional = False
    if typing.get_origin(kind) in (typing.Union, types.UnionType):
        members = [each for each in typing.get_args(kind) if each is not type(None)]
        if len(members) != 1 or _port(name, members[0]) is None:
            return None
        kind, optional = members[0], True
    if kind is Model:
        return Port(name=name, optional=optional)
    if typing.get_origin(kind) is Model:
        item, answer = typing.get_args(kind)
        return Port(name=name, item=item, answer=answer, optional=optional)
    return None
