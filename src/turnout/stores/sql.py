"""Events in a SQL database through SQLAlchemy Core: SQLite in a file, or PostgreSQL by URL.

Opened through `catalog.py`. One connection, one writer (the recorder); reports open a second one
read-only. Rows go through `exec_driver_sql` as tuples: building statements per row would cost
more than SQLite itself.
"""

import contextlib
import sqlite3
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

import sqlalchemy as sa

from turnout.errors import StoreError
from turnout.events import Event
from turnout.stores import base, rows, tables

_BUSY_S = 5.0
"""How long SQLite waits for another writer's lock before it says "locked"."""

_CONNECT_S = 5
"""How long PostgreSQL may take to accept a connection, in whole seconds (libpq's rule)."""

_MIGRATE_S = 120.0

_WRITER_PRAGMAS = (
    "PRAGMA journal_mode=WAL",
    "PRAGMA synchronous=NORMAL",  # a power cut may lose the last commits, never the file's integrity
    "PRAGMA wal_autocheckpoint=4000",
    "PRAGMA cache_size=-8000",
)


def engine(url: str, *, read_only: bool = False) -> sa.Engine:
    """An engine for a store's URL.

    Args:
        url: `sqlite:///PATH` or `postgresql://...`.
        read_only: Never create or change anything.

    Raises:
        StoreError: The URL is none of these, or the file to read does not exist.
    """
    try:
        parsed = sa.make_url(url)
    except sa.exc.ArgumentError as error:
        raise StoreError(
            f"store URL {url!r} cannot be read.", hint="Write sqlite:///PATH or postgresql://..."
        ) from error
    if parsed.get_backend_name() == "sqlite":
        return _sqlite(Path(parsed.database or ""), read_only=read_only)
    if parsed.get_backend_name() != "postgresql":
        raise StoreError(f"store {parsed.get_backend_name()!r} is unknown.", hint="Use sqlite or postgresql.")
    return sa.create_engine(
        parsed.set(drivername="postgresql+psycopg"),
        pool_size=1,
        max_overflow=1,
        connect_args={"connect_timeout": _CONNECT_S, "application_name": "turnout"},
        execution_options={"postgresql_readonly": True} if read_only else {},
    )


def _sqlite(path: Path, *, read_only: bool) -> sa.Engine:
    if path.name == "":
        raise StoreError("an SQLite store needs a file.", hint="Write sqlite:///PATH; for tests use memory:.")
    if read_only and not path.exists():
        raise StoreError(f"there are no events yet: {path} does not exist.", hint="Serve some requests first.")
    uri = f"file:{quote(str(path.absolute()))}?mode={'ro' if read_only else 'rwc'}"

    def connect() -> sqlite3.Connection:
        connection = sqlite3.connect(uri, uri=True, timeout=_BUSY_S, check_same_thread=False)
        for pragma in () if read_only else _WRITER_PRAGMAS:
            connection.execute(pragma)
        return connection

    return sa.create_engine("sqlite://", creator=connect, poolclass=sa.pool.QueuePool, pool_size=1, max_overflow=1)


@contextlib.contextmanager
def _translated(doing: str) -> Iterator[None]:
    """Driver errors as ours: RefusedError for what no retry mends."""
    try:
        yield
    except (sa.exc.DataError, sa.exc.IntegrityError, sa.exc.InterfaceError, OverflowError) as error:
        raise base.RefusedError(f"the store refused {doing}: {_first_line(error)}") from error
    except (sa.exc.SQLAlchemyError, sqlite3.Error, OSError) as error:
        raise StoreError(f"the store failed {doing}: {_first_line(error)}", retry_after_s=1.0) from error


def _first_line(error: BaseException) -> str:
    return str(error).partition("\n")[0]


class SqlStore:
    """The `EventStore` on SQLite or PostgreSQL.

    Args:
        url: See `engine`.
        read_only: For reports: nothing is created, migrated or changed.

    Raises:
        StoreError: The database is out of reach, or its schema is newer than this release.
    """

    def __init__(self, url: str, *, read_only: bool = False) -> None:
        self._engine = engine(url, read_only=read_only)
        try:
            self._ensure_schema(url, read_only=read_only)
        except BaseException:
            self._engine.dispose()
            raise
        mark = "?" if self._engine.dialect.name == "sqlite" else "%s"
        self._inserts = {
            table.name: f"INSERT INTO {table.name} VALUES ({', '.join([mark] * len(table.columns))}) ON CONFLICT DO NOTHING"
            for table in (tables.exposures, tables.predictions, tables.outcomes)
        }
        self._checkpoint = (
            f"INSERT INTO checkpoints VALUES ({mark}, {mark}) "  # noqa: S608
            "ON CONFLICT (segment) DO UPDATE SET shipped_bytes = excluded.shipped_bytes"
        )

    def append(
        self,
        events: Sequence[Event],
        checkpoint: base.Checkpoint | None,
        *,
        ingested_at: float,
        subject: base.Subject,
    ) -> None:
        """See `base.EventStore.append`."""
        by_table = rows.rows(events, ingested_at, subject)
        with _translated("to keep events"), self._engine.begin() as connection:
            for name, table in by_table.items():
                connection.exec_driver_sql(self._inserts[name], table)
            if checkpoint is not None:
                connection.exec_driver_sql(self._checkpoint, (checkpoint.segment, checkpoint.offset))

    def checkpoints(self) -> dict[str, int]:
        """See `base.EventStore.checkpoints`."""
        query = sa.select(tables.checkpoints.c.segment, tables.checkpoints.c.shipped_bytes)
        return {segment: offset for segment, offset in self._read(query)}

    def forget(self, segments: Sequence[str]) -> None:
        """See `base.EventStore.forget`."""
        if segments:
            with _translated("to forget checkpoints"), self._engine.begin() as connection:
                known = tables.checkpoints.c.segment
                connection.execute(sa.delete(tables.checkpoints).where(known.in_(segments)))

    def close(self) -> None:
        """See `base.EventStore.close`."""
        self._engine.dispose()

    def _read(self, query: sa.Executable, values: dict[str, Any] | None = None) -> list[Any]:
        with _translated("to answer"), self._engine.connect() as connection:
            return list(connection.execute(query, values or {}))

    def _ensure_schema(self, url: str, *, read_only: bool) -> None:
        found = self._revision()
        if found == tables.HEAD:
            return
        if found is not None and found > tables.HEAD:
            raise StoreError(
                f"the store's schema is {found}, this release knows {tables.HEAD}.",
                hint="Use the newer release of turnout, or another store.",
            )
        if read_only:
            raise StoreError(
                f"the store's schema is {found or 'missing'}, this release needs {tables.HEAD}.",
                hint="Start `turnout serve` once: its recorder brings the schema up to date.",
            )
        self._engine.dispose()
        run = subprocess.run(  # noqa: S603
            [sys.executable, "-m", "turnout.stores.migrate", url],
            capture_output=True,
            text=True,
            timeout=_MIGRATE_S,
            check=False,
        )
        if run.returncode != 0:
            last = (run.stderr.strip().splitlines() or ["no message"])[-1]
            raise StoreError(f"the store's schema could not be brought to {tables.HEAD}: {last}", retry_after_s=5.0)

    def _revision(self) -> str | None:
        with _translated("to tell its schema"), self._engine.connect() as connection:
            if not sa.inspect(connection).has_table("alembic_version"):
                return None
            version: str | None = connection.exec_driver_sql("SELECT version_num FROM alembic_version").scalar()
            return version
