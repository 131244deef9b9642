"""Events survive what kills processes and fills disks: real processes, `kill -9`, a real file system without room."""

import asyncio
import os
import resource
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from turnout import telemetry
from turnout.eventlog import log
from turnout.events import Outcome
from turnout.recorder import app

pytestmark = pytest.mark.slow

WRITER = """
import asyncio, sys, time
from pathlib import Path
from turnout import telemetry
from turnout.eventlog import log
from turnout.events import Outcome

async def main():
    events = log.EventLog(Path(sys.argv[1]), "w0", registry=telemetry.Registry())
    events.start()
    for number in range(10_000_000):
        now = time.time()
        events.append(Outcome(event_id=f"{number:08d}", ts=now, name="kept", unit="u"))
        if number % 20 == 0:
            print(number, now, flush=True)
            await asyncio.sleep(0)

asyncio.run(main())
"""

Start = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def start() -> Iterator[Start]:
    """Starts Python programs and ends them with the test."""
    running: list[subprocess.Popen[str]] = []

    def run(*arguments: str) -> subprocess.Popen[str]:
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
        process = subprocess.Popen(
            [sys.executable, *arguments], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=environment
        )
        running.append(process)
        return process

    yield run
    for process in running:
        process.kill()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()


def eventually(true: Callable[[], bool], within_s: float = 30.0) -> None:
    """Wait for something another process does."""
    until = time.monotonic() + within_s
    while not true():
        assert time.monotonic() < until, f"not so within {within_s} s"
        os.sched_yield()


def kept(state: Path) -> list[str]:
    """Ids in the store, sorted; none while there is no store."""
    try:
        connection = sqlite3.connect(f"file:{state / 'events.db'}?mode=ro", uri=True)
    except sqlite3.OperationalError:
        return []
    try:
        return [event_id for (event_id,) in connection.execute("SELECT event_id FROM outcomes ORDER BY event_id")]
    except sqlite3.OperationalError:
        return []
    finally:
        connection.close()


def write(state: Path, count: int, **settings: int) -> None:
    """Write so many outcomes as one worker that ends well."""

    async def main() -> None:
        events = log.EventLog(
            state / "segments", "w1", registry=telemetry.Registry(), settings=log.Settings(**settings)
        )
        events.start()
        for number in range(count):
            events.append(Outcome(event_id=f"{number:08d}", ts=1.0, name="kept", unit=f"u{number}"))
            if number % 1_000 == 0:
                await events.flush()
        await events.close()

    asyncio.run(main())


def test_a_worker_killed_at_any_moment_loses_at_most_the_last_fifty_milliseconds(tmp_path: Path, start: Start) -> None:
    writer = start("-c", WRITER, str(tmp_path / "segments"))
    assert writer.stdout is not None
    said = [writer.stdout.readline() for _ in range(3_000)]
    writer.send_signal(signal.SIGKILL)
    died = time.time()
    said += writer.stdout.read().splitlines()

    app.ship_once(tmp_path)

    found = kept(tmp_path)
    assert found == [f"{number:08d}" for number in range(len(found))]
    lines = [line.split() for line in said if len(line.split()) == 2]
    owed = [int(number) for number, appended in lines if float(appended) < died - 0.05]
    assert owed
    assert len(found) > max(owed)


def test_a_recorder_killed_again_and_again_loses_and_doubles_nothing(tmp_path: Path, start: Start) -> None:
    write(tmp_path, 60_000, segment_bytes=500_000)
    for target in (1, 15_000, 30_000, 45_000):
        recorder = start("-m", "turnout.recorder.app", "--state", str(tmp_path))
        eventually(lambda least=target: len(kept(tmp_path)) >= least)  # type: ignore[misc]
        recorder.send_signal(signal.SIGKILL)
        recorder.wait()
    recorder = start("-m", "turnout.recorder.app", "--state", str(tmp_path))
    eventually(lambda: not list((tmp_path / "segments").glob("*.seg")))
    recorder.terminate()

    assert recorder.wait(10) == 0
    assert kept(tmp_path) == [f"{number:08d}" for number in range(60_000)]


