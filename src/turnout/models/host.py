"""One model of one process: its instances, their queues of rows and streams, and what happens when a call hangs.

Made by `assembly`, called by `handle`. Calls `batcher` and `instance`, and asks `placement` where to compute.
"""

import asyncio
import collections
import functools
import logging
import math
import time
from collections.abc import AsyncGenerator, Callable, Sequence
from typing import Any

from turnout import telemetry, wire
from turnout.errors import DeadlineError, ModelError, OverloadError, TurnoutError, UnavailableError
from turnout.models import batcher, instance, placement, work
from turnout.runtimes import base

REPLACEMENTS = 2
"""Stuck instances that are replaced before the whole process should be."""

WARM_BUDGET_S = 0.05
"""Time spent on measuring a warm model; a slow one is measured by one run."""

LOG_EVERY_S = 1.0
"""A model's failures are logged at most this often; all are counted."""

log = logging.getLogger("turnout.models")


class Host:
    """A model, loaded `instances` times.

    Attributes:
        alias: Its key in the document.
        batching: How its rows are joined.
        version: The artifact's version; known after `open`.
        signature: What a row takes and gives; None when the artifact does not say. Known after `open`.
        ready: Whether it takes calls.
        healthy: False when stuck calls used up the replacements: the process should be replaced.
    """

    def __init__(  # noqa: PLR0913 - one keyword for each key of the document
        self,
        *,
        alias: str,
        factory: Callable[[], base.Runtime],
        batching: batcher.Batching,
        execution: placement.Execution = "auto",
        instances: int = 1,
        timeout_s: float = 30.0,
        registry: telemetry.Registry,
        warmup: bool = True,
        clock: work.Clock = time.monotonic,
    ) -> None:
        self.alias = alias
        self.version = ""
        self.signature: wire.Signature | None = None
        self.healthy = True
        self.streams = False
        self._factory = factory
        self.batching = batching
        self._placement = placement.Placement(execution)
        self._count = instances
        self._timeout_s = timeout_s
        self._registry = registry
        self._warmup = warmup
        self._clock = clock
        self._state = "new"
        self._refusal: str | None = f"model {alias!r} is not loaded yet."
        self._instances: list[instance.Instance] = []
        self._replaced = 0
        self._memory_bytes = 0
        self._logged_s = -math.inf
        self._delay_timer: asyncio.TimerHandle | None = None
        self._watch_timer: asyncio.TimerHandle | None = None
        self._drained: asyncio.Event | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._streams: collections.deque[instance.Stream] = collections.deque()
        self._streamed_last = False
        self._batcher: batcher.Batcher

    @property
    def ready(self) -> bool:
        return self._state == "ready"

    @property
    def crowded(self) -> bool:
        """Whether half a batch of rows, or a stream, waits."""
        return self._refusal is None and (bool(self._streams) or self._batcher.crowded)

    # Calls

    def submit(self, row: Any, deadline: float) -> "asyncio.Future[work.Answer]":
        """Queue one row; see `batcher.Batcher.submit`.

        Raises:
            UnavailableError: The model is not loaded, unhealthy, or being unloaded.
        """
        if self._refusal is not None:
            raise self._refused()
        return self._batcher.submit(row, deadline)

    def submit_many(self, rows: Sequence[Any], deadline: float) -> "asyncio.Future[work.Answer]":
        """Queue several rows of one call; see `batcher.Batcher.submit_many`."""
        if self._refusal is not None:
            raise self._refused()
        return self._batcher.submit_many(rows, deadline)

    async def stream(self, row: Any, deadline: float) -> AsyncGenerator[Any, None]:
        """Chunks of the answer to one row. An instance is busy with one stream at a time.

        Raises:
            ModelError: The model raised, or gives no streams.
            DeadlineError: The deadline passed before a chunk, or the model hung.
            OverloadError: As many streams wait as rows may.

        Cancellation: leaving the iteration (or `aclose`) ends the model's work at its next chunk.
        """
        if self._refusal is not None:
            raise self._refused()
        if not self.streams:
            raise ModelError(
                f"model {self.alias!r} gives no streams.",
                model=self.alias,
                version=self.version,
                hint="Give its class stream(self, item), or call it without stream.",
            )
        if len(self._streams) >= self.batching.max_queue_rows:
            told = f"model {self.alias!r} has {len(self._streams)} streams waiting."
            raise OverloadError(told, hint="Retry later.", retry_after_s=1.0)
        made = instance.Stream(row, deadline, self._clock)
        self._streams.append(made)
        self._pump()
        try:
            while (chunk := await made.next()) is not instance.END:
                yield chunk
        except TimeoutError:
            stage = self.alias if made.started_s else "queue"
            raise DeadlineError(f"the deadline passed during a stream of model {self.alias!r}.", stage=stage) from None
        except Exception as error:  # a border: whatever the user's generator raised
            if isinstance(error, TurnoutError):
                raise
            self._log_failure(error)
            text = f"model {self.alias!r} failed during a stream: {work.said(error)}"
            raise ModelError(text, model=self.alias, version=self.version) from error
        finally:
            made.cancel()

    # Life

    async def open(self) -> None:
        """Load all instances, warm them and measure. Once.

        Raises:
            SpecError: The artifact cannot be loaded, or does not fit what the document asks for.
            ModelError: The model raised while it loaded or warmed up.
        """
        self._state = "loading"
        self._batcher = batcher.Batcher(
            self.alias,
            self.batching,
            loop=asyncio.get_running_loop(),
            registry=self._registry,
            wake=self._pump,
            clock=self._clock,
        )
        self._batcher.on_failure = self._log_failure
        self._batcher.lanes = self._count
        before = instance.resident_bytes()
        try:
            for number in range(self._count):
                self._instances.append(await self._load(number))
        except BaseException as error:
            self._state = "failed"
            for loaded in self._instances:
                loaded.end()
            self._instances.clear()
            self._batcher.close()
            if isinstance(error, TurnoutError) or not isinstance(error, Exception):
                raise
            raise self._loading_error(error) from error
        self._memory_bytes = max(0, instance.resident_bytes() - before)
        for loaded in self._instances:
            loaded.idle = True
        self._refusal = None
        self._state = "ready"

    async def _load(self, number: int) -> instance.Instance:
        made = instance.Instance(self._factory, name=f"{self.alias}-{number}", clock=self._clock)
        try:
            runtime = await made.ask(made.load)
            self.version = self._batcher.version = runtime.artifact.version
            self.signature = runtime.signature()
            self.streams = isinstance(runtime, base.StreamingRuntime) and runtime.streams
            self._placement.check(self.alias, native=runtime.native)
            if self._warmup:
                await made.ask(lambda: self._warm(made, runtime))
            self._placement.choose()
        except BaseException:
            made.end()
            raise
        return made

    def _warm(self, made: instance.Instance, runtime: base.Runtime) -> None:
        """Run the example, alone and in a full batch of a native model, and take the time."""
        row = runtime.example()
        if row is None:
            return
        made.predict([row])
        single_s = instance.measured_s(lambda: made.predict([row]), budget_s=WARM_BUDGET_S, most=5)
        self._batcher.batch_s = single_s
        self._placement.measured(single_s)
        if runtime.native and single_s < WARM_BUDGET_S:
            made.predict([row] * self.batching.max_rows)

    def _loading_error(self, error: Exception) -> ModelError:
        return ModelError(
            f"model {self.alias!r} did not load: {type(error).__name__}: {error}",
            model=self.alias,
            version=self.version,
            hint="The log has its traceback.",
        )

    async def close(self, timeout_s: float) -> None:
        """Refuse new calls, let the waiting ones finish within `timeout_s`, then unload.

        Cancellation: unloading is left to the end of the process.
        """
        if self._state in {"new", "closed"}:
            self._state = "closed"
            return
        self._state = "draining"
        self._refusal = f"model {self.alias!r} is being unloaded."
        if self._unfinished:
            self._drained = asyncio.Event()
            try:
                await asyncio.wait_for(self._drained.wait(), timeout_s)
            except TimeoutError:
                log.warning("model %s: unloaded with calls unfinished after %s s", self.alias, timeout_s)
        self._state = "closed"
        for timer in (self._delay_timer, self._watch_timer):
            if timer is not None:
                timer.cancel()
        for task in self._tasks:
            task.cancel()
        self._batcher.close()
        self._end_streams(self._unloading)
        for each in self._instances:
            if not each.idle:
                self._abandon(each, self._unloading)
                continue
            each.end()
            if not await asyncio.to_thread(each.wait, timeout_s):
                log.warning("model %s: unloading takes longer than %s s and goes on alone", self.alias, timeout_s)
        self._instances.clear()

    def _unloading(self) -> UnavailableError:
        return UnavailableError(f"model {self.alias!r} was unloaded before it answered.")

    # Computing

    def _pump(self) -> None:
        """Bring waiting rows to free instances. On the loop; whenever rows came or an instance got free."""
        waiting = self._batcher
        waiting.at_rest = False
        if self._streams:
            self._start_streams()
        due_s = waiting.due_s(self._clock())
        if due_s > 0.0:
            waiting.at_rest = True
            if due_s < math.inf:
                if self._delay_timer is not None:
                    self._delay_timer.cancel()
                self._delay_timer = asyncio.get_running_loop().call_later(due_s, self._pump)
            elif self._drained is not None and not self._unfinished:
                self._drained.set()
            return
        free = [each for each in self._instances if each.idle]
        if not free:
            return
        if self._placement.on_loop and len(free) == len(self._instances):
            self._compute_here(free[0])
            return
        needed = -(-waiting.waiting // self.batching.max_rows)
        for each in free[:needed]:
            each.idle = False
            each.tell(functools.partial(self._serve, each))
        self._streamed_last = False
        self._watch()
        waiting.at_rest = needed < len(free)

    def _start_streams(self) -> None:
        """Give waiting streams free instances; rows and streams take turns when both wait."""
        free = [each for each in self._instances if each.idle]
        if len(free) == 1 and self._streamed_last and self._batcher.waiting > 0:
            return
        for each in free:
            while self._streams and self._streams[0].cancelled:
                self._streams.popleft()
            if not self._streams:
                return
            each.idle = False
            each.stream = self._streams.popleft()
            self._streamed_last = True
            each.tell(functools.partial(self._stream_in, each, each.stream))
            self._watch()

    def _compute_here(self, chosen: instance.Instance) -> None:
        batch = self._batcher.take()
        if batch is not None:
            work.compute(batch, chosen.predict, self._clock)
            self._settle(batch, batch.compute_s)
        if self._batcher.waiting > 0:
            asyncio.get_running_loop().call_soon(self._pump)
        else:
            self._pump()

    def _serve(self, each: instance.Instance) -> None:
        """Compute batch after batch while rows wait. In the instance's thread.

        The next batch is taken before the last one's answers are posted: once the loop is awake
        it holds the GIL for as long as it answers, and the model would idle meanwhile.
        """
        try:
            batch = self._next(each)
            while batch is not None:
                each.batch = batch
                before_s = time.thread_time()
                work.compute(batch, each.predict, self._clock)
                spent_s = time.thread_time() - before_s  # not compute_s: that contains waiting for the GIL
                each.batch, following = None, self._next(each)
                each.post(self._settle, batch, spent_s)
                batch = following
        except RuntimeError:  # the loop is closed; nobody is there to answer
            return
        each.post(self._rested, each)

    def _next(self, each: instance.Instance) -> work.Batch | None:
        if each.retired or self._placement.on_loop or self._streams:
            return None
        return self._batcher.take()

    def _stream_in(self, each: instance.Instance, stream: instance.Stream) -> None:
        """Draw one stream. In the instance's thread."""
        stream.run(each)
        each.post(self._rested, each)

    def _rested(self, each: instance.Instance) -> None:
        each.stream = None
        if not each.retired:
            each.idle = True
            self._pump()

    @property
    def _unfinished(self) -> bool:
        """Whether rows or streams wait, or an instance has not said yet that it rests."""
        return bool(self._batcher.waiting or self._streams or not all(each.idle for each in self._instances))

    def _settle(self, batch: work.Batch, spent_s: float) -> None:
        """Answer a batch, and see whether its time calls for another place to compute."""
        self._batcher.deliver(batch)
        self._placement.spent(spent_s)

    # Stuck calls

    def _watch(self) -> None:
        if self._watch_timer is None:
            every_s = min(max(self._timeout_s / 4, 0.005), 1.0)
            self._watch_timer = asyncio.get_running_loop().call_later(every_s, self.watch)

    def watch(self) -> None:
        """Answer calls that run longer than `timeout_s`; replace their instances. A timer calls this while any runs."""
        self._watch_timer = None
        now = self._clock()
        for each in list(self._instances):
            since = each.busy_since
            if since is not None and now - since > self._timeout_s:
                self._give_up(each)
        if any(not each.idle for each in self._instances):
            self._watch()

    def _abandon(self, each: instance.Instance, error: Callable[[], TurnoutError]) -> None:
        """Answer for an instance whose call does not come back; should it, its answers are ignored."""
        each.retire()
        batch, stream = each.batch, each.stream
        if batch is not None:
            self._batcher.abandon(batch, error)
        if stream is not None:
            stream.end(error())
            stream.cancel()

    def _end_streams(self, error: Callable[[], TurnoutError]) -> None:
        while self._streams:
            self._streams.popleft().end(error())

    def _give_up(self, stuck: instance.Instance) -> None:
        self._instances.remove(stuck)
        self._abandon(stuck, self._stuck_error)
        if self._replaced < REPLACEMENTS:
            self._replaced += 1
            log.error("model %s: a call runs longer than %s s; its instance is replaced", self.alias, self._timeout_s)
            task = asyncio.ensure_future(self._replace())
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        else:
            self._fail()

    async def _replace(self) -> None:
        try:
            loaded = await self._load(self._count + self._replaced)
        except Exception:  # a border: a background task
            log.exception("model %s: its replacement did not load", self.alias)
            self._fail()
            return
        self._instances.append(loaded)
        loaded.idle = True
        self._pump()

    def _fail(self) -> None:
        self.healthy = False
        self._state = "unhealthy"
        self._refusal = f"model {self.alias!r} hung more often than it is replaced; its worker should be restarted."
        self._batcher.refuse_waiting(self._refused)
        self._end_streams(self._refused)

    def _refused(self) -> UnavailableError:
        return UnavailableError(str(self._refusal), retry_after_s=1.0)

    def _stuck_error(self) -> DeadlineError:
        return DeadlineError(
            f"model {self.alias!r} did not answer within its timeout of {self._timeout_s:.3g} s and was given up.",
            stage=self.alias,
            hint="Raise the model's timeout if such calls are legitimate.",
        )

    # Telling

    def _log_failure(self, cause: BaseException) -> None:
        now = self._clock()
        if now - self._logged_s >= LOG_EVERY_S:
            self._logged_s = now
            log.warning("model %s@%s failed on an item", self.alias, self.version, exc_info=cause)

    def stats(self) -> dict[str, Any]:
        """What /status says about the model."""
        opened = self._state != "new"
        batches = self._batcher.batches if opened else 0
        rows = self._batcher.computed_rows if opened else 0
        return {
            "state": self._state,
            "healthy": self.healthy,
            "version": self.version,
            "execution": "loop" if self._placement.on_loop else "thread",
            "instances": len(self._instances),
            "replaced": self._replaced,
            "queue_rows": self._batcher.waiting if opened else 0,
            "batches": batches,
            "rows": rows,
            "mean_batch_rows": round(rows / batches, 2) if batches else 0.0,
            "batch_s": self._batcher.batch_s if opened else 0.0,
            "memory_bytes": self._memory_bytes,
        }
