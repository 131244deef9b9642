"""What Turnout lays over the document: in force on all workers or none, kept over a restart, refusals reported."""

import asyncio
import contextlib
import dataclasses
import os
import signal
import sys
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import msgspec

from turnout.spec import stages
from turnout.stores import control as fleet_state
from turnout.supervisor import fleet, lastgood
from turnout.supervisor.settings import Settings
from turnout.transport import control

Serve = Callable[..., AbstractAsyncContextManager[Any]]
CONTROL_PLANE = (sys.executable, str(Path(__file__).with_name("small_control_plane.py")))


def propose(settings: Settings, number: int, content: str, *, at: float = 5.0) -> None:
    said = control.OverlayText(number=number, content=content, author="turnout", reason=f"step {number}", at=at)
    draft = Path(settings.state) / ".propose.json"
    draft.write_bytes(msgspec.json.encode(said))
    draft.replace(Path(settings.state) / "propose.json")


def replies(settings: Settings) -> list[control.OverlayReply]:
    with contextlib.suppress(FileNotFoundError):
        lines = (Path(settings.state) / "replies.jsonl").read_bytes().splitlines()
        return [msgspec.json.decode(line, type=control.OverlayReply) for line in lines]
    return []


def chapters(settings: Settings) -> list[fleet_state.RevisionRecord]:
    with contextlib.suppress(FileNotFoundError):
        lines = (Path(settings.state) / "chapters.jsonl").read_bytes().splitlines()
        return [msgspec.json.decode(line, type=fleet_state.RevisionRecord) for line in lines]
    return []


def texts(status: dict[str, Any]) -> list[str]:
    return [worker.get("text", "") for worker in status["workers"]]


def test_the_name_of_the_overlay_is_the_documents() -> None:
    overlay = fleet_state.Overlay(number=1, at=0.0, author="", reason="", content="x: 1")
    assert fleet.overlaid({"a.yaml": "b"}, overlay) == {"a.yaml": "b", stages.OVERLAY: "x: 1"}
    assert fleet.overlaid({"a.yaml": "b", stages.OVERLAY: "old"}, None) == {"a.yaml": "b"}


def test_an_overlay_comes_into_force_on_all_workers_and_stays_under_later_documents(
    settings: Settings, serve: Serve
) -> None:
    settings = dataclasses.replace(settings, workers=2)

    async def run() -> None:
        async with serve(settings, control_plane=CONTROL_PLANE) as running:
            before = await running.ready()
            propose(settings, 1, "+one")
            status = await running.until(lambda status: texts(status) == ["first+one"] * 2)
            assert status["revision"] != before["revision"]
            assert status["overlay"] == {
                "number": 1,
                "at": 5.0,
                "author": "turnout",
                "reason": "step 1",
                "refused": None,
            }
            running.source.save("second")
            await running.until(lambda status: texts(status) == ["second+one"] * 2)
            propose(settings, 2, "+two")
            await running.until(lambda status: texts(status) == ["second+two"] * 2)
            running.kill(await running.server.status(), 0)
            await running.until(
                lambda status: status["workers"][0]["restarts"] == 1 and texts(status) == ["second+two"] * 2
            )
            await running.until(lambda _: len(chapters(settings)) == 4)

        told = chapters(settings)
        assert [(each.source, each.author, each.reason) for each in told] == [
            ("start", "", ""),
            ("overlay", "turnout", "step 1"),
            ("document", "", ""),
            ("overlay", "turnout", "step 2"),
        ]
        assert [each.replaced for each in told] == ["", *(each.revision for each in told[:-1])]
        assert told[-1].document == {"turnout.yaml": "second", "turnout.overlay": "+two"}

    asyncio.run(run())


def test_a_refused_overlay_is_reported_and_the_last_good_one_stays(settings: Settings, serve: Serve) -> None:
    async def run() -> None:
        async with serve(settings, control_plane=CONTROL_PLANE) as running:
            await running.ready()
            propose(settings, 1, "+one")
            await running.until(lambda status: texts(status) == ["first+one"])
            propose(settings, 2, "refuse")
            status = await running.until(lambda status: (status["overlay"] or {}).get("refused") is not None)
            assert texts(status) == ["first+one"]
            assert status["overlay"]["number"] == 1
            assert status["overlay"]["refused"]["number"] == 2
            assert status["overlay"]["refused"]["errors"][0]["message"] == "it says refuse"
            assert status["refused"] is None, "the document itself is fine"
            assert "it says refuse" in status["convergence"]["refusals"][0]["error"]
            await running.until(lambda _: len(replies(settings)) == 2)
            assert [str(error) for error in replies(settings)[1].errors] == [
                "turnout.yaml:1: it says refuse Say something else."
            ]
            propose(settings, 3, "+three")
            status = await running.until(lambda status: texts(status) == ["first+three"])
            assert status["overlay"]["refused"] is None

    asyncio.run(run())


