"""The claim on a state folder: one server per folder, and a note that says where that server is.

The claim is a file lock: it ends with the process, however that ends. The note (`supervisor.json`)
is for people's commands: `status`, `reload`, `call` find the running server by it.
"""

import contextlib
import fcntl
import os
from pathlib import Path
from typing import BinaryIO

import msgspec

from turnout.errors import ConflictError

NOTE = "supervisor.json"
LOCK = "supervisor.lock"


class Running(msgspec.Struct, frozen=True, kw_only=True):
    """Where a server runs.

    Attributes:
        url: To reach it from this machine.
        started: Seconds since the epoch.
        document: Path of the document it serves.
    """

    pid: int
    host: str
    port: int
    url: str
    started: float
    document: str
    stage: str = ""


class Claim:
    """Holds a state folder for one process.

    >>> import tempfile
    >>> folder = Path(tempfile.mkdtemp())
    >>> claim = Claim(folder)
    >>> claim.take()
    >>> claim.release()
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._lock: BinaryIO | None = None

    def take(self) -> None:
        """Lock the folder, making it if needed.

        Raises:
            ConflictError: Another server holds it; the message says which.
        """
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            lock = (self.folder / LOCK).open("ab")
        except OSError as exc:
            raise ConflictError(
                f"the state folder {self.folder} cannot be used: {exc.strerror}.",
                hint="Give a folder this user may write to with --state DIR.",
            ) from exc
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as exc:
            lock.close()
            other = running(self.folder)
            who = f"a server (pid {other.pid}, {other.url})" if other else "a server that is just starting or stopping"
            raise ConflictError(
                f"{who} already uses the state folder {self.folder}.",
                hint="Stop it first, or give this one a folder of its own with --state DIR.",
            ) from exc
        self._lock = lock
        with contextlib.suppress(FileNotFoundError):  # left by one that was killed
            (self.folder / NOTE).unlink()

    def note(self, note: Running) -> None:
        """Say where this server is."""
        target = self.folder / NOTE
        draft = target.with_name(f".{NOTE}.{os.getpid()}")
        draft.write_bytes(msgspec.json.encode(note) + b"\n")
        draft.replace(target)

    def release(self) -> None:
        """Remove the note and the lock; safe to call twice."""
        if self._lock is None:
            return
        with contextlib.suppress(FileNotFoundError):
            (self.folder / NOTE).unlink()
        self._lock.close()
        self._lock = None


def running(folder: Path) -> Running | None:
    """The server that holds the folder, or None.

    The lock decides, not the process id: after a `kill -9` the note stays, and the id may be somebody else's.
    """
    try:
        with (folder / LOCK).open("rb") as lock:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        return None
    except BlockingIOError:
        pass
    except OSError:
        return None
    try:
        return msgspec.json.decode((folder / NOTE).read_bytes(), type=Running)
    except (OSError, msgspec.DecodeError):
        return None
