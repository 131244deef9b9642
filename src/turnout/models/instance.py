"""One loaded copy of a model and the thread it lives in. Made and watched by `host`.

Everything that may block (imports, loading, computing, unloading) happens in that thread, in
the order it was asked for. The thread is a daemon: a call that never returns cannot keep the
process from ending.
"""

import asyncio
import contextlib
import queue
import threading
import time
from collections.abc import Callable
from typing import Any, TypeVar

from turnout.models import batcher
from turnout.runtimes import base

T = TypeVar("T")


class Instance:
    """A runtime and its thread.

    Attributes:
        runtime: The loaded copy; None before `load` and after `unload`.
        idle: Whether the thread waits for work. Written on the loop only.
        busy_since: When the call into the model began that runs now; None while none runs.
        batch: The batch that runs now.
        retired: Set when the thread is given up: it ends when its call comes back, if it does.
    """

    def __init__(self, factory: Callable[[], base.Runtime], *, name: str, clock: batcher.Clock) -> None:
        self.runtime: base.Runtime | None = None
        self.idle = False
        self.busy_since: float | None = None
        self.batch: batcher.Batch | None = None
        self.retired = False
        self._factory = factory
        self._clock = clock
        self._loop = asyncio.get_running_loop()
        self._inbox: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._work, name=f"turnout-{name}", daemon=True)
        self._thread.start()

    def _work(self) -> None:
        while (job := self._inbox.get()) is not None and not self.retired:
            job()

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
                failure = RuntimeError(str(error)) if isinstance(error, StopIteration) else error
                self.post(_settle, future, None, failure)
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

    def unload(self) -> None:
        """Give the runtime's memory back. In the thread."""
        runtime, self.runtime = self.runtime, None
        if runtime is not None:
            runtime.unload()

    def retire(self) -> None:
        """Give the thread up; when its call comes back, the thread ends."""
        self.retired = True
        self._inbox.put(None)

    def end(self) -> None:
        """Let the thread end after what it was asked before."""
        self._inbox.put(None)


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


def _settle(future: "asyncio.Future[T]", result: T, error: BaseException | None) -> None:
    if future.done():
        return
    if error is None:
        future.set_result(result)
    else:
        future.set_exception(error)
