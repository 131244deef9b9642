"""Sealing from the recorder: a program an hour, never waited for; and what the program leaves when it is killed."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import msgspec
import pytest
from tests.contracts.event_stores import PHASE, exposure, outcome, prediction, subject

from turnout.errors import StoreError
from turnout.recorder import app, sealing
from turnout.stores import base, catalog, seal, sealed


class Program:
    """Stands in for a process: ends when told to."""

    def __init__(self, arguments: list[str], **_pipes: Any) -> None:
        self.arguments = arguments
        self.returncode: int | None = None
        self.output = b""
        self.complaint = b""
        self.terminated = False
        read, write = os.pipe()
        self.stdin: Any = os.fdopen(write, "wb")
        self.read = os.fdopen(read, "rb")

    def url(self) -> bytes:
        with self.read as read:
            return read.read()

    def poll(self) -> int | None:
        return self.returncode

    def communicate(self, timeout: float | None = None) -> tuple[bytes, bytes]:
        return self.output, self.complaint

    def terminate(self) -> None:
        self.terminated = True

    def end(self, code: int = 0, *, until: float = 0.0, complaint: str = "") -> None:
        self.read.close()
        self.returncode = code
        self.output = json.dumps({"until": until, "rows": 3}).encode()
        self.complaint = complaint.encode()


class Watch:
    """A clock and the programs that were started."""

    def __init__(self) -> None:
        self.now = 3_600.0 * 100 + 5
        self.started: list[Program] = []
        self.sealing = sealing.Sealing("folder", "sqlite:///x", clock=lambda: self.now, spawn=self.spawn)

    def spawn(self, arguments: list[str], **pipes: Any) -> Any:
        self.started.append(Program(arguments, **pipes))
        return self.started[-1]

    def tend(self, after_s: float = 0.0) -> int:
        self.now += after_s
        self.sealing.tend()
        return len(self.started)


def test_it_seals_at_the_start_and_after_every_hour_with_its_grace() -> None:
    watch = Watch()

    assert watch.tend() == 1
    assert watch.started[0].arguments[3:] == ["folder", "--range", "3600.0", "--grace", "60.0"]
    assert watch.started[0].url() == b"sqlite:///x"
    watch.started[0].end(until=99.0)
    assert watch.tend() == 1
    assert (watch.sealing.until, watch.sealing.error) == (99.0, "")
    # The hour 99 ended 5 s before the first run, within its grace: it is due 60 s after its end.
    assert watch.tend(54.0) == 1
    assert watch.tend(1.0) == 2
    watch.started[1].end()
    assert watch.tend() == 2
    assert watch.tend(3_599.0) == 2
    assert watch.tend(1.0) == 3
    watch.started[2].end()


def test_there_is_one_run_at_a_time_and_it_is_not_waited_for() -> None:
    watch = Watch()

    assert watch.tend() == 1
    assert watch.tend(10_000.0) == 1
    watch.started[0].end()
    watch.tend()


def test_a_failure_is_said_and_tried_again_with_growing_pauses() -> None:
    watch = Watch()
    for pause_s in (60.0, 120.0, 240.0):
        watch.tend()
        watch.started[-1].end(1, complaint="Traceback\nthe store is down.\n")
        watch.tend()
        assert watch.sealing.error == "the store is down."
        before = len(watch.started)
        assert watch.tend(pause_s - 1) == before
        watch.now += 1

    watch.tend()
    watch.started[-1].end(until=5.0)
    watch.tend()
    assert watch.sealing.error == ""


def test_a_run_under_way_is_ended_at_the_end() -> None:
    watch = Watch()
    watch.tend()
    watch.started[0].end()

    watch.sealing.stop()
    watch.sealing.stop()

    assert watch.started[0].terminated


def test_a_program_that_cannot_be_started_is_a_failure_like_another() -> None:
    def spawn(_arguments: list[str], **_pipes: Any) -> Any:
        raise OSError("no memory")

    never = sealing.Sealing("folder", "sqlite:///x", clock=lambda: 0.0, spawn=spawn)
    never.tend()

    assert never.error == "no memory"


def test_nothing_is_shipped_into_sealed_events(tmp_path: Path) -> None:
    assert app.ship_once(tmp_path, f"parquet:{tmp_path}") is None


# -- with real processes


def fill(url: str, rows: int) -> None:
    """One unit in 30 converts; rows over three hours, arrived within two."""
    store = catalog.open_store(url)
    for first in range(0, rows, 1_000):
        events: list[Any] = []
        for at in range(first, min(first + 1_000, rows)):
            ts = 36_000.0 + at * 3 * 3_600 / rows
            events.append(prediction(f"q{at}", f"u{at}", "a", ts=ts))
            events.append(exposure(f"u{at}", "a", ts, request_id=f"q{at}"))
            events += [outcome(f"o{at}", request_id=f"q{at}", ts=ts)] if at % 30 == 0 else []
        store.append(events, None, ingested_at=40_000.0 + first / rows * 7_000, subject=subject)
    store.close()


def run_seal(url: str, folder: Path) -> "subprocess.Popen[bytes]":
    program = subprocess.Popen(
        [sys.executable, "-m", "turnout.stores.seal", str(folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert program.stdin is not None
    program.stdin.write(url.encode())
    program.stdin.close()
    program.stdin = None
    return program


def summary(store: base.EventStore) -> list[object]:
    query = base.UnitQuery(experiment="structure", phase=PHASE, outcome="kept")
    errors = base.SignalQuery(experiment="structure", phase=PHASE, signal="error")
    found = [store.unit_sums(query), store.signal_sums(errors), store.outcome_names()]
    store.close()
    return [msgspec.to_builtins(one) for one in found]


@pytest.mark.slow
def test_a_sealer_killed_at_any_time_loses_and_doubles_nothing(tmp_path: Path) -> None:
    url, folder = f"sqlite:///{tmp_path / 'events.db'}", tmp_path / "sealed"
    fill(url, 20_000)
    kills = 0
    for drafts in (0, 1, 2, 4, 5):
        program = run_seal(url, folder)
        until = time.monotonic() + 60
        while program.poll() is None and time.monotonic() < until:
            if len(list(folder.glob("*/*/.*.draft"))) + len(list(folder.glob("*/*/*.parquet"))) > drafts:
                program.send_signal(signal.SIGKILL)
                kills += 1
                break
            time.sleep(0.002)
        program.communicate()

    last = run_seal(url, folder)
    output, _ = last.communicate(timeout=60)

    assert kills >= 3
    assert last.returncode == 0
    assert json.loads(output)["until"] > time.time() - 2 * 3_660
    assert list(folder.glob("*/*/.*.draft")) == []
    assert summary(catalog.open_store(f"parquet:{folder}")) == summary(catalog.open_store(url, read_only=True))
    assert {piece.path.parent.name for piece in sealed.pieces(folder, "predictions")} == {
        "hour=1970-01-01T10",
        "hour=1970-01-01T11",
        "hour=1970-01-01T12",
    }


@pytest.mark.slow
def test_the_recorder_seals_what_it_ships(tmp_path: Path) -> None:
    url, folder = f"sqlite:///{tmp_path / 'events.db'}", tmp_path / "sealed"
    fill(url, 2_000)
    (tmp_path / "segments").mkdir()
    program = subprocess.Popen(
        [sys.executable, "-m", "turnout.recorder.app", "--state", str(tmp_path), "--parquet", str(folder)]
    )
    try:
        until = time.monotonic() + 60
        while time.monotonic() < until:
            path = tmp_path / "recorder.json"
            if path.exists() and msgspec.json.decode(path.read_bytes(), type=app.Status).sealed_until > 0:
                break
            time.sleep(0.05)
        assert summary(catalog.open_store(f"parquet:{folder}")) == summary(catalog.open_store(url, read_only=True))
    finally:
        program.terminate()
        assert program.wait(30) == 0


# -- the program's rules


def seal_at(url: str, folder: Path, now: float) -> seal.Sealed:
    store = catalog.open_sealable(url)
    try:
        return seal.seal(store, folder, sealed.source_of(url), now=now)
    finally:
        store.close()


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'events.db'}"


def names(folder: Path, table: str = "outcomes") -> list[str]:
    return sorted(f"{piece.path.parent.name[5:]} {piece.start}-{piece.end}" for piece in sealed.pieces(folder, table))


def put(url: str, arrived: float, *events: Any) -> None:
    store = catalog.open_store(url)
    store.append(events, None, ingested_at=arrived, subject=subject)
    store.close()


def test_an_hour_is_sealed_when_it_and_its_grace_are_over(tmp_path: Path, url: str) -> None:
    folder = tmp_path / "sealed"
    put(url, 3_700.0, outcome("o1", unit="u1", ts=3_650.0))

    assert seal_at(url, folder, 7_200.0 + 59.0) == seal.Sealed(until=3_600.0, rows=0)
    assert names(folder) == []
    assert seal_at(url, folder, 7_200.0 + 60.0) == seal.Sealed(until=7_200.0, rows=1)
    assert names(folder) == ["1970-01-01T01 3600-7200"]
    assert seal_at(url, folder, 7_200.0 + 61.0).rows == 0


def test_late_rows_lie_in_files_beside_those_of_their_hour(tmp_path: Path, url: str) -> None:
    folder = tmp_path / "sealed"
    put(url, 3_700.0, outcome("o1", unit="u1", ts=3_650.0))
    seal_at(url, folder, 7_260.0)
    put(url, 3_600.0 * 9, outcome("o2", unit="u1", ts=3_651.0), outcome("o3", unit="u1", ts=3_600.0 * 8))

    assert seal_at(url, folder, 3_600.0 * 11).rows == 2
    assert names(folder) == ["1970-01-01T01 32400-36000", "1970-01-01T01 3600-7200", "1970-01-01T08 32400-36000"]


def test_a_row_that_comes_in_under_an_old_time_is_found_when_ranges_are_counted_again(tmp_path: Path, url: str) -> None:
    folder = tmp_path / "sealed"
    put(url, 3_700.0, outcome("o1", unit="u1", ts=3_650.0))
    seal_at(url, folder, 7_260.0)
    put(url, 3_800.0, outcome("o2", unit="u1", ts=3_651.0))  # by a host whose clock is behind

    assert seal_at(url, folder, 7_300.0).rows == 2
    assert names(folder) == ["1970-01-01T01 3600-7200"]
    store = catalog.open_store(f"parquet:{folder}")
    assert [one.count for one in store.outcome_names()] == [2]
    store.close()


def test_times_outside_of_the_calendar_are_kept_too(tmp_path: Path, url: str) -> None:
    folder = tmp_path / "sealed"
    put(url, 3_700.0, outcome("o1", unit="u1", ts=-1e9), outcome("o2", unit="u1", ts=1e300), outcome("o3", ts=5.0))

    assert seal_at(url, folder, 7_300.0).rows == 3
    assert [name.partition(" ")[0] for name in names(folder)] == ["1970-01-01T00", "9999-12-31T23"]
    assert seal_at(url, folder, 7_400.0).rows == 0


def test_many_hours_at_once_are_written_a_few_at_a_time(tmp_path: Path, url: str) -> None:
    folder = tmp_path / "sealed"
    put(url, 3_700.0, *(outcome(f"o{hour}", unit="u1", ts=hour * 3_600.0) for hour in range(100)))

    assert seal_at(url, folder, 7_300.0).rows == 100
    assert len(names(folder)) == 100


def test_the_same_event_from_two_stores_counts_once(tmp_path: Path) -> None:
    folder = tmp_path / "sealed"
    for name in ("one", "two"):
        put(f"sqlite:///{tmp_path / name}.db", 3_700.0, outcome("o1", unit="u1"), prediction("q1", "u1"))
        seal_at(f"sqlite:///{tmp_path / name}.db", folder, 7_300.0)

    store = catalog.open_store(f"parquet:{folder}")
    assert [one.count for one in store.outcome_names()] == [1]
    store.close()


def test_answers_stand_as_of_the_last_seal_and_say_so(tmp_path: Path, url: str) -> None:
    folder = tmp_path / "sealed"
    put(url, 3_700.0, exposure("u1", "a", 3_650.0), outcome("o1", unit="u1", ts=3_660.0))
    seal_at(url, folder, 7_300.0)
    put(url, 7_300.0, exposure("u2", "a", 7_299.0))
    store = catalog.open_store(f"parquet:{folder}")
    query = base.UnitQuery(experiment="structure", phase=PHASE, outcome="kept", window_s=3_600.0, as_of=1e9)

    assert [(one.n, one.closed) for one in store.unit_sums(query)] == [(1, False)]
    assert store.known_until == 7_200.0
    store.close()


def test_a_folder_that_is_not_there_is_explained(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"no sealed events: .* is no folder"):
        catalog.open_store(f"parquet:{tmp_path / 'nothing'}")


def test_sealed_events_take_nothing(tmp_path: Path) -> None:
    store = catalog.open_store(f"parquet:{tmp_path}")
    with pytest.raises(StoreError, match="only be read"):
        store.append([outcome("o1")], None, ingested_at=1.0, subject=subject)
    assert store.checkpoints() == {}
    store.close()


def test_a_file_that_is_no_parquet_is_an_error_of_ours(tmp_path: Path, url: str) -> None:
    folder = tmp_path / "sealed"
    put(url, 3_700.0, outcome("o1", unit="u1"))
    seal_at(url, folder, 7_300.0)
    sealed.pieces(folder, "outcomes")[0].path.write_bytes(b"something else")

    with pytest.raises(StoreError, match="the sealed events failed"):
        catalog.open_store(f"parquet:{folder}")
