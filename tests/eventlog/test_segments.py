"""Segment files: what is read is what was written, and damage is told apart from what is unfinished."""

import errno
import os
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from turnout.eventlog import segments

PAYLOADS = [msgspec.msgpack.encode([["outcome", f"o{number}", 1.0, "kept", 1.0, "u"]]) for number in range(5)]
FRAMES = b"".join(segments.frame(payload) for payload in PAYLOADS)


def whole(data: bytes, start: int = 0, *, final: bool = False) -> list[bytes | None]:
    return [piece.payload for piece in segments.scan(data, start, final=final)]


def test_frames_come_back_in_order_with_their_places() -> None:
    found = list(segments.scan(FRAMES, 8))

    assert [piece.payload for piece in found] == PAYLOADS
    assert found[0].offset == 8
    assert [piece.offset for piece in found[1:]] == [piece.end for piece in found[:-1]]
    assert found[-1].end == 8 + len(FRAMES)


@given(st.integers(0, len(FRAMES)))
def test_a_cut_anywhere_gives_the_whole_frames_before_it(cut: int) -> None:
    found = list(segments.scan(FRAMES[:cut]))

    end = found[-1].end if found else 0
    assert [piece.payload for piece in found] == PAYLOADS[: len(found)]
    assert cut - end < len(FRAMES) // len(PAYLOADS) + 1


@given(st.integers(0, len(FRAMES) - 1), st.integers(1, 255))
def test_one_damaged_byte_costs_one_frame(place: int, flip: int) -> None:
    data = bytearray(FRAMES)
    data[place] ^= flip

    found = list(segments.scan(bytes(data), final=True))

    good = [piece.payload for piece in found if piece.payload is not None]
    assert len(good) == len(PAYLOADS) - 1
    assert [payload for payload in PAYLOADS if payload in good] == good
    assert sum(piece.end - piece.offset for piece in found) == len(data)


@given(st.binary(max_size=300))
def test_any_bytes_are_read_without_failing_and_accounted_for(data: bytes) -> None:
    found = list(segments.scan(data, final=True))

    assert sum(piece.end - piece.offset for piece in found) == len(data)


def test_an_unfinished_end_is_damage_only_when_nothing_follows() -> None:
    data = FRAMES[:-1]

    assert whole(data) == PAYLOADS[:-1]
    assert whole(data, final=True) == [*PAYLOADS[:-1], None]


def test_a_length_no_writer_writes_is_damage_at_once() -> None:
    data = segments.FRAME.pack(2**31, 0) + b"x" * 20 + FRAMES

    assert whole(data) == [None, *PAYLOADS]


def test_a_file_appears_under_its_name_with_header_and_lock(tmp_path: Path) -> None:
    writer = segments.Writer(tmp_path / "a.seg")
    descriptor = os.open(tmp_path / "a.seg", os.O_RDONLY)

    assert [path.name for path in tmp_path.iterdir()] == ["a.seg"]
    assert (tmp_path / "a.seg").read_bytes() == segments.HEADER
    assert not segments.writer_gone(descriptor)
    writer.close()
    writer.close()
    assert segments.writer_gone(descriptor)
    os.close(descriptor)


def test_a_name_that_is_being_made_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.draft").touch()

    with pytest.raises(FileExistsError):
        segments.Writer(tmp_path / "a.seg")


class Disk:
    """A write function with so much room."""

    def __init__(self, room: int) -> None:
        self.room = room

    def write(self, descriptor: int, data: bytes) -> int:
        if self.room == 0:
            raise OSError(errno.ENOSPC, "no space left on device")
        count = os.write(descriptor, data[: self.room])
        self.room -= count
        return count


def test_a_file_that_cannot_get_its_header_leaves_nothing_behind(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="no space"):
        segments.Writer(tmp_path / "a.seg", write=Disk(3).write)

    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_leaves_no_torn_frame(tmp_path: Path) -> None:
    disk = Disk(30)
    writer = segments.Writer(tmp_path / "a.seg", write=disk.write)
    first, second = segments.frame(b"\x91\x01"), segments.frame(b"\x91" + b"\x02" * 40)
    writer.append(first)

    with pytest.raises(OSError, match="no space"):
        writer.append(second)

    assert not writer.broken
    assert (tmp_path / "a.seg").read_bytes() == segments.HEADER + first
    disk.room = 1_000
    writer.append(second)
    assert (tmp_path / "a.seg").read_bytes() == segments.HEADER + first + second
    writer.close()


def test_a_write_that_takes_no_bytes_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="took no bytes"):
        segments.Writer(tmp_path / "a.seg", write=lambda _descriptor, _data: 0)


def test_a_file_that_cannot_be_cut_back_says_so(tmp_path: Path) -> None:
    disk = Disk(30)
    writer = segments.Writer(tmp_path / "a.seg", write=disk.write)

    def write_and_lose(descriptor: int, data: bytes) -> int:
        if disk.room == 0:
            os.close(descriptor)
        return disk.write(descriptor, data)

    writer._write = write_and_lose

    with pytest.raises(OSError, match="no space"):
        writer.append(segments.frame(b"\x91" * 100))

    assert writer.broken
    writer._fd = -1
