"""What the queue refuses, how long it holds rows back, and in which order it lets them go."""

import asyncio
import math
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from turnout import telemetry
from turnout.errors import DeadlineError, OverloadError
from turnout.models import batcher, work


class Bench:
    """A batcher with a clock in the test's hand."""

    def __init__(self, **batching: Any) -> None:
        self.now = 100.0
        self.woken = 0
        self.loop = asyncio.new_event_loop()
        self.registry = telemetry.Registry()
        self.batcher = batcher.Batcher(
            "rank",
            batcher.Batching(**batching),
            loop=self.loop,
            registry=self.registry,
            wake=self.wake,
            clock=lambda: self.now,
        )

    def wake(self) -> None:
        self.woken += 1

    def settle(self) -> None:
        self.loop.call_soon(self.loop.stop)
        self.loop.run_forever()

    def run(self, predict: work.Predict = lambda rows: rows, takes_s: float = 0.0) -> list[Any]:
        batch = self.batcher.take()
        assert batch is not None
        work.compute(batch, predict, lambda: self.now)
        batch.compute_s = takes_s
        self.batcher.deliver(batch)
        return batch.rows

    def metric(self, name: str) -> dict[tuple[str, ...], telemetry.Sample]:
        family = next(family for family in self.registry.snapshot() if family.name == name)
        return {sample.labels: sample for sample in family.samples}


@pytest.fixture
def bench() -> Iterator[Callable[..., Bench]]:
    made: list[Bench] = []

    def make(**batching: Any) -> Bench:
        made.append(Bench(**batching))
        return made[-1]

    yield make
    for each in made:
        each.batcher.close()
        each.loop.close()


def test_a_free_instance_takes_whatever_waits_up_to_the_most_rows(bench: Callable[..., Bench]) -> None:
    b = bench(max_rows=4)
    for i in range(10):
        b.batcher.submit(i, 1e9)
    assert [b.run(), b.run(), b.run()] == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]
    assert b.batcher.take() is None
    released = b.metric(telemetry.BATCH_RELEASED)
    assert released["rank", "full"].value == 2
    assert released["rank", "free"].value == 1
    assert b.metric(telemetry.BATCH_ROWS)["rank",].value == 10


def test_rows_that_arrive_together_wake_once(bench: Callable[..., Bench]) -> None:
    b = bench()
    for i in range(10):
        b.batcher.submit(i, 1e9)
    b.settle()
    assert b.woken == 1


def test_a_full_queue_refuses_and_says_when_to_retry(bench: Callable[..., Bench]) -> None:
    b = bench(max_rows=2, max_queue_rows=3)
    b.batcher.batch_s = 0.5
    for i in range(3):
        b.batcher.submit(i, 1e9)
    with pytest.raises(OverloadError, match="model 'rank' has 3 rows waiting and takes 3") as caught:
        b.batcher.submit(3, 1e9)
    assert caught.value.retry_after_s == 0.5
    assert b.metric(telemetry.SHED)["rank", "queue-full"].value == 1


def test_a_small_queue_is_full_before_a_batch_is(bench: Callable[..., Bench]) -> None:
    b = bench(max_rows=64, max_queue_rows=2)
    b.batcher.submit(0, 1e9)
    b.batcher.submit(1, 1e9)
    with pytest.raises(OverloadError):
        b.batcher.submit(2, 1e9)


def test_cancelled_rows_make_room_in_a_full_queue(bench: Callable[..., Bench]) -> None:
    b = bench(max_rows=2, max_queue_rows=3)
    futures = [b.batcher.submit(i, 1e9) for i in range(3)]
    futures[1].cancel()
    b.batcher.submit(3, 1e9)
    assert b.batcher.waiting == 3
    assert b.run() + b.run() == [0, 2, 3]


def test_more_rows_in_one_call_than_the_queue_takes_are_refused_for_good(bench: Callable[..., Bench]) -> None:
    b = bench(max_queue_rows=8)
    with pytest.raises(OverloadError, match="got 9 rows in one call; its queue takes 8") as caught:
        b.batcher.submit_many(list(range(9)), 1e9)
    assert caught.value.retry_after_s is None
    assert "batching.max_queue" in caught.value.hint


def test_a_row_that_would_expire_in_the_queue_is_refused_at_once(bench: Callable[..., Bench]) -> None:
    b = bench(max_rows=2)
    b.batcher.batch_s = 1.0
    for i in range(4):
        b.batcher.submit(i, 1e9)
    with pytest.raises(OverloadError, match=r"about 2 s of work; the deadline is in 1\.5 s"):
        b.batcher.submit(4, b.now + 1.5)
    b.batcher.submit(5, b.now + 3.5)  # two batches before it, and its own
    b.batcher.lanes = 2
    b.batcher.submit(6, b.now + 2.5)
    assert b.metric(telemetry.SHED)["rank", "queue-too-long"].value == 1


