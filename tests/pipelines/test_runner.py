"""One run: its value, its trace, and every way it can end badly."""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

from turnout import wire
from turnout.authoring import Model, pipeline
from turnout.errors import (
    DeadlineError,
    InputError,
    ModelError,
    OverloadError,
    StepError,
    TurnoutError,
    UnavailableError,
)
from turnout.pipelines import binding, definition, runner

AnyModel = Model[Any, Any]


@dataclass
class Ask:
    number: int = 1


@dataclass
class Said:
    number: float


def bound(function: Any, **models: Any) -> binding.BoundPipeline:
    return binding.bind("ask", definition.define(function), models, params={}, signatures={})


def call(within_s: float = 30.0) -> wire.Call:
    return wire.Call("0" * 32, "ask", time.monotonic() + within_s)


@pipeline
async def parallel(ask: Ask, *, first: AnyModel, second: AnyModel, last: AnyModel) -> Said:
    left, right = await asyncio.gather(first(ask.number), second(ask.number))
    return Said(await last(left + right))


def test_value_comes_back_and_the_trace_is_in_order_of_start(fake: Any) -> None:
    made = bound(
        parallel,
        first=fake("first", lambda number: number + 1),
        second=fake("second", lambda number: number * 10),
        last=fake("last", float),
    )
    run = call()
    assert asyncio.run(runner.run(made, Ask(2), run)) == Said(23.0)
    assert [step.name for step in run.steps] == ["first", "second", "last"]


def test_parallel_branches_wait_at_the_same_time(fake: Any) -> None:
    async def main() -> Said:
        gate = asyncio.Event()

        def open_gate(number: int) -> int:
            gate.set()
            return number

        made = bound(
            parallel,
            first=fake("first", lambda number: number, gate=gate),
            second=fake("second", open_gate),
            last=fake("last", float),
        )
        return await runner.run(made, Ask(2), call())  # type: ignore[no-any-return]

    assert asyncio.run(main()) == Said(4.0)


def test_call_is_in_the_context_only_while_it_runs(fake: Any) -> None:
    seen = []

    @pipeline
    async def look(ask: Ask) -> Said:
        seen.append(wire.current_call.get())
        return Said(1)

    async def main() -> None:
        run = call()
        await runner.run(bound(look), Ask(), run)
        assert seen == [run]
        assert wire.current_call.get() is None

    asyncio.run(main())


@pipeline
async def one(ask: Ask, *, score: AnyModel) -> Said:
    return Said(await score(ask.number))


@pipeline
async def grouped(ask: Ask, *, score: AnyModel) -> Said:
    async with asyncio.TaskGroup() as group:
        task = group.create_task(score(ask.number))
    return Said(task.result())


def raising(error: BaseException) -> Callable[[Any], Any]:
    def answer(item: Any) -> Any:
        raise error

    return answer


@pytest.mark.parametrize("function", [one, grouped], ids=["plain", "task group"])
@pytest.mark.parametrize(
    "error",
    [
        InputError("row 0 does not fit."),
        OverloadError("queue full.", retry_after_s=1),
        DeadlineError("expired in the queue.", stage="queue"),
        UnavailableError("loading."),
    ],
    ids=lambda error: type(error).__name__,
)
def test_refusal_of_a_model_passes_as_it_is(fake: Any, function: Any, error: TurnoutError) -> None:
    made = bound(function, score=fake("score", raising(error)))
    with pytest.raises(type(error)) as caught:
        asyncio.run(runner.run(made, Ask(), call()))
    assert caught.value is error or caught.value.__cause__ is not None


@pytest.mark.parametrize("function", [one, grouped], ids=["plain", "task group"])
def test_failing_model_is_named_by_its_step_with_the_cause_chained(fake: Any, function: Any) -> None:
    error = ModelError("model 'net' raised ValueError.", model="net", version="v1")
    made = bound(function, score=fake("score", raising(error), model="net"))
    with pytest.raises(StepError) as caught:
        asyncio.run(runner.run(made, Ask(), call()))
    assert (caught.value.pipeline, caught.value.step) == ("ask", "score")
    assert str(caught.value) == "pipeline 'ask' step 'score': model 'net' raised ValueError."
    assert caught.value.__cause__ is not None


def test_two_steps_with_one_model_are_told_apart(fake: Any) -> None:
    def picky(number: int) -> int:
        if number > 5:
            raise ModelError("model 'net' raised.", model="net")
        return number * 10

    made = bound(
        parallel,
        first=fake("first", picky, model="net"),
        second=fake("second", picky, model="net"),
        last=fake("last", picky, model="net"),
    )
    with pytest.raises(StepError) as caught:
        asyncio.run(runner.run(made, Ask(1), call()))
    assert caught.value.step == "last"


