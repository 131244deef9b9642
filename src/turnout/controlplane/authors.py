"""Who wrote a document, and why: git knows it for a file that is committed, the file system for any other.

Called by `presence`. Everything here blocks, briefly.
"""

import contextlib
import os
import pwd
import subprocess
from collections.abc import Sequence
from pathlib import Path

GIT_S = 5.0
"""How long one question to git may take."""

TEXT_CHARACTERS = 500


def of(files: Sequence[Path], *, given: str = "") -> tuple[str, str]:
    """Author and reason of the document as it is on disk.

    Args:
        files: The document's files.
        given: The author to name instead of the file's owner, when git does not know one.

    Returns:
        ("Ada <ada@example.org>", "the commit's subject") when all files are committed as they are; else (`given` or
        the owner of the file that was saved last, "").
    """
    there = [path for path in files if path.is_file()]
    if not there:
        return given, ""
    told = _committed(there)
    if told is not None:
        return told
    return given or _owner(max(there, key=lambda path: path.stat().st_mtime)), ""


def _committed(files: Sequence[Path]) -> tuple[str, str] | None:
    """Author and subject of the last commit of the files; None when git knows none, or they have changed since."""
    folder = files[0].absolute().parent
    names = [str(path.absolute()) for path in files]
    known = _git(folder, "ls-files", "--error-unmatch", "--", *names)
    if known is None or _git(folder, "diff", "--quiet", "HEAD", "--", *names) is None:
        return None
    told = _git(folder, "log", "-1", "--format=%an <%ae>%x00%s", "--", *names)
    if not told:
        return None
    author, _, subject = told.strip().partition("\0")
    return author[:TEXT_CHARACTERS], subject[:TEXT_CHARACTERS]


def _git(folder: Path, *arguments: str) -> str | None:
    """What git answers; None when it fails or is not there."""
    environment = os.environ | {"GIT_OPTIONAL_LOCKS": "0", "GIT_TERMINAL_PROMPT": "0", "LC_ALL": "C"}
    try:
        ended = subprocess.run(  # noqa: S603  # no shell, and names are absolute paths
            ["git", "-C", str(folder), *arguments],  # noqa: S607  # the git that the user has
            capture_output=True,
            text=True,
            errors="replace",
            stdin=subprocess.DEVNULL,
            env=environment,
            timeout=GIT_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return ended.stdout if ended.returncode == 0 else None


def _owner(path: Path) -> str:
    number = path.stat().st_uid
    with contextlib.suppress(KeyError):
        return pwd.getpwuid(number).pw_name
    return str(number)
