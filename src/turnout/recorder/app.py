"""The recorder: `python -m turnout.recorder.app --state DIR [--store URL]`.

Started by the supervisor once per state folder; ships event segments to the store until it is told
to end (SIGTERM, SIGINT), its parent dies, or the control descriptor closes. It then ships what is
there and exits. Nobody waits for it: while it is away, segments wait.

Plain blocking code on one thread: it has nothing to do at the same time, and no event loop keeps it small.
"""

import argparse
import fcntl
import gc
import logging
import os
import select
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import FrameType

import msgspec

from turnout.errors import StoreError
from turnout.recorder import sealing, shipping, subjects
from turnout.stores import base, catalog

logger = logging.getLogger("turnout.recorder")


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """What the recorder is told, and its times."""

    state: Path
    """The state folder; segments lie in `segments/`, the default store is `events.db`."""
    store: str = ""
    """The store's URL; "" is SQLite in the state folder."""
    parquet: str = ""
    """Folder into which the store's events are sealed, hour by hour; "" does not."""
    parent: int = 0
    """Process to end with; 0 is the one that started us."""
    control: int = -1
    """Descriptor whose end of file means the same; -1 for none."""
    poll_s: float = 0.1
    """Pause after a pass that found little: the age of an event in SQL is at most about this plus the flush."""
    busy_events: int = 2_000
    """A pass with so many events is followed by the next one at once."""
    retry_s: float = 0.2
    """First pause after the store failed; doubles up to `retry_most_s`."""
    retry_most_s: float = 5.0
    linger_s: float = 10.0
    """After the parent's death: how long to wait for workers that still write."""
    status_s: float = 1.0
    """How often `recorder.json` is renewed while something changes."""

    @property
    def store_url(self) -> str:
        """The store to open."""
        return self.store or catalog.default_url(self.state)


class Status(msgspec.Struct, kw_only=True):
    """What `recorder.json` in the state folder says, for status pages and metrics.

    Attributes:
        state: "waiting" for the lock or the store, "shipping", "stopped".
        shipped: Events handed to the store since the start.
        left_bytes: Spooled bytes not shipped.
        put_aside: Damaged or refused pieces in `segments/broken`.
        error: Why the store takes nothing now; "" when it does.
        sealed_until: What arrived before is in the Parquet folder; 0 without one, or before its first hour.
        seal_error: Why sealing failed last; "" when it did not.
    """

    pid: int
    started: float
    updated: float
    state: str = "waiting"
    shipped: int = 0
    left_bytes: int = 0
    segments: int = 0
    put_aside: int = 0
    error: str = ""
    sealed_until: float = 0.0
    seal_error: str = ""


