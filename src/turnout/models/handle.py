"""What a pipeline calls for a model: adds the deadline of the current call, and leaves a step in its trace."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Sequence
from typing import Any

from turnout import wire
from turnout.errors import OverloadError, TurnoutError
from turnout.models import host, work

DEADLINE_S = 30.0
"""Time for a call outside any request, such as in a script or a test."""


class Handle:
    """One bound model of one pipeline; implements `authoring.Model`.

    Attributes:
        name: The keyword under which the pipeline holds the model.
        model: Alias in the document.
    """

    __slots__ = ("_host", "model", "name")

    def __init__(self, name: str, bound: host.Host) -> None:
        self.name = name
        self.model = bound.alias
        self._host = bound

    @property
    def version(self) -> str:
        """The artifact's version."""
        return self._host.version

    async def __call__(self, item: Any) -> Any:
        """Score one item; see `authoring.Model`.

        Cancellation: the row leaves the queue, or its answer is dropped.
        """
        call = wire.current_call.get()
        if call is None:
            return (await self._host.submit(item, time.monotonic() + DEADLINE_S)).value
        began = time.monotonic()
        step = self._step(call, began, 1)
        try:
            answer = await self._host.submit(item, call.deadline)
        except BaseException as error:
            _failed(step, error, began)
            raise
        _answered(step, answer, began)
        return answer.value

    async def many(self, items: Sequence[Any]) -> list[Any]:
        """Score several items, answers in their order; one bad item fails the call."""
        call = wire.current_call.get()
        if call is None:
            answer = await self._host.submit_many(items, time.monotonic() + DEADLINE_S)
            return list(answer.value)
        began = time.monotonic()
        step = self._step(call, began, len(items))
        try:
            answer = await self._host.submit_many(items, call.deadline)
        except BaseException as error:
            _failed(step, error, began)
            raise
        _answered(step, answer, began)
        return list(answer.value)

    async def stream(self, item: Any) -> AsyncIterator[Any]:
        """Chunks of one answer as they come; see `authoring.Model`.

        Cancellation: the model stops at its next chunk.
        """
        call = wire.current_call.get()
        began = time.monotonic()
        step = None if call is None else self._step(call, began, 1)
        chunks = self._host.stream(item, began + DEADLINE_S if call is None else call.deadline)
        try:
            async with contextlib.aclosing(chunks):
                async for chunk in chunks:
                    yield chunk
        except BaseException as error:
            if step is not None:
                _failed(step, error, began)
            raise
        if step is not None:
            step.duration_s = step.compute_s = time.monotonic() - began
            step.batch_rows = 1

    def _step(self, call: wire.Call, began: float, rows: int) -> wire.Step:
        step = wire.Step(self.name, self.model, self._host.version, began - call.started)
        step.rows = rows
        call.steps.append(step)
        return step


class ShyHandle(Handle):
    """A Handle for work that nobody waits for: its rows enter a queue only while little waits there.

    `many` sends its rows by half batches, so that no queue is ever filled with them.
    """

    __slots__ = ()

    async def __call__(self, item: Any) -> Any:
        """Score one item; see `Handle`.

        Raises:
            OverloadError: Others wait.
        """
        self._yield()
        return await super().__call__(item)

    async def many(self, items: Sequence[Any]) -> list[Any]:
        """Score several items; see `Handle`.

        Raises:
            OverloadError: Others wait.
        """
        answers: list[Any] = []
        at_once = max(1, self._host.batching.max_rows // 2)
        for first in range(0, len(items), at_once):
            self._yield()
            answers += await super().many(items[first : first + at_once])
        return answers

    async def stream(self, item: Any) -> AsyncIterator[Any]:
        """Chunks of one answer; see `Handle`.

        Raises:
            OverloadError: Others wait.
        """
        self._yield()
        async for chunk in super().stream(item):
            yield chunk

    def _yield(self) -> None:
        if self._host.crowded:
            raise OverloadError(f"model {self.model!r} is busy with requests that somebody waits for.")


def _answered(step: wire.Step, answer: work.Answer, began: float) -> None:
    step.duration_s = time.monotonic() - began
    step.wait_s = answer.wait_s
    step.compute_s = answer.compute_s
    step.batch_rows = answer.batch_rows


def _failed(step: wire.Step, error: BaseException, began: float) -> None:
    step.duration_s = time.monotonic() - began
    if isinstance(error, TurnoutError):
        step.error = error.code
    else:
        step.error = "cancelled" if isinstance(error, (asyncio.CancelledError, GeneratorExit)) else "internal"
