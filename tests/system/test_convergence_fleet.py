"""Two servers on one PostgreSQL are one fleet: each tells how far both are, and both follow one overlay."""

import asyncio
import json
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from tests.contracts.event_stores import empty_postgresql, postgresql_url

import turnout
from turnout.stores import catalog, control

__all__ = ["postgresql_url"]

pytestmark = pytest.mark.slow

Write = Callable[..., str]
SOURCE = str(Path(turnout.__file__).parent.parent)


@pytest.fixture
def store(postgresql_url: str) -> Iterator[control.ControlStore]:
    url = empty_postgresql(postgresql_url)
    engine = sa.create_engine(sa.make_url(url).set(drivername="postgresql+psycopg"))
    with engine.begin() as connection:
        connection.exec_driver_sql("TRUNCATE replicas, revisions, overlays, leases, looks")
    engine.dispose()
    opened = catalog.open_control(url)
    yield opened
    opened.close()


@pytest.fixture
def two(tmp_path: Path, project: Any, write_document: Write) -> Iterator[tuple[Any, Any]]:
    """Two projects with the same document, in folders of their own as on two hosts."""
    made = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        made.append(type(project)(tmp_path / name))
        made[-1].write(managed(write_document()))
    yield made[0], made[1]
    for each in made:
        if each.process is not None and each.process.poll() is None:
            each.stop()


def managed(text: str) -> str:
    """The document with an experiment whose winner Turnout may name."""
    return text.replace("    endpoint: scale\n", "    endpoint: scale\n    managed: [winner]\n")


def replicas(status: dict[str, Any]) -> tuple[int, int]:
    told = status["convergence"]["replicas"]
    return told["current"], told["total"]


async def both(one: Any, two: Any, condition: Callable[[dict[str, Any]], bool]) -> list[dict[str, Any]]:
    return [await each.until(condition) for each in (one, two)]


def test_two_servers_tell_how_far_both_are_and_follow_one_overlay(
    two: tuple[Any, Any], store: control.ControlStore, postgresql_url: str, write_document: Write
) -> None:
    one, other = two
    for each in two:
        each.start("--workers", "2", "--store", postgresql_url)

    async def run() -> None:
        first = (await both(one, other, lambda status: replicas(status) == (2, 2)))[0]["revision"]
        one.write(managed(write_document(factor=3.0)))
        ahead = await one.until(lambda status: replicas(status) == (1, 2) and status["revision"] != first)
        behind = ahead["convergence"]["behind"]
        assert [(told["revision"], told["url"]) for told in behind] == [(first, f"http://127.0.0.1:{other.port}")]
        assert "has not seen the change yet" in behind[0]["reason"]
        shown = one.run("status")
        assert shown.returncode == 1
        assert "1 of 2 replicas" in shown.stdout

        other.write(managed(write_document(factor=3.0)).replace("weight", "wieght"))
        await one.until(
            lambda status: any("unknown key 'wieght'" in told["error"] for told in status["convergence"]["refusals"])
        )
        other.write(managed(write_document(factor=3.0)))
        second = (await both(one, other, lambda status: replicas(status) == (2, 2)))[0]["revision"]

        proposed = time.time()
        overlay = json.dumps({"experiments": {"offset": {"winner": "some"}}})
        store.propose(overlay, after=0, author="turnout", reason="some has won", at=proposed)
        statuses = await both(one, other, lambda status: (status["overlay"] or {}).get("number") == 1)
        assert all(status["revision"] not in (first, second) for status in statuses)
        assert all(worker["since"] - proposed < 5.0 for status in statuses for worker in status["workers"])
        await both(one, other, lambda status: replicas(status) == (2, 2))

        store.propose('{"experiments": {"offset": {"variants": {}}}}', after=1, author="x", reason="", at=time.time())
        statuses = await both(one, other, lambda status: bool((status["overlay"] or {}).get("refused")))
        assert [status["overlay"]["number"] for status in statuses] == [1, 1]

    asyncio.run(run())
    listed = json.loads(one.run("history", "--json", "--store", postgresql_url).stdout)
    told = [(entry["source"], entry["changed"]) for entry in reversed(listed["revisions"])]
    assert told == [
        ("start", None),
        ("document", ["models.scale.params.factor"]),
        ("overlay", ["experiments.offset.winner"]),
    ]
    assert {refused["number"] for refused in listed["refused_overlays"]} == {2}
    assert "2 of 2 replicas on" in one.run("status").stdout

    other.stop(signal.SIGTERM)
    asyncio.run(one.until(lambda status: replicas(status) == (1, 1)))
    other.start("--workers", "1", "--store", postgresql_url)
    restarted = asyncio.run(other.status())
    assert restarted["overlay"]["number"] == 1, "it was there before the first request"
    assert other.stop() == 0
    assert one.stop() == 0


def test_counts_survive_the_workers_that_made_them(project: Any, load: Any) -> None:
    project.start("--workers", "2")

    async def run() -> None:
        async with load(project, callers=2) as made:
            while made.answered < 100:
                await asyncio.sleep(0.01)
            project.send(signal.SIGHUP)
            await project.until(lambda status: status["reload"]["state"] == "done")
            goal = made.answered + 50
            while made.answered < goal:
                await asyncio.sleep(0.01)
        lines = (await project.metrics()).splitlines()
        counted = sum(float(line.split()[-1]) for line in lines if line.startswith("turnout_requests_total{"))
        assert counted == made.answered
        assert made.failures + made.turned_away == []

    asyncio.run(run())


def test_the_live_view_shows_each_variant_and_ends_quietly(project: Any, load: Any) -> None:
    project.start()

    async def run() -> None:
        async with load(project, callers=2) as made:
            while made.answered < 20:
                await asyncio.sleep(0.01)
            watching = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "turnout", "status", "--watch", "--json"),
                cwd=project.folder,
                env={**os.environ, "PYTHONPATH": SOURCE},
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
            )
            assert watching.stdout is not None
            assert watching.stderr is not None
            async with asyncio.timeout(40):
                frames = [json.loads(await watching.stdout.readline()) for _ in range(2)]
                watching.send_signal(signal.SIGINT)
                assert await watching.wait() == 0
                assert await watching.stderr.read() == b""
        rows = frames[-1]["rows"]
        assert {row["variant"] for row in rows} == {"none", "some"}
        assert sum(row["requests_per_s"] for row in rows) > 0
        assert all(row["latency_s"]["0.5"] > 0 for row in rows)
        assert "1 of 1 replica" in frames[-1]["convergence"]

    asyncio.run(run())
