"""How duties are kept going when they fail."""

import asyncio
import contextlib
import logging
from collections.abc import Callable
from typing import Any

import pytest

from turnout.controlplane import duties
from turnout.errors import StoreError, UnavailableError
from turnout.stores import control

Play = Callable[..., None]


class Troubled:
    """Fails as told, round by round."""

    name = "troubled"
    interval_s = 0.0

    def __init__(self, failures: list[Exception | None]) -> None:
        self.failures = failures
        self.wake = asyncio.Event()
        self.rounds = 0

    async def run(self) -> None:
        self.rounds += 1
        failure = self.failures.pop(0) if self.failures else None
        if failure is not None:
            raise failure

    async def close(self) -> None:
        pass


async def kept(duty: Troubled, scene: Any, *, rounds: int) -> None:
    task = asyncio.create_task(duties.keep(duty, scene.context))
    await scene.settled(lambda: duty.rounds >= rounds)
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task


def test_a_failing_duty_is_tried_again_counted_and_told(play: Play, caplog: pytest.LogCaptureFixture) -> None:
    async def scenario(scene: Any) -> None:
        gone = StoreError("the store is away")
        await kept(Troubled([None, gone, gone, ValueError("a fault"), None]), scene, rounds=6)
        told = [view.duties["troubled"].error for view in scene.supervisor.views]
        assert told == ["the store is away", "ValueError: a fault", ""]
        tally = scene.context.tallies["troubled"]
        assert tally.failures == 3
        assert tally.rounds >= 5

    with caplog.at_level(logging.WARNING):
        play(scenario)
    said = [record.message for record in caplog.records if "troubled" in record.message]
    assert said == [
        "troubled failed and is tried again: the store is away",
        "troubled failed",
        "troubled works again",
    ]


def test_a_supervisor_that_does_not_answer_is_no_fault(play: Play, caplog: pytest.LogCaptureFixture) -> None:
    async def scenario(scene: Any) -> None:
        await kept(Troubled([UnavailableError("gone")]), scene, rounds=3)
        assert scene.context.tallies["troubled"].failures == 1

    play(scenario)
    assert not [record for record in caplog.records if record.exc_info]


def test_a_woken_duty_does_not_wait(play: Play) -> None:
    async def scenario(scene: Any) -> None:
        duty = Troubled([])
        duty.interval_s = 3600.0
        task = asyncio.create_task(duties.keep(duty, scene.context))
        await scene.settled(lambda: duty.rounds == 1)
        duty.wake.set()
        await scene.settled(lambda: duty.rounds == 2)
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task

    play(scenario)


def test_a_store_that_failed_is_opened_anew_but_not_after_a_conflict(play: Play) -> None:
    async def scenario(scene: Any) -> None:
        def fail(error: Exception) -> Callable[[control.ControlStore], None]:
            def do(_: control.ControlStore) -> None:
                raise error

            return do

        with pytest.raises(StoreError):
            await scene.context.control.call(fail(StoreError("away")))
        with pytest.raises(control.StoreConflictError):
            await scene.context.control.call(fail(control.StoreConflictError("late")))
        assert await scene.context.control.call(lambda store: store.history(1)) == []
        assert scene.opened == 2

    play(scenario)
