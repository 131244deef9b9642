"""The fleet's state in a SQL database, beside the events: SQLite in a file, or PostgreSQL by URL.

Opened through `catalog`. Every write is one short transaction, so that the recorder, which writes events
into the same SQLite file, waits for milliseconds at most. Whatever reads before it writes locks first.
"""

import contextlib
from collections.abc import Iterator
from typing import Any, TypeVar

import msgspec
import sqlalchemy as sa

from turnout.errors import StoreError
from turnout.stores import control, databases, tables

T = TypeVar("T")

_LOCK = 0x7475726F
"""PostgreSQL advisory lock of the transactions that read before they write."""


class SqlControlStore:
    """The `ControlStore` on SQLite or PostgreSQL.

    Args:
        url: See `databases.engine`.
        read_only: For commands: nothing is created, migrated or changed.

    Raises:
        StoreError: The database is out of reach, or its schema is newer than this release.
    """

    def __init__(self, url: str, *, read_only: bool = False) -> None:
        self._engine = databases.engine(url, read_only=read_only)
        try:
            databases.ensure_schema(self._engine, url, read_only=read_only)
            self._file = databases.file(url)
            self._identity = databases.identity(self._file)
        except BaseException:
            self._engine.dispose()
            raise

    def announce(self, replica: control.Replica, *, forget_before: float = 0.0) -> None:
        """See `control.ControlStore.announce`."""
        row = _row(replica, "behind", "refusal")
        table = tables.replicas
        with self._writing("to announce a replica") as connection:
            changed = connection.execute(sa.update(table).where(table.c.id == replica.id).values(row))
            if changed.rowcount == 0:
                connection.execute(sa.insert(table).values(row))
            connection.execute(sa.delete(table).where(table.c.seen < forget_before))

    def leave(self, replica_id: str) -> None:
        """See `control.ControlStore.leave`."""
        with self._writing("to forget a replica") as connection:
            connection.execute(sa.delete(tables.replicas).where(tables.replicas.c.id == replica_id))

    def replicas(self, since: float) -> list[control.Replica]:
        """See `control.ControlStore.replicas`."""
        table = tables.replicas
        found = self._read(sa.select(table).where(table.c.seen >= since).order_by(table.c.host, table.c.id))
        return [_made(control.Replica, row, "behind", "refusal") for row in found]

    def record(self, record: control.RevisionRecord, *, after: int | None) -> int:
        """See `control.ControlStore.record`."""
        table = tables.revisions
        with self._locked("to record a revision") as connection:
            newest = connection.execute(sa.select(sa.func.max(table.c.number))).scalar() or 0
            start = newest - 1 if after is None else after
            same = sa.select(sa.func.min(table.c.number)).where(table.c.revision == record.revision)
            known: int | None = connection.execute(same.where(table.c.number > start)).scalar()
            if known is not None:
                return known
            row = _row(record, "document", "digests") | {"number": newest + 1}
            connection.execute(sa.insert(table).values(row))
            return int(newest + 1)

    def history(self, limit: int) -> list[control.RevisionRecord]:
        """See `control.ControlStore.history`."""
        return self._revisions(sa.select(tables.revisions).limit(limit))

    def revision(self, prefix: str) -> list[control.RevisionRecord]:
        """See `control.ControlStore.revision`."""
        begins = tables.revisions.c.revision.startswith(prefix, autoescape=True)
        return self._revisions(sa.select(tables.revisions).where(begins).limit(control.FOUND_LIMIT))

    def _revisions(self, query: "sa.Select[Any]") -> list[control.RevisionRecord]:
        found = self._read(query.order_by(tables.revisions.c.number.desc()))
        return [_made(control.RevisionRecord, row, "document", "digests") for row in found]

    def overlay(self) -> control.Overlay | None:
        """See `control.ControlStore.overlay`."""
        return next(iter(self.overlays(1)), None)

    def propose(self, content: str, *, after: int, author: str, reason: str, at: float) -> control.Overlay:
        """See `control.ControlStore.propose`."""
        table = tables.overlays
        with self._locked("to keep an overlay") as connection:
            newest = connection.execute(sa.select(sa.func.max(table.c.number))).scalar() or 0
            if after != newest:
                raise control.superseded(after, newest)
            made = control.Overlay(number=newest + 1, at=at, author=author, reason=reason, content=content)
            connection.execute(sa.insert(table).values(_row(made)))
        return made

    def overlays(self, limit: int) -> list[control.Overlay]:
        """See `control.ControlStore.overlays`."""
        table = tables.overlays
        found = self._read(sa.select(table).order_by(table.c.number.desc()).limit(limit))
        return [_made(control.Overlay, row) for row in found]

    def lease(self, name: str, holder: str, until: float, now: float) -> bool:
        """See `control.ControlStore.lease`."""
        table = tables.leases
        with self._locked("to take a lease") as connection:
            held = connection.execute(sa.select(table.c.holder, table.c.until).where(table.c.name == name)).first()
            if held is None:
                connection.execute(sa.insert(table).values(name=name, holder=holder, until=until))
                return True
            if held.holder != holder and control.lasts(held.until, now=now, asked=until):
                return False
            connection.execute(sa.update(table).where(table.c.name == name).values(holder=holder, until=until))
            return True

    def looks(self, rollout: str, phase: str, limit: int = 10_000) -> list[control.Look]:
        """See `control.ControlStore.looks`."""
        table = tables.looks
        wanted = sa.select(table).where(table.c.rollout == rollout, table.c.phase == phase)
        found = self._read(wanted.order_by(table.c.number.desc()).limit(limit))
        return [_made(control.Look, row) for row in reversed(found)]

    def add_look(self, look: control.Look) -> None:
        """See `control.ControlStore.add_look`."""
        row = _row(look)
        del row["number"]
        with self._writing("to keep a look") as connection:
            connection.execute(sa.insert(tables.looks).values(row))

    def close(self) -> None:
        """See `control.ControlStore.close`."""
        self._engine.dispose()

    def _read(self, query: sa.Executable) -> list[Any]:
        self._still_there()
        with databases.translated("to answer"), self._engine.connect() as connection:
            return list(connection.execute(query).mappings())

    def _still_there(self) -> None:
        """SQLite goes on reading and writing a deleted file, for nobody."""
        if databases.identity(self._file) != self._identity:
            raise StoreError(f"the database {self._file} was removed or replaced while it was open.", retry_after_s=1.0)

    @contextlib.contextmanager
    def _writing(self, doing: str) -> Iterator[sa.Connection]:
        self._still_there()
        with databases.translated(doing), self._engine.begin() as connection:
            yield connection

    @contextlib.contextmanager
    def _locked(self, doing: str) -> Iterator[sa.Connection]:
        """A transaction that nobody else's of this kind overlaps."""
        with self._writing(doing) as connection:
            if connection.dialect.name == "sqlite":
                connection.exec_driver_sql("BEGIN IMMEDIATE")
            else:
                connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_LOCK)))
            yield connection


def _row(record: msgspec.Struct, *nested: str) -> dict[str, Any]:
    """Column -> value; the nested fields as JSON, because their columns are text."""
    row = msgspec.structs.asdict(record)
    for name in nested:
        row[name] = msgspec.json.encode(row[name]).decode()
    return row


def _made(kind: type[T], row: Any, *nested: str) -> T:
    """A row as a record.

    Raises:
        StoreError: It is not as we write it.
    """
    values = {str(name): value for name, value in row.items()}
    try:
        for name in nested:
            values[name] = msgspec.json.decode(values[name])
        return msgspec.convert(values, kind)
    except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
        which = values.get("number") or values.get("id")
        told = f"{kind.__name__} {which} in the store cannot be read, somebody else changed it: {error}."
        raise StoreError(told, hint="Delete that row, or restore it.") from error
