"""`turnout serve` under load: what is killed, edited, broken or stopped, and that nobody is dropped."""

import asyncio
import contextlib
import os
import signal
import sqlite3
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.slow

Loading = Callable[..., AbstractAsyncContextManager[Any]]
Write = Callable[..., str]


async def some(load: Any, count: int) -> None:
    """Wait until so many more requests are answered."""
    goal = load.answered + count
    async with asyncio.timeout(40):
        while load.answered < goal:
            await asyncio.sleep(0.01)


def test_edits_of_the_document_change_the_answers_within_a_second_and_drop_nothing(
    project: Any, load: Loading, write_document: Write
) -> None:
    project.start("--workers", "2")

    async def run() -> None:
        async with load(project) as made:
            await some(made, 50)
            for factor in (3.0, 4.0, 5.0):
                before = (await project.status())["revision"]
                project.write(write_document(factor=factor))
                status = await project.until(
                    lambda status, old=before: status["converged"] and status["revision"] != old
                )
                assert status["swap"]["took_s"] < 5.0
                made.values.clear()
                await some(made, 50)
            project.write(write_document(factor=5.0, weight=0))
            await project.until(lambda status: status["endpoints"]["scale"]["variants"]["none"]["weight"] == 0)
            await asyncio.sleep(0)
        assert made.failures + made.turned_away == []
        assert set(made.values) <= {5.0, 6.0}

    asyncio.run(run())


def test_a_bad_or_vanished_document_is_refused_visibly_and_the_old_one_serves_on(
    project: Any, load: Loading, write_document: Write
) -> None:
    project.start("--workers", "2")

    async def run() -> None:
        first = await project.status()
        async with load(project) as made:
            for text in (
                write_document().replace("weight", "wieght"),
                write_document().replace("numbers_app:scale", "numbers_app:scael"),
                write_document()[:120],
                "",
                "endpoints: {}\n",
            ):
                project.write(text)
                await project.until(lambda status: status["refused"] is not None)
                project.write()
                await project.until(lambda status: status["refused"] is None)
            (project.folder / "turnout.yaml").unlink()
            status = await project.until(lambda status: status["refused"] is not None)
            assert "turnout.yaml" in status["refused"]["errors"][0]["message"]
            project.write()
            await project.until(lambda status: status["refused"] is None)
            await some(made, 20)
        assert made.failures + made.turned_away == []
        assert list(made.revisions) == [first["revision"]]
        text = project.run("status").stdout
        assert "document turnout.yaml" in text

    asyncio.run(run())


def test_a_refusal_names_line_key_and_remedy_in_status_and_exit_code(project: Any, write_document: Write) -> None:
    project.start()

    async def run() -> None:
        project.write(write_document().replace("weight: 50, control", "wieght: 50, control"))
        status = await project.until(lambda status: status["refused"] is not None)
        error = next(error for error in status["refused"]["errors"] if "wieght" in error["message"] + error["path"])
        assert error["line"] > 0
        assert "weight" in error["hint"] + error["message"]

    asyncio.run(run())
    shown = project.run("status")
    assert shown.returncode == 1
    assert "wieght" in shown.stdout


def test_a_symlink_swap_as_kubernetes_makes_it_is_a_change(project: Any, write_document: Write) -> None:
    mount = project.folder / "mount"
    for name, factor in (("v1", 2.0), ("v2", 7.0)):
        (mount / name).mkdir(parents=True)
        (mount / name / "turnout.yaml").write_text(write_document(factor=factor))
        (mount / name / "numbers_app.py").write_text((project.folder / "numbers_app.py").read_text())
    (mount / "..data").symlink_to("v1")
    for name in ("turnout.yaml", "numbers_app.py"):
        (mount / name).symlink_to(f"..data/{name}")
    project.start("mount/turnout.yaml", "--state", ".turnout")

    async def run() -> None:
        before = await project.status()
        (mount / "..new").symlink_to("v2")
        (mount / "..new").rename(mount / "..data")
        status = await project.until(lambda status: status["revision"] != before["revision"])
        assert status["converged"]

    asyncio.run(run())


def test_a_worker_killed_under_load_comes_back_and_only_its_own_requests_fail(project: Any, load: Loading) -> None:
    project.start("--workers", "2")

    async def run() -> None:
        before = await project.status()
        async with load(project) as made:
            await some(made, 100)
            os.kill(before["workers"][0]["pid"], signal.SIGKILL)
            after = await project.until(
                lambda status: status["converged"] and status["workers"][0]["pid"] != before["workers"][0]["pid"]
            )
            await some(made, 100)
        assert after["workers"][0]["restarts"] == 1
        assert after["workers"][1]["pid"] == before["workers"][1]["pid"]
        assert after["revision"] == before["revision"]
        assert len(made.failures + made.turned_away) <= 8, made.failures + made.turned_away

    asyncio.run(run())


def test_sighup_under_load_brings_new_code_in_and_drops_no_request(project: Any, load: Loading) -> None:
    project.start("--workers", "2")

    async def run() -> None:
        before = await project.status()
        async with load(project) as made:
            await some(made, 100)
            project.write_code("new")
            reloaded = await asyncio.to_thread(project.run, "reload")
            assert reloaded.returncode == 0, reloaded.stderr
            assert "all 2 workers are replaced" in reloaded.stdout
            made.codes.clear()
            await some(made, 100)
        after = await project.status()
        assert made.failures + made.turned_away == []
        assert set(made.codes) == {"new"}
        assert after["revision"] == before["revision"]
        assert after["build"] != before["build"]
        assert {worker["pid"] for worker in after["workers"]}.isdisjoint(worker["pid"] for worker in before["workers"])

    asyncio.run(run())


