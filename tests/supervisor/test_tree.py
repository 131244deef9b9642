"""The tree over small worker processes: swap in two phases, restart, reload, drain."""

import asyncio
import dataclasses
import os
from collections.abc import Callable, Coroutine
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import pytest

from turnout import telemetry
from turnout.errors import ConflictError, UnavailableError
from turnout.supervisor import lastgood, statefolder, tree
from turnout.supervisor.settings import Settings

Serve = Callable[..., AbstractAsyncContextManager[Any]]
Flood = Callable[..., Coroutine[Any, Any, tuple[int, list[str]]]]


def texts(status: dict[str, Any]) -> list[str]:
    return [worker.get("text", "") for worker in status["workers"]]


def pids(status: dict[str, Any]) -> list[int]:
    return [worker["pid"] for worker in status["workers"]]


def two(settings: Settings) -> Settings:
    return dataclasses.replace(settings, workers=2)


def test_a_worker_starts_empty_gets_the_document_and_serves(settings: Settings, serve: Serve) -> None:
    async def run() -> None:
        async with serve(settings) as running:
            status = await running.ready()
            answer = await running.ask()
            assert answer["text"] == "first"
            assert answer["revision"] == status["revision"]
            assert status["endpoints"] == {"score": {"pipeline": "p", "example": {"x": [1.0]}}}

    asyncio.run(run())


def test_any_worker_answers_with_the_merged_status(settings: Settings, serve: Serve) -> None:
    async def run() -> None:
        async with serve(two(settings)) as running:
            await running.ready()
            status = await running.ask("/status")
            assert [worker["slot"] for worker in status["workers"]] == [0, 1]
            assert status["models"] == {"m": {"state": "ready", "instances": 2}}
            assert status["converged"] is True
            assert status["refused"] is None

    asyncio.run(run())


def test_a_changed_document_comes_into_force_on_every_worker(settings: Settings, serve: Serve, flood: Flood) -> None:
    async def run() -> None:
        async with serve(two(settings)) as running:
            await running.ready()
            stop = asyncio.Event()
            load = asyncio.create_task(flood(running, stop))
            running.source.save("second")
            status = await running.until(lambda status: texts(status) == ["second", "second"])
            assert status["converged"]
            assert status["swap"]["took_s"] < 1.0
            stop.set()
            answered, failures = await load
            assert answered > 0
            assert failures == []

    asyncio.run(run())


def test_a_refused_document_leaves_the_old_one_in_force_and_is_shown(settings: Settings, serve: Serve) -> None:
    async def run() -> None:
        async with serve(two(settings)) as running:
            before = await running.ready()
            running.source.save("refuse this")
            status = await running.until(lambda status: status["refused"] is not None)
            assert status["refused"]["errors"] == [
                {
                    "message": "it says refuse",
                    "file": "turnout.yaml",
                    "line": 1,
                    "path": "",
                    "hint": "Say something else.",
                }
            ]
            assert texts(status) == ["first", "first"]
            assert status["revision"] == before["revision"]
            running.source.save("first")
            await running.until(lambda status: status["refused"] is None)

    asyncio.run(run())


def test_a_vanished_document_is_shown_and_the_old_one_serves_on(settings: Settings, serve: Serve) -> None:
    async def run() -> None:
        async with serve(settings) as running:
            await running.ready()
            running.source.save(UnavailableError("turnout.yaml is gone.", hint="Put it back."))
            status = await running.until(lambda status: status["refused"] is not None)
            assert status["refused"]["errors"][0]["message"] == "turnout.yaml is gone."
            assert (await running.ask())["text"] == "first"

    asyncio.run(run())


def test_workers_that_disagree_about_the_revision_refuse_it_together(settings: Settings, serve: Serve) -> None:
    async def run() -> None:
        async with serve(two(settings)) as running:
            await running.ready()
            running.source.save("differ")
            status = await running.until(lambda status: status["refused"] is not None)
            assert "different contents" in status["refused"]["errors"][0]["message"]
            assert texts(status) == ["first", "first"]

    asyncio.run(run())


def test_a_document_that_kills_a_worker_is_refused_after_one_more_try(settings: Settings, serve: Serve) -> None:
    async def run() -> None:
        async with serve(settings) as running:
            await running.ready()
            running.source.save("die in prepare")
            status = await running.until(
                lambda status: (
                    status["refused"] is not None and status["workers"][0]["restarts"] >= 2 and status["converged"]
                )
            )
            assert "did not prepare the document" in status["refused"]["errors"][0]["message"]
            assert "exit status 9" in status["refused"]["errors"][0]["message"]
            assert texts(status) == ["first"]

    asyncio.run(run())


