"""Typed models as authors write them. mypy --strict checks this file (`make check`).

The lines that must not type-check carry the error mypy gives for them; were one accepted,
mypy would call its `type: ignore` unused, which is an error too. Running the file only
shows that it imports.
"""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any, TypedDict

import msgspec

from turnout import Inputs, Match, Model, Outputs, Pipeline, Query, pipeline
from turnout.pipelines import builtin, definition


@dataclass
class Chat:
    text: str


class Reply(msgspec.Struct):
    text: str
    score: float


class Features(TypedDict):
    length: float


@pipeline
async def reply(
    chat: Chat,
    *,
    embed: Model[str, list[float]],
    index: Model[Query, list[Match]],
    rank: Model[Features, float] | None = None,
    top_k: int = 20,
) -> Reply:
    vector = await embed(chat.text)
    found = await index(Query(vector, top_k))
    if rank is None:
        return Reply(str(found[0].payload["text"]), found[0].score)
    scores = await rank.many([Features(length=float(len(chat.text))) for _ in found])
    return Reply("", max(scores))


@pipeline
async def words(chat: Chat, *, speak: Model[str, str]) -> AsyncIterator[Reply]:
    async for word in speak.stream(chat.text):
        yield Reply(str(word), 0.0)


@pipeline
async def wrong(chat: Chat, *, embed: Model[str, list[float]], rank: Model[Features, float]) -> Reply:
    vector = await embed(chat)  # type: ignore[arg-type]
    await embed(vector)  # type: ignore[arg-type]
    text: str = await embed("a")  # type: ignore[assignment]
    await embed.many("a", "b")  # type: ignore[call-arg]
    score = await rank({"lenght": 1.0})  # type: ignore[typeddict-item]
    texts: list[str] = await rank.many([])  # type: ignore[assignment]
    Query(vector, "3")  # type: ignore[arg-type]
    return Reply(score, text + texts[0])  # type: ignore[arg-type]


@pipeline  # type: ignore[arg-type]
def not_async(chat: Chat) -> Reply:
    return Reply(chat.text, 0.0)


class Length:
    """A model double for tests: any class with these three methods is a Model[str, float]."""

    async def __call__(self, item: str) -> float:
        return float(len(item))

    async def many(self, items: object) -> list[float]:
        return [0.0]

    def stream(self, item: str) -> AsyncIterator[object]:
        raise NotImplementedError


double: Model[str, float] = Length()
mistaken: Model[int, float] = Length()  # type: ignore[assignment]


async def in_a_test() -> None:
    answer: Reply = await reply(Chat("a"), embed=mistaken, index=mistaken)  # type: ignore[arg-type]
    outputs: Outputs = await builtin.predict(Inputs(x=[1.0]), model=double)  # type: ignore[arg-type]
    await reply(Chat("a"), embd=double)  # type: ignore[call-arg]
    assert answer.text
    assert outputs


def test_typed_pipelines_are_read_as_declared() -> None:
    made: Pipeline[Any, Any] = reply
    found = definition.define(made)
    assert [str(port) for port in found.models.values()] == [
        "embed: Model[str, list[float]]",
        "index: Model[Query, list[Match]]",
        "rank: Model[Features, float]",
    ]
    assert definition.define(words).reply is Reply