def test_broken_code_fails_the_reload_visibly_and_the_old_workers_serve_on(project: Any, load: Loading) -> None:
    project.start()

    async def run() -> None:
        before = await project.status()
        async with load(project) as made:
            (project.folder / "numbers_app.py").write_text("this is no python\n")
            reloaded = await asyncio.to_thread(project.run, "reload")
            assert reloaded.returncode == 1
            assert "SyntaxError" in reloaded.stderr
            await some(made, 50)
        assert made.failures + made.turned_away == []
        after = await project.status()
        assert after["workers"][0]["pid"] == before["workers"][0]["pid"]

    asyncio.run(run())


def test_serve_reload_replaces_workers_when_code_is_saved(project: Any, load: Loading) -> None:
    project.start("--reload")

    async def run() -> None:
        before = await project.status()
        async with load(project) as made:
            project.write_code("saved")
            await project.until(
                lambda status: status["build"] != before["build"] and status["reload"]["state"] == "done"
            )
            made.codes.clear()
            await some(made, 20)
        assert made.failures + made.turned_away == []
        assert set(made.codes) == {"saved"}

    asyncio.run(run())


def rows(project: Any, table: str) -> list[tuple[Any, ...]]:
    with contextlib.closing(sqlite3.connect(project.folder / ".turnout" / "events.db")) as database:
        return database.execute(f"SELECT event_id FROM {table}").fetchall()


def test_sigterm_answers_what_was_accepted_and_loses_no_event(project: Any, load: Loading) -> None:
    project.start("--workers", "2")

    async def run() -> tuple[Any, int]:
        async with load(project, callers=16) as made:
            await some(made, 500)
            status = await asyncio.to_thread(project.stop, signal.SIGTERM)
        return made, status

    made, status = asyncio.run(run())
    assert status == 0
    assert made.failures == []
    assert project.note is None
    recorded = {event_id for (event_id,) in rows(project, "predictions")}
    assert recorded == made.request_ids
    assert len(rows(project, "exposures")) == made.answered


def test_a_second_serve_on_the_same_state_is_refused_with_who_holds_it(project: Any) -> None:
    project.start()
    second = project.run("serve", "--port", "0")
    assert second.returncode == 1
    assert f"pid {project.process.pid}" in second.stderr
    assert "--state" in second.stderr


def test_a_taken_port_is_refused_in_words(project: Any) -> None:
    project.start()
    second = project.run("serve", "--port", str(project.port), "--state", "other")
    assert second.returncode == 1
    assert f"port {project.port}" in second.stderr
    assert "--port" in second.stderr


def test_a_bad_document_at_start_ends_with_status_2_and_all_its_errors(project: Any, write_document: Write) -> None:
    project.write(write_document().replace("unit:", "unti:").replace("weight: 50, params", "wieght: 50, params"))
    ended = project.run("serve", "--port", "0")
    assert ended.returncode == 2
    assert "unti" in ended.stderr
    assert "wieght" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_with_last_good_a_bad_document_at_start_serves_the_accepted_one(project: Any, write_document: Write) -> None:
    project.start("--last-good", "good")
    revision = asyncio.run(project.status())["revision"]
    assert project.stop() == 0
    project.write(write_document().replace("unit:", "unti:"))
    project.start("--last-good", "good")

    async def run() -> None:
        status = await project.status()
        assert status["revision"] == revision
        assert status["refused"]["errors"]

    asyncio.run(run())


def children(project: Any) -> list[int]:
    status = asyncio.run(project.until(lambda status: status["recorder"]["state"] == "running"))
    return [*(worker["pid"] for worker in status["workers"]), status["recorder"]["pid"]]


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return True


def test_when_the_supervisor_is_killed_workers_and_recorder_leave_and_nothing_is_lost(
    project: Any, load: Loading
) -> None:
    project.start("--workers", "2", "--drain", "5s")
    pids = children(project)

    async def run() -> Any:
        async with load(project) as made:
            await some(made, 200)
            await asyncio.to_thread(project.stop, signal.SIGKILL)
            async with asyncio.timeout(30):
                while any(alive(pid) for pid in pids):
                    await asyncio.sleep(0.05)
        return made

    made = asyncio.run(run())
    assert len(rows(project, "predictions")) == made.answered
    project.start()
    assert asyncio.run(project.status())["converged"]


def test_metrics_add_up_over_workers(project: Any, load: Loading) -> None:
    project.start("--workers", "2")

    async def run() -> None:
        async with load(project) as made:
            await some(made, 200)
        text = await project.metrics()
        counted = [line for line in text.splitlines() if line.startswith("turnout_requests_total{")]
        assert sum(float(line.rpartition(" ")[2]) for line in counted) == made.answered
        assert "turnout_worker_restarts_total 0" in text

    asyncio.run(run())


def test_during_the_notice_the_server_is_unready_and_still_answers(project: Any, load: Loading) -> None:
    project.start("--notice", "1s")

    async def run() -> None:
        async with load(project) as made:
            await some(made, 20)
            project.send(signal.SIGTERM)
            await project.unready()
            await some(made, 20)
            assert made.failures + made.turned_away == []
        assert project.stop() == 0

    asyncio.run(run())
