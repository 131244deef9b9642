"""Events in a SQL database through SQLAlchemy Core: SQLite in a file, or PostgreSQL by URL.

Opened through `catalog.py`. One connection, one writer (the recorder); reports open a second one
read-only. Rows go through `exec_driver_sql` as tuples: building statements per row would cost
more than SQLite itself.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import msgspec
import sqlalchemy as sa

from turnout.errors import StoreError
from turnout.events import Event
from turnout.stores import answers, base, databases, queries, rows, tables

_BATCH_ROWS = 5_000
"""Rows given at once for sealing: about 10 MB of Python objects."""


def _insert(table: sa.Table, dialect: sa.Dialect) -> str:
    """SQLite takes a statement per row, PostgreSQL one JSON text per batch: a tenth of the client's work."""
    names = ", ".join(table.columns.keys())
    if dialect.name == "sqlite":
        marks = ", ".join("?" * len(table.columns))
        return f"INSERT INTO {table.name} ({names}) VALUES ({marks}) ON CONFLICT DO NOTHING"  # noqa: S608
    typed = ", ".join(f"{column.name} {column.type.compile(dialect)}" for column in table.columns)
    source = f"json_to_recordset(CAST(%s AS json)) AS r({typed})"
    return f"INSERT INTO {table.name} ({names}) SELECT {names} FROM {source} ON CONFLICT DO NOTHING"  # noqa: S608


class SqlStore(answers.Answers):
    """The `EventStore` on SQLite or PostgreSQL.

    Args:
        url: See `databases.engine`.
        read_only: For reports: nothing is created, migrated or changed.

    Raises:
        StoreError: The database is out of reach, or its schema is newer than this release.
    """

    def __init__(self, url: str, *, read_only: bool = False) -> None:
        self._engine = databases.engine(url, read_only=read_only)
        super().__init__(self._engine.dialect.name)
        try:
            databases.ensure_schema(self._engine, url, read_only=read_only)
            self._file = databases.file(url)
            self._identity = databases.identity(self._file)
        except BaseException:
            self._engine.dispose()
            raise
        dialect = self._engine.dialect
        mark = "?" if dialect.name == "sqlite" else "%s"
        self._inserts = {table.name: _insert(table, dialect) for table in tables.EVENTS}
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
        try:
            self._insert(by_table, checkpoint)
        except base.RefusedError:
            if self._engine.dialect.name == "sqlite":
                raise
            self._insert(rows.without_nul(by_table), checkpoint)  # PostgreSQL's text holds no NUL
        if databases.identity(self._file) != self._identity:  # SQLite goes on writing into a deleted file, for nobody
            raise StoreError(
                f"the database {self._file} was removed or replaced while it was open.",
                hint="Stop the server before you move its database away.",
                retry_after_s=1.0,
            )

    def checkpoints(self) -> dict[str, int]:
        """See `base.EventStore.checkpoints`."""
        query = sa.select(tables.checkpoints.c.segment, tables.checkpoints.c.shipped_bytes)
        return dict(self._read(query))

    def forget(self, segments: Sequence[str]) -> None:
        """See `base.EventStore.forget`."""
        if segments:
            with databases.translated("to forget checkpoints"), self._engine.begin() as connection:
                known = tables.checkpoints.c.segment
                connection.execute(sa.delete(tables.checkpoints).where(known.in_(segments)))

    def first_arrival(self, since: float) -> float | None:
        """See `base.Sealable.first_arrival`."""
        firsts = [
            self._read(sa.select(sa.func.min(table.c.ingested_at)).where(table.c.ingested_at >= since))[0][0]
            for table in tables.EVENTS
        ]
        return min((first for first in firsts if first is not None), default=None)

    def arrived_hours(self, table: str, start: float, end: float) -> dict[int, int]:
        """See `base.Sealable.arrived_hours`."""
        text = queries.ARRIVED_HOURS.format(table=table, **self._words)
        last: dict[str, answers.Value] = {"last_ts": base.LAST_HOUR * base.HOUR_S, "last_hour": base.LAST_HOUR}
        return {int(hour): count for hour, count in self._rows(text, start=start, end=end, **last)}

    def arrived(
        self, table: str, start: float, end: float, *, happened: tuple[float, float] | None = None
    ) -> Iterator[Sequence[Sequence[Any]]]:
        """See `base.Sealable.arrived`."""
        rows_of = tables.metadata.tables[table]
        chosen = (rows_of.c.ingested_at >= start) & (rows_of.c.ingested_at < end)
        if happened is not None:
            chosen &= (rows_of.c.ts >= happened[0]) & (rows_of.c.ts < happened[1])
        with databases.translated("to give its rows"), self._engine.connect() as connection:
            streamed = connection.execution_options(stream_results=True, max_row_buffer=_BATCH_ROWS)
            yield from streamed.execute(sa.select(rows_of).where(chosen)).partitions(_BATCH_ROWS)

    def close(self) -> None:
        """See `base.EventStore.close`."""
        self._engine.dispose()

    def _insert(self, by_table: Mapping[str, Sequence[rows.Row]], checkpoint: base.Checkpoint | None) -> None:
        with databases.translated("to keep events"), self._engine.begin() as connection:
            for name, table in by_table.items():
                if connection.dialect.name == "sqlite":
                    connection.exec_driver_sql(self._inserts[name], table)
                else:
                    columns = tables.metadata.tables[name].columns.keys()
                    records = [dict(zip(columns, row, strict=True)) for row in table]
                    connection.exec_driver_sql(self._inserts[name], (msgspec.json.encode(records).decode(),))
            if checkpoint is not None:
                connection.exec_driver_sql(self._checkpoint, (checkpoint.segment, checkpoint.offset))

    def _rows(self, query: str, **values: answers.Value) -> list[Any]:
        return self._read(sa.text(query), values)

    def _read(self, query: sa.Executable, values: Mapping[str, str | float] | None = None) -> list[Any]:
        with databases.translated("to answer"), self._engine.connect() as connection:
            if connection.dialect.name == "postgresql":
                # It takes units for few: nested loops over 80,000 of them took 113 s, hash joins 0.5 s.
                connection.exec_driver_sql("SET LOCAL enable_nestloop = off")
            return list(connection.execute(query, values or {}))
