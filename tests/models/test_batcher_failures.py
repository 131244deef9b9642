"""A failing batch is halved until the bad rows stand alone, and what a model does wrong is said."""

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest

from turnout import telemetry
from turnout.errors import DeadlineError, ModelError, UnavailableError
from turnout.models import batcher, work


@pytest.fixture
def queue() -> Iterator[batcher.Batcher]:
    loop = asyncio.new_event_loop()
    made = batcher.Batcher(
        "rank",
        batcher.Batching(),
        loop=loop,
        registry=telemetry.Registry(),
        wake=lambda: None,
        clock=lambda: 0.0,
    )
    made.version = "0123456789ab"
    yield made
    made.close()
    loop.close()


def run(queue: batcher.Batcher, predict: work.Predict) -> work.Batch:
    batch = queue.take()
    assert batch is not None
    work.compute(batch, predict, lambda: 0.0)
    queue.deliver(batch)
    return batch


def test_one_bad_row_of_64_fails_alone_and_costs_12_more_runs(queue: batcher.Batcher) -> None:
    runs: list[int] = []

    def predict(rows: list[int]) -> list[int]:
        runs.append(len(rows))
        if 37 in rows:
            raise ValueError("row 37 is cursed")
        return [row * 2 for row in rows]

    futures = [queue.submit(i, 1e9) for i in range(64)]
    run(queue, predict)
    for i, future in enumerate(futures):
        if i == 37:
            error = future.exception()
            assert isinstance(error, ModelError)
            assert error.message == "model 'rank' failed on this item: ValueError: row 37 is cursed"
            assert (error.model, error.version) == ("rank", "0123456789ab")
            assert isinstance(error.__cause__, ValueError)
        else:
            assert future.result().value == i * 2
    assert runs == [64, 32, 32, 16, 16, 8, 8, 4, 4, 2, 2, 1, 1]


@pytest.mark.parametrize("change", [lambda rows: rows[1:], lambda rows: [*rows, 0]], ids=["too few", "too many"])
def test_a_wrong_number_of_answers_is_nobodys_answer(queue: batcher.Batcher, change: Any) -> None:
    futures = [queue.submit(i, 1e9) for i in range(3)]
    run(queue, change)
    for future in futures:
        error = future.exception()
        assert isinstance(error, ModelError)
        assert "rows for 1; expected one answer a row, in order" in error.message


def test_a_model_that_swallows_bad_rows_answers_the_others(queue: batcher.Batcher) -> None:
    futures = [queue.submit(i, 1e9) for i in range(8)]
    run(queue, lambda rows: [row * 10 for row in rows if row != 5])
    good = [future.result().value for i, future in enumerate(futures) if i != 5]
    assert good == [0, 10, 20, 30, 40, 60, 70]
    assert isinstance(futures[5].exception(), ModelError)


@pytest.mark.parametrize(
    "raised",
    [SystemExit(3), StopIteration(), asyncio.CancelledError(), GeneratorExit()],
    ids=lambda e: type(e).__name__,
)
def test_strange_exceptions_are_model_errors_too(queue: batcher.Batcher, raised: BaseException) -> None:
    def predict(rows: list[int]) -> list[int]:
        raise raised

    future = queue.submit(1, 1e9)
    run(queue, predict)
    assert isinstance(future.exception(), ModelError)


def test_an_answer_without_a_length_is_a_model_error(queue: batcher.Batcher) -> None:
    future = queue.submit(1, 1e9)
    run(queue, lambda rows: 3)  # type: ignore[arg-type, return-value]
    assert isinstance(future.exception(), ModelError)


def test_a_long_message_is_cut(queue: batcher.Batcher) -> None:
    def predict(rows: list[int]) -> list[int]:
        raise ValueError("x" * 10_000)

    future = queue.submit(1, 1e9)
    run(queue, predict)
    error = future.exception()
    assert isinstance(error, ModelError)
    assert len(error.message) < 400


def test_one_bad_row_fails_its_call_of_many_and_no_other(queue: batcher.Batcher) -> None:
    def predict(rows: list[int]) -> list[int]:
        if 2 in rows:
            raise ValueError
        return rows

    bad = queue.submit_many([1, 2, 3], 1e9)
    good = queue.submit_many([4, 5, 6], 1e9)
    run(queue, predict)
    assert isinstance(bad.exception(), ModelError)
    assert good.result().value == [4, 5, 6]


def test_rows_whose_caller_left_are_not_computed_again(queue: batcher.Batcher) -> None:
    futures = [queue.submit(i, 1e9) for i in range(4)]
    runs: list[list[int]] = []

    def predict(rows: list[int]) -> list[int]:
        runs.append(rows)
        if len(runs) == 1:
            futures[1].cancel()
        if 0 in rows:
            raise ValueError
        return rows

    run(queue, predict)
    assert runs == [[0, 1, 2, 3], [0], [2, 3]]
    assert futures[2].result().value == 2


def test_a_deadline_passing_while_halving_is_said(queue: batcher.Batcher) -> None:
    now = [0.0]
    batch_future = [queue.submit(i, 5.0) for i in range(2)]
    batch = queue.take()
    assert batch is not None

    def predict(rows: list[int]) -> list[int]:
        now[0] = 6.0
        raise ValueError

    work.compute(batch, predict, lambda: now[0])
    queue.deliver(batch)
    errors = [future.exception() for future in batch_future]
    assert all(isinstance(error, DeadlineError) for error in errors)


def test_a_model_that_raises_an_interrupt_fails_like_any_other(queue: batcher.Batcher) -> None:
    def predict(rows: list[int]) -> list[int]:
        raise KeyboardInterrupt

    future = queue.submit(1, 1e9)
    batch = queue.take()
    assert batch is not None
    work.compute(batch, predict, lambda: 0.0)
    queue.deliver(batch)
    assert isinstance(future.exception(), ModelError)
    assert "KeyboardInterrupt" in str(future.exception())


def test_an_abandoned_batch_is_answered_once(queue: batcher.Batcher) -> None:
    future = queue.submit(1, 1e9)
    batch = queue.take()
    assert batch is not None
    queue.abandon(batch, lambda: UnavailableError("gone"))
    work.compute(batch, lambda rows: rows, lambda: 0.0)
    queue.deliver(batch)
    assert isinstance(future.exception(), UnavailableError)


def test_failures_are_told_with_their_cause(queue: batcher.Batcher) -> None:
    told: list[BaseException] = []
    queue.on_failure = told.append

    def predict(rows: list[int]) -> list[int]:
        raise ValueError("why")

    future = queue.submit(1, 1e9)
    run(queue, predict)
    assert isinstance(future.exception(), ModelError)
    assert [str(cause) for cause in told] == ["why"]
