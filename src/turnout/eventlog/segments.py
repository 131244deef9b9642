"""Segment files: how a worker's events lie on disk until the recorder has shipped them.

`log.EventLog` writes them through `Writer`, `recorder/shipping.py` reads them through `scan`.

    header   "TRNSEG01"                                       8 bytes
    frame    [u32 length][u32 crc32 of payload][payload]      little endian
    payload  msgpack list of events, in the field order of `events.py`

Invariants: a file under its final name has a whole header and is locked (`flock`) by its
writer for as long as the writer lives and has not rotated; nothing is ever written into a
file after its lock was released; a failed write is cut back to the end of the last frame.
"""

import errno
import fcntl
import os
import struct
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

from msgspec import Struct

HEADER = b"TRNSEG01"
SUFFIX = ".seg"
FRAME = struct.Struct("<II")
MAX_FRAME_BYTES = 64 * 2**20
"""A longer frame is taken for corruption. Writers stay far below it."""

_ARRAY16, _ARRAY32 = 0xDC, 0xDD


def frame(payload: bytes) -> bytes:
    """One frame around a payload."""
    return FRAME.pack(len(payload), zlib.crc32(payload)) + payload


class Writer:
    """Appends frames to one segment file.

    Args:
        path: Final name. The file appears under it complete with header and lock.
        write: `os.write`, or something that fails on purpose.

    Raises:
        OSError: The file cannot be created; nothing is left behind.
    """

    def __init__(self, path: Path, *, write: Callable[[int, bytes], int] = os.write) -> None:
        self.path = path
        self.size_bytes = 0
        self._write = write
        draft = path.with_suffix(".draft")
        self._fd = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._append(HEADER)
            draft.rename(path)
        except OSError:
            os.close(self._fd)
            draft.unlink(missing_ok=True)
            raise

    def append(self, data: bytes) -> None:
        """Write whole frames into the page cache; they survive the death of this process.

        Raises:
            OSError: Nothing of `data` is in the file, unless `broken` is set afterwards: then
                the file ends in a torn frame and must not be written to again.
        """
        self._append(data)

    @property
    def broken(self) -> bool:
        """True when a failed write could not be cut back; close this writer and take a new file."""
        return self.size_bytes < 0

    @property
    def deleted(self) -> bool:
        """True when the file has lost its name: whatever is written to it, nobody will find."""
        return os.fstat(self._fd).st_nlink == 0

    def close(self) -> None:
        """Release the file: from now on the recorder may delete it once it is shipped."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _append(self, data: bytes) -> None:
        written = 0
        try:
            while written < len(data):
                count = self._write(self._fd, data[written:] if written else data)
                if count <= 0:
                    raise OSError(errno.EIO, "the disk took no bytes")
                written += count
        except OSError:
            if written:
                self._cut_back()
            raise
        self.size_bytes += written

    def _cut_back(self) -> None:
        try:
            os.ftruncate(self._fd, self.size_bytes)
        except OSError:
            self.size_bytes = -1


class Piece(Struct, frozen=True):
    """A stretch of a segment file.

    Attributes:
        offset: Where it starts in the file.
        end: First byte after it.
        payload: The frame's payload; None for a damaged stretch.
    """

    offset: int
    end: int
    payload: bytes | None


def scan(data: bytes, start: int = 0, *, final: bool = False) -> Iterator[Piece]:
    """Whole frames of a stretch of a segment, and the damaged stretches between them.

    A beginning of a frame at the end is not returned: it may still be being written.

    Args:
        data: File content from a frame border (or from the header's end) on.
        start: Offset of `data[0]` in the file.
        final: Nothing will follow `data`: an unfinished end is damage, and is returned as such.
    """
    at = 0
    while at < len(data):
        end = _frame_end(data, at)
        if end is not None:
            yield Piece(start + at, start + end, data[at + FRAME.size : end])
            at = end
            continue
        if not final and _may_grow(data, at):
            return
        found = _next_frame(data, at + 1)
        if found is None:
            if final:
                yield Piece(start + at, start + len(data), None)
            return
        yield Piece(start + at, start + found, None)
        at = found


def writer_gone(descriptor: int) -> bool:
    """Whether nobody will write to this open segment any more (rotated, closed or dead)."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    fcntl.flock(descriptor, fcntl.LOCK_UN)
    return True


def _may_grow(data: bytes, at: int) -> bool:
    """Whether the unfinished end looks like the beginning of a frame, and not like damage."""
    if len(data) - at < FRAME.size:
        return True
    length: int = FRAME.unpack_from(data, at)[0]
    return 0 < length <= MAX_FRAME_BYTES and len(data) - at < FRAME.size + length


def _frame_end(data: bytes, at: int) -> int | None:
    """End of the whole, undamaged frame at this place; None when there is none."""
    if len(data) - at < FRAME.size:
        return None
    length, checksum = FRAME.unpack_from(data, at)
    end: int = at + FRAME.size + length
    if not 0 < length <= MAX_FRAME_BYTES or end > len(data):
        return None
    return end if zlib.crc32(memoryview(data)[at + FRAME.size : end]) == checksum else None


def _next_frame(data: bytes, at: int) -> int | None:
    """Next place where a whole frame stands; candidates must begin like a list of events."""
    for place in range(at, len(data) - FRAME.size):
        first = data[place + FRAME.size]
        if (0x90 < first <= 0x9F or first in (_ARRAY16, _ARRAY32)) and _frame_end(data, place) is not None:
            return place
    return None
