"""The event log of one worker: takes records from requests, flushes them to segment files.

Called by dispatch and the outcome route; calls nothing but the file system. A request never
waits for it and never fails because of it: what cannot be kept is counted by type and variant.

    append ──▶ buffer ──▶ one msgpack list per flush ──▶ frame in the current segment ──▶ recorder

Invariants: every method runs on one event loop; an event that was taken is on disk within
`Settings.flush_s` (it then survives `kill -9` of this process), or waits for a full disk; nothing
in here grows beyond the limits in `Settings`.
"""

import asyncio
import contextlib
import logging
import os
import time
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import msgspec

from turnout import telemetry
from turnout.eventlog import segments
from turnout.events import Comparison, Event, Exposure, Outcome, Prediction

logger = logging.getLogger("turnout.eventlog")
_TYPES: dict[type, str] = {
    Exposure: "exposure",
    Prediction: "prediction",
    Outcome: "outcome",
    Comparison: "comparison",
}
_SINK = "segments"


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """Limits of one worker's event log."""

    flush_s: float = 0.04
    """Longest time an event waits in memory, in seconds. The promise is 50 ms; the rest is the loop's lag."""
    flush_events: int = 512
    """Flush earlier once so many wait: encoding and writing them holds the loop for about 1 ms."""
    buffer_events: int = 50_000
    """Most events kept in memory while the disk takes none (about 50 MB)."""
    segment_bytes: int = 64 * 2**20
    """Rotate a segment at this size: the recorder deletes whole segments only."""
    segment_age_s: float = 60.0
    """Rotate a segment of this age, so that an idle worker leaves no file behind."""
    limit_bytes: int = 2**30
    """Most bytes of all segments in the folder, shipped or not; the host's spool while the store is down."""
    soft_ratio: float = 0.8
    """Share of `limit_bytes` or `buffer_events` above which predictions are sampled, down to none at the limit."""
    survey_s: float = 1.0
    """How often the folder's size is looked at while events flow, in seconds."""
    retry_s: float = 1.0
    """Pause after a failed write, in seconds."""


DEFAULTS = Settings()


