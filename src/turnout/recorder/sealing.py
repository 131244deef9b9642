"""Sealing from the recorder's side: a program per hour, started and watched, never waited for.

The work itself is `turnout.stores.seal`, in a process of its own at low priority: shipping goes on meanwhile, and
this process stays small. Used by `app`.
"""

import logging
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import msgspec

logger = logging.getLogger("turnout.recorder")

PROGRAM = (sys.executable, "-m", "turnout.stores.seal")


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """Times of sealing."""

    range_s: float = 3_600.0
    """What arrived in so long is sealed together: a UTC hour."""
    grace_s: float = 60.0
    """It waits so long after its end; `turnout.stores.seal` says why."""
    retry_s: float = 60.0
    """First pause after a failure; doubles up to `range_s`."""


DEFAULTS = Settings()


class _Done(msgspec.Struct):
    """What the program prints."""

    until: float
    rows: int


class Sealing:
    """Starts the program when a range is over, and keeps what it says.

    Args:
        folder: Where Parquet files go.
        store_url: The store that is sealed.
        clock: Seconds since the epoch.
        spawn: `subprocess.Popen` or the like.

    Attributes:
        until: Everything that arrived before is sealed; 0 before the first success.
        error: Why the last run failed; "" when it did not.
    """

    def __init__(
        self,
        folder: str,
        store_url: str,
        *,
        clock: Callable[[], float],
        settings: Settings = DEFAULTS,
        spawn: Callable[..., "subprocess.Popen[bytes]"] = subprocess.Popen,
    ) -> None:
        self._folder = folder
        self._store_url = store_url
        self._clock = clock
        self._settings = settings
        self._spawn = spawn
        self._running: subprocess.Popen[bytes] | None = None
        self._due = 0.0  # at the start, for what became due while nobody was there
        self._failures = 0
        self.until = 0.0
        self.error = ""

    def tend(self) -> None:
        """Start what is due, hear what has ended. Neither blocks nor raises."""
        running = self._running
        if running is None:
            if self._clock() >= self._due:
                self._start()
        elif running.poll() is not None:
            self._running = None
            self._ended(running)

    def stop(self) -> None:
        """End a run under way; the next one does its work again. Waits for it, a second at most."""
        running, self._running = self._running, None
        if running is None:
            return
        running.terminate()
        try:
            running.communicate(timeout=1.0)
        except subprocess.TimeoutExpired:
            running.kill()
            running.communicate()

    def _start(self) -> None:
        pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        settings = self._settings
        times = ("--range", str(settings.range_s), "--grace", str(settings.grace_s))
        try:
            running = self._spawn([*PROGRAM, self._folder, *times], **pipes)
            if running.stdin is not None:
                running.stdin.write(self._store_url.encode())
                running.stdin.close()
                running.stdin = None
        except OSError as error:
            self._failed(str(error))
            return
        self._running = running

    def _ended(self, running: "subprocess.Popen[bytes]") -> None:
        output, complaint = running.communicate()
        if running.returncode != 0:
            self._failed((complaint.decode(errors="replace").strip().splitlines() or ["no message"])[-1])
            return
        done = msgspec.json.decode(output, type=_Done)
        self._failures, self.error, self.until = 0, "", done.until
        if done.rows:
            logger.info("%d events sealed into %s", done.rows, self._folder)
        length = self._settings.range_s
        self._due = (self._clock() - self._settings.grace_s) // length * length + length + self._settings.grace_s

    def _failed(self, error: str) -> None:
        if not self._failures:
            logger.warning("events could not be sealed into %s: %s; tried again", self._folder, error)
        self.error = error
        pause_s = min(self._settings.retry_s * float(2 ** min(self._failures, 16)), self._settings.range_s)
        self._failures += 1
        self._due = self._clock() + pause_s