def take_lock(state: Path) -> int | None:
    """The descriptor that makes this process the folder's only recorder; None when another one is."""
    state.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(state / "recorder.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    return descriptor


def ship_once(state: Path, store_url: str = "") -> shipping.Progress | None:
    """Ship what lies in a state folder now, unless its recorder runs (then None: it does it anyway).

    Nothing is shipped into sealed events (`parquet:FOLDER`), which can only be read: None as well.

    Raises:
        StoreError: The store takes nothing; the segments stay.
    """
    lock = None if store_url.startswith("parquet:") else take_lock(state)
    if lock is None:
        return None
    try:
        store = catalog.open_store(store_url or catalog.default_url(state))
        try:
            subject = subjects.subject_function(subjects.load_key(state / "subject.key"))
            return shipping.Shipper(state / "segments", store, subject).ship()
        finally:
            store.close()
    finally:
        os.close(lock)


class Stop:
    """Why and when to end: a signal, the parent's death, the control descriptor's end."""

    def __init__(self, settings: Settings) -> None:
        self._parent = settings.parent or os.getppid()
        self._control = settings.control
        self._wake_read, self._wake_write = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self.asked = False
        self.orphaned = False

    def listen(self) -> None:
        """Take SIGTERM and SIGINT from now on."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._on_signal)
        signal.set_wakeup_fd(self._wake_write)

    def wait(self, pause_s: float) -> bool:
        """Pause, or less when there is a reason to end. Returns whether there is one."""
        if self.ended():
            return True
        watched = [self._wake_read] + ([self._control] if self._control >= 0 else [])
        readable, _, _ = select.select(watched, [], [], pause_s)
        if self._control in readable and not os.read(self._control, 4096):
            self.orphaned = True
        return self.ended()

    def rest(self, pause_s: float) -> None:
        """Pause, whatever happens."""
        time.sleep(pause_s)

    def ended(self) -> bool:
        """Whether there is a reason to end."""
        if not self.orphaned and os.getppid() != self._parent:
            self.orphaned = True
        return self.asked or self.orphaned

    def _on_signal(self, _number: int, _frame: FrameType | None) -> None:
        self.asked = True


class Recorder:
    """The loop of the program; `run` returns when all is shipped or its time is up."""

    def __init__(
        self,
        settings: Settings,
        stop: Stop,
        *,
        open_store: Callable[[str], base.EventStore] = catalog.open_store,
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._settings = settings
        self._open_store = open_store
        self._stop = stop
        self._clock = clock
        self._monotonic = monotonic
        self._store: base.EventStore | None = None
        self._shipper: shipping.Shipper | None = None
        self._failures = 0
        self._sealing = sealing.Sealing(settings.parquet, settings.store_url, clock=clock) if settings.parquet else None
        self._live = 0
        self._saved = Status(pid=0, started=0, updated=0)
        self.status = Status(pid=os.getpid(), started=clock(), updated=clock())

    def run(self) -> int:
        """Ship until told to end. Returns the exit code: 0, or 3 when events remain in segments."""
        lock = self._wait_for_lock()
        if lock is None:
            return 0
        pause_s = 0.0
        while not self._stop.wait(pause_s):
            pause_s = self._pass()
            self._seal()
            self._save_status()
        if self._sealing is not None:
            self._sealing.stop()
        left = self._finish()
        self.status.state = "stopped"
        self._save_status(now=True)
        self._shut()
        os.close(lock)
        return 3 if left else 0

    def _wait_for_lock(self) -> int | None:
        while True:
            lock = take_lock(self._settings.state)
            if lock is not None or self._stop.wait(self._settings.poll_s):
                return lock

    def _pass(self, keep_going: Callable[[], bool] = lambda: True) -> float:
        """One pass; never raises for the store's or the disk's sake. Returns the pause to make."""
        try:
            progress = self._opened().ship(keep_going)
        except (StoreError, OSError) as error:
            return self._failed(error)
        if self._failures:
            logger.warning("the store takes events again")
        self._failures = 0
        status = self.status
        status.state, status.error = "shipping", ""
        status.shipped += progress.events
        status.left_bytes, status.segments = progress.left_bytes, progress.segments
        self._live = progress.live
        return 0.0 if progress.events >= self._settings.busy_events else self._settings.poll_s

    def _seal(self) -> None:
        if self._sealing is not None:
            self._sealing.tend()
            self.status.sealed_until, self.status.seal_error = self._sealing.until, self._sealing.error

    def _opened(self) -> shipping.Shipper:
        if self._shipper is None:
            state = self._settings.state
            subject = subjects.subject_function(subjects.load_key(state / "subject.key"))
            if self._store is None:
                self._store = self._open_store(self._settings.store_url)
            self._shipper = shipping.Shipper(state / "segments", self._store, subject)
            self._shipper.quarantine.pieces = self.status.put_aside
        return self._shipper

    def _failed(self, error: Exception) -> float:
        self.status.state, self.status.error = "waiting", str(error)
        if not self._failures:
            logger.warning("%s; events wait in %s and are tried again", error, self._settings.state / "segments")
        self._failures = min(self._failures + 1, 16)
        self._shut()  # whatever stands in its place at the next try is opened anew
        return min(self._settings.retry_s * float(2 ** (self._failures - 1)), self._settings.retry_most_s)

    def _shut(self) -> None:
        store, self._store, self._shipper = self._store, None, None
        if store is not None:
            store.close()

    def _finish(self) -> int:
        """Ship what is there. An orphan waits for workers that still write. Returns bytes that remain."""
        until = self._monotonic() + self._settings.linger_s
        while True:
            self._live = 0
            pause_s = self._pass(lambda: self._monotonic() < until)
            waiting = self._failures or self.status.left_bytes or (self._stop.orphaned and self._live)
            if not waiting or self._monotonic() >= until:
                return self.status.left_bytes or self._failures
            self._stop.rest(min(pause_s, self._settings.poll_s))

    def _save_status(self, *, now: bool = False) -> None:
        status, settings = self.status, self._settings
        if self._shipper is not None:
            status.put_aside = self._shipper.quarantine.pieces
        status.updated = self._saved.updated
        if status == self._saved or (not now and self._clock() - status.updated < settings.status_s):
            return
        status.updated = self._clock()
        self._saved = msgspec.structs.replace(status)
        draft = settings.state / ".recorder.json"
        try:
            draft.write_bytes(msgspec.json.encode(status))
            draft.replace(settings.state / "recorder.json")
        except OSError as error:
            logger.warning("cannot write recorder.json: %s", error)


def main(arguments: list[str] | None = None) -> int:
    """Entry of the program. Returns the exit code."""
    parser = argparse.ArgumentParser(prog="turnout.recorder", description="Ship event segments to the store.")
    parser.add_argument("--state", type=Path, required=True, help="state folder, usually .turnout")
    parser.add_argument("--store", default="", help="store URL; default sqlite in the state folder")
    parser.add_argument("--parquet", default="", help="folder to seal events into, hour by hour; default none")
    parser.add_argument("--parent", type=int, default=0, help="process to end with; default the one that started us")
    parser.add_argument("--control", type=int, default=-1, help="descriptor whose end of file ends us")
    given = parser.parse_args(arguments)
    gc.freeze()  # what was imported stays; without this every collection walks it, 6 % of the time of a busy recorder
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    settings = Settings(
        state=given.state, store=given.store, parquet=given.parquet, parent=given.parent, control=given.control
    )
    stop = Stop(settings)
    stop.listen()
    return Recorder(settings, stop).run()


if __name__ == "__main__":
    sys.exit(main())
