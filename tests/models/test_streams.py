"""Answers in chunks: bounded, cancellable, under the deadline, and in turn with plain calls."""

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from turnout import wire
from turnout.errors import DeadlineError, ModelError, OverloadError
from turnout.models import batcher, handle, host, instance
from turnout.runtimes import base, catalog

MakeHost = Callable[..., host.Host]


class Speaker:
    """Counts to the item; the test sees how far it got."""

    reached = 0
    closed = threading.Event()
    hang = threading.Event()

    def predict(self, items: list[int]) -> list[int]:
        return items

    def stream(self, item: int) -> Iterator[int]:
        try:
            for i in range(item):
                Speaker.reached = i + 1
                yield i
                if item == 99:
                    raise ValueError("lost the thread")
                if item == 77:
                    Speaker.hang.wait(30.0)
        finally:
            Speaker.closed.set()


@pytest.fixture
def speaker(make_host: MakeHost) -> Callable[..., host.Host]:
    Speaker.reached = 0
    Speaker.closed.clear()
    Speaker.hang.clear()
    artifact = base.Artifact(alias="rank", code=Speaker)
    return lambda **options: make_host(lambda: catalog.load("python")(artifact), **options)


def test_chunks_come_in_order_and_leave_one_step(speaker: MakeHost) -> None:
    async def run() -> None:
        loaded = speaker()
        await loaded.open()
        call = wire.Call("f" * 32, "p", time.monotonic() + 30.0)
        wire.current_call.set(call)
        speak = handle.Handle("speak", loaded)
        assert [chunk async for chunk in speak.stream(40)] == list(range(40))
        assert [(step.name, step.rows, step.error) for step in call.steps] == [("speak", 1, "")]
        assert call.steps[0].duration_s > 0.0
        await loaded.close(1.0)

    asyncio.run(run())


def test_plain_calls_and_streams_take_turns_on_one_instance(speaker: MakeHost) -> None:
    async def run() -> None:
        loaded = speaker()
        await loaded.open()
        speak = handle.Handle("speak", loaded)

        async def drawn(count: int) -> list[Any]:
            return [chunk async for chunk in speak.stream(count)]

        answers = await asyncio.gather(drawn(5), speak(7), drawn(6), speak.many([1, 2]))
        assert answers == [list(range(5)), 7, list(range(6)), [1, 2]]
        await loaded.close(1.0)

    asyncio.run(run())


def test_a_slow_reader_makes_the_model_wait(speaker: MakeHost) -> None:
    async def run() -> None:
        loaded = speaker()
        await loaded.open()
        chunks = loaded.stream(1000, time.monotonic() + 30.0)
        assert await anext(chunks) == 0
        deadline = time.monotonic() + 10.0
        while Speaker.reached < instance.CHUNKS and time.monotonic() < deadline:
            await asyncio.sleep(0.001)
        assert Speaker.reached <= instance.CHUNKS + 2
        await chunks.aclose()
        await loaded.close(1.0)

    asyncio.run(run())


def test_leaving_a_stream_ends_the_models_work(speaker: MakeHost) -> None:
    async def run() -> None:
        loaded = speaker()
        await loaded.open()
        call = wire.Call("f" * 32, "p", time.monotonic() + 30.0)
        wire.current_call.set(call)
        chunks = handle.Handle("speak", loaded).stream(1_000_000)
        assert await anext(chunks) == 0
        await chunks.aclose()  # type: ignore[attr-defined]
        assert await asyncio.to_thread(Speaker.closed.wait, 10.0)
        assert call.steps[0].error == "cancelled"
        assert (await loaded.submit(3, time.monotonic() + 30.0)).value == 3
        await loaded.close(1.0)

    asyncio.run(run())


def test_a_stream_that_raises_gives_what_it_had_then_the_error(speaker: MakeHost) -> None:
    async def run() -> None:
        loaded = speaker()
        await loaded.open()
        call = wire.Call("f" * 32, "p", time.monotonic() + 30.0)
        wire.current_call.set(call)
        chunks = handle.Handle("speak", loaded).stream(99)
        assert await anext(chunks) == 0
        with pytest.raises(ModelError, match="failed during a stream: ValueError: lost the thread"):
            await anext(chunks)
        assert call.steps[0].error == "model-failed"
        await loaded.close(1.0)

    asyncio.run(run())


def test_a_deadline_ends_a_stream(speaker: MakeHost) -> None:
    async def run() -> None:
        loaded = speaker()
        await loaded.open()
        chunks = loaded.stream(77, time.monotonic() + 0.05)
        assert await anext(chunks) == 0
        with pytest.raises(DeadlineError, match="the deadline passed during a stream") as caught:
            await anext(chunks)
        assert caught.value.stage == "rank"
        Speaker.hang.set()
        await loaded.close(1.0)

    asyncio.run(run())


def test_a_stuck_stream_is_answered_and_its_instance_replaced(speaker: MakeHost) -> None:
    async def run() -> None:
        loaded = speaker(timeout_s=0.05)
        await loaded.open()
        chunks = loaded.stream(77, time.monotonic() + 30.0)
        assert await anext(chunks) == 0
        with pytest.raises(DeadlineError, match="was given up"):
            await anext(chunks)
        assert (await loaded.submit(3, time.monotonic() + 30.0)).value == 3
        Speaker.hang.set()
        await loaded.close(1.0)

    asyncio.run(run())


def test_as_many_streams_wait_as_rows_may(speaker: MakeHost) -> None:
    async def run() -> None:
        loaded = speaker(batching=batcher.Batching(max_queue_rows=1))
        await loaded.open()
        running = loaded.stream(77, time.monotonic() + 30.0)
        assert await anext(running) == 0
        waiting = asyncio.ensure_future(anext(loaded.stream(1, time.monotonic() + 30.0)))
        await asyncio.sleep(0)
        with pytest.raises(OverloadError, match="1 streams waiting"):
            await anext(loaded.stream(1, time.monotonic() + 30.0))
        Speaker.hang.set()
        await running.aclose()
        assert await waiting == 0
        await loaded.close(1.0)

    asyncio.run(run())


def test_a_model_without_streams_says_what_to_do(make_host: MakeHost, scripted: Any) -> None:
    async def run() -> None:
        loaded = make_host(lambda: scripted(lambda rows: rows))
        await loaded.open()
        with pytest.raises(ModelError, match="gives no streams") as caught:
            await anext(loaded.stream(1, time.monotonic() + 30.0))
        assert "stream(self, item)" in caught.value.hint
        await loaded.close(1.0)

    asyncio.run(run())
