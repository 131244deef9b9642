"""Whatever arrives, fails, is cancelled or expires in whatever order: every caller gets its own answer, once."""

import asyncio
import math
from collections import Counter
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, initialize, invariant, rule

from turnout import telemetry
from turnout.errors import DeadlineError, ModelError, OverloadError
from turnout.models import batcher, work

DELAYS_S = st.sampled_from([0.0, 0.0, 0.05])
DEADLINES_S = st.sampled_from([0.02, 0.3, 1e6])


class Sent:
    """A call as the test remembers it."""

    def __init__(
        self, rows: list[int], bad: set[int], deadline: float, future: "asyncio.Future[Any]", many: bool
    ) -> None:
        self.rows = rows
        self.bad = bad
        self.deadline = deadline
        self.future = future
        self.many = many
        self.cancelled = False


class Traffic(RuleBasedStateMachine):
    """One batcher, a clock in the test's hand, and as many batches at once as the test likes."""

    taken: Bundle[work.Batch] = Bundle("taken")

    @initialize(max_rows=st.integers(1, 6), delay_s=DELAYS_S)
    def open(self, max_rows: int, delay_s: float) -> None:
        self.loop = asyncio.new_event_loop()
        self.now = 1000.0
        self.max_rows = max_rows
        self.bad: set[int] = set()
        self.short = False
        self.computed: Counter[int] = Counter()
        self.sent: list[Sent] = []
        self.next_row = 0
        self.outstanding: list[work.Batch] = []
        self.batcher = batcher.Batcher(
            "m",
            batcher.Batching(max_rows=max_rows, max_delay_s=delay_s, max_queue_rows=25),
            loop=self.loop,
            registry=telemetry.Registry(),
            wake=lambda: None,
            clock=lambda: self.now,
        )

    def predict(self, rows: list[int]) -> list[int]:
        self.computed.update(rows)
        assert len(rows) <= self.max_rows
        if any(row in self.bad for row in rows):
            if min(rows) % 2:
                return [-row for row in rows][1:]
            raise ValueError("bad row")
        return [row * 10 for row in rows]

    @rule(
        count=st.integers(1, 14), bad=st.sets(st.integers(0, 13), max_size=2), within_s=DEADLINES_S, many=st.booleans()
    )
    def send(self, count: int, bad: set[int], within_s: float, many: bool) -> None:
        count = count if many else 1
        rows = list(range(self.next_row, self.next_row + count))
        self.next_row += count
        wrong = {rows[i] for i in bad if i < count} if many or bad == {0} else set()
        deadline = self.now + within_s
        waiting = self.batcher.waiting
        try:
            future = self.batcher.submit_many(rows, deadline) if many else self.batcher.submit(rows[0], deadline)
        except OverloadError:
            assert waiting + count > 25 or waiting >= self.max_rows
            return
        self.bad |= wrong
        self.sent.append(Sent(rows, wrong, deadline, future, many))

    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        live = [sent for sent in self.sent if not sent.future.done()]
        if live:
            chosen = data.draw(st.sampled_from(live))
            chosen.cancelled = True
            chosen.future.cancel()

    @rule(seconds=st.sampled_from([0.001, 0.01, 0.06, 0.5]))
    def wait(self, seconds: float) -> None:
        self.now += seconds

    @rule(target=taken)
    def take(self) -> Any:
        batch = self.batcher.take()
        if batch is None:
            assert self.batcher.due_s(self.now) > 0.0
            return work.Batch()
        assert 1 <= len(batch.rows) <= self.max_rows
        assert all(not owner.future.done() and owner.deadline > self.now for owner in batch.owners)
        self.outstanding.append(batch)
        return batch

    @rule(batch=consumes(taken), seconds=st.sampled_from([0.0, 0.01, 0.5]))
    def compute_and_deliver(self, batch: work.Batch, seconds: float) -> None:
        if not batch.rows:
            return
        before = self.computed.copy()
        work.compute(batch, self.predict, lambda: self.now)
        spent = self.computed - before
        assert all(times <= 1 + math.ceil(math.log2(len(batch.rows))) for times in spent.values())
        self.now += seconds
        self.batcher.deliver(batch)
        self.outstanding.remove(batch)

    @rule()
    def sweep(self) -> None:
        self.batcher.sweep()
        self.run_loop()
        for sent in self.sent:
            assert sent.future.done() or sent.deadline > self.now - batcher.SWEEP_S

    def run_loop(self) -> None:
        self.loop.call_soon(self.loop.stop)
        self.loop.run_forever()

    @invariant()
    def every_answer_is_ones_own(self) -> None:
        for sent in getattr(self, "sent", []):
            if sent.future.done() and not sent.cancelled:
                self.check(sent)

    def check(self, sent: Sent) -> None:
        error = sent.future.exception()
        if error is None:
            expected = [row * 10 for row in sent.rows]
            answer = sent.future.result()
            assert answer.value == (expected if sent.many else expected[0])
            assert not sent.bad
            assert 1 <= answer.batch_rows <= self.max_rows
            assert answer.wait_s >= 0.0
        elif isinstance(error, ModelError):
            assert sent.bad
        else:
            assert isinstance(error, DeadlineError)
            assert sent.deadline <= self.now

    def teardown(self) -> None:
        if not hasattr(self, "batcher"):
            return
        for batch in list(self.outstanding):
            self.compute_and_deliver(batch, 0.0)
        self.now += 0.1
        while self.batcher.waiting:
            last = self.batcher.take()
            if last is None:
                assert not self.batcher.waiting
                break
            self.outstanding.append(last)
            self.compute_and_deliver(last, 0.0)
        self.run_loop()
        assert all(sent.future.done() for sent in self.sent)
        self.every_answer_is_ones_own()
        assert self.batcher.running == 0
        self.batcher.close()
        self.loop.close()


Traffic.TestCase.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
TestTraffic = Traffic.TestCase
