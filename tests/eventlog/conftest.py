"""Virtual time and records for the event log's tests."""

import asyncio
import selectors
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from turnout.events import Outcome, Prediction


class _Selector(selectors.DefaultSelector):
    """Does not wait: what would be waited for has passed at once."""

    passed_s = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        self.passed_s += timeout or 0.0
        return super().select(0)


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop whose timers fire without waiting."""

    def __init__(self) -> None:
        self.clockwork = _Selector()
        super().__init__(self.clockwork)

    def time(self) -> float:
        return 1_000_000.0 + self.clockwork.passed_s


@pytest.fixture
def virtual() -> Callable[[Coroutine[Any, Any, None]], None]:
    """Runs a coroutine in virtual time."""

    def run(main: Coroutine[Any, Any, None]) -> None:
        with asyncio.Runner(loop_factory=VirtualLoop) as runner:
            runner.run(main)

    return run


@pytest.fixture
def prediction() -> Callable[..., Prediction]:
    """Makes predictions of one variant."""

    def make(number: int = 0, variant: str = "a", **more: object) -> Prediction:
        fields: dict[str, object] = {
            "event_id": f"{number:032x}",
            "ts": 1.0,
            "revision": "r",
            "endpoint": "e",
            "unit": f"u{number}",
            "experiment": "x",
            "phase": "p",
            "variant": variant,
            "served": variant,
            "sub_bucket": 1,
            "pipeline": "one",
            "models": (),
            "build": "b",
            "status": "ok",
            "error": "",
            "latency_s": 0.001,
            "steps": [],
        }
        return Prediction(**{**fields, **more})  # type: ignore[arg-type]

    return make


@pytest.fixture
def outcome() -> Callable[[int], Outcome]:
    """Makes outcomes, which are never sampled."""

    def make(number: int) -> Outcome:
        return Outcome(event_id=f"o{number}", ts=1.0, name="kept", unit="u")

    return make
