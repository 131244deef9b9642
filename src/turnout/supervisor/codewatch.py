"""Notices saved Python files, for `serve --reload`. Polls: stat is cheap, and works on every file system.

Called by `tree`.
"""

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path

POLL_S = 0.2
QUIET_S = 0.15
FILES_LIMIT = 5_000
"""Files looked at; beyond them changes go unseen, instead of a loop that never ends."""

SKIPPED = frozenset({"__pycache__", "node_modules", "site-packages"})

Signatures = dict[str, tuple[int, int]]


def signatures(folder: Path) -> Signatures:
    """Path -> (mtime in ns, size) of every *.py below, without hidden folders, environments and caches."""
    found: Signatures = {}
    for root, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith(".") and name not in SKIPPED)
        for name in names:
            if not name.endswith(".py"):
                continue
            path = Path(root) / name
            try:
                stat = path.stat()
            except OSError:
                continue
            found[str(path)] = (stat.st_mtime_ns, stat.st_size)
            if len(found) >= FILES_LIMIT:
                return found
    return found


async def changes(folder: Path, *, poll_s: float = POLL_S, quiet_s: float = QUIET_S) -> AsyncIterator[list[str]]:
    """The changed files, after `quiet_s` without a further change."""
    known = signatures(folder)
    while True:
        await asyncio.sleep(poll_s)
        seen = signatures(folder)
        if seen == known:
            continue
        while True:
            await asyncio.sleep(quiet_s)
            latest = signatures(folder)
            if latest == seen:
                break
            seen = latest
        touched = sorted({path for path, _ in seen.items() ^ known.items()})
        known = seen
        if touched:
            yield touched