def test_a_call_after_its_deadline_is_refused(bench: Callable[..., Bench]) -> None:
    b = bench()
    with pytest.raises(DeadlineError, match="called after the request's deadline") as caught:
        b.batcher.submit(1, b.now)
    assert caught.value.stage == "queue"


def test_an_expired_row_is_answered_and_never_computed(bench: Callable[..., Bench]) -> None:
    b = bench(max_rows=4)
    late = b.batcher.submit(1, b.now + 1.0)
    late_many = b.batcher.submit_many([2, 3], b.now + 1.0)
    fine = b.batcher.submit(4, b.now + 10.0)
    b.now += 2.0
    assert b.run() == [4]
    b.settle()
    assert fine.result().value == 4
    assert isinstance(late.exception(), DeadlineError)
    assert isinstance(late_many.exception(), DeadlineError)
    assert b.metric(telemetry.SHED)["rank", "expired"].value == 3


def test_the_timer_answers_expired_rows_while_the_instance_computes(bench: Callable[..., Bench]) -> None:
    b = bench(max_rows=1)
    running = b.batcher.submit(1, b.now + 1.0)
    waiting = b.batcher.submit(2, b.now + 1.0)
    patient = b.batcher.submit(3, b.now + 50.0)
    batch = b.batcher.take()
    assert batch is not None
    b.now += 1.5
    b.batcher.sweep()
    first, second = running.exception(), waiting.exception()
    assert isinstance(first, DeadlineError)
    assert isinstance(second, DeadlineError)
    assert (first.stage, second.stage) == ("rank", "queue")
    work.compute(batch, lambda rows: rows, lambda: b.now)
    b.batcher.deliver(batch)
    assert b.run() == [3]
    assert patient.result().value == 3


def test_a_delay_holds_rows_back_until_it_is_over(bench: Callable[..., Bench]) -> None:
    b = bench(max_rows=3, max_delay_s=0.2)
    assert b.batcher.due_s(b.now) == math.inf
    b.batcher.submit(1, 1e9)
    b.now += 0.15
    b.batcher.submit(2, 1e9)
    assert b.batcher.take() is None
    assert b.batcher.due_s(b.now) == pytest.approx(0.05)
    b.now += 0.06
    assert b.run() == [1, 2]
    assert b.metric(telemetry.BATCH_RELEASED)["rank", "delay"].value == 1
    assert b.metric(telemetry.QUEUE_WAIT)["rank",].value == pytest.approx(0.21)


def test_a_full_batch_does_not_wait_for_the_delay(bench: Callable[..., Bench]) -> None:
    b = bench(max_rows=2, max_delay_s=0.2)
    b.batcher.submit(1, 1e9)
    b.batcher.submit(2, 1e9)
    assert b.run() == [1, 2]
    assert b.metric(telemetry.BATCH_RELEASED)["rank", "full"].value == 1


def test_a_near_deadline_ends_the_delay_early(bench: Callable[..., Bench]) -> None:
    b = bench(max_rows=8, max_delay_s=1.0)
    b.batcher.batch_s = 0.1
    b.batcher.submit(1, b.now + 0.5)
    assert b.batcher.due_s(b.now) == pytest.approx(0.3)
    b.now += 0.31
    assert b.run() == [1]
    assert b.metric(telemetry.BATCH_RELEASED)["rank", "deadline"].value == 1


def test_a_call_of_many_rows_lets_others_pass_after_each_full_share(bench: Callable[..., Bench]) -> None:
    b = bench(max_rows=4)
    many = b.batcher.submit_many([f"m{i}" for i in range(10)], 1e9)
    single = b.batcher.submit("s", 1e9)
    assert b.run() == ["m0", "m1", "m2", "m3"]
    assert b.run() == ["s", "m4", "m5", "m6"]
    assert single.result().value == "s"
    assert b.run() == ["m7", "m8", "m9"]
    assert many.result().value == [f"m{i}" for i in range(10)]
    assert many.result().batch_rows == 4


def test_rows_of_several_calls_share_a_batch(bench: Callable[..., Bench]) -> None:
    b = bench(max_rows=4)
    first = b.batcher.submit_many([1, 2, 3], 1e9)
    second = b.batcher.submit_many([4, 5, 6], 1e9)
    assert b.run() == [1, 2, 3, 4]
    assert first.result().value == [1, 2, 3]
    assert not second.done()
    assert b.run() == [5, 6]
    assert second.result().value == [4, 5, 6]


def test_no_rows_are_answered_at_once(bench: Callable[..., Bench]) -> None:
    b = bench()
    assert b.batcher.submit_many([], 1e9).result().value == []
    assert b.batcher.take() is None


def test_the_queue_depth_is_followed(bench: Callable[..., Bench]) -> None:
    b = bench()
    b.batcher.submit_many([1, 2], 1e9)
    b.batcher.submit(3, 1e9)
    assert b.metric(telemetry.QUEUE_DEPTH)["rank",].value == 3
    b.run()
    assert b.metric(telemetry.QUEUE_DEPTH)["rank",].value == 0