def test_a_document_that_kills_its_worker_costs_one_worker_and_not_all(settings: Settings, serve: Serve) -> None:
    async def run() -> None:
        async with serve(dataclasses.replace(settings, workers=3)) as running:
            before = await running.ready()
            running.source.save("die in prepare")
            status = await running.until(
                lambda status: (
                    status["refused"] is not None and status["workers"][0]["restarts"] >= 2 and status["converged"]
                )
            )
            assert [worker["restarts"] for worker in status["workers"]] == [2, 0, 0]
            assert pids(status)[1:] == pids(before)[1:]
            assert status["convergence"]["refusals"][0]["error"].startswith("worker w0.")

    asyncio.run(run())


def test_a_worker_that_dies_at_the_commit_comes_back_with_the_new_document(settings: Settings, serve: Serve) -> None:
    async def run() -> None:
        async with serve(two(settings)) as running:
            await running.ready()
            running.source.save("die in commit")
            status = await running.until(lambda status: status["converged"] and status["workers"][1]["restarts"] == 1)
            assert texts(status) == ["die in commit", "die in commit"]

    asyncio.run(run())


def test_a_killed_worker_is_restarted_with_the_document_in_force_while_the_other_serves(
    settings: Settings, serve: Serve
) -> None:
    async def run() -> None:
        async with serve(two(settings)) as running:
            await running.ready()
            running.source.save("second")
            status = await running.until(lambda status: texts(status) == ["second", "second"])
            running.kill(status, 0)
            after = await running.until(lambda now: now["converged"] and pids(now)[0] != pids(status)[0])
            assert texts(after) == ["second", "second"]
            assert pids(after)[1] == pids(status)[1]
            assert after["workers"][0]["restarts"] == 1

    asyncio.run(run())


def test_a_crash_loop_is_visible_and_takes_no_traffic_from_the_others(
    settings: Settings, serve: Serve, flood: Flood, tmp_path: Path
) -> None:
    async def run() -> None:
        async with serve(two(settings)) as running:
            status = await running.ready()
            (tmp_path / "code.txt").write_text("dies at start")
            running.kill(status, 0)
            status = await running.until(lambda status: status["workers"][0]["state"] == "crash-loop")
            assert "exit status 7" in status["workers"][0]["trouble"]
            assert not status["converged"]
            stop = asyncio.Event()
            asyncio.get_running_loop().call_later(0.3, stop.set)
            answered, failures = await flood(running, stop)
            assert answered > 0
            assert failures == []
            (tmp_path / "code.txt").write_text("")
            await running.until(lambda status: bool(status["converged"]))

    asyncio.run(run())


def test_reload_replaces_every_worker_without_a_failed_request(
    settings: Settings, serve: Serve, flood: Flood, tmp_path: Path
) -> None:
    async def run() -> None:
        async with serve(two(settings)) as running:
            before = await running.ready()
            (tmp_path / "code.txt").write_text("new code")
            stop = asyncio.Event()
            load = asyncio.create_task(flood(running, stop))
            running.server.reload()
            after = await running.until(lambda status: status["reload"]["state"] == "done")
            stop.set()
            _, failures = await load
            assert failures == []
            assert set(pids(after)).isdisjoint(pids(before))
            assert after["build"] == "new code"
            assert after["revision"] == before["revision"]

    asyncio.run(run())


def test_a_failing_successor_leaves_the_old_worker_serving_and_is_shown(
    settings: Settings, serve: Serve, tmp_path: Path
) -> None:
    async def run() -> None:
        async with serve(settings) as running:
            before = await running.ready()
            (tmp_path / "code.txt").write_text("broken")
            running.server.reload()
            status = await running.until(lambda status: status["reload"]["state"] == "failed")
            assert status["reload"]["failed"]["errors"][0]["message"] == "it says refuse"
            assert pids(status) == pids(before)
            assert (await running.ask())["text"] == "first"

    asyncio.run(run())


def test_code_and_document_that_need_each_other_come_into_force_by_one_reload(
    settings: Settings, serve: Serve, tmp_path: Path
) -> None:
    async def run() -> None:
        (tmp_path / "code.txt").write_text("needs:first")
        async with serve(two(settings)) as running:
            await running.ready()
            running.source.save("second")
            await running.until(lambda status: status["refused"] is not None)
            (tmp_path / "code.txt").write_text("needs:second")
            running.server.reload()
            status = await running.until(lambda status: texts(status) == ["second", "second"])
            assert status["refused"] is None

    asyncio.run(run())