@pytest.mark.parametrize("error", [KeyError("price"), SystemExit(1), RecursionError("deep")], ids=repr)
def test_failing_code_is_a_step_error(error: BaseException) -> None:
    @pipeline
    async def broken(ask: Ask) -> Said:
        raise error

    with pytest.raises(StepError, match=type(error).__name__) as caught:
        asyncio.run(runner.run(bound(broken), Ask(), call()))
    assert caught.value.step == "code"
    assert caught.value.__cause__ is error


def test_awaiting_a_task_that_was_cancelled_is_a_step_error_not_a_client_that_left() -> None:
    @pipeline
    async def confused(ask: Ask) -> Said:
        task = asyncio.ensure_future(asyncio.Event().wait())
        task.cancel()
        await task
        return Said(1)

    with pytest.raises(StepError, match="something that was cancelled"):
        asyncio.run(runner.run(bound(confused), Ask(), call()))


def test_deadline_cancels_the_model_call_and_names_it(fake: Any) -> None:
    async def main() -> None:
        slow = fake("score", float, gate=asyncio.Event())
        task = asyncio.current_task()
        assert task is not None
        with pytest.raises(DeadlineError, match="waiting for 'score'") as caught:
            await runner.run(bound(one, score=slow), Ask(), call(0.01))
        assert caught.value.stage == "score"
        assert slow.cancelled == 1
        assert task.cancelling() == 0  # the request's task lives on and answers

    asyncio.run(main())


def test_deadline_cancels_all_parallel_branches(fake: Any) -> None:
    async def main() -> None:
        gate = asyncio.Event()
        models = {name: fake(name, float, gate=gate) for name in ("first", "second", "last")}
        with pytest.raises(DeadlineError, match="waiting for 'first', 'second'"):
            await runner.run(bound(parallel, **models), Ask(), call(0.01))
        assert [model.cancelled for model in models.values()] == [1, 1, 0]

    asyncio.run(main())


def test_deadline_in_the_authors_own_waiting_says_so() -> None:
    @pipeline
    async def sleepy(ask: Ask) -> Said:
        await asyncio.Event().wait()
        return Said(1)

    with pytest.raises(DeadlineError, match="own code") as caught:
        asyncio.run(runner.run(bound(sleepy), Ask(), call(0.01)))
    assert caught.value.stage == "code"


@pytest.mark.parametrize("within_s", [0.0, -1.0])
def test_deadline_that_has_passed_stops_code_at_its_first_wait(within_s: float) -> None:
    @pipeline
    async def sleepy(ask: Ask) -> Said:
        await asyncio.Event().wait()
        return Said(1)

    with pytest.raises(DeadlineError):
        asyncio.run(runner.run(bound(sleepy), Ask(), call(within_s)))


@pytest.mark.parametrize("then", ["return", "raise"])
def test_code_that_swallows_the_cancellation_is_answered_by_the_deadline(then: str) -> None:
    @pipeline
    async def stubborn(ask: Ask) -> Said:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            if then == "raise":
                raise ValueError("mine") from None
        return Said(1)

    async def main() -> None:
        with pytest.raises(DeadlineError):
            await runner.run(bound(stubborn), Ask(), call(0.01))
        task = asyncio.current_task()
        assert task is not None
        assert task.cancelling() == 0

    asyncio.run(main())


def test_code_that_waits_again_after_swallowing_is_cancelled_again() -> None:
    swallowed = []

    @pipeline
    async def stubborn(ask: Ask) -> Said:
        for _ in range(2):
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                swallowed.append(1)
        await asyncio.Event().wait()
        return Said(1)

    with pytest.raises(DeadlineError):
        asyncio.run(runner.run(bound(stubborn), Ask(), call(0.01)))
    assert len(swallowed) == 2


def test_client_that_leaves_cancels_the_run(fake: Any) -> None:
    async def main() -> None:
        started = asyncio.Event()
        slow = fake("score", float, gate=asyncio.Event())

        async def request() -> Any:
            started.set()
            return await runner.run(bound(one, score=slow), Ask(), call())

        task = asyncio.ensure_future(request())
        await started.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert slow.cancelled == 1

    asyncio.run(main())


def test_client_that_leaves_after_the_deadline_is_still_a_cancellation() -> None:
    async def main() -> None:
        caught = asyncio.Event()
        hold = asyncio.Event()

        @pipeline
        async def stubborn(ask: Ask) -> Said:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                caught.set()
                await hold.wait()
            return Said(1)

        task = asyncio.ensure_future(runner.run(bound(stubborn), Ask(), call(0.01)))
        await caught.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())


def test_no_timer_is_left_behind(fake: Any) -> None:
    async def main() -> None:
        made = bound(one, score=fake("score", float))
        await runner.run(made, Ask(), call(0.01))
        await asyncio.wait_for(asyncio.get_running_loop().run_in_executor(None, time.sleep, 0.03), 5)

    asyncio.run(main())
