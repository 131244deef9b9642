"""User code for the tests of experiments, rollouts and shadows: answers that say where they come from."""

import asyncio
import threading
from dataclasses import dataclass, field
from typing import Any, ClassVar

from turnout import Model, pipeline


@dataclass
class Person:
    country: str = ""
    age: int = 0


@dataclass
class Question:
    user_id: str | None = None
    amount: float = 1.0
    user: Person | str = field(default_factory=Person)


@dataclass
class Reply:
    by: str
    score: float
    tone: str = ""
    length: int = 0


class Double:
    def predict(self, items: list[float]) -> list[float]:
        return [item * 2 for item in items]


class Triple(Double):
    def predict(self, items: list[float]) -> list[float]:
        return [item * 3 for item in items]


class Gated(Double):
    """Answers while its gate is open."""

    gate: ClassVar[threading.Event] = threading.Event()

    def predict(self, items: list[float]) -> list[float]:
        if items != [0.0]:  # warming up
            self.gate.wait(20)
        return super().predict(items)


class Switch:
    """What the next calls of `moody` do; tests turn it."""

    mode: ClassVar[str] = "fine"
    running: ClassVar[int] = 0
    most: ClassVar[int] = 0


@pipeline
async def old(question: Question, *, model: Model[float, float], tone: str = "plain", length: int = 1) -> Reply:
    return Reply("old", await model(question.amount), tone, length)


@pipeline
async def new(question: Question, *, model: Model[float, float], tone: str = "plain", length: int = 1) -> Reply:
    return Reply("new", await model(question.amount), tone, length)


@pipeline
async def moody(question: Question, *, model: Model[float, float], tone: str = "plain", length: int = 1) -> Reply:
    Switch.running += 1
    Switch.most = max(Switch.most, Switch.running)
    try:
        if Switch.mode == "crash" or question.amount == -1.0:
            raise RuntimeError("the new code is broken")
        if Switch.mode == "hang":
            await asyncio.sleep(60)
        if Switch.mode == "crowd":
            await model.many([question.amount] * 60)
        if Switch.mode == "deaf":
            await _deaf()
        return Reply("moody", await model(question.amount), tone, length)
    finally:
        Switch.running -= 1


async def _deaf() -> None:
    while True:
        try:
            await asyncio.sleep(0.05)
            if Switch.mode != "deaf":
                return
        except asyncio.CancelledError:
            pass


@pipeline
async def lying(question: Question, *, model: Model[float, float]) -> Reply:
    wrong: Any = {"score": "many"}
    return Reply("lying", wrong)