def test_stopping_answers_what_was_accepted(settings: Settings, serve: Serve) -> None:
    async def run() -> None:
        async with serve(settings) as running:
            await running.ready()
            slow = [asyncio.create_task(running.ask("/slow")) for _ in range(5)]
            await running.until(lambda status: status["workers"][0]["in_flight"] >= 5)
            running.server.stop()
            answers = await asyncio.gather(*slow)
            assert [answer["text"] for answer in answers] == ["first"] * 5
            await asyncio.wait_for(running.task, 10)

    asyncio.run(run())


def test_a_second_request_to_stop_does_not_wait(settings: Settings, serve: Serve) -> None:
    async def run() -> None:
        async with serve(dataclasses.replace(settings, linger_s=60.0)) as running:
            await running.ready()
            running.server.stop()
            running.server.stop()
            await asyncio.wait_for(running.task, 10)

    asyncio.run(run())


def test_a_bad_document_at_start_is_refused_with_every_error(settings: Settings, serve: Serve) -> None:
    async def run() -> None:
        async with serve(settings, "refuse") as running:
            with pytest.raises(tree.Refused) as refused:
                await running.task
            assert [error.message for error in refused.value.errors] == ["it says refuse"]

    asyncio.run(run())


def test_with_a_last_good_document_a_bad_one_at_start_is_reported_and_the_good_one_served(
    settings: Settings, serve: Serve, tmp_path: Path
) -> None:
    settings = dataclasses.replace(settings, last_good=str(tmp_path / "good"))

    async def run() -> None:
        async with serve(settings, "good one") as running:
            await running.ready()
        async with serve(settings, "refuse") as running:
            await running.until(lambda status: status["refused"] is not None and texts(status) == ["good one"])
            running.source.save("better")
            status = await running.until(lambda status: texts(status) == ["better"])
            assert status["refused"] is None
        stored = lastgood.load(tmp_path / "good", "")
        assert stored is not None
        assert stored.files == {"turnout.yaml": "better"}

    asyncio.run(run())


def test_a_second_server_on_the_same_state_folder_is_refused_by_name(settings: Settings, serve: Serve) -> None:
    async def run() -> None:
        async with serve(settings) as running:
            await running.ready()
            await running.until(lambda _: statefolder.running(Path(settings.state)) is not None)
            async with serve(settings) as second:
                with pytest.raises(ConflictError, match=f"pid {os.getpid()}.* already uses the state folder"):
                    await second.task
            assert (await running.ask())["text"] == "first"
        assert statefolder.running(Path(settings.state)) is None
        assert not (Path(settings.state) / statefolder.NOTE).exists()

    asyncio.run(run())


def test_workers_that_do_not_come_up_end_the_start_with_their_obituary(
    settings: Settings, serve: Serve, tmp_path: Path
) -> None:
    async def run() -> None:
        (tmp_path / "code.txt").write_text("dies at start")
        async with serve(settings) as running:
            with pytest.raises(UnavailableError, match=r"died before it greeted \(exit status 7\)"):
                await running.task

    asyncio.run(run())


def test_a_worker_that_says_nothing_any_more_is_replaced(settings: Settings, serve: Serve) -> None:
    async def run() -> None:
        async with serve(dataclasses.replace(settings, silent_s=0.5)) as running:
            await running.ready()
            running.source.save("freeze")
            status = await running.until(lambda now: now["converged"] and now["workers"][0]["restarts"] == 1)
            assert texts(status) == ["freeze"]

    asyncio.run(run())


def test_with_a_notice_new_callers_are_still_answered_while_it_lasts(settings: Settings, serve: Serve) -> None:
    async def run() -> None:
        async with serve(dataclasses.replace(settings, notice_s=1.0)) as running:
            await running.ready()
            running.server.stop()
            for _ in range(5):
                assert (await running.ask())["text"] == "first"
            await asyncio.wait_for(running.task, 10)

    asyncio.run(run())


def test_the_supervisor_counts_restarts_and_shows_refusals_as_metrics(settings: Settings, serve: Serve) -> None:
    async def run() -> None:
        async with serve(settings) as running:
            status = await running.ready()
            running.kill(status, 0)
            await running.until(lambda now: now["converged"] and now["workers"][0]["restarts"] == 1)
            running.source.save("refuse")
            await running.until(lambda now: now["refused"] is not None)
            lines = telemetry.render(await running.server.metrics()).decode().splitlines()
            assert f"{telemetry.WORKER_RESTARTS} 1" in lines
            assert f"{telemetry.DOCUMENT_REFUSED} 1" in lines
            assert f"{telemetry.WORKERS_MISSING} 0" in lines

    asyncio.run(run())