def test_a_document_that_is_refused_stays_refused_when_the_overlay_changes(settings: Settings, serve: Serve) -> None:
    async def run() -> None:
        async with serve(settings, control_plane=CONTROL_PLANE) as running:
            await running.ready()
            running.source.save("refuse this")
            await running.until(lambda status: status["refused"] is not None)
            propose(settings, 1, "+one")
            status = await running.until(lambda status: texts(status) == ["first+one"])
            assert status["refused"] is not None
            running.source.save("first")
            await running.until(lambda status: status["refused"] is None and texts(status) == ["first+one"])

    asyncio.run(run())


def test_an_older_overlay_changes_nothing(settings: Settings, serve: Serve) -> None:
    async def run() -> None:
        async with serve(settings, control_plane=CONTROL_PLANE) as running:
            await running.ready()
            propose(settings, 7, "+seven")
            await running.until(lambda status: texts(status) == ["first+seven"])
            propose(settings, 6, "+six")
            await running.until(lambda _: len(replies(settings)) == 2)
            assert texts(await running.server.status()) == ["first+seven"]
            propose(settings, 1, "+one", at=6.0)  # the database was lost, and counts from 1 again
            await running.until(lambda status: texts(status) == ["first+one"])

    asyncio.run(run())


def test_a_restarted_server_begins_with_the_overlay_it_had(settings: Settings, serve: Serve) -> None:
    async def run() -> None:
        async with serve(settings, control_plane=CONTROL_PLANE) as running:
            await running.ready()
            propose(settings, 1, "+one")
            await running.until(lambda status: texts(status) == ["first+one"])
        async with serve(settings) as running:
            status = await running.ready()
            assert texts(status) == ["first+one"]
            assert status["overlay"]["number"] == 1

    asyncio.run(run())


def test_a_kept_overlay_that_does_not_fit_any_more_does_not_keep_the_server_from_starting(
    settings: Settings, serve: Serve
) -> None:
    overlay = fleet_state.Overlay(number=3, at=1.0, author="", reason="", content="refuse")
    lastgood.store_overlay(Path(settings.state), overlay)

    async def run() -> None:
        async with serve(settings) as running:
            status = await running.ready()
            assert texts(status) == ["first"]
            assert status["overlay"]["refused"]["number"] == 3

    asyncio.run(run())


def test_a_damaged_kept_overlay_is_left_out(settings: Settings, serve: Serve) -> None:
    Path(settings.state).mkdir(parents=True)
    (Path(settings.state) / lastgood.OVERLAY_FILE).write_text('{"number": ')

    async def run() -> None:
        async with serve(settings) as running:
            assert texts(await running.ready()) == ["first"]

    asyncio.run(run())


def test_a_server_that_joins_a_fleet_begins_with_the_fleets_overlay(settings: Settings, serve: Serve) -> None:
    settings = dataclasses.replace(settings, store="postgresql://shared")
    Path(settings.state).mkdir(parents=True)
    propose(settings, 4, "+four")

    async def run() -> None:
        async with serve(settings, control_plane=CONTROL_PLANE) as running:
            assert texts(await running.ready()) == ["first+four"]
            await running.until(lambda _: bool(chapters(settings)))
            assert [each.source for each in chapters(settings)] == ["start"]
        kept = lastgood.load_overlay(Path(settings.state))
        assert kept is None or kept.number == 4

    asyncio.run(run())


def test_a_control_plane_that_dies_is_started_again_and_says_goodbye_at_the_end(
    settings: Settings, serve: Serve
) -> None:
    async def run() -> None:
        async with serve(settings, control_plane=CONTROL_PLANE) as running:
            status = await running.until(
                lambda status: bool((status["control_plane"] or {}).get("pid")) and bool(status["converged"])
            )
            os.kill(status["control_plane"]["pid"], signal.SIGKILL)
            after = await running.until(
                lambda now: now["control_plane"]["restarts"] == 1 and now["control_plane"]["state"] == "running"
            )
            assert after["control_plane"]["pid"] != status["control_plane"]["pid"]
            assert after["workers"][0]["restarts"] == 0
            await running.until(lambda _: (Path(settings.state) / "presence.json").exists())
            assert not (Path(settings.state) / "farewell").exists()
        assert (Path(settings.state) / "farewell").exists()

    asyncio.run(run())
