"""Brings the newest overlay of the store to the supervisor, which lays it over the document on all its workers.

A duty, called by `duties.keep`. An overlay that is refused is reported where everybody sees it, and offered
again only when this server's document has changed, or a newer one was written.
"""

import asyncio

import msgspec

from turnout.controlplane import duties
from turnout.stores import control
from turnout.transport import control as channel

PREPARE_S = 600.0
"""How long the supervisor may take to bring an overlay into force: its workers may have to load models."""

REFUSALS = "turnout.overlay"
"""Name under which refusals stand among the looks; no rollout can have it."""

NOTHING = control.Overlay(number=0, at=0.0, author="", reason="", content="")


def _named(overlay: control.Overlay) -> tuple[int, float]:
    """One overlay for good: a database that was lost and made anew numbers from 1 again."""
    return overlay.number, overlay.at


class Overlays:
    """The duty; see the module's docstring."""

    name = "overlays"

    def __init__(self, context: duties.Context) -> None:
        self.interval_s = context.settings.poll_s
        self.wake = asyncio.Event()
        self._context = context
        self._done: tuple[int, float] | None = None
        self._refused: tuple[int, float] | None = None
        self._reported: tuple[int, float] | None = None

    def reconsider(self) -> None:
        """The document may be another one now: what it refused may fit."""
        self._refused = None

    async def run(self) -> None:
        """Look for a newer overlay and hand it over."""
        newest = await self._context.control.call(lambda store: store.overlay()) or NOTHING
        if _named(newest) in (self._done, self._refused):
            return
        said = channel.OverlayText(
            number=newest.number,
            content=newest.content,
            author=newest.author,
            reason=newest.reason,
            at=newest.at,
        )
        reply = await self._context.ask(said, PREPARE_S)
        assert isinstance(reply, channel.OverlayReply)
        if not reply.errors:
            self._done = _named(newest)
        elif not reply.lost:
            self._refused = _named(newest)
            await self._report(newest, reply)

    async def _report(self, overlay: control.Overlay, reply: channel.OverlayReply) -> None:
        if _named(overlay) == self._reported:
            return
        payload = {"document": reply.document, "errors": [str(error) for error in reply.errors]}
        look = control.Look(
            rollout=REFUSALS,
            phase=str(overlay.number),
            at=self._context.clock(),
            kind="refused",
            payload=msgspec.json.encode(payload).decode(),
        )
        await self._context.control.call(lambda store: store.add_look(look))
        self._reported = _named(overlay)

    async def close(self) -> None:
        """Nothing is left to do."""
