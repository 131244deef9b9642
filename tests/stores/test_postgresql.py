"""What only a server does: it goes away and comes back, and several hosts migrate it at once."""

import subprocess
import sys
import threading

import pytest
import sqlalchemy as sa
from tests.contracts.event_stores import (
    empty_postgresql,
    exposure,
    outcome,
    postgresql_url,
    prediction,
    subject,
    totals,
)

from turnout.errors import StoreError
from turnout.events import Event
from turnout.stores import base, catalog, databases, migrate

__all__ = ["postgresql_url"]


@pytest.fixture
def admin(postgresql_url: str) -> sa.Engine:
    return databases.engine(empty_postgresql(postgresql_url))


def test_a_connection_cut_by_the_server_fails_once_and_is_made_again(postgresql_url: str, admin: sa.Engine) -> None:
    store = catalog.open_store(postgresql_url)
    store.append([outcome("o1")], None, ingested_at=1.0, subject=subject)
    with admin.begin() as connection:
        connection.execute(
            sa.text(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                "WHERE pid <> pg_backend_pid() AND usename = current_user"
            )
        )

    with pytest.raises(StoreError) as caught:
        store.append([outcome("o2")], base.Checkpoint("a.seg", 9), ingested_at=1.0, subject=subject)
    assert not isinstance(caught.value, base.RefusedError)
    store.append([outcome("o2")], base.Checkpoint("a.seg", 9), ingested_at=1.0, subject=subject)

    assert [found.count for found in store.outcome_names()] == [2]
    assert store.checkpoints() == {"a.seg": 9}
    store.close()
    admin.dispose()


def test_a_server_that_is_not_there_is_an_error_of_ours(postgresql_url: str) -> None:
    away = postgresql_url.replace("host=", "host=/nowhere")

    with pytest.raises(StoreError, match="the store failed to tell its schema"):
        catalog.open_store(away)


def test_reading_cannot_write(postgresql_url: str) -> None:
    store = catalog.open_store(postgresql_url, read_only=True)

    with pytest.raises(StoreError, match="read-only"):
        store.append([outcome("o1")], None, ingested_at=1.0, subject=subject)
    store.close()


def test_nul_in_text_is_replaced_and_everything_else_kept(postgresql_url: str, admin: sa.Engine) -> None:
    store = catalog.open_store(postgresql_url)
    events: list[Event] = [
        exposure("u\x00", attributes={"a": "b\x00c"}),
        prediction("q1", "u2"),
        outcome("o1", unit="u\x00"),
    ]

    store.append(events, None, ingested_at=1.0, subject=subject)

    with admin.connect() as connection:
        assert connection.execute(sa.text("SELECT unit, attributes FROM exposures")).all() == [
            ("u\ufffd", '{"a":"b\ufffdc"}')
        ]
    assert totals(store) == {"control": (1, 1.0, 1.0)}
    store.close()
    admin.dispose()


def test_several_hosts_may_migrate_at_once(postgresql_url: str, admin: sa.Engine) -> None:
    with admin.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(sa.text("DROP DATABASE IF EXISTS fresh"))
        connection.execute(sa.text("CREATE DATABASE fresh"))
    fresh = sa.make_url(postgresql_url).set(database="fresh").render_as_string(hide_password=False)
    programs = [
        subprocess.Popen(
            [sys.executable, "-m", "turnout.stores.migrate", "-"],
            stdin=subprocess.PIPE,
            env={"PYTHONPATH": ":".join(sys.path)},
        )
        for _ in range(2)
    ]
    threads = [threading.Thread(target=program.communicate, args=(fresh.encode(),)) for program in programs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)

    assert [program.returncode for program in programs] == [0, 0]
    migrate.migrate(fresh)
    catalog.open_store(fresh).close()
    admin.dispose()
