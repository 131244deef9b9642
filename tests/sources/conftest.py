"""A source on a clock that only moves when the source sleeps."""

import asyncio
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from turnout.errors import UnavailableError
from turnout.sources import file
from turnout.sources.base import Change

Actions = Mapping[float, Callable[[], object]]
Watch = Callable[..., list[tuple[float, Change]]]


class _EndError(Exception):
    """The story is over."""


@pytest.fixture
def watch() -> Watch:
    """Follow a document while things happen to it at given times; every change with its time."""

    def run(
        path: Path, actions: Actions, *, until: float = 2.0, stage: str | None = None, read: bool = True
    ) -> list[tuple[float, Change]]:
        now = 0.0
        todo = sorted(actions.items())

        async def sleep(seconds: float) -> None:
            nonlocal now
            now = round(now + seconds, 6)
            while todo and todo[0][0] <= now:
                todo.pop(0)[1]()
            if now > until:
                raise _EndError

        source = file.FileSource(path, stage=stage, clock=lambda: now, sleep=sleep)
        told: list[tuple[float, Change]] = []

        async def follow() -> None:
            if read:
                await source.read()
            async for change in source.changes():
                told.append((now, change))  # noqa: PERF401  # kept when the story ends in the middle

        with pytest.raises(_EndError):
            asyncio.run(follow())
        assert not todo
        return told

    return run


@pytest.fixture
def unavailable() -> Callable[[Change], str]:
    """The message of a change that says why there is no document."""

    def message(change: Change) -> str:
        assert isinstance(change, UnavailableError), change
        return str(change)

    return message
