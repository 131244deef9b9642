"""A control plane's duties against a supervisor in the same process, and stores in memory."""

import asyncio
import socket
from collections.abc import Awaitable, Callable
from pathlib import Path

import msgspec
import pytest

from turnout.controlplane import duties
from turnout.stores import control, control_memory
from turnout.transport import control as channel


class Supervisor:
    """The other end of the channel: answers like a supervisor, remembers what it was told."""

    def __init__(self) -> None:
        self.replica = control.Replica(
            id="own", host="here", pid=7, revision="r1", since=50.0, workers=2, workers_current=2
        )
        self.chapters: list[tuple[int, control.RevisionRecord]] = []
        self.overlays: list[channel.OverlayText] = []
        self.refuse: list[channel.Problem] = []
        self.lost = False
        self.views: list[control.View] = []

    async def hear(self, message: channel.Message) -> channel.Message | None:
        match message:
            case channel.Presence():
                return channel.PresenceReply(payload=msgspec.json.encode(self.replica))
            case channel.Chapters(after=after):
                told = [(number, record) for number, record in self.chapters if number > after]
                return channel.ChaptersReply(payload=msgspec.json.encode(told[:2]))
            case channel.OverlayText():
                self.overlays.append(message)
                errors = self.refuse if message.number else []
                return channel.OverlayReply(number=message.number, errors=errors, lost=self.lost, document="r1")
            case channel.FleetView(payload=payload):
                self.views.append(msgspec.json.decode(payload, type=control.View))
                return None
            case _:
                raise AssertionError(message)


class Scene:
    """A context that is connected to a supervisor."""

    def __init__(self, settings: duties.Settings, store: control.ControlStore) -> None:
        self.now = 100.0
        self.store = store
        self.supervisor = Supervisor()
        self.opened = 0
        self.context = duties.Context(settings, open_control=self._open, clock=lambda: self.now)

    def _open(self, _: str) -> control.ControlStore:
        self.opened += 1
        return self.store

    async def settled(self, condition: Callable[[], bool]) -> None:
        """Let the event loop turn until the condition holds."""
        async with asyncio.timeout(10):
            while not condition():
                await asyncio.sleep(0.001)


@pytest.fixture
def play(tmp_path: Path) -> Callable[..., None]:
    """Runs an async scenario with a Scene."""

    def start(
        scenario: Callable[[Scene], Awaitable[None]], store: control.ControlStore | None = None, **settings: object
    ) -> None:
        async def main() -> None:
            made = msgspec.convert({"state": str(tmp_path), **settings}, duties.Settings, dec_hook=lambda _, x: Path(x))
            scene = Scene(made, store or control_memory.MemoryControlStore())
            ours, theirs = socket.socketpair()
            supervisor = await channel.connect(theirs, scene.supervisor.hear)
            scene.context.channel = await channel.connect(ours, scene.supervisor.hear)
            try:
                await scenario(scene)
            finally:
                await scene.context.close()
                scene.context.channel.close()
                supervisor.close()

        asyncio.run(main())

    return start
