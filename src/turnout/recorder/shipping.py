"""Ships segment files to the store, and deletes what is shipped.

Called by `recorder/app.py` in a loop and by `turnout report` once; calls the store. The checkpoint
moves in the transaction that keeps the events, so that each event arrives once whatever dies when.

Invariants: an event leaves the disk only after the store has it (or the quarantine); a segment is
deleted only when its writer has released it; memory is bounded by `Settings.read_bytes`.
"""

import logging
import os
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import msgspec

from turnout.eventlog import segments
from turnout.events import Event
from turnout.recorder import quarantine
from turnout.stores import base

logger = logging.getLogger("turnout.recorder")
_DRAFT_AGE_S = 60.0
"""Age at which a segment without header is a dead worker's."""


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """Limits of shipping."""

    read_bytes: int = 2**19
    """Read and ship so much of a segment at a time: about 1,500 events, one transaction."""


DEFAULTS = Settings()


class Progress(msgspec.Struct, kw_only=True):
    """What one pass over the folder did.

    Attributes:
        events: Events handed to the store (those it knew already included).
        left_bytes: Bytes that lie in segments and are not shipped.
        segments: Segment files that remain, shipped or not.
        live: Segments that a worker still writes.
    """

    events: int = 0
    left_bytes: int = 0
    segments: int = 0
    live: int = 0


class Shipper:
    """Moves the events of one `segments/` folder to one store.

    Args:
        directory: The folder; it may not exist yet.
        store: Where events go.
        subject: Keyed hash of a unit.
        clock: Seconds since the epoch.

    Raises:
        StoreError: The store cannot tell its checkpoints.
    """

    def __init__(
        self,
        directory: Path,
        store: base.EventStore,
        subject: base.Subject,
        *,
        settings: Settings = DEFAULTS,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._directory = directory
        self._store = store
        self._subject = subject
        self._settings = settings
        self._clock = clock
        self._decode = msgspec.msgpack.Decoder(list[Event]).decode
        self._offsets = store.checkpoints()
        self.quarantine = quarantine.Quarantine(directory / "broken")
        self.refused = 0
        self._forget_the_deleted()

    def ship(self, keep_going: Callable[[], bool] = lambda: True) -> Progress:
        """One pass: ship what is complete now, oldest segment first.

        Args:
            keep_going: Asked between transactions; False ends the pass early.

        Raises:
            StoreError: The store took nothing of what was under way; all of it stays on disk.
            OSError: The folder cannot be read, or the quarantine written.
        """
        progress = Progress()
        paths = self._segment_files()
        done = [path.name for path in paths if self._ship_segment(path, progress, keep_going)]
        if done:
            self._store.forget(done)
            for name in done:
                self._offsets.pop(name, None)
        return progress

    # -- one segment

    def _ship_segment(self, path: Path, progress: Progress, keep_going: Callable[[], bool]) -> bool:
        """Ship what is whole. True when the segment was finished and deleted."""
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            gone = segments.writer_gone(descriptor)  # asked before the size: nothing can follow what is read then
            size = os.fstat(descriptor).st_size
            offset = self._offsets.get(path.name, 0)
            while offset < size and keep_going():
                shipped = self._ship_stretch(path.name, descriptor, offset, size if gone else -1)
                if shipped is None:
                    break
                offset, events = shipped
                progress.events += events
        finally:
            os.close(descriptor)
        if gone and offset >= size:
            path.unlink()
            return True
        progress.segments += 1
        progress.live += not gone
        progress.left_bytes += max(size - offset, 0)  # more may have been read than was there when asked
        return False

    def _ship_stretch(self, name: str, descriptor: int, offset: int, last: int) -> tuple[int, int] | None:
        """Ship one read. Returns the new offset and the number of events; None when there is no whole frame."""
        length = self._settings.read_bytes
        while True:
            data = os.pread(descriptor, length, offset)
            final = offset + len(data) == last
            pieces = self._pieces(data, offset, final)
            if pieces or len(data) < length:
                break
            length = min(2 * length, segments.MAX_FRAME_BYTES + segments.FRAME.size)
            if len(data) >= length:
                break
        if not pieces:
            return None
        end = pieces[-1].end
        events = [event for piece in pieces for event in self._events(name, piece, data, offset)]
        self._keep(events, base.Checkpoint(name, end))
        self._offsets[name] = end
        return end, len(events)

    def _pieces(self, data: bytes, offset: int, final: bool) -> list[segments.Piece]:
        header = len(segments.HEADER)
        if offset == 0 and data[:header] == segments.HEADER:
            # The header counts as an empty piece, so that a segment without events is finished too.
            return [segments.Piece(0, header, b"\x90"), *segments.scan(data[header:], header, final=final)]
        return list(segments.scan(data, offset, final=final))

    def _events(self, name: str, piece: segments.Piece, data: bytes, start: int) -> list[Event]:
        why = "damaged bytes"
        if piece.payload is not None:
            try:
                return self._decode(piece.payload)
            except (msgspec.DecodeError, UnicodeDecodeError) as error:
                why = f"not a list of events ({error})"
        self.quarantine.keep(name, piece.offset, data[piece.offset - start : piece.end - start], why)
        return []

    def _keep(self, events: list[Event], checkpoint: base.Checkpoint | None) -> None:
        """Hand events to the store; when it refuses them, find those it refuses and put them aside."""
        try:
            self._store.append(events, checkpoint, ingested_at=self._clock(), subject=self._subject)
        except base.RefusedError as error:
            if not events:
                raise
            if len(events) > 1:
                middle = len(events) // 2
                self._keep(events[:middle], None)
                self._keep(events[middle:], checkpoint)
                return
            self.refused += 1
            record = msgspec.json.encode(events[0])
            self.quarantine.keep(f"refused-{events[0].event_id[:64]}".replace("/", "_"), 0, record, str(error))
            self._keep([], checkpoint)

    # -- the folder

    def _segment_files(self) -> list[Path]:
        try:
            names = sorted(path.name for path in self._directory.iterdir())
        except FileNotFoundError:
            return []
        self._sweep(name for name in names if name.endswith(".draft"))
        return [self._directory / name for name in names if name.endswith(segments.SUFFIX)]

    def _sweep(self, drafts: Iterable[str]) -> None:
        """Delete what a worker left that died between creating a segment and naming it: it holds no event."""
        for name in drafts:
            path = self._directory / name
            try:
                if self._clock() - path.stat().st_mtime > _DRAFT_AGE_S:
                    path.unlink()
            except FileNotFoundError:
                continue

    def _forget_the_deleted(self) -> None:
        present = {path.name for path in self._segment_files()}
        absent = [name for name in self._offsets if name not in present]
        if absent:
            self._store.forget(absent)
            for name in absent:
                del self._offsets[name]
