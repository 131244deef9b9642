"""Shipping: each event once, nothing deleted too early, nothing unreadable lost."""

from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec
import pytest

from turnout.errors import StoreError
from turnout.eventlog import segments
from turnout.events import Event, Outcome
from turnout.recorder import shipping
from turnout.stores import base, memory

MakeOutcomes = Callable[[int, int], list[Outcome]]
MakeFrame = Callable[[Sequence[Event]], bytes]
MakeShipper = Callable[[], shipping.Shipper]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "segments").mkdir()
    return tmp_path / "segments"


def kept(store: memory.MemoryStore) -> int:
    return sum(name.count for name in store.outcome_names())


def test_a_folder_that_is_not_there_is_an_empty_one(shipper: MakeShipper) -> None:
    assert shipper().ship() == shipping.Progress()


def test_a_finished_segment_is_shipped_deleted_and_forgotten(
    folder: Path, store: memory.MemoryStore, shipper: MakeShipper, outcomes: MakeOutcomes, frame: MakeFrame
) -> None:
    (folder / "a.seg").write_bytes(segments.HEADER + frame(outcomes(0, 3)) + frame(outcomes(3, 5)))

    progress = shipper().ship()

    assert progress == shipping.Progress(events=5)
    assert kept(store) == 5
    assert list(folder.iterdir()) == []
    assert store.checkpoints() == {}


def test_a_segment_without_events_is_deleted(folder: Path, shipper: MakeShipper) -> None:
    (folder / "a.seg").write_bytes(segments.HEADER)
    (folder / "b.seg").write_bytes(b"")

    shipper().ship()

    assert list(folder.iterdir()) == []


def test_a_live_segment_is_followed_and_kept(
    folder: Path, store: memory.MemoryStore, shipper: MakeShipper, outcomes: MakeOutcomes, frame: MakeFrame
) -> None:
    writer = segments.Writer(folder / "a.seg")
    shipping_now = shipper()
    assert shipping_now.ship() == shipping.Progress(segments=1, live=1)
    for first in (0, 10, 20):
        writer.append(frame(outcomes(first, first + 10)))
        assert shipping_now.ship() == shipping.Progress(events=10, segments=1, live=1)
    assert shipping_now.ship().events == 0
    assert store.checkpoints() == {"a.seg": writer.size_bytes}
    writer.close()
    shipping_now.ship()

    assert kept(store) == 30
    assert list(folder.iterdir()) == []


def test_an_unfinished_frame_waits_while_its_writer_lives(
    folder: Path, store: memory.MemoryStore, shipper: MakeShipper, outcomes: MakeOutcomes, frame: MakeFrame
) -> None:
    writer = segments.Writer(folder / "a.seg")
    data = frame(outcomes(0, 10))
    writer.append(data[:-7])
    shipping_now = shipper()

    assert shipping_now.ship().events == 0
    writer.append(data[-7:])
    assert shipping_now.ship().events == 10
    writer.close()
    assert shipping_now.quarantine.pieces == 0


def test_a_torn_tail_of_a_dead_writer_is_put_aside(
    folder: Path, store: memory.MemoryStore, shipper: MakeShipper, outcomes: MakeOutcomes, frame: MakeFrame
) -> None:
    tail = frame(outcomes(3, 5))[:-1]
    (folder / "a.seg").write_bytes(segments.HEADER + frame(outcomes(0, 3)) + tail)

    shipping_now = shipper()
    shipping_now.ship()

    assert kept(store) == 3
    assert (shipping_now.quarantine.pieces, shipping_now.quarantine.bytes) == (1, len(tail))
    assert [path.read_bytes() for path in (folder / "broken").iterdir()] == [tail]
    assert list(folder.glob("*.seg")) == []


def test_a_damaged_frame_is_put_aside_and_its_neighbours_are_shipped(
    folder: Path, store: memory.MemoryStore, shipper: MakeShipper, outcomes: MakeOutcomes, frame: MakeFrame
) -> None:
    bad = bytearray(frame(outcomes(10, 20)))
    bad[30] ^= 1
    (folder / "a.seg").write_bytes(segments.HEADER + frame(outcomes(0, 10)) + bad + frame(outcomes(20, 30)))

    shipping_now = shipper()
    shipping_now.ship()

    assert kept(store) == 20
    assert [path.read_bytes() for path in (folder / "broken").iterdir()] == [bytes(bad)]


def test_a_frame_of_something_else_is_put_aside(folder: Path, store: memory.MemoryStore, shipper: MakeShipper) -> None:
    foreign = segments.frame(msgspec.msgpack.encode([["outcome", 5]])) + segments.frame(b"\x91\xc1")
    (folder / "a.seg").write_bytes(segments.HEADER + foreign)

    shipping_now = shipper()
    shipping_now.ship()

    assert shipping_now.quarantine.pieces == 2
    assert list(folder.glob("*.seg")) == []


