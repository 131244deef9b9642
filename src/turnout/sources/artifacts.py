"""Digests of artifacts: what a model's `source` names, as "sha256:...".

A file's digest is the SHA-256 of its bytes, as `sha256sum` prints it. A folder's digest is
the SHA-256 over the sorted lines `<digest of file>  <relative path>` of all files in it.
Digests are kept by path, size, times and inode, so that a reload reads no artifact twice.
"""

import hashlib
import os
import stat
from collections import OrderedDict
from collections.abc import Callable
from io import BufferedReader
from pathlib import Path

from turnout.errors import UnavailableError

FILES_LIMIT = 10_000
ATTEMPTS = 3

_Key = tuple[str, int, int, int, int, int]


def sha256(opened: BufferedReader) -> str:
    """64 hexadecimal digits of what is left to read."""
    return hashlib.file_digest(opened, "sha256").hexdigest()


class DigestCache:
    """Digests of files that have not changed since. Not shared between threads.

    Args:
        limit: Files that are remembered, and most files of one folder.
        hashing: Reads an open file to its end and gives its hexadecimal digest.
    """

    def __init__(self, *, limit: int = FILES_LIMIT, hashing: Callable[[BufferedReader], str] = sha256) -> None:
        self._limit, self._hashing = limit, hashing
        self._kept: OrderedDict[_Key, str] = OrderedDict()

    def digest(self, path: str | Path) -> str:
        """The digest of a file or folder.

        Raises:
            UnavailableError: Nothing there, not readable, neither file nor folder, or changing all the time.
        """
        place = Path(path)
        try:
            if place.is_dir():
                return f"sha256:{self._tree(place)}"
            return f"sha256:{self._file(place)}"
        except FileNotFoundError as error:
            raise UnavailableError(f"{place} is not there.", hint="Paths start at the document's folder.") from error
        except OSError as error:
            raise UnavailableError(f"{place} cannot be read: {error.strerror or error}.") from error

    def kept(self) -> dict[_Key, str]:
        """What is known, by path and status."""
        return dict(self._kept)

    def _file(self, path: Path) -> str:
        for _ in range(ATTEMPTS):
            key = _key(path)
            kept = self._kept.get(key)
            if kept is not None:
                self._kept.move_to_end(key)
                return kept
            with path.open("rb") as opened:
                digest = self._hashing(opened)
            if _key(path) == key:
                self._kept[key] = digest
                if len(self._kept) > self._limit:
                    self._kept.popitem(last=False)
                return digest
        raise UnavailableError(f"{path} changes while it is read.", hint="Try again when it is written.")

    def _tree(self, folder: Path) -> str:
        lines = []
        for root, folders, files in os.walk(folder, onerror=_raise):
            folders.sort()
            for file in files:
                path = Path(root) / file
                lines.append(f"{self._file(path)}  {path.relative_to(folder).as_posix()}\n")
                if len(lines) > self._limit:
                    raise UnavailableError(f"{folder} holds more than {self._limit:,} files.")
        if not lines:
            raise UnavailableError(f"{folder} is an empty folder.")
        return hashlib.sha256("".join(sorted(lines, key=lambda line: line[66:])).encode()).hexdigest()


def digest_under(directory: str, cache: DigestCache | None = None) -> Callable[[str], str]:
    """A function from a model's source, relative to the directory, to its digest.

    Args:
        directory: The document's folder.
        cache: Keeps digests between documents; None for a new one.
    """
    kept = cache if cache is not None else DigestCache()

    def digest(source: str) -> str:
        return kept.digest(Path(directory) / source)

    return digest


def _key(path: Path) -> _Key:
    status = path.stat()
    if not stat.S_ISREG(status.st_mode):
        raise UnavailableError(f"{path} is not a regular file.")
    return (str(path), status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)


def _raise(error: OSError) -> None:
    raise error
