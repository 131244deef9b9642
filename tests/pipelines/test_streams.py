"""Pipelines that answer chunk by chunk."""

import asyncio
import logging
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import pytest

from turnout import wire
from turnout.authoring import pipeline
from turnout.errors import DeadlineError, StepError
from turnout.pipelines import binding, definition, runner


@dataclass
class Ask:
    count: int


@dataclass
class Chunk:
    number: float


closed: list[str] = []


@pipeline
async def counting(ask: Ask, *, fail_at: int = -1, wait_at: int = -1) -> AsyncIterator[Chunk]:
    try:
        for number in range(ask.count):
            if number == fail_at:
                raise ValueError("no more")
            if number == wait_at:
                await asyncio.Event().wait()
            assert wire.current_call.get() is not None
            yield Chunk(number)
    finally:
        closed.append("closed")


def bound(**params: Any) -> binding.BoundPipeline:
    closed.clear()
    return binding.bind("count", definition.define(counting), {}, params=params, signatures={})


async def opened(count: int, within_s: float = 30.0, **params: Any) -> runner.Stream:
    call = wire.Call("0" * 32, "count", time.monotonic() + within_s)
    stream = await runner.run(bound(**params), Ask(count), call)
    assert isinstance(stream, runner.Stream)
    assert wire.current_call.get() is None
    return stream


def test_chunks_come_encoded_one_by_one() -> None:
    async def main() -> None:
        stream = await opened(3)
        assert [chunk async for chunk in stream] == [b'{"number":0}', b'{"number":1}', b'{"number":2}']
        assert (stream.error, stream.chunks, closed) == (None, 3, ["closed"])

    asyncio.run(main())


def test_empty_stream_has_no_chunks() -> None:
    async def main() -> None:
        assert [chunk async for chunk in await opened(0)] == []

    asyncio.run(main())


def test_failure_before_the_first_chunk_is_raised_by_run_so_that_another_may_answer() -> None:
    async def main() -> None:
        with pytest.raises(StepError, match="no more"):
            await opened(3, fail_at=0)
        assert closed == ["closed"]

    asyncio.run(main())


def test_failure_after_the_first_chunk_is_raised_by_the_stream_and_kept() -> None:
    async def main() -> None:
        stream = await opened(3, fail_at=2)
        chunks = []
        caught: StepError | None = None
        try:
            async for chunk in stream:
                chunks.append(chunk)  # noqa: PERF401 - what came before the failure counts
        except StepError as error:
            caught = error
        assert len(chunks) == stream.chunks == 2
        assert "no more" in str(caught)
        assert stream.error is caught

    asyncio.run(main())


@pytest.mark.parametrize("wait_at", [0, 1])
def test_deadline_ends_a_stream_wherever_it_waits(wait_at: int) -> None:
    async def main() -> None:
        with pytest.raises(DeadlineError):
            async for _ in await opened(3, 0.02, wait_at=wait_at):
                pass
        assert closed == ["closed"]

    asyncio.run(main())


def test_closing_early_runs_the_authors_finally_once() -> None:
    async def main() -> None:
        stream = await opened(3)
        await anext(stream)
        await stream.aclose()
        await stream.aclose()
        assert closed == ["closed"]
        assert [chunk async for chunk in stream] == []

    asyncio.run(main())


@pipeline
async def clinging(ask: Ask) -> AsyncIterator[Chunk]:
    try:
        yield Chunk(1)
        yield Chunk(2)
    finally:
        raise OSError("cannot let go")


def test_author_who_fails_while_closing_is_logged_and_harms_nobody(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        made = binding.bind("cling", definition.define(clinging), {}, params={}, signatures={})
        stream = await runner.run(made, Ask(1), wire.Call("0" * 32, "cling", time.monotonic() + 9))
        with caplog.at_level(logging.ERROR):
            await stream.aclose()

    asyncio.run(main())
    assert "cannot let go" in caplog.text
    assert "'cling'" in caplog.text


@pipeline
async def nothing_sensible(ask: Ask) -> AsyncIterator[Chunk]:
    yield Chunk(1)
    yield Chunk(float("nan"))


def test_chunk_that_json_cannot_say_is_a_step_error() -> None:
    async def main() -> None:
        made = binding.bind("odd", definition.define(nothing_sensible), {}, params={}, signatures={})
        stream = await runner.run(made, Ask(1), wire.Call("0" * 32, "odd", time.monotonic() + 9))
        with pytest.raises(StepError, match="number: it is NaN"):
            async for _ in stream:
                pass

    asyncio.run(main())