class EventLog:
    """Appends events to segment files in `directory`.

    Args:
        directory: The state folder's `segments/`; created when missing.
        worker: Name of this worker, unique on the host at one time; part of the file names.
        clock: Seconds since the epoch.
        registry: Where drops and failed writes are counted.
        write: `os.write`, or something that fails on purpose.
    """

    def __init__(
        self,
        directory: Path,
        worker: str,
        *,
        registry: telemetry.Registry,
        settings: Settings = DEFAULTS,
        clock: Callable[[], float] = time.time,
        write: Callable[[int, bytes], int] = os.write,
    ) -> None:
        self._directory = directory
        self._worker = worker
        self._settings = settings
        self._clock = clock
        self._write = write
        self._buffer: list[Event] = []
        self._stuck: list[Event] = []
        self._stuck_frame = b""
        self._pressure = 0.0
        self._segment: segments.Writer | None = None
        self._rotation: asyncio.TimerHandle | None = None
        self._segments_opened = 0
        self._done = 0
        self._surveyed = float("-inf")
        self._spool_bytes = 0
        self._loop: asyncio.AbstractEventLoop | None = None
        self._timer: asyncio.Handle | None = None
        self._closed = False
        self._failing = False
        self._encode = msgspec.msgpack.Encoder().encode
        self._dropped = registry.counter(
            telemetry.EVENTS_DROPPED,
            "Events that were not kept, by the place that had to drop them.",
            ("type", "variant", "sink"),
        )
        self._failures = registry.counter(
            telemetry.EVENT_WRITE_FAILURES, "Failed writes to a segment file; each is retried."
        ).labels()

    @property
    def pressure(self) -> float:
        """How full the spool or the buffer is: below 1 everything but sampled predictions is taken."""
        return self._pressure

    @property
    def waiting(self) -> int:
        """Events not on disk yet."""
        return len(self._buffer) + len(self._stuck)

    def start(self) -> None:
        """Begin to flush; call it on the event loop that will append."""
        self._loop = asyncio.get_running_loop()
        self._directory.mkdir(parents=True, exist_ok=True)
        self._survey(self._clock())
        if self._buffer:
            self._arm(self._settings.flush_s)

    def append(self, event: Event) -> bool:
        """Take one event. O(1), about 0.2 µs; never blocks, never raises.

        Returns:
            False when it was dropped (and counted): the spool is full, or the log is closed.
        """
        if self._pressure and not self._admits(event):
            self._refuse(event)
            return False
        buffer = self._buffer
        buffer.append(event)
        if self._timer is None:
            self._arm(self._settings.flush_s)
        elif not len(buffer) % self._settings.flush_events:
            self._on_count()
        return True

    @property
    def takes(self) -> bool:
        """Whether an event appended now would be on disk soon: there is room, and the last write went well."""
        return self._pressure < 1.0 and not self._failing

    async def flush(self) -> bool:
        """Return when all that was appended before is in the file: True; or when the disk takes nothing now: False."""
        target = self._done + self.waiting
        while self._done < target and self._write_chunk():  # noqa: ASYNC110 - requests run between the chunks
            await asyncio.sleep(0)
        return self._done >= target

    async def close(self) -> None:
        """Flush, release the segment, and take no more events. What the disk refuses is counted as dropped."""
        await self.flush()
        self._closed = True
        self._pressure = float("inf")
        lost = [*self._stuck, *self._buffer]
        if lost:
            self._count_drops(lost)
            logger.error("event log closed with %d events that no disk took; they are lost and counted", len(lost))
        self._stuck, self._buffer, self._stuck_frame = [], [], b""
        if self._timer is not None:
            self._timer.cancel()
        self._rotate()

    # -- taking

    def _admits(self, event: Event) -> bool:
        """Above the soft limit comparisons go, and predictions thin out; everything else is taken up to the limit."""
        if self._closed or self._pressure >= 1.0 or isinstance(event, Comparison):
            return False
        if not isinstance(event, Prediction):
            return True
        soft = self._settings.soft_ratio
        kept_ratio = (1.0 - self._pressure) / (1.0 - soft)
        return zlib.crc32(event.event_id.encode()) < kept_ratio * 2**32

    def _refuse(self, event: Event) -> None:
        self._count_drops((event,))
        if self._timer is None and not self._closed:
            self._arm(self._settings.survey_s)  # nothing else would look whether there is room again

    def _count_drops(self, events: Iterable[Event]) -> None:
        for (kind, variant), count in Counter((_TYPES[type(e)], getattr(e, "variant", "")) for e in events).items():
            self._dropped.labels(kind, variant, _SINK).inc(count)

    def _feel_pressure(self) -> None:
        settings = self._settings
        fill = max(self._spool_bytes / settings.limit_bytes, self.waiting / settings.buffer_events)
        self._pressure = fill if fill > settings.soft_ratio else 0.0

    # -- flushing

    def _arm(self, delay_s: float) -> None:
        if self._loop is not None and not self._loop.is_closed():
            self._timer = self._loop.call_later(delay_s, self._on_timer)

    def _on_count(self) -> None:
        """Enough wait for a flush: do it in the next round of the loop, outside of the request."""
        if self._stuck:
            self._feel_pressure()
        elif self._loop is not None and self._timer is not None:
            self._timer.cancel()
            self._timer = self._loop.call_soon(self._on_timer)

    def _on_timer(self) -> None:
        self._timer = None
        if not self._write_chunk():
            self._arm(self._settings.retry_s)
        elif self._buffer:
            self._arm(0.0)

    def _write_chunk(self) -> bool:
        """Write at most two flushes' worth of events as one frame. False when the disk refused it."""
        now = self._clock()
        most = 2 * self._settings.flush_events
        if not self._stuck and self._buffer:
            self._stuck, self._buffer = self._buffer[:most], self._buffer[most:]
            payload = self._encoded(self._stuck)
            self._stuck_frame = segments.frame(payload) if payload else b""
        taken = self._write_stuck(now)
        if now - self._surveyed >= self._settings.survey_s:
            self._survey(now)
        elif self._pressure or not taken:
            self._feel_pressure()
        return taken

    def _write_stuck(self, now: float) -> bool:
        if not self._stuck:
            return True
        try:
            if self._stuck_frame:
                if self._segment is not None and self._segment.deleted:
                    logger.error(
                        "somebody deleted a segment in %s while it was written; a new one begins", self._directory
                    )
                    self._rotate()
                segment = self._segment or self._open(now)
                segment.append(self._stuck_frame)
                self._spool_bytes += len(self._stuck_frame)
                if segment.size_bytes >= self._settings.segment_bytes:
                    self._rotate()
        except OSError as error:
            self._failures.inc()
            if not self._failing:
                text = "cannot write events (%s); they wait in memory and are retried. Free space in %s"
                logger.warning(text, error, self._directory)
            self._failing = True
            if self._segment is not None and self._segment.broken:
                self._rotate()
            return False
        self._failing = False
        self._done += len(self._stuck)
        self._stuck, self._stuck_frame = [], b""
        return True

    def _encoded(self, events: Sequence[Event]) -> bytes:
        """The events as one payload; what cannot be encoded (a lone surrogate, a foreign type) is dropped alone."""
        try:
            return self._encode(events)
        except (TypeError, ValueError, OverflowError):
            good, bad = [], []
            for event in events:
                try:
                    good.append(msgspec.Raw(self._encode(event)))
                except (TypeError, ValueError, OverflowError) as error:
                    bad.append(event)
                    logger.warning("event %r cannot be encoded and is dropped: %s", event.event_id, error)
            self._count_drops(bad)
            return self._encode(good) if good else b""

    # -- files

    def _open(self, now: float) -> segments.Writer:
        self._segments_opened += 1
        name = f"{int(now * 1000):013d}-{self._worker}-{os.getpid()}-{self._segments_opened}{segments.SUFFIX}"
        self._directory.mkdir(parents=True, exist_ok=True)
        self._segment = segments.Writer(self._directory / name, write=self._write)
        if self._loop is not None:
            self._rotation = self._loop.call_later(self._settings.segment_age_s, self._rotate)
        return self._segment

    def _rotate(self) -> None:
        if self._rotation is not None:
            self._rotation.cancel()
            self._rotation = None
        if self._segment is not None:
            self._segment.close()
            self._segment = None

    def _survey(self, now: float) -> None:
        """See how much lies in the folder, other workers' segments included."""
        self._surveyed = now
        total = 0
        with contextlib.suppress(OSError), os.scandir(self._directory) as entries:
            for entry in entries:
                with contextlib.suppress(OSError):
                    total += entry.stat().st_size
        self._spool_bytes = total
        self._feel_pressure()
