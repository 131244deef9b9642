"""Joins the rows of all requests into batches for one model, and brings the answers back.

`host` owns one batcher per model and calls `take`, `work.compute` and `deliver`.

Natural batching: an instance that is free takes whatever waits, up to `max_rows`; while it
computes, the queue is the one batch ahead, formed as late as possible: the instance's own
thread takes it the moment the running batch ends, without waiting for the event loop.

Invariants: all but `take` runs on the event loop, `take` on any thread. A row is in the queue,
in one batch, or answered; an answered row (cancelled and expired ones are answered, too) is
never computed later. An answer goes to the row at the same place in its batch and to nothing
else.
"""

import asyncio
import collections
import math
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

from msgspec import Struct

from turnout import telemetry
from turnout.errors import DeadlineError, ModelError, OverloadError, TurnoutError, UnavailableError
from turnout.models import work

SWEEP_S = 0.005
"""Least time between two searches for expired rows: a search of a full queue of 1,024 rows takes 0.15 ms."""

HEADROOM = 1.15
"""A row is let in when this many times the estimated time until its answer is left.

Source: under overload the queue stands exactly at what is let in. With it, 40 of 903 admitted rows came too late
at five times what the model can do, and goodput stayed at its peak.
"""

SMOOTHING = 0.1
"""Share of the newest batch in the running mean of compute time."""


class Batching(Struct, frozen=True, kw_only=True):
    """How rows are joined.

    Attributes:
        max_rows: Most rows in one batch.
        max_delay_s: How long a free instance waits for more rows; 0 never waits, which is right
            unless a single row costs nearly as much as a full batch.
        max_queue_rows: Rows that may wait; what comes beyond is refused.
    """

    max_rows: int = 64
    max_delay_s: float = 0.0
    max_queue_rows: int = 1024


