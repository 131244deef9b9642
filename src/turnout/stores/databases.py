"""Opening a SQL database: the engine for a store's URL, its schema, and its errors in our words.

Used by `sql` (events), `control_sql` (the fleet's state) and `migrate`.
"""

import contextlib
import importlib.util
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote, unquote

import sqlalchemy as sa

from turnout.errors import StoreError
from turnout.stores import base, tables

_BUSY_S = 5.0
"""How long SQLite waits for another writer's lock before it says "locked"."""

_CONNECT_S = 5
"""How long PostgreSQL may take to accept a connection, in whole seconds (libpq's rule)."""

_MIGRATE_S = 120.0

_WRITER_PRAGMAS = (
    "PRAGMA journal_mode=WAL",
    "PRAGMA synchronous=NORMAL",  # a power cut may lose the last commits, never the file's integrity
    "PRAGMA wal_autocheckpoint=4000",
    "PRAGMA cache_size=-4000",
)

_READER_PRAGMAS = (
    "PRAGMA temp_store=MEMORY",  # sorting 100,000 units through temporary files took 27 s instead of 2 on a busy disk
    "PRAGMA cache_size=-65536",
)


def engine(url: str, *, read_only: bool = False) -> sa.Engine:
    """An engine for a store's URL.

    Args:
        url: `sqlite:///PATH`, percent-encoded, or `postgresql://...`.
        read_only: Never create or change anything.

    Raises:
        StoreError: The URL cannot be read, the file to read does not exist, or PostgreSQL's driver is not installed.
    """
    backend, _, place = url.partition("://")
    if backend.partition("+")[0] == "sqlite":
        return _sqlite(Path(unquote(place.removeprefix("/"))), read_only=read_only)
    try:
        parsed = sa.make_url(url)
    except (sa.exc.ArgumentError, ValueError) as error:
        raise StoreError("the store's URL cannot be read.", hint="Write sqlite:///PATH or postgresql://...") from error
    if importlib.util.find_spec("psycopg") is None:
        hint = 'Install it: pip install "turnout[postgresql]".'
        raise StoreError("a PostgreSQL store needs the module 'psycopg', which is not there.", hint=hint)
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
        for pragma in _READER_PRAGMAS if read_only else _WRITER_PRAGMAS:
            connection.execute(pragma)
        return connection

    return sa.create_engine("sqlite://", creator=connect, poolclass=sa.pool.QueuePool, pool_size=1, max_overflow=1)


def file(url: str) -> Path | None:
    """The file behind an SQLite URL; None for a database elsewhere."""
    backend, _, place = url.partition("://")
    return Path(unquote(place.removeprefix("/"))).absolute() if backend.partition("+")[0] == "sqlite" else None


def identity(file: Path | None) -> tuple[int, int] | None:
    """Which file stands at the path; None when none does."""
    if file is None:
        return None
    try:
        found = file.stat()
    except FileNotFoundError:
        return None
    return found.st_dev, found.st_ino


@contextlib.contextmanager
def translated(doing: str) -> Iterator[None]:
    """Driver errors as ours: RefusedError for what no retry mends."""
    try:
        yield
    except (sa.exc.DataError, sa.exc.IntegrityError, OverflowError) as error:
        raise base.RefusedError(f"the store refused {doing}: {_first_line(error)}") from error
    except (sa.exc.SQLAlchemyError, sqlite3.Error, OSError) as error:
        raise StoreError(f"the store failed {doing}: {_first_line(error)}", retry_after_s=1.0) from error


def _first_line(error: BaseException) -> str:
    return str(error).partition("\n")[0]


def ensure_schema(engine: sa.Engine, url: str, *, read_only: bool) -> None:
    """Bring the database behind `engine` to the schema of this release, in a process of its own.

    Raises:
        StoreError: It is newer than this release, or behind and `read_only`.
    """
    found = _revision(engine)
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
    engine.dispose()
    run = subprocess.run(
        [sys.executable, "-m", "turnout.stores.migrate", "-"],
        input=url,
        capture_output=True,
        text=True,
        timeout=_MIGRATE_S,
        check=False,
    )
    if run.returncode != 0:
        last = (run.stderr.strip().splitlines() or ["no message"])[-1]
        raise StoreError(f"the store's schema could not be brought to {tables.HEAD}: {last}", retry_after_s=5.0)


def _revision(engine: sa.Engine) -> str | None:
    with translated("to tell its schema"), engine.connect() as connection:
        if not sa.inspect(connection).has_table("alembic_version"):
            return None
        version: str | None = connection.exec_driver_sql("SELECT version_num FROM alembic_version").scalar()
        return version
