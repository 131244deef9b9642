"""What every store of the fleet's state promises, in memory, on SQLite and on PostgreSQL."""

import shutil
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa
from msgspec import structs
from tests.contracts.event_stores import postgresql_url, sqlite_template

from turnout.errors import StoreError
from turnout.stores import catalog, control

__all__ = ["postgresql_url", "sqlite_template"]

TABLES = "replicas, revisions, overlays, leases, looks"


def empty(url: str) -> str:
    engine = sa.create_engine(sa.make_url(url).set(drivername="postgresql+psycopg"))
    with engine.begin() as connection:
        connection.exec_driver_sql(f"TRUNCATE {TABLES} RESTART IDENTITY")
    engine.dispose()
    return url


@pytest.fixture(params=["memory", "sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "memory":
        return "memory:"
    if request.param == "sqlite":
        shutil.copy(request.getfixturevalue("sqlite_template"), tmp_path / "events.db")
        return f"sqlite:///{tmp_path / 'events.db'}"
    return empty(request.getfixturevalue("postgresql_url"))


@pytest.fixture
def store(url: str) -> Iterator[control.ControlStore]:
    opened = catalog.open_control(url)
    yield opened
    opened.close()


def replica(name: str, *, seen: float, host: str = "a", revision: str = "r1") -> control.Replica:
    return control.Replica(id=name, host=host, pid=7, revision=revision, workers=2, seen=seen)


def record(revision: str, at: float = 1.0, **more: object) -> control.RevisionRecord:
    return structs.replace(control.RevisionRecord(revision=revision, at=at), **more)


def look(at: float, *, rollout: str = "canary", phase: str = "p1") -> control.Look:
    return control.Look(rollout=rollout, phase=phase, at=at, kind="look", payload='{"n": 1}')


def test_a_replica_is_seen_with_everything_it_said(store: control.ControlStore) -> None:
    said = control.Replica(
        id="x1",
        host="a",
        pid=7,
        url="http://127.0.0.1:1",
        revision="r1",
        since=3.5,
        build="b",
        workers=4,
        workers_current=3,
        behind=("w1 serves r0",),
        refusal=("turnout.yaml:3: no", "and é"),
        settled_s=0.25,
        started=1.0,
        seen=9.0,
    )
    store.announce(said)

    assert store.replicas(since=0.0) == [said]


def test_a_replica_that_announces_itself_again_is_one_replica(store: control.ControlStore) -> None:
    store.announce(replica("x1", seen=1.0))
    store.announce(replica("x1", seen=3.0, revision="r2"))

    assert [(found.seen, found.revision) for found in store.replicas(since=0.0)] == [(3.0, "r2")]


def test_a_silent_replica_is_gone(store: control.ControlStore) -> None:
    store.announce(replica("silent", seen=1.0))
    store.announce(replica("x1", seen=11.0, host="b"))
    store.announce(replica("x2", seen=12.0, host="a"))

    assert [found.id for found in store.replicas(since=2.0)] == ["x2", "x1"]
    assert [found.id for found in store.replicas(since=12.0)] == ["x2"]
    store.announce(replica("x2", seen=13.0), forget_before=5.0)
    assert [found.id for found in store.replicas(since=0.0)] == ["x2", "x1"]


def test_a_replica_that_leaves_is_gone_at_once(store: control.ControlStore) -> None:
    store.announce(replica("x1", seen=1.0))
    store.leave("x1")
    store.leave("never there")

    assert store.replicas(since=0.0) == []


def test_history_keeps_what_was_said_the_newest_first(store: control.ControlStore) -> None:
    first = record(
        "aa11",
        at=5.0,
        author="Ada <ada@example.org>",
        reason="begin",
        source="start",
        host="h",
        document={"turnout.yaml": "models: {}\n", "more.yaml": "token: secret:qa"},
        stage="prod",
        digests={"rank": "d" * 64},
        build="b1",
    )
    assert store.record(first, after=None) == 1
    assert store.record(record("bb22", at=6.0, replaced="aa11"), after=1) == 2

    assert store.history(limit=10) == [
        record("bb22", at=6.0, replaced="aa11", number=2),
        structs.replace(first, number=1),
    ]
    assert [found.revision for found in store.history(limit=1)] == ["bb22"]


def test_one_change_that_many_replicas_see_is_one_record(store: control.ControlStore) -> None:
    start = store.record(record("a"), after=None)
    assert store.record(record("a", host="second"), after=None) == start
    fast = store.record(record("b"), after=start)
    faster = store.record(record("c"), after=fast)
    slow = store.record(record("b", host="second"), after=start)

    assert (slow, store.record(record("c", host="second"), after=slow)) == (fast, faster)
    assert [found.revision for found in store.history(limit=10)] == ["c", "b", "a"]


def test_going_back_and_forth_is_told_as_it_was(store: control.ControlStore) -> None:
    first = second = store.record(record("a"), after=None)
    for revision in ("b", "a", "b"):
        first = store.record(record(revision), after=first)
        second = store.record(record(revision, host="second"), after=second)

    assert [found.revision for found in store.history(limit=10)] == ["b", "a", "b", "a"]
    assert first == second == 4


def test_a_restart_on_the_revision_in_force_is_no_news(store: control.ControlStore) -> None:
    number = store.record(record("a"), after=None)

    assert store.record(record("a", at=9.0), after=None) == number
    assert store.record(record("b", at=9.0), after=None) == number + 1
    assert store.record(record("a", at=9.0), after=None) == number + 2


def test_records_are_found_by_the_beginning_of_their_revision(store: control.ControlStore) -> None:
    number = store.record(record("abc1"), after=None)
    number = store.record(record("abd2"), after=number)
    store.record(record("abc1"), after=number)

    assert [found.number for found in store.revision("abc")] == [3, 1]
    assert [found.number for found in store.revision("ab")] == [3, 2, 1]
    assert store.revision("%") == []


def test_an_overlay_is_written_from_the_newest_one_only(store: control.ControlStore) -> None:
    assert store.overlay() is None
    first = store.propose("a: 1", after=0, author="turnout", reason="step", at=5.0)
    second = store.propose("a: 2", after=1, author="ada", reason="", at=6.0)

    with pytest.raises(control.StoreConflictError, match=r"made from number 1, but the newest is 2.*decide again"):
        store.propose("a: 3", after=1, author="late", reason="", at=7.0)
    assert first == control.Overlay(number=1, at=5.0, author="turnout", reason="step", content="a: 1")
    assert store.overlay() == second
    assert [overlay.number for overlay in store.overlays(limit=5)] == [2, 1]
    assert store.overlays(limit=1) == [second]


def test_of_two_that_write_an_overlay_at_once_one_wins(url: str) -> None:
    if url == "memory:":
        pytest.skip("one process, one thread")
    stores = [catalog.open_control(url) for _ in range(4)]
    outcomes: list[str] = []

    def write(store: control.ControlStore) -> None:
        for number in range(8):
            try:
                store.propose("x", after=number, author="", reason="", at=1.0)
                outcomes.append("kept")
            except control.StoreConflictError:
                outcomes.append("conflict")

    threads = [threading.Thread(target=write, args=(store,)) for store in stores]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)

    found = stores[0].overlays(limit=100)
    assert [overlay.number for overlay in found] == list(range(len(found), 0, -1))
    assert outcomes.count("kept") == len(found) > 0
    assert len(outcomes) == 32
    for store in stores:
        store.close()


def test_a_lease_from_a_clock_that_was_wrong_holds_up_nobody(store: control.ControlStore) -> None:
    assert store.lease("rollouts", "one", until=15.0 + control.GONE_S, now=0.0)
    assert not store.lease("rollouts", "two", until=15.0, now=0.0)
    assert store.lease("rollouts", "one", until=1e9, now=1e9 - 15)
    assert store.lease("rollouts", "two", until=16.0, now=1.0)


def test_a_lease_has_one_holder_until_it_runs_out(store: control.ControlStore) -> None:
    assert store.lease("rollouts", "one", until=10.0, now=0.0)
    assert not store.lease("rollouts", "two", until=20.0, now=9.9)
    assert store.lease("other", "two", until=20.0, now=9.9)
    assert store.lease("rollouts", "one", until=15.0, now=9.9)
    assert not store.lease("rollouts", "two", until=25.0, now=14.9)
    assert store.lease("rollouts", "two", until=25.0, now=15.0)
    assert not store.lease("rollouts", "one", until=30.0, now=16.0)


def test_looks_are_kept_in_order_and_by_phase(store: control.ControlStore) -> None:
    for at in (1.0, 2.0, 3.0):
        store.add_look(look(at))
    store.add_look(look(4.0, phase="p2"))
    store.add_look(look(5.0, rollout="another"))

    assert [found.at for found in store.looks("canary", "p1")] == [1.0, 2.0, 3.0]
    assert [found.at for found in store.looks("canary", "p1", limit=2)] == [2.0, 3.0]
    assert store.looks("canary", "p2") == [structs.replace(look(4.0, phase="p2"), number=4)]


def test_reading_cannot_write(url: str) -> None:
    catalog.open_control(url).close()
    store = catalog.open_control(url, read_only=True)

    with pytest.raises(StoreError, match="read"):
        store.announce(replica("x1", seen=1.0))
    assert store.replicas(since=0.0) == []
    store.close()


def test_a_store_whose_file_is_deleted_says_so(sqlite_template: Path, tmp_path: Path) -> None:
    shutil.copy(sqlite_template, tmp_path / "events.db")
    store = catalog.open_control(f"sqlite:///{tmp_path / 'events.db'}")
    store.announce(replica("x1", seen=1.0))
    (tmp_path / "events.db").unlink()

    with pytest.raises(StoreError, match="was removed or replaced"):
        store.announce(replica("x1", seen=2.0))
    with pytest.raises(StoreError, match="was removed or replaced"):
        store.overlay()
    store.close()


@pytest.mark.slow
@pytest.mark.parametrize("broken", ["{bad", "[1]", "[" * 5_000], ids=range(3))
def test_a_row_that_somebody_else_changed_is_named(sqlite_template: Path, tmp_path: Path, broken: str) -> None:
    shutil.copy(sqlite_template, tmp_path / "events.db")
    store = catalog.open_control(f"sqlite:///{tmp_path / 'events.db'}")
    store.record(record("r1"), after=None)
    with sqlite3.connect(tmp_path / "events.db") as database:
        database.execute("UPDATE revisions SET document = ?", (broken,))
    database.close()
    with pytest.raises(StoreError, match="RevisionRecord 1 in the store cannot be read"):
        store.history(10)
    store.close()


def test_two_programs_may_make_a_new_sqlite_file_at_once(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'events.db'}"
    programs = [
        subprocess.Popen(
            [sys.executable, "-m", "turnout.stores.migrate", "-"],
            stdin=subprocess.PIPE,
            env={"PYTHONPATH": ":".join(sys.path)},
        )
        for _ in range(3)
    ]
    threads = [threading.Thread(target=program.communicate, args=(url.encode(),)) for program in programs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)

    assert [program.returncode for program in programs] == [0, 0, 0]
    store = catalog.open_control(url)
    assert store.history(limit=1) == []
    store.close()
