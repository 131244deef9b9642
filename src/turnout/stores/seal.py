"""`python -m turnout.stores.seal FOLDER`: seal what has reached a store into Parquet, hour by hour.

The store's URL is read from standard input, so that its password shows in no process list. A program of its own,
at low priority: the recorder, which starts it every hour, neither waits for it nor has Arrow in its memory. It
reads the store and changes nothing there; killed at any time it loses nothing, the next run goes on.

Memory is bounded: rows go through in batches, at most `Settings.hours` files are open at once.
"""

import argparse
import contextlib
import fcntl
import math
import os
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec

from turnout.errors import StoreError
from turnout.stores import base, catalog, sealed


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """Times and limits of sealing."""

    range_s: float = base.HOUR_S
    """Arrivals of so long are sealed together; files are by hour whatever this is."""
    grace_s: float = 60.0
    """A range waits so long after its end: for transactions under way, and for hosts whose clocks are behind."""
    recheck: int = 3
    """So many ranges back, rows are counted again: what came in under an old time after all is sealed again."""
    hours: int = 32
    """Files open at once; a range whose rows happened in more hours is read several times."""


DEFAULTS = Settings()


class Sealed(msgspec.Struct, frozen=True, kw_only=True):
    """What a run did: printed as JSON.

    Attributes:
        until: Everything that arrived before is in the folder; 0 when nothing ever arrived.
        rows: Written now.
    """

    until: float
    rows: int


class SealingStoppedError(Exception):
    """Told to stop between two batches."""


def seal(
    store: base.Sealable,
    folder: Path,
    source: str,
    *,
    now: float,
    settings: Settings = DEFAULTS,
    keep_going: Callable[[], bool] = lambda: True,
) -> Sealed:
    """Seal every range that is over, oldest first; a range without rows costs next to nothing.

    Raises:
        StoreError: The store gives nothing now; what was sealed stays, the rest is done next time.
        OSError: The folder takes nothing.
        SealingStoppedError: `keep_going` said no; the same.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with _alone(folder, source):
        sealed.sweep(folder, source)
        run = _Run(store, folder, source, settings, keep_going)
        known = sealed.ledger(folder, source)
        if known is None:
            first = store.first_arrival(0.0)
            if first is None:
                return Sealed(until=0.0, rows=0)
            known = sealed.Ledger(source=source, until=first // settings.range_s * settings.range_s)
        else:
            known = run.recheck(known)
        while known.until + settings.range_s + settings.grace_s <= now:
            known = run.next(known, now)
        return Sealed(until=known.until, rows=run.rows)


class _Run:
    """One run of the program."""

    def __init__(
        self, store: base.Sealable, folder: Path, source: str, settings: Settings, keep_going: Callable[[], bool]
    ) -> None:
        self._store = store
        self._folder = folder
        self._source = source
        self._settings = settings
        self._keep_going = keep_going
        self.rows = 0

    def recheck(self, known: sealed.Ledger) -> sealed.Ledger:
        """Seal ranges again into which rows came since."""
        kept = list(known.ranges)
        for at, old in enumerate(kept):
            if at >= len(kept) - self._settings.recheck:
                hours = self._hours(old.start, old.end)
                counts = {table: sum(counted.values()) for table, counted in hours.items()}
                if any(count > old.rows.get(table, 0) for table, count in counts.items()):
                    kept[at] = self._write(old.start, old.end, hours)
        made = msgspec.structs.replace(known, ranges=tuple(kept))
        if made != known:
            sealed.write_ledger(self._folder, made)
        return made

    def next(self, known: sealed.Ledger, now: float) -> sealed.Ledger:
        """Seal the range after the last one; idle time until the next arrival is skipped."""
        settings, start = self._settings, known.until
        first = self._store.first_arrival(start)
        over = (now - settings.grace_s) // settings.range_s * settings.range_s
        busy = over if first is None else min(first // settings.range_s * settings.range_s, over)
        if busy > start:
            done = sealed.Range(start=start, end=busy, rows={})
        else:
            done = self._write(start, start + settings.range_s, self._hours(start, start + settings.range_s))
        made = sealed.Ledger(source=self._source, until=done.end, ranges=(*known.ranges, done)[-settings.recheck :])
        sealed.write_ledger(self._folder, made)
        return made

    def _hours(self, start: float, end: float) -> dict[str, dict[int, int]]:
        return {table: self._store.arrived_hours(table, start, end) for table in sealed.TABLES}

    def _write(self, start: float, end: float, hours: dict[str, dict[int, int]]) -> sealed.Range:
        written = {}
        for table, counted in hours.items():
            ordered = sorted(counted)
            chunks = [ordered[at : at + self._settings.hours] for at in range(0, len(ordered), self._settings.hours)]
            written[table] = sum(self._write_hours(table, start, end, chunk) for chunk in chunks)
        return sealed.Range(start=start, end=end, rows=written)

    def _write_hours(self, table: str, start: float, end: float, hours: list[int]) -> int:
        writer = sealed.Writer(self._folder, table, self._source, start, end)
        ts_at = sealed.TABLES[table].columns.keys().index("ts")
        first = hours[0] * base.HOUR_S if hours[0] > 0 else -math.inf
        end_ts = (hours[-1] + 1) * base.HOUR_S if hours[-1] < base.LAST_HOUR else math.inf
        count = 0
        for rows in self._store.arrived(table, start, end, happened=(first, end_ts)):
            if not self._keep_going():
                raise SealingStoppedError
            for hour, found in sealed.rows_by_hour(rows, ts_at).items():
                writer.add(hour, found)
            count += len(rows)
        writer.finish()
        self.rows += count
        return count


@contextlib.contextmanager
def _alone(folder: Path, source: str) -> Iterator[None]:
    """Be the only one who seals this store into this folder.

    Raises:
        StoreError: Somebody else does.
    """
    descriptor = os.open(folder / f".{source}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError as error:
        raise StoreError(f"another process seals this store into {folder}.", retry_after_s=60.0) from error
    finally:
        os.close(descriptor)


def main(arguments: list[str] | None = None) -> int:
    """Entry of the program. Returns the exit code: 0, or 1 with the reason on standard error."""
    parser = argparse.ArgumentParser(prog="turnout.stores.seal", description="Seal a store's events into Parquet.")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--parent", type=int, default=0, help="process to end with; default the one that started us")
    parser.add_argument("--range", type=float, default=DEFAULTS.range_s, dest="range_s", metavar="SECONDS")
    parser.add_argument("--grace", type=float, default=DEFAULTS.grace_s, dest="grace_s", metavar="SECONDS")
    given = parser.parse_args(arguments)
    url = sys.stdin.read().strip()
    parent = given.parent or os.getppid()
    settings = Settings(range_s=given.range_s, grace_s=given.grace_s)
    try:
        store = catalog.open_sealable(url)
        try:
            done = seal(
                store,
                given.folder,
                sealed.source_of(url),
                now=time.time(),
                settings=settings,
                keep_going=lambda: os.getppid() == parent,
            )
        finally:
            store.close()
    except (StoreError, OSError, SealingStoppedError) as error:
        print(str(error) or "stopped", file=sys.stderr)
        return 1
    print(msgspec.json.encode(done).decode())
    return 0


if __name__ == "__main__":
    os.nice(10)
    sys.exit(main())
