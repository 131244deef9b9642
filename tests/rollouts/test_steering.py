"""The duty: which document it steers by, when servers agree, and how hard failures are told."""

import asyncio
import socket
from collections.abc import Awaitable, Callable
from pathlib import Path

import msgspec
import pytest
from tests.rollouts import world

from turnout.controlplane import duties, steering
from turnout.rollouts import commands, progress, records
from turnout.spec import snapshot, stages
from turnout.stores import catalog, control
from turnout.transport import control as channel

TEXT = world.document()


class Server:
    """A supervisor with a document in force, and a control plane's context connected to it."""

    def __init__(self, folder: Path) -> None:
        self.now = 1_000.0
        self.store = catalog.open_control("memory:steering")
        self.events = catalog.open_store("memory:steering")
        self.context = duties.Context(
            duties.Settings(state=folder),
            open_control=lambda _: self.store,
            open_events=lambda _: self.events,
            clock=lambda: self.now,
        )
        self.replica = control.Replica(id="own", host="box", pid=7, workers=2, workers_current=2, seen=self.now)
        self.circuits: dict[str, object] = {}
        self.overviews = 0

    def put_in_force(self, text: str = TEXT) -> snapshot.Snapshot:
        """The document with the newest overlay serves, and the history knows it."""
        newest = self.store.overlay()
        files = {"turnout.yaml": text} | ({stages.OVERLAY: newest.content} if newest and newest.content else {})
        content = snapshot.admit(files, environment={"NAME": "x"})
        self.replica = msgspec.structs.replace(self.replica, revision=content.revision)
        self.store.record(control.RevisionRecord(revision=content.revision, at=self.now, document=files), after=None)
        return content

    async def hear(self, message: channel.Message) -> channel.Message | None:
        match message:
            case channel.Presence():
                return channel.PresenceReply(payload=msgspec.json.encode(self.replica))
            case channel.Overview():
                self.overviews += 1
                status = {"endpoints": {"reply": {"circuits": self.circuits}}}
                return channel.OverviewReply(payload=msgspec.json.encode(status))
            case _:
                raise AssertionError(message)


@pytest.fixture
def play(tmp_path: Path) -> Callable[[Callable[[Server], Awaitable[None]]], None]:
    """Runs an async scenario with a Server."""

    def start(scenario: Callable[[Server], Awaitable[None]]) -> None:
        async def main() -> None:
            server = Server(tmp_path)
            ours, theirs = socket.socketpair()
            supervisor = await channel.connect(theirs, server.hear)
            server.context.channel = await channel.connect(ours, server.hear)
            try:
                await scenario(server)
            finally:
                await server.context.close()
                server.context.channel.close()
                supervisor.close()

        asyncio.run(main())

    return start


Play = Callable[[Callable[[Server], Awaitable[None]]], None]


def standing(server: Server, content: snapshot.Snapshot) -> progress.Progress:
    return commands.standing(server.store, content, "next")


def test_it_steers_by_the_document_in_force(play: Play) -> None:
    async def scenario(server: Server) -> None:
        duty = steering.Steering(server.context)
        await duty.run()
        assert server.store.overlay() is None, "nothing is in force yet"
        server.replica = msgspec.structs.replace(server.replica, revision="f" * 64)
        await duty.run()
        assert server.store.overlay() is None, "the history does not know it yet"
        content = server.put_in_force()
        await duty.run()
        assert standing(server, content).state == "ramping"

    play(scenario)


@pytest.mark.parametrize("value", ["${NAME}", "secret:name", "${UNSET}"])
def test_references_that_only_the_server_can_fill_in_do_not_matter(play: Play, value: str) -> None:
    async def scenario(server: Server) -> None:
        text = TEXT.replace("params: {top_k: 5}", f'params: {{top_k: 5, url: "{value}"}}')
        files = {"turnout.yaml": text}
        server.replica = msgspec.structs.replace(server.replica, revision="a" * 64)
        server.store.record(control.RevisionRecord(revision="a" * 64, at=1.0, document=files), after=None)
        await steering.Steering(server.context).run()
        filled = snapshot.admit(files, environment={"NAME": "x", "UNSET": "y"}, read_secret=lambda _: "z")
        assert standing(server, filled).state == "ramping", "under the phase that the workers see"

    play(scenario)


@pytest.mark.parametrize(
    "other",
    [
        control.Replica(id="b", host="b", pid=1, revision="old", workers=1, workers_current=1, seen=999.0),
        control.Replica(id="b", host="b", pid=1, revision="same", workers=2, workers_current=1, seen=999.0),
    ],
    ids=["another revision", "a worker behind"],
)
def test_it_does_not_begin_while_a_server_lags_behind(play: Play, other: control.Replica) -> None:
    async def scenario(server: Server) -> None:
        duty = steering.Steering(server.context)
        content = server.put_in_force()
        same = msgspec.structs.replace(other, revision=content.revision) if other.revision == "same" else other
        server.context.replicas = (same,)
        await duty.run()
        assert standing(server, content).state == "pending"
        server.now += control.GONE_S + 1
        await duty.run()
        assert standing(server, content).state == "ramping", "a server that is gone is not waited for"

    play(scenario)


def test_an_open_circuit_is_written_down_once_and_takes_the_rollout_back(play: Play) -> None:
    async def scenario(server: Server) -> None:
        duty = steering.Steering(server.context)
        server.put_in_force()
        await duty.run()
        assert server.overviews == 0, "while nobody has the new side, nobody is asked"
        content = server.put_in_force()
        server.circuits = {"next": {"open": True, "cause": "it failed"}, "other": {"open": True}}
        server.now += 1
        await duty.run()
        await duty.run()
        found = records.read(server.store.looks("next", standing(server, content).phase))
        assert [each.kind for each in found] == ["move", "failure", "move"]
        assert standing(server, content).note == "it failed (box)"

    play(scenario)


def test_a_server_without_the_lease_tells_its_failures_and_decides_nothing(play: Play) -> None:
    async def scenario(server: Server) -> None:
        duty = steering.Steering(server.context)
        server.put_in_force()
        await duty.run()
        content = server.put_in_force()
        server.now += 100
        assert server.store.lease("rollouts", "another", server.now + 15, server.now)
        server.circuits = {"next": {"open": True, "cause": "it failed"}}
        await duty.run()
        assert standing(server, content).state == "ramping"
        kinds = [each.kind for each in server.store.looks("next", standing(server, content).phase)]
        assert kinds == ["move", "failure"]

    play(scenario)


def test_rounds_are_as_near_as_looks_are_due(play: Play) -> None:
    async def scenario(server: Server) -> None:
        duty = steering.Steering(server.context)
        server.put_in_force(world.document(world.QUICK + ", look: 300ms"))
        await duty.run()
        assert duty.interval_s == pytest.approx(0.3)
        server.put_in_force(world.document(world.QUICK + ", look: 1h"))
        server.now += 1
        await duty.run()
        assert duty.interval_s == steering.LONGEST_S
        await duty.close()

    play(scenario)


def test_of_circuits_only_the_open_ones_count() -> None:
    closed = {"open": False, "cause": "", "total": 3}
    status = {"endpoints": {"a": {"circuits": {"x": closed, "y": {"open": True}}}, "b": {}}}
    assert steering.open_circuits(status) == {"y": "its circuit is open"}
    assert steering.open_circuits({}) == {}