def test_a_recorder_told_to_end_ships_what_is_there(tmp_path: Path, start: Start) -> None:
    recorder = start("-m", "turnout.recorder.app", "--state", str(tmp_path))
    eventually((tmp_path / "events.db").exists)
    write(tmp_path, 5_000)
    recorder.terminate()

    assert recorder.wait(20) == 0
    assert len(kept(tmp_path)) == 5_000


def test_a_recorder_ends_with_its_parent_and_ships_what_is_there(tmp_path: Path, start: Start) -> None:
    write(tmp_path, 1_000)
    code = (
        "import subprocess, sys\n"
        "p = subprocess.Popen([sys.executable, '-m', 'turnout.recorder.app', '--state', sys.argv[1]])\n"
        "print(p.pid, flush=True)\n"
        "p.wait()"
    )
    parent = start("-c", code, str(tmp_path))
    assert parent.stdout is not None
    recorder = int(parent.stdout.readline())
    eventually((tmp_path / "recorder.lock").exists)
    parent.send_signal(signal.SIGKILL)
    parent.wait()

    eventually(lambda: not Path(f"/proc/{recorder}/cmdline").exists() or not is_alive(recorder))
    assert len(kept(tmp_path)) == 1_000


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_a_locked_store_delays_events_and_loses_none(tmp_path: Path, start: Start) -> None:
    write(tmp_path, 10)
    app.ship_once(tmp_path)
    blocker = sqlite3.connect(tmp_path / "events.db", isolation_level=None)
    blocker.execute("BEGIN IMMEDIATE")
    write(tmp_path, 2_000)
    recorder = start("-m", "turnout.recorder.app", "--state", str(tmp_path))
    eventually(lambda: "locked" in said(tmp_path))
    assert len(kept(tmp_path)) == 10
    blocker.execute("ROLLBACK")
    blocker.close()

    eventually(lambda: len(kept(tmp_path)) == 2_000)
    recorder.terminate()
    assert recorder.wait(10) == 0


def test_a_store_deleted_under_the_recorder_is_made_anew_and_takes_all_that_follows(
    tmp_path: Path, start: Start
) -> None:
    write(tmp_path, 10)
    recorder = start("-m", "turnout.recorder.app", "--state", str(tmp_path))
    eventually(lambda: len(kept(tmp_path)) == 10)
    for file in tmp_path.glob("events.db*"):
        file.unlink()
    write(tmp_path, 2_000)

    eventually(lambda: len(kept(tmp_path)) == 2_000)
    recorder.terminate()
    assert recorder.wait(10) == 0


def said(state: Path) -> str:
    try:
        return (state / "recorder.json").read_text()
    except FileNotFoundError:
        return ""


def test_a_file_system_without_room_loses_nothing_that_fits_into_memory(tmp_path: Path) -> None:
    """A limit on file sizes stands for the full disk: the kernel takes a part of the write, then none."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    registry = telemetry.Registry()
    events = log.EventLog(tmp_path / "segments", "w0", registry=registry)
    try:

        async def main() -> None:
            events.start()
            resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, before[1]))
            for number in range(3_000):
                assert events.append(Outcome(event_id=f"{number:08d}", ts=1.0, name="kept", unit="u"))
                if number % 100 == 0:
                    await events.flush()
            await events.flush()
            assert events.waiting > 1_000
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
            await events.flush()
            assert events.waiting == 0
            await events.close()

        asyncio.run(main())
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, ignored)

    progress = app.ship_once(tmp_path)

    assert progress is not None
    assert progress.events == 3_000
    assert kept(tmp_path) == [f"{number:08d}" for number in range(3_000)]
    assert not (tmp_path / "segments" / "broken").exists()
    dropped = [family for family in registry.snapshot() if family.name == "turnout_events_dropped_total"]
    assert all(not family.samples for family in dropped)
