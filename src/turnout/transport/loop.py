"""The event loop of every Turnout program: uvloop where it is installed, asyncio's own elsewhere."""

import asyncio
import importlib.util
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

Result = TypeVar("Result")


def factory() -> Callable[[], asyncio.AbstractEventLoop]:
    """What makes the event loop; pass it to `asyncio.Runner`."""
    if importlib.util.find_spec("uvloop") is None:
        return asyncio.new_event_loop
    uvloop = importlib.import_module("uvloop")
    make: Callable[[], asyncio.AbstractEventLoop] = uvloop.new_event_loop
    return make


def run(main: Coroutine[Any, Any, Result]) -> Result:
    """Run a program's main coroutine to its end."""
    with asyncio.Runner(loop_factory=factory()) as runner:
        return runner.run(main)