class Batcher:
    """The queue of one model.

    Args:
        alias: The model's name, for messages and metrics.
        wake: Called on the loop, after the iteration in which rows arrived while `at_rest` was
            set, so that all rows of one iteration travel together. Whoever is woken clears the way
            for `take`, and sets `at_rest` again when nothing else will look at the queue.

    Attributes:
        lanes: Instances that take from this queue; for the estimate of waiting time.
        at_rest: Whether the next row wakes.
        batch_s: Running mean of compute time of a batch.
        on_failure: Told of every row that failed, for the log.
    """

    def __init__(
        self,
        alias: str,
        batching: Batching,
        *,
        loop: asyncio.AbstractEventLoop,
        registry: telemetry.Registry,
        wake: Callable[[], None],
        clock: work.Clock = time.monotonic,
    ) -> None:
        self.alias = alias
        self.version = ""
        self.batching = batching
        self.lanes = 1
        self.batches = 0
        self.computed_rows = 0
        self.batch_s = 0.0
        self.at_rest = True
        self.on_failure: Callable[[BaseException], None] | None = None
        self._easy = min(batching.max_rows, batching.max_queue_rows)
        self._wake = wake
        self._clock = clock
        self._loop = loop
        self._future = loop.create_future
        self._lock = threading.Lock()
        self._queue: collections.deque[work.Ticket] = collections.deque()
        self._running: set[work.Batch] = set()
        self._late: list[work.Ticket] = []
        self._entered = 0
        self._left = 0
        self._sweep_at = math.inf
        self._sweep_timer: asyncio.TimerHandle | None = None
        self._purged_s = -math.inf
        self._earliest = math.inf
        self._metrics = _Metrics(registry, alias)
        self._metrics.depth.follow(lambda: self.waiting)

    @property
    def waiting(self) -> int:
        """Rows in the queue."""
        return self._entered - self._left

    @property
    def crowded(self) -> bool:
        """Whether half a batch waits; of a model that takes rows one by one, a row."""
        return 2 * self.waiting >= max(2, self.batching.max_rows)

    @property
    def running(self) -> int:
        """Batches taken and not yet delivered."""
        return len(self._running)

    # Entering

    def submit(self, row: Any, deadline: float) -> "asyncio.Future[work.Answer]":
        """Queue one row. Cancelling the future takes the row out of the queue, or ignores its answer.

        Args:
            deadline: `time.monotonic()` after which nobody waits for the answer.

        Returns:
            A future of the Answer; fails with ModelError, DeadlineError or UnavailableError.

        Raises:
            OverloadError: The queue is full, or so long that the deadline would pass in it.
            DeadlineError: The deadline has passed already.

        Complexity: O(1), about 1 microsecond.
        """
        now = self._clock()
        if deadline <= now or self._entered - self._left >= self._easy:
            self._admit(1, deadline, now)
        future: asyncio.Future[work.Answer] = self._future()
        self._enter(work.Ticket(future, (row,), deadline, now), 1)
        return future

    def submit_many(self, rows: Sequence[Any], deadline: float) -> "asyncio.Future[work.Answer]":
        """Queue several rows of one call; they may travel in several batches.

        One bad row fails the call; rows of it that still wait are then dropped. A call of more
        than `max_rows` rows lets others pass after each `max_rows` rows.

        Returns:
            A future of the Answer with the list of values, in the order of the rows.

        Raises:
            OverloadError, DeadlineError: As for `submit`.
        """
        count = len(rows)
        now = self._clock()
        future: asyncio.Future[work.Answer] = self._future()
        if not count:
            future.set_result(work.Answer([], 0.0, 0.0, 0))
            return future
        self._admit(count, deadline, now)
        ticket = work.Ticket(
            future, rows, deadline, now, values=[None] * count, turn=self.batching.max_rows, missing=count
        )
        self._enter(ticket, count)
        return future

    def _enter(self, ticket: work.Ticket, count: int) -> None:
        self._queue.append(ticket)
        self._entered += count
        deadline = ticket.deadline
        if self.at_rest:
            self.at_rest = False
            self._loop.call_soon(self._wake)
        if deadline < self._earliest:
            self._earliest = deadline
        if deadline < self._sweep_at:
            self._arm(deadline)

    def _admit(self, count: int, deadline: float, now: float) -> None:
        if deadline <= now:
            self._metrics.late.inc(count)
            raise DeadlineError(f"model {self.alias!r} was called after the request's deadline.", stage="queue")
        limit = self.batching.max_queue_rows
        if count > limit:
            raise OverloadError(
                f"model {self.alias!r} got {count} rows in one call; its queue takes {limit}.",
                hint=f"Send at most {limit} rows a call, or raise batching.max_queue.",
            )
        if self.waiting + count > limit:
            self._purge(now)
        waiting = self.waiting
        batches_ahead = waiting // self.batching.max_rows + len(self._running)
        ahead_s = batches_ahead * self.batch_s / self.lanes
        if waiting + count > limit:
            self._metrics.full.inc(count)
            raise OverloadError(
                f"model {self.alias!r} has {waiting} rows waiting and takes {limit}.",
                hint="Retry later; more workers or instances, or a larger batching.max_queue, take more.",
                retry_after_s=max(ahead_s, 0.05),
            )
        answered = now + HEADROOM * (ahead_s + self.batch_s)  # the row's own batch takes time too
        if waiting >= self.batching.max_rows and answered > deadline:
            self._metrics.hopeless.inc(count)
            raise OverloadError(
                f"model {self.alias!r} has {waiting} rows waiting, about {ahead_s:.3g} s of work; "
                f"the deadline is in {deadline - now:.3g} s.",
                hint="Retry later, or give the endpoint a longer deadline.",
                retry_after_s=ahead_s,
            )

    # Leaving

    def due_s(self, now: float) -> float:
        """Seconds until waiting rows may be taken: 0 now, infinity when none waits."""
        waiting = self.waiting
        if waiting <= 0:
            return math.inf
        if not self.batching.max_delay_s or waiting >= self.batching.max_rows:
            return 0.0
        try:
            oldest = self._queue[0].queued_s
        except IndexError:  # taken by a thread meanwhile
            return math.inf
        due = min(oldest + self.batching.max_delay_s, self._earliest - 2 * self.batch_s)
        return max(0.0, due - now)

    def take(self) -> work.Batch | None:
        """The next batch, or None when no row may be computed now. Any thread.

        Rows whose caller is gone are dropped here, and expired ones answered with DeadlineError.
        """
        with self._lock:
            now = self._clock()
            while self.due_s(now) <= 0.0:
                reason = self._reason(now)
                batch = self._formed(now)
                if batch.rows:
                    batch.reason = "full" if len(batch.rows) == self.batching.max_rows else reason
                    self._running.add(batch)
                    return batch
        return None

    def _reason(self, now: float) -> str:
        if not self.batching.max_delay_s:
            return "free"
        return "delay" if self._queue[0].queued_s + self.batching.max_delay_s <= now else "deadline"

    def _formed(self, now: float) -> work.Batch:
        batch = work.Batch()
        owners, places, rows = batch.owners, batch.places, batch.rows
        queue = self._queue
        space = self.batching.max_rows
        left = 0
        oldest = now
        while space and queue:
            ticket = queue.popleft()
            live = self._live(ticket, now)
            if ticket.values is None:
                left += 1
                if live:
                    owners.append(ticket)
                    places.append(0)
                    rows.append(ticket.rows[0])
                    space -= 1
            elif live:
                count = self._share(ticket, space)
                first = ticket.taken - count
                owners.extend([ticket] * count)
                places.extend(range(first, ticket.taken))
                rows.extend(ticket.rows[first : ticket.taken])
                space -= count
                left += count
            else:
                left += len(ticket.rows) - ticket.taken
                continue
            if ticket.queued_s < oldest:
                oldest = ticket.queued_s
        self._left += left
        batch.waited_s = now - oldest
        if self.batching.max_delay_s:
            self._earliest = min([ticket.deadline for ticket in queue.copy()], default=math.inf)
        return batch

    def _live(self, ticket: work.Ticket, now: float) -> bool:
        if ticket.future.done():
            return False
        if ticket.deadline > now:
            return True
        if not self._late:
            self._loop.call_soon_threadsafe(self._answer_late)
        self._late.append(ticket)
        return False

    def _share(self, ticket: work.Ticket, space: int) -> int:
        """Rows of one call for this batch; a call whose turn is over goes behind the others."""
        remaining = len(ticket.rows) - ticket.taken
        count = min(space, remaining, ticket.turn)
        ticket.taken += count
        ticket.turn -= count
        if count < remaining:
            if ticket.turn:
                self._queue.appendleft(ticket)
            else:
                ticket.turn = self.batching.max_rows
                self._queue.append(ticket)
        return count

    # Answering

    def deliver(self, batch: work.Batch) -> None:
        """Give every row of a computed batch its answer; a batch that was abandoned meanwhile is ignored."""
        if batch not in self._running:
            return
        self._running.discard(batch)
        count = len(batch.rows)
        compute_s = batch.compute_s
        started_s = batch.started_s
        for ticket, place, value in zip(batch.owners, batch.places, batch.values, strict=True):
            future = ticket.future
            if future.done():
                continue
            if batch.failed and type(value) is work.Failure:
                self._fail(ticket, value.cause)
            elif ticket.values is None:
                future.set_result(work.Answer(value, started_s - ticket.queued_s, compute_s, count))
            else:
                self._collect(ticket, place, value, batch)
        self.batches += 1
        self.computed_rows += count
        self.batch_s += SMOOTHING * (compute_s - self.batch_s) if self.batch_s else compute_s
        self._metrics.count(batch)

    def _collect(self, ticket: work.Ticket, place: int, value: Any, batch: work.Batch) -> None:
        values = ticket.values
        assert values is not None
        values[place] = value
        ticket.missing -= 1
        ticket.wait_s = max(ticket.wait_s, batch.started_s - ticket.queued_s)
        ticket.compute_s = max(ticket.compute_s, batch.compute_s)
        ticket.batch_rows = max(ticket.batch_rows, len(batch.rows))
        if not ticket.missing:
            ticket.future.set_result(work.Answer(values, ticket.wait_s, ticket.compute_s, ticket.batch_rows))

    def _fail(self, ticket: work.Ticket, cause: BaseException | None) -> None:
        if cause is None:
            ticket.future.set_exception(self._late_error(ticket, "computing"))
            return
        error = ModelError(
            f"model {self.alias!r} failed on this item: {work.said(cause)}", model=self.alias, version=self.version
        )
        error.__cause__ = cause
        if self.on_failure is not None:
            self.on_failure(cause)
        ticket.future.set_exception(error)

    def abandon(self, batch: work.Batch, error: Callable[[], TurnoutError]) -> None:
        """Answer a batch that will not come back; should it come back, its answers are ignored."""
        self._running.discard(batch)
        for ticket in batch.owners:
            if not ticket.future.done():
                ticket.future.set_exception(error())

    def refuse_waiting(self, error: Callable[[], TurnoutError]) -> None:
        """Answer everything that waits with an error."""
        with self._lock:
            tickets = list(self._queue)
            self._queue.clear()
            self._left = self._entered
        for ticket in tickets:
            if not ticket.future.done():
                ticket.future.set_exception(error())

    # Expiry

    def sweep(self) -> None:
        """Answer every expired row, waiting or running, and drop what waits for nobody."""
        now = self._clock()
        self._sweep_at = math.inf
        self._purge(now)
        earliest = math.inf
        with self._lock:
            waiting = [ticket.deadline for ticket in self._queue]
            running = tuple(self._running)
        for batch in running:
            for ticket in batch.owners:
                if ticket.future.done():
                    continue
                if ticket.deadline <= now:
                    self._metrics.late.inc()
                    ticket.future.set_exception(self._late_error(ticket, "computing"))
                else:
                    earliest = min(earliest, ticket.deadline)
        earliest = min(earliest, min(waiting, default=math.inf))
        if earliest < math.inf:
            self._arm(max(earliest, now + SWEEP_S))

    def close(self) -> None:
        """Stop the timer and answer what waits."""
        self.refuse_waiting(lambda: UnavailableError(f"model {self.alias!r} is being unloaded."))
        if self._sweep_timer is not None:
            self._sweep_timer.cancel()

    def _arm(self, at: float) -> None:
        if self._sweep_timer is not None:
            self._sweep_timer.cancel()
        self._sweep_at = at
        self._sweep_timer = self._loop.call_later(max(0.0, at - self._clock()), self.sweep)

    def _purge(self, now: float) -> None:
        if now - self._purged_s < SWEEP_S:
            return
        self._purged_s = now
        with self._lock:
            kept = collections.deque(ticket for ticket in self._queue if self._live(ticket, now))
            self._queue = kept
            self._left = self._entered - sum(len(ticket.rows) - ticket.taken for ticket in kept)
        self._answer_late()

    def _answer_late(self) -> None:
        with self._lock:  # a thread may be adding to the list
            late, self._late = self._late, []
        for ticket in late:
            if not ticket.future.done():
                self._metrics.late.inc(len(ticket.rows) - ticket.taken)
                ticket.future.set_exception(self._late_error(ticket, "queue"))

    def _late_error(self, ticket: work.Ticket, stage: str) -> DeadlineError:
        waited = self._clock() - ticket.queued_s
        if stage == "queue":
            return DeadlineError(
                f"the deadline passed while waiting {waited:.3g} s for model {self.alias!r}.", stage="queue"
            )
        return DeadlineError(
            f"model {self.alias!r} did not answer within the deadline; {waited:.3g} s went by.", stage=self.alias
        )


