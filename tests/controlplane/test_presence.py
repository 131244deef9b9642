"""How a server announces itself, sees its fleet, and writes the history."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from turnout.controlplane import presence
from turnout.stores import control, control_memory

Play = Callable[..., None]


def other(name: str, *, seen: float) -> control.Replica:
    return control.Replica(id=name, host="there", pid=8, revision="r1", seen=seen)


def record(revision: str, **more: Any) -> control.RevisionRecord:
    return control.RevisionRecord(revision=revision, at=1.0, **more)


def test_a_server_is_announced_with_the_time_and_told_who_else_is_there(play: Play) -> None:
    async def scenario(scene: Any) -> None:
        scene.store.announce(other("fresh", seen=95.0))
        scene.store.announce(other("silent", seen=89.0))
        scene.store.announce(other("of-the-future", seen=3_700.0))
        await presence.Presence(scene.context).run()
        await scene.settled(lambda: bool(scene.supervisor.views))

        assert ("own", 100.0) in [(found.id, found.seen) for found in scene.store.replicas(since=99.0)]
        view = scene.supervisor.views[-1]
        assert [found.id for found in view.replicas] == ["own", "fresh"]
        assert view.at == 100.0

    play(scenario)


def test_a_server_that_ends_leaves_its_fleet_at_once(play: Play) -> None:
    async def scenario(scene: Any) -> None:
        duty = presence.Presence(scene.context)
        await duty.close()  # never announced: nothing to leave
        await duty.run()
        await duty.close()
        assert scene.store.replicas(since=0.0) == []

    play(scenario)


def test_every_revision_is_written_once_in_its_order(play: Play) -> None:
    store = control_memory.MemoryControlStore()

    async def scenario(scene: Any) -> None:
        duty = presence.History(scene.context)
        scene.supervisor.chapters = [(n, record(f"r{n}", author="Ada")) for n in range(1, 6)]
        await duty.run()
        await duty.run()
        assert [found.revision for found in store.history(limit=9)] == ["r5", "r4", "r3", "r2", "r1"]

    play(scenario, store)


def test_what_another_server_wrote_first_is_not_written_again(play: Play) -> None:
    store = control_memory.MemoryControlStore()

    async def scenario(scene: Any) -> None:
        fast, slow = presence.History(scene.context), presence.History(scene.context)
        scene.supervisor.chapters = [(1, record("r1", author="Ada"))]
        await fast.run()
        await slow.run()
        scene.supervisor.chapters += [(2, record("r2", author="Ada")), (3, record("r1", author="Ada"))]
        await fast.run()
        await slow.close()
        assert [found.revision for found in store.history(limit=9)] == ["r1", "r2", "r1"]

    play(scenario, store)


def test_the_author_is_the_one_given_when_git_knows_none(play: Play, tmp_path: Path) -> None:
    document = tmp_path / "turnout.yaml"
    document.write_text("models: {}\n")

    async def scenario(scene: Any) -> None:
        scene.supervisor.chapters = [
            (1, record("r1", document={str(document): "", "turnout.overlay": ""})),
            (2, record("r2", author="turnout", reason="step 2", source="overlay")),
        ]
        await presence.History(scene.context).run()
        newest, oldest = scene.store.history(limit=9)
        assert (oldest.author, oldest.reason) == ("deployer", "")
        assert (newest.author, newest.reason) == ("turnout", "step 2")

    play(scenario, author="deployer")
