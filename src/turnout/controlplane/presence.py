"""This server among its fleet: announces itself, sees the others, and writes the history of revisions.

`Presence` and `History` are duties, called by `duties.keep`.
"""

import asyncio
from pathlib import Path

import msgspec
from msgspec import structs

from turnout.controlplane import authors, duties
from turnout.spec.stages import OVERLAY
from turnout.stores import control
from turnout.transport import control as channel

FORGET_S = 24 * 3600.0
"""Replicas that were not seen for so long leave the table."""


class Presence:
    """Announces this server every few seconds, and at once when something changed; reads who else is there."""

    name = "presence"

    def __init__(self, context: duties.Context) -> None:
        self.interval_s = context.settings.announce_s
        self.wake = asyncio.Event()
        self._context = context
        self._id = ""

    async def run(self) -> None:
        """Announce, look around, tell the supervisor."""
        context = self._context
        reply = await context.ask(channel.Presence())
        assert isinstance(reply, channel.PresenceReply)
        now = context.clock()
        own = structs.replace(msgspec.json.decode(reply.payload, type=control.Replica), seen=now)
        self._id = own.id

        def exchange(store: control.ControlStore) -> list[control.Replica]:
            store.announce(own, forget_before=now - FORGET_S)
            seen = store.replicas(since=now - control.GONE_S)
            return [one for one in seen if one.seen <= now + control.GONE_S]  # else written by a clock that was wrong

        context.replicas = tuple(await context.control.call(exchange))
        context.seen_at = now
        context.publish()

    async def close(self) -> None:
        """Leave, so that the others need not wait for the silence to tell them."""
        if self._id:
            await self._context.control.call(lambda store: store.leave(self._id))


class History:
    """Writes every revision that comes into force into the store, once for the whole fleet."""

    name = "history"

    def __init__(self, context: duties.Context) -> None:
        self.interval_s = context.settings.announce_s
        self.wake = asyncio.Event()
        self._context = context
        self._told = 0
        self._number: int | None = None

    async def run(self) -> None:
        """Write down what came into force since the last round."""
        while True:
            reply = await self._context.ask(channel.Chapters(after=self._told))
            assert isinstance(reply, channel.ChaptersReply)
            chapters = msgspec.json.decode(reply.payload, type=list[tuple[int, control.RevisionRecord]])
            if not chapters:
                return
            for number, record in chapters:
                await self._write(await self._signed(record))
                self._told = number

    async def _write(self, record: control.RevisionRecord) -> None:
        after = self._number
        self._number = await self._context.control.call(lambda store: store.record(record, after=after))

    async def _signed(self, record: control.RevisionRecord) -> control.RevisionRecord:
        if record.author:
            return record
        files = [Path(name) for name in record.document if name != OVERLAY]
        given = self._context.settings.author
        author, reason = await asyncio.to_thread(authors.of, files, given=given)
        return structs.replace(record, author=author, reason=record.reason or reason)

    async def close(self) -> None:
        """Write what is left."""
        await self.run()