class _Metrics:
    """The model's children of the metric families, held so that recording is cheap."""

    def __init__(self, registry: telemetry.Registry, alias: str) -> None:
        rows = registry.histogram(telemetry.BATCH_ROWS, "Rows of a batch.", ("model",), telemetry.SIZES)
        wait = registry.histogram(telemetry.QUEUE_WAIT, "How long the oldest row of a batch had waited.", ("model",))
        depth = registry.gauge(telemetry.QUEUE_DEPTH, "Rows that wait for an instance.", ("model",))
        shed = registry.counter(telemetry.SHED, "Rows that were refused or dropped uncomputed.", ("model", "reason"))
        released = registry.counter(
            telemetry.BATCH_RELEASED, "Batches by why they left the queue.", ("model", "reason")
        )
        self.rows = rows.labels(alias)
        self.wait = wait.labels(alias)
        self.depth = depth.labels(alias)
        self.full = shed.labels(alias, "queue-full")
        self.hopeless = shed.labels(alias, "queue-too-long")
        self.late = shed.labels(alias, "expired")
        self.released = {reason: released.labels(alias, reason) for reason in ("full", "free", "delay", "deadline")}

    def count(self, batch: work.Batch) -> None:
        self.rows.observe(len(batch.rows))
        self.wait.observe(batch.waited_s)
        self.released[batch.reason].inc()
