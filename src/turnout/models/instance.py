"""One loaded copy of a model and the thread it lives in. Made and watched by `host`.

Everything that may block (imports, loading, computing, unloading) happens in that thread, in
the order it was asked for. The thread is a daemon: a call that never returns cannot keep the
process from ending.
"""

import asyncio
import collections
import contextlib
import logging
import math
import os
import queue
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

from turnout.models import work
from turnout.runtimes import base

log = logging.getLogger("turnout.models")

T = TypeVar("T")

CHUNKS = 16
"""Chunks of a stream that wait for a slow reader before the model waits, too."""

END: Any = object()
"""Comes after the last chunk of a stream."""


class Instance:
    """A runtime and its thread.

    Attributes:
        runtime: The loaded copy; None before `load` and after `unload`.
        idle: Whether the thread waits for work. Written on the loop only.
        busy_since: When the call into the model began that runs now; None while none runs.
        batch: The batch that runs now.
        stream: The stream that runs now.
        retired: Set when the thread is given up: it ends when its call comes back, if it does.
    """

    def __init__(self, factory: Callable[[], base.Runtime], *, name: str, clock: work.Clock) -> None:
        self.runtime: base.Runtime | None = None
        self.idle = False
        self.busy_since: float | None = None
        self.batch: work.Batch | None = None
        self.stream: Stream | None = None
        self.retired = False
        self._factory = factory
        self._clock = clock
        self._loop = asyncio.get_running_loop()
        self._inbox: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._work, name=f"turnout-{name}", daemon=True)
        self._thread.start()

    def _work(self) -> None:
        while (job := self._inbox.get()) is not None and not self.retired:
            try:
                job()
            except BaseException:  # a border: what a job lets through would end the thread with its rows unanswered
                log.exception("%s: its thread cannot go on", self._thread.name)
                self.busy_since = -math.inf  # stuck for ever: the watch answers its rows and replaces it
                break
        self.runtime = None

    def post(self, callback: Callable[..., object], *args: object) -> None:
        """Call back on the loop; nothing happens when the loop is closed."""
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(callback, *args)

    async def ask(self, function: Callable[[], T]) -> T:
        """Run `function` in the instance's thread and wait for it.

        Cancellation: the function runs to its end, its result is dropped.
        """
        future: asyncio.Future[T] = self._loop.create_future()

        def job() -> None:
            try:
                result = function()
            except BaseException as error:  # noqa: BLE001 - a border: handed to who asked
                self.post(_settle, future, None, _carried(error))
            else:
                self.post(_settle, future, result, None)

        self._inbox.put(job)
        return await future

    def tell(self, job: Callable[[], None]) -> None:
        """Run `job` in the instance's thread; it must not raise."""
        self._inbox.put(job)

    def load(self) -> base.Runtime:
        """Make and load the runtime. In the thread."""
        runtime = self._factory()
        runtime.load()
        self.runtime = runtime
        return runtime

    def predict(self, rows: list[Any]) -> list[Any]:
        """Call the model; `busy_since` says since when. In the thread, or on the loop for native ones."""
        runtime = self.runtime
        assert runtime is not None
        self.busy_since = self._clock()
        try:
            return runtime.predict(rows)
        finally:
            self.busy_since = None

    def _unload(self) -> None:
        runtime, self.runtime = self.runtime, None
        try:
            if runtime is not None:
                runtime.unload()
        except BaseException:  # a border: the user's unload may raise anything
            log.exception("%s: unloading failed", self._thread.name)

    def retire(self) -> None:
        """Give the thread up; when its call comes back, the thread ends."""
        self.retired = True
        self._inbox.put(None)

    def end(self) -> None:
        """Unload and let the thread end, after what it was asked before."""
        self._inbox.put(self._unload)
        self._inbox.put(None)

    def wait(self, timeout_s: float) -> bool:
        """Whether the thread ended within `timeout_s`. Blocks."""
        self._thread.join(timeout_s)
        return not self._thread.is_alive()


class Stream:
    """Chunks of one answer on their way from an instance's thread to one reader on the loop.

    The thread is at most `CHUNKS` ahead of the reader. Whoever loses interest calls `cancel`:
    the model's iterator is closed at its next chunk.
    """

    def __init__(self, row: Any, deadline: float, clock: work.Clock) -> None:
        self.row = row
        self.deadline = deadline
        self.queued_s = clock()
        self.started_s = 0.0
        self.cancelled = False
        self._clock = clock
        self._room = threading.Semaphore(CHUNKS)
        self._chunks: collections.deque[Any] = collections.deque()
        self._news = asyncio.Event()
        self._error: BaseException | None = None
        self._ended = False

    def run(self, each: Instance) -> None:
        """Draw the chunks. In the instance's thread; never raises."""
        error: BaseException | None = None
        chunks: Iterator[Any] = iter(())
        self.started_s = self._clock()
        try:
            runtime = each.runtime
            assert isinstance(runtime, base.StreamingRuntime)
            chunks = runtime.stream(self.row)
            while not self.cancelled:
                each.busy_since = self._clock()
                chunk = next(chunks, END)
                each.busy_since = None
                if chunk is END:
                    break
                self._room.acquire()
                each.post(self._put, chunk)
        except BaseException as raised:  # noqa: BLE001 - a border: user code may raise anything
            error = raised
        finally:
            each.busy_since = None
            close = getattr(chunks, "close", None)
            if close is not None:
                with contextlib.suppress(Exception):
                    close()
        each.post(self.end, error)

    def _put(self, chunk: Any) -> None:
        self._chunks.append(chunk)
        self._news.set()

    def end(self, error: BaseException | None) -> None:
        """No chunk follows; the reader gets what is there, then the error. On the loop."""
        if not self._ended:
            self._ended = True
            self._error = error
            self._news.set()

    def cancel(self) -> None:
        """The reader is gone; on the loop."""
        self.cancelled = True
        self._room.release()

    async def next(self) -> Any:
        """The next chunk, or END.

        Raises:
            TimeoutError: The deadline passed.
        """
        while not self._chunks:
            if self._ended:
                if self._error is not None:
                    raise self._error
                return END
            self._news.clear()
            async with asyncio.timeout(max(0.0, self.deadline - self._clock())):
                await self._news.wait()
        self._room.release()
        return self._chunks.popleft()


def resident_bytes() -> int:
    """Memory this process holds; 0 where the system does not say."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, IndexError):
        return 0


def measured_s(function: Callable[[], object], *, budget_s: float, most: int) -> float:
    """Least time of several runs, as many as fit into the budget, at least one."""
    best = float("inf")
    began = time.perf_counter()
    for _ in range(most):
        start = time.perf_counter()
        function()
        end = time.perf_counter()
        best = min(best, end - start)
        if end - began > budget_s:
            break
    return best


def _carried(error: BaseException) -> Exception:
    """The error in a form that a future takes and that ends nobody's event loop: SystemExit would."""
    if isinstance(error, Exception) and not isinstance(error, StopIteration):
        return error
    carried = RuntimeError(work.said(error))
    carried.__cause__ = error
    return carried


def _settle(future: "asyncio.Future[T]", result: T, error: BaseException | None) -> None:
    if future.done():
        return
    if error is None:
        future.set_result(result)
    else:
        future.set_exception(error)
