"""Fixtures of the transport's own tests: an event loop as programs use it."""

import asyncio
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

import pytest

from turnout.transport import loop


@pytest.fixture
def run() -> Iterator[Callable[[Coroutine[Any, Any, None]], None]]:
    """Runs coroutines, one after the other, in one loop."""
    with asyncio.Runner(loop_factory=loop.factory()) as runner:
        yield runner.run
