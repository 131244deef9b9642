"""The loaded models of one process, shared by every assembly that names them.

A model that did not change between two documents is the same entry, so it stays loaded;
the last assembly that lets go of an entry unloads it.
"""

import asyncio
from collections.abc import Callable

from turnout.models import host

UNLOAD_TIMEOUT_S = 30.0


class _Entry:
    def __init__(self, loaded: host.Host) -> None:
        self.host = loaded
        self.users = 0
        self.opening: asyncio.Task[None] | None = None


class Pool:
    """Models by identity: the digest of everything that decides how a model loads and behaves."""

    def __init__(self) -> None:
        self._entries: dict[str, _Entry] = {}

    async def acquire(self, identity: str, create: Callable[[], host.Host]) -> host.Host:
        """The loaded and warm model of this identity, loading it if it is new.

        Raises:
            TurnoutError: Loading failed; nothing is kept.
        """
        entry = self._entries.get(identity)
        if entry is None:
            entry = self._entries[identity] = _Entry(create())
            entry.opening = asyncio.ensure_future(entry.host.open())
        entry.users += 1
        if entry.opening is not None:
            try:
                await asyncio.shield(entry.opening)
            except BaseException:
                await self.release(identity)
                raise
        return entry.host

    async def release(self, identity: str) -> None:
        """Let go of one acquired model; the last user unloads it."""
        entry = self._entries[identity]
        entry.users -= 1
        if entry.users == 0:
            del self._entries[identity]
            await entry.host.close(UNLOAD_TIMEOUT_S)

    async def close(self) -> None:
        """Unload everything, whoever still uses it."""
        entries, self._entries = list(self._entries.values()), {}
        await asyncio.gather(*(entry.host.close(UNLOAD_TIMEOUT_S) for entry in entries))
