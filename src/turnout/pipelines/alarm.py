"""Deadlines of running pipelines: cancels a task at a moment, and knows that it did.

One timer stands for all runs of a pipeline, set to the earliest deadline among them: most
runs end long before theirs, so a run costs a place in a set and not a timer of its own.
Called by `runner` for every run.

Source: a timer a run cost 2.0 µs where this costs 0.7, and `asyncio.timeout` 3.6.
"""

import asyncio
import math
import time

INSIST_S = 0.25
"""Pause before code that swallowed its cancellation is cancelled again."""

INSIST_TIMES = 20
"""After so many cancellations in vain the code is left to itself: it never ends, and neither does its request."""


class Alarm:
    """The deadline of one run, in the task that runs it.

    Attributes:
        deadline: `time.monotonic()` at which it rings.
        rang: How often it has cancelled the task.
    """

    __slots__ = ("_before", "_clock", "_task", "deadline", "rang")

    def __init__(self, clock: "Clock", deadline: float) -> None:
        task = asyncio.current_task()
        assert task is not None
        self.rang = 0
        self.deadline = deadline
        self._task = task
        self._before = task.cancelling()
        self._clock = clock
        clock.set(self)

    def ring(self, now: float) -> bool:
        """Cancel the task; whether to ring again."""
        self.rang += 1
        self.deadline = now + INSIST_S
        self._task.cancel()
        return self.rang < INSIST_TIMES

    def stop(self) -> None:
        """The run has ended."""
        self._clock.stop(self)

    def forgive(self) -> bool:
        """Take back the alarm's cancellations, so that the task lives on and answers; whether others remain.

        Only to be believed for a CancelledError: in Python 3.11 a failed `asyncio.TaskGroup` leaves one behind.
        """
        for _ in range(self.rang):
            self._task.uncancel()
        return self._task.cancelling() > self._before


class Clock:
    """All alarms of one pipeline on one event loop, behind one timer."""

    __slots__ = ("_alarms", "_due", "_timer")

    def __init__(self) -> None:
        self._alarms: set[Alarm] = set()
        self._due = math.inf
        self._timer: asyncio.TimerHandle | None = None

    def set(self, alarm: Alarm) -> None:
        """Have it ring at its deadline. O(1)."""
        self._alarms.add(alarm)
        if alarm.deadline < self._due:
            self._arm(alarm.deadline)

    def stop(self, alarm: Alarm) -> None:
        """It need not ring any more. O(1); the timer finds out when it goes off."""
        self._alarms.discard(alarm)

    def _arm(self, due: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._due = due
        self._timer = asyncio.get_running_loop().call_later(max(due - time.monotonic(), 0.0), self._go_off)

    def _go_off(self) -> None:
        """Ring what is due. O(alarms set), once per earliest deadline."""
        self._timer, self._due = None, math.inf
        now = time.monotonic()
        for alarm in [each for each in self._alarms if each.deadline <= now]:
            if not alarm.ring(now):
                self._alarms.discard(alarm)
        if self._alarms:
            self._arm(min(alarm.deadline for alarm in self._alarms))
