"""What authors of models and pipelines write with; the root re-exports this and nothing else.

A pipeline is an async function. Its first parameter is the request, its keyword-only
parameters are bound by the document: those annotated `Model` to models, all others to
`params`. Nothing here runs anything; `pipelines/` reads the marks left here.
"""

from collections.abc import AsyncIterator, Callable, Coroutine, Mapping, Sequence
from typing import Any, Generic, ParamSpec, Protocol, TypeAlias, TypeVar, overload

from msgspec import Struct

In = TypeVar("In", contravariant=True)
Out = TypeVar("Out")
P = ParamSpec("P")
Vector: TypeAlias = Any
"""A numpy array of shape [dimensions] or a list of floats; numpy is not imported here, to keep start-up small."""

R = TypeVar("R")


class Model(Protocol, Generic[In, Out]):
    """A bound model. Batching across requests happens behind both calls."""

    async def __call__(self, item: In) -> Out:
        """Score one item.

        Raises:
            ModelError: The model raised on this item, or answered nonsense.
            OverloadError: Its queue is full.
            DeadlineError: The request's time ran out while waiting.
        """
        ...

    async def many(self, items: Sequence[In]) -> list[Out]:
        """Score several items; answers in the order of the items. One bad item fails the call."""
        ...

    def stream(self, item: In) -> AsyncIterator[Any]:
        """Chunks of one answer as they come, for models that produce them."""
        ...


class Pipeline(Generic[P, R]):
    """A function marked by `@pipeline`. Calling it runs the function, so tests need no server.

    Attributes:
        function: The author's async function or async generator.
        name: Its name, for messages; the document names the bound pipeline.
    """

    def __init__(self, function: Callable[P, R]) -> None:
        self.function = function
        self.name = getattr(function, "__name__", "pipeline")
        self.__doc__ = function.__doc__
        self.__module__ = function.__module__
        self.__wrapped__ = function

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        return self.function(*args, **kwargs)

    def __repr__(self) -> str:
        return f"<pipeline {self.__module__}:{self.name}>"


@overload
def pipeline(function: Callable[P, Coroutine[Any, Any, R]]) -> Pipeline[P, Coroutine[Any, Any, R]]: ...
@overload
def pipeline(function: Callable[P, AsyncIterator[R]]) -> Pipeline[P, AsyncIterator[R]]: ...
def pipeline(function: Callable[P, Any]) -> Pipeline[P, Any]:
    """Mark an async function (or async generator) as a pipeline.

    The first parameter is the request; its type and the return type may be dataclasses,
    TypedDicts, msgspec Structs or pydantic models. Keyword-only parameters annotated
    `Model` or `Model[In, Out]` are models, all others are params and may have defaults.

    >>> from dataclasses import dataclass
    >>> @dataclass
    ... class Number:
    ...     value: float
    >>> @pipeline
    ... async def double(number: Number, *, factor: float = 2.0) -> Number:
    ...     return Number(number.value * factor)
    >>> double.name
    'double'
    """
    return Pipeline(function)


class Inputs(dict[str, Any]):
    """Request type of a pipeline that takes exactly what its one bound model takes: input name to value.

    Binding replaces it by the bound model's own signature, so that the endpoint's contract,
    OpenAPI and errors name the model's real inputs.
    """


class Outputs(dict[str, Any]):
    """Reply type that is exactly what the bound model gives: output name to value."""


class Query(Struct, frozen=True):
    """A question to a vector index.

    Attributes:
        vector: Shape [dimensions], any float dtype.
        count: How many neighbours to return, at least 1.
    """

    vector: Vector
    count: int = 10


class Match(Struct, frozen=True):
    """One neighbour found by a vector index.

    Attributes:
        id: Row number in the index's source, from 0.
        score: Similarity, higher is nearer (cosine or inner product), or negative distance.
        payload: The columns stored beside the vector, such as {"text": "..."}.
        vector: The stored vector, shape [dimensions], when the index keeps it.
    """

    id: int
    score: float
    payload: Mapping[str, Any]
    vector: Vector | None = None


__all__ = ["Inputs", "Match", "Model", "Outputs", "Pipeline", "Query", "pipeline"]
