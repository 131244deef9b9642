"""Fake models that do what real handles do: wait, answer, fail, and leave a step in the trace."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

import pytest

from turnout import wire
from turnout.errors import TurnoutError


class FakeModel:
    """Answers `answer(item)`, after `gate` is set if there is one."""

    def __init__(
        self, name: str, answer: Callable[[Any], Any], *, model: str = "", gate: asyncio.Event | None = None
    ) -> None:
        self.name = name
        self.model = model or f"{name}-model"
        self.version = "v1"
        self.answer = answer
        self.gate = gate
        self.items: list[Any] = []
        self.cancelled = 0

    async def __call__(self, item: Any) -> Any:
        return (await self.many([item]))[0]

    async def many(self, items: Sequence[Any]) -> list[Any]:
        call = wire.current_call.get()
        assert call is not None
        step = wire.Step(name=self.name, model=self.model, version=self.version, rows=len(items))
        call.steps.append(step)
        self.items.extend(items)
        began = time.monotonic()
        try:
            if self.gate is not None:
                await self.gate.wait()
            return [self.answer(item) for item in items]
        except asyncio.CancelledError:
            self.cancelled += 1
            step.error = "cancelled"
            raise
        except TurnoutError as error:
            step.error = error.code
            raise
        finally:
            step.duration_s = time.monotonic() - began

    async def stream(self, item: Any) -> AsyncIterator[Any]:
        for word in str(self.answer(item)).split():
            yield word


@pytest.fixture
def fake() -> type[FakeModel]:
    return FakeModel