def test_a_file_that_is_no_segment_is_put_aside_but_for_its_frames(
    folder: Path, store: memory.MemoryStore, shipper: MakeShipper, outcomes: MakeOutcomes, frame: MakeFrame
) -> None:
    (folder / "a.seg").write_bytes(b"no segment at all" + frame(outcomes(0, 3)))
    (folder / "b.seg").write_bytes(b"neither " * 300)

    shipping_now = shipper()
    shipping_now.ship()

    assert kept(store) == 3
    assert shipping_now.quarantine.bytes == len(b"no segment at all") + 8 * 300


def test_a_frame_longer_than_one_read_is_shipped(
    folder: Path, store: memory.MemoryStore, shipper: MakeShipper, outcomes: MakeOutcomes, frame: MakeFrame
) -> None:
    (folder / "a.seg").write_bytes(segments.HEADER + frame(outcomes(0, 500)) + frame(outcomes(500, 501)))

    assert shipper().ship().events == 501


def test_a_new_recorder_goes_on_where_the_store_says(
    folder: Path, store: memory.MemoryStore, shipper: MakeShipper, outcomes: MakeOutcomes, frame: MakeFrame
) -> None:
    writer = segments.Writer(folder / "a.seg")
    writer.append(frame(outcomes(0, 10)))
    shipper().ship()
    writer.append(frame(outcomes(10, 15)))

    assert shipper().ship().events == 5
    writer.close()


def test_checkpoints_of_segments_that_are_gone_are_forgotten_at_the_start(
    folder: Path, store: memory.MemoryStore, shipper: MakeShipper
) -> None:
    store.append([], base.Checkpoint("gone.seg", 100), ingested_at=1.0, subject=str)

    shipper()

    assert store.checkpoints() == {}


class Picky(memory.MemoryStore):
    """Refuses some events, or all for a while."""

    def __init__(self) -> None:
        super().__init__()
        self.refused = {"o3", "o7"}
        self.down = False

    def append(
        self, events: Sequence[Event], checkpoint: base.Checkpoint | None, *, ingested_at: float, subject: base.Subject
    ) -> None:
        if self.down:
            raise StoreError("the store is down.")
        if self.refused & {event.event_id for event in events}:
            raise base.RefusedError("no column holds this.")
        super().append(events, checkpoint, ingested_at=ingested_at, subject=subject)


def test_events_the_store_refuses_are_put_aside_alone(folder: Path, outcomes: MakeOutcomes, frame: MakeFrame) -> None:
    picky = Picky()
    (folder / "a.seg").write_bytes(segments.HEADER + frame(outcomes(0, 10)))

    shipping_now = shipping.Shipper(folder, picky, str)
    shipping_now.ship()

    assert kept(picky) == 8
    assert shipping_now.refused == 2
    aside = sorted((folder / "broken").iterdir())
    assert [msgspec.json.decode(path.read_bytes(), type=Outcome).event_id for path in aside] == ["o3", "o7"]
    assert list(folder.glob("*.seg")) == []


def test_while_the_store_is_down_segments_wait(folder: Path, outcomes: MakeOutcomes, frame: MakeFrame) -> None:
    picky = Picky()
    picky.refused = set()
    (folder / "a.seg").write_bytes(segments.HEADER + frame(outcomes(0, 10)))
    shipping_now = shipping.Shipper(folder, picky, str)
    picky.down = True
    for _ in range(3):
        with pytest.raises(StoreError, match="down"):
            shipping_now.ship()
    assert len(list(folder.glob("*.seg"))) == 1
    picky.down = False

    assert shipping_now.ship().events == 10


def test_a_pass_can_be_ended_between_two_transactions(
    folder: Path, store: memory.MemoryStore, shipper: MakeShipper, outcomes: MakeOutcomes, frame: MakeFrame
) -> None:
    (folder / "a.seg").write_bytes(segments.HEADER + b"".join(frame(outcomes(at, at + 10)) for at in range(0, 100, 10)))
    rounds = iter([True, True, False])

    progress = shipper().ship(lambda: next(rounds))

    assert 0 < progress.events < 100
    assert progress.left_bytes > 0
    assert progress.segments == 1


def test_drafts_of_dead_workers_are_swept_when_old(folder: Path, store: memory.MemoryStore) -> None:
    (folder / "a.draft").touch()
    now = (folder / "a.draft").stat().st_mtime

    shipping.Shipper(folder, store, str, clock=lambda: now + 10).ship()
    assert (folder / "a.draft").exists()
    shipping.Shipper(folder, store, str, clock=lambda: now + 100).ship()
    assert not (folder / "a.draft").exists()


def test_a_full_quarantine_only_counts(folder: Path, store: memory.MemoryStore) -> None:
    (folder / "a.seg").write_bytes(b"damaged" * 10)
    shipping_now = shipping.Shipper(folder, store, str)
    shipping_now.quarantine = type(shipping_now.quarantine)(folder / "broken", limit_bytes=10)

    shipping_now.ship()

    assert shipping_now.quarantine.pieces == 1
    assert list((folder / "broken").iterdir()) == []
