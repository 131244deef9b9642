"""A document in one YAML file, or in a directory of them, followed by polling.

One file: `turnout.yaml`, and its stage files `turnout.STAGE.yaml` beside it.
A directory: every `*.yaml` and `*.yml` in it, not in folders below, not beginning with a dot.

Polling, because it sees everything alike: editors that write in place or rename over,
the symlink swap that Kubernetes does for mounted ConfigMaps (`..data`), network and
container file systems that send no notifications. One look costs about 20 microseconds a file.
Called by the supervisor and the embedded server. Standard library only.
"""

import asyncio
import os
import stat
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import TypeAlias

from turnout.errors import UnavailableError
from turnout.sources.base import Change, Files
from turnout.spec import stages

POLL_S = 0.05
QUIET_S = 0.15
FILES_LIMIT = 200
FILE_BYTES_LIMIT = 2 * 2**20
TOTAL_BYTES_LIMIT = 8 * 2**20

Signature: TypeAlias = tuple[tuple[object, ...], ...]


class FileSource:
    """A document on a file system.

    Args:
        path: The file or directory. Names of files are shown as this path says them.
        stage: Only changes of the document itself and of this stage ("" for none) are told;
            None tells those of all stages.
        poll_s: Seconds between looks.
        quiet_s: Seconds without any change before a change counts.
        clock: Monotonic seconds.
        sleep: Waits that many seconds.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        stage: str | None = None,
        poll_s: float = POLL_S,
        quiet_s: float = QUIET_S,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._path = Path(path)
        self._stage = stage
        self._poll_s, self._quiet_s = poll_s, quiet_s
        self._clock, self._sleep = clock, sleep
        self._known: Files | None = None
        home = self._path if self._path.is_dir() else self._path.parent
        self.directory = os.path.abspath(home)  # noqa: PTH100  # resolve() would follow ConfigMap links, which move

    async def read(self) -> Files:
        """The document as it is now; all of its stage files too.

        Raises:
            UnavailableError: No file, no readable file, or too many or too large ones.
        """
        self._known = None
        self._known = self._load()
        return dict(self._known)

    async def changes(self) -> AsyncIterator[Change]:
        """Every change since the last `read`; see `base.Source.changes`."""
        missing = False
        seen: Signature | None = None
        moved_at: float | None = None
        while True:
            signature = self._signature()
            if signature != seen:
                seen, moved_at = signature, self._clock()
            elif moved_at is not None and self._clock() - moved_at >= self._quiet_s:
                loaded = self._attempt()
                if self._signature() == seen:  # else it was written while it was read: wait for quiet again
                    moved_at = None
                    if self._news(loaded, missing):
                        yield loaded
                    missing = isinstance(loaded, UnavailableError)
            await self._sleep(self._poll_s)

    def _news(self, loaded: Change, missing: bool) -> bool:
        """Whether this is to be told, seeing what was told last; remembers the text."""
        if isinstance(loaded, UnavailableError):
            return not missing
        known, self._known = self._known, dict(loaded)
        return missing or known is None or self._relevant(loaded) != self._relevant(known)

    def _attempt(self) -> Change:
        try:
            return self._load()
        except UnavailableError as error:
            return error

    def _relevant(self, files: Files) -> Files:
        if self._stage is None:
            return files
        return {file: text for file, text in files.items() if stages.stage_of(file, files) in ("", self._stage)}

    def _load(self) -> Files:
        files: Files = {}
        total = 0
        try:
            names = self._names()
            for path in names:
                content = _content(path)
                total += len(content)
                files[str(path)] = content.decode("utf-8", "replace")  # parsing names the line that is not UTF-8
        except FileNotFoundError as error:
            raise UnavailableError(
                f"no document at {self._path}: {error.filename or self._path} is not there.",
                hint="Give the path of a turnout.yaml or of a directory of them.",
            ) from error
        except OSError as error:
            raise UnavailableError(
                f"the document at {self._path} cannot be read: {error.strerror or error}."
            ) from error
        if total > TOTAL_BYTES_LIMIT:
            raise UnavailableError(f"the document at {self._path} is larger than {TOTAL_BYTES_LIMIT // 2**20} MiB.")
        if not files:
            raise UnavailableError(
                f"the directory {self._path} holds no *.yaml file.", hint="Write a turnout.yaml; `turnout init` does."
            )
        return files

    def _names(self) -> list[Path]:
        """The files of the document, sorted. Raises OSError when the document itself is not there."""
        if self._path.is_dir():
            candidates = [name for name in os.listdir(self._path) if stages.stem(name)]  # noqa: PTH208  # names only
            names = [self._path / name for name in candidates if (self._path / name).is_file()]
        else:
            self._path.stat()
            own = stages.stem(self._path.name) or self._path.name
            beside = [name for name in os.listdir(self._path.parent) if stages.stem(name).startswith(own + ".")]  # noqa: PTH208
            both = (self._path.name, *beside)
            names = [
                self._path.parent / name for name in both if name == self._path.name or stages.stage_of(name, both)
            ]
        if len(names) > FILES_LIMIT:
            raise UnavailableError(
                f"{self._path} holds {len(names)} YAML files; at most {FILES_LIMIT} make a document."
            )
        return sorted(names)

    def _signature(self) -> Signature:
        """Equal while nothing moved: where links lead, inodes, sizes and times of every file."""
        try:
            return tuple(_identity(path) for path in self._names())
        except (OSError, UnavailableError) as error:
            return ((type(error).__name__,),)


def _identity(path: Path) -> tuple[object, ...]:
    try:
        status = path.stat()
    except OSError as error:
        return (str(path), error.errno)
    target = os.path.realpath(path)
    return (str(path), target, status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)


def _content(path: Path) -> bytes:
    """The bytes of a regular file; a pipe or device would block."""
    with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as opened:  # noqa: PTH123  # a descriptor
        if not stat.S_ISREG(os.fstat(opened.fileno()).st_mode):
            raise UnavailableError(f"{path} is not a regular file.")
        content = opened.read(FILE_BYTES_LIMIT + 1)
    if len(content) > FILE_BYTES_LIMIT:
        raise UnavailableError(f"{path} is larger than {FILE_BYTES_LIMIT // 2**20} MiB.")
    return content
