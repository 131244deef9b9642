"""Segments to ship, and a store to ship them to."""

from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec
import pytest

from turnout.eventlog import segments
from turnout.events import Event, Outcome
from turnout.recorder import shipping
from turnout.stores import memory


def subject(unit: str) -> str:
    """A stand-in for the keyed hash."""
    return f"subject of {unit}"


@pytest.fixture
def outcomes() -> Callable[[int, int], list[Outcome]]:
    """Outcomes numbered from, to."""

    def make(first: int, last: int) -> list[Outcome]:
        return [Outcome(event_id=f"o{at}", ts=float(at), name="kept", unit=f"u{at}") for at in range(first, last)]

    return make


@pytest.fixture
def frame() -> Callable[[Sequence[Event]], bytes]:
    """One frame of a segment."""

    def make(events: Sequence[Event]) -> bytes:
        return segments.frame(msgspec.msgpack.encode(events))

    return make


@pytest.fixture
def store() -> memory.MemoryStore:
    """An empty store."""
    return memory.MemoryStore()


@pytest.fixture
def shipper(tmp_path: Path, store: memory.MemoryStore) -> Callable[[], shipping.Shipper]:
    """A shipper from `segments/` to the store, as after a start of the recorder."""

    def make() -> shipping.Shipper:
        return shipping.Shipper(
            tmp_path / "segments", store, subject, settings=shipping.Settings(read_bytes=512), clock=lambda: 5.0
        )

    return make
