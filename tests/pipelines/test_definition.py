"""What the signature of a pipeline function declares, and what is wrong with the others."""

from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from tests.pipelines import wrong_pipelines

from turnout.authoring import Model, Pipeline, pipeline
from turnout.errors import DocumentError
from turnout.pipelines import definition


class Chat:
    text: str


class Reply:
    text: str


@pipeline
async def answer(
    chat: Chat,
    *,
    embed: Model[str, list[float]],
    rank: Model,  # type: ignore[type-arg]
    spare: Model[str, str] | None = None,
    top_k: int,
    name: str = "x",
    **more: Model[str, float],
) -> Reply:
    return Reply()


def test_ports_and_params_are_read_from_the_keywords() -> None:
    found = definition.define(answer)
    assert (found.name, found.request, found.reply, found.streams) == ("answer", Chat, Reply, False)
    assert [str(port) for port in found.models.values()] == [
        "embed: Model[str, list[float]]",
        "rank: Model",
        "spare: Model[str, str]",
    ]
    assert [port.optional for port in found.models.values()] == [False, False, True]
    assert [str(param) for param in found.params.values()] == ["top_k: int", "name: str = 'x'"]
    assert str(found.more) == "more: Model[str, float]"


@pipeline
async def words(chat: Chat) -> AsyncIterator[Reply]:
    yield Reply()


def test_async_generator_streams_its_chunks() -> None:
    found = definition.define(words)
    assert found.streams
    assert found.reply is Reply


@pytest.mark.parametrize(
    ("function", "what", "hint"),
    [
        (wrong_pipelines.no_request, "takes no request", "first parameter"),
        (wrong_pipelines.no_request_type, "'chat' has no type", "chat: Chat"),
        (wrong_pipelines.no_reply_type, "reply has no type", "-> Reply"),
        (wrong_pipelines.model_first, "'rank' is a model", "after '*'"),
        (wrong_pipelines.positional, "'top_k' comes after the request", "'*' before 'top_k'"),
        (wrong_pipelines.stars, "'*rest' cannot be bound", "**rest: Model"),
        (wrong_pipelines.stray_keywords, "'**params' must be annotated Model", "name each param"),
        (wrong_pipelines.unresolved, "'Missing' is not defined", "top level"),
        (wrong_pipelines.half_optional, "'rank' has a default or is optional, but not both", "Model | None = None"),
        (wrong_pipelines.half_default, "'rank' has a default or is optional, but not both", "Model | None = None"),
        (wrong_pipelines.silent_stream, "does not yield", "in the function itself"),
        (wrong_pipelines.loud_value, "it yields, but declares '-> Reply'", "AsyncIterator"),
        (wrong_pipelines.plain, "not async", "async def"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_signature_that_cannot_be_bound_says_what_to_write(function: Callable[..., Any], what: str, hint: str) -> None:
    with pytest.raises(DocumentError) as caught:
        definition.define(Pipeline(function))
    (error,) = caught.value.errors
    assert f"pipeline function {function.__name__!r}" in error.message
    assert what in error.message
    assert hint in error.hint


def test_all_errors_of_a_signature_come_together() -> None:
    with pytest.raises(DocumentError) as caught:
        definition.define(Pipeline(wrong_pipelines.several))
    assert len(caught.value.errors) == 5


@pytest.mark.parametrize(
    ("thing", "what"), [(wrong_pipelines.positional, "without @pipeline"), (3, "int, not a pipeline")]
)
def test_anything_but_a_pipeline_is_refused(thing: Any, what: str) -> None:
    with pytest.raises(DocumentError, match=what):
        definition.define(thing)
