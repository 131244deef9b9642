"""Work that nobody waits for gives way: its rows enter a queue only while little waits there."""

import asyncio
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from turnout.errors import OverloadError
from turnout.models import batcher, handle, host


def test_while_half_a_batch_waits_a_shy_call_is_refused_and_any_other_taken(
    make_host: Callable[..., host.Host], scripted: type
) -> None:
    gate, began = threading.Event(), threading.Event()

    def predict(rows: list[Any]) -> list[Any]:
        began.set()
        gate.wait(20)
        return rows

    async def run() -> None:
        loaded = make_host(lambda: scripted(predict), batching=batcher.Batching(max_rows=8))
        await loaded.open()
        shy, plain = handle.ShyHandle("score", loaded), handle.Handle("score", loaded)
        at_work = asyncio.ensure_future(plain(0))
        await asyncio.to_thread(began.wait, 20)
        waiting = [asyncio.ensure_future(plain(number)) for number in range(3)]
        await asyncio.sleep(0)
        welcome = asyncio.ensure_future(shy(3))  # three wait, half a batch is four
        await asyncio.sleep(0)
        with pytest.raises(OverloadError, match="'rank' is busy"):
            await shy(4)
        with pytest.raises(OverloadError):
            await shy.many([4, 5])
        waiting.append(asyncio.ensure_future(plain(5)))
        await asyncio.sleep(0)
        gate.set()
        assert await asyncio.gather(at_work, *waiting, welcome) == [0, 0, 1, 2, 5, 3]
        await loaded.close(1.0)

    asyncio.run(run())


def test_many_rows_of_a_shy_call_go_half_a_batch_at_a_time(make_host: Callable[..., host.Host], scripted: type) -> None:
    sizes: list[int] = []

    def predict(rows: list[Any]) -> list[Any]:
        sizes.append(len(rows))
        return [row * 2 for row in rows]

    async def run() -> None:
        loaded = make_host(lambda: scripted(predict), batching=batcher.Batching(max_rows=8, max_queue_rows=16))
        await loaded.open()
        found = await handle.ShyHandle("score", loaded).many(list(range(100)))
        assert found == [2 * number for number in range(100)]
        assert max(sizes) <= 4
        await loaded.close(1.0)

    asyncio.run(run())


def test_a_model_that_takes_rows_one_by_one_takes_a_shy_one_when_it_is_free(
    make_host: Callable[..., host.Host], scripted: type
) -> None:
    async def run() -> None:
        loaded = make_host(lambda: scripted(lambda rows: rows), batching=batcher.Batching(max_rows=1))
        await loaded.open()
        assert await handle.ShyHandle("score", loaded)(7) == 7
        assert loaded.submit(1, time.monotonic() + 9.0) is not None
        with pytest.raises(OverloadError):
            await handle.ShyHandle("score", loaded)(8)
        await loaded.close(1.0)

    asyncio.run(run())
