"""Sealed events read through DuckDB: the same questions as a SQL store answers, over a folder of Parquet files.

Opened through `catalog` by `parquet:FOLDER` or `parquet:FOLDER?tail=URL`. Nothing is written; one query at a time
on two threads, within a stated memory, spilling to a temporary folder beyond it.

What has not been sealed yet: with `tail`, the rows that reached that store since the last seal are read from it at
the opening. Without, they are not there, and every answer stands as of the last seal: `known_until` tells when.
"""

import contextlib
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import duckdb
import msgspec
import pyarrow as pa

from turnout.errors import StoreError
from turnout.events import Event
from turnout.stores import answers, base, catalog, queries, sealed


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """Limits of reading."""

    threads: int = 2
    """Cores of a report."""
    memory: str = "1GB"
    """DuckDB's own limit; beyond it sorts, joins and aggregates go to disk."""
    spill: str = "20GB"
    """Disk for that."""
    tail_rows: int = 2_000_000
    """Rows that may wait in the tail's store; more are refused, since they are read into memory."""


DEFAULTS = Settings()


_BEHIND: Mapping[str, tuple[str, ...]] = {"units": (), "effective": (), "requests": ("units",)}
"""Parts that a part is made of."""


class ParquetStore(answers.Answers):
    """The reading half of an `EventStore` over sealed events.

    Args:
        url: See the module's docstring.

    Raises:
        StoreError: There is no such folder, its files cannot be read, or its tail's store is out of reach.
    """

    _outcome_names = queries.OUTCOME_NAMES_BY_SCANS

    def __init__(self, url: str, *, read_only: bool = True, settings: Settings = DEFAULTS) -> None:
        super().__init__("duckdb")
        place, _, options = url.removeprefix("parquet:").partition("?")
        self._folder = Path(place)
        if not place or not self._folder.is_dir():
            hint = "Write parquet:FOLDER; the recorder fills it when TURNOUT_PARQUET names it."
            raise StoreError(f"there are no sealed events: {place!r} is no folder.", hint=hint)
        self._settings = settings
        self._ledgers = {found.source: found for found in sealed.ledgers(self._folder)}
        self._tail_url = parse_qs(options).get("tail", [""])[0]
        self._kept: dict[str, object] = {}
        self._tail_source = sealed.source_of(self._tail_url)
        self._spill = tempfile.mkdtemp(prefix="turnout-")
        self._connection = duckdb.connect(
            config={
                "threads": settings.threads,
                "memory_limit": settings.memory,
                "temp_directory": self._spill,
                "max_temp_directory_size": settings.spill,
                "preserve_insertion_order": False,
                "autoinstall_known_extensions": False,
            }
        )
        try:
            tails = self._read_tails()
            for table in sealed.TABLES:
                self._define(table, tails.get(table))
            self._newest = self._find_newest()
        except BaseException:
            self.close()
            raise

    @property
    def known_until(self) -> float | None:
        """See `base.EventStore.known_until`; None with a tail."""
        if self._tail_url:
            return None
        return min((found.until for found in self._ledgers.values()), default=None)

    def append(
        self, events: Sequence[Event], checkpoint: base.Checkpoint | None, *, ingested_at: float, subject: base.Subject
    ) -> None:
        """Never: sealed events are only read."""
        raise StoreError("sealed events can only be read.", hint="Give the recorder SQLite or PostgreSQL to write to.")

    def checkpoints(self) -> dict[str, int]:
        """None: nothing is shipped here."""
        return {}

    def forget(self, segments: Sequence[str]) -> None:
        """Nothing to forget."""

    def close(self) -> None:
        """See `base.EventStore.close`."""
        self._connection.close()
        shutil.rmtree(self._spill, ignore_errors=True)

    def _as_of(self, as_of: float | None) -> float:
        limit = answers.FOREVER if self.known_until is None else self.known_until
        return limit if as_of is None else min(as_of, limit)

    def _events_as_of(self, as_of: float) -> float:
        """For ever where nothing is left out by it: then more questions share the tables of `_keep`."""
        return as_of if as_of <= self._newest else answers.FOREVER

    def _ask(self, query: queries.Query, words: Mapping[str, str], values: Mapping[str, answers.Value]) -> list[Any]:
        for part in query.parts:
            self._keep(part, values)
        text = queries.whole(query, kept=query.parts).format(**words, **self._words)
        return self._rows(text, **{name: values[name] for name in answers.names(text)})

    def _keep(self, part: str, values: Mapping[str, answers.Value]) -> None:
        """Have a part as a table, made anew unless the last question had the same."""
        text = queries.KEPT_PARTS[part].format(**self._words)
        bound = {name: values[name] for name in answers.names(text)}
        behind = [self._kept.get(name) for name in _BEHIND[part]]
        if self._kept.get(part) == (bound, behind):
            return
        self._kept.pop(part, None)
        self._rows(f"CREATE OR REPLACE TEMP TABLE {part} AS {text}", **bound)
        self._kept[part] = (bound, behind)

    def _rows(self, query: str, **values: answers.Value) -> list[Any]:
        with _translated("to answer"):
            return self._connection.execute(answers.dollars(query), values).fetchall()

    def _find_newest(self) -> float:
        """The last exposure or prediction."""
        text = "SELECT MAX(ts) FROM (SELECT MAX(ts) AS ts FROM {} UNION ALL SELECT MAX(ts) FROM {}) newest"
        newest = self._rows(text.format("exposures", "predictions"))[0][0]
        return 0.0 if newest is None else float(newest)

    def _read_tails(self) -> dict[str, pa.Table]:
        """What reached the tail's store since it was last sealed here, by table."""
        if not self._tail_url:
            return {}
        known = self._ledgers.get(self._tail_source)
        start = 0.0 if known is None else known.until
        store = catalog.open_sealable(self._tail_url)
        try:
            return self._collect(store, start)
        finally:
            store.close()

    def _collect(self, store: base.Sealable, start: float) -> dict[str, pa.Table]:
        left = self._settings.tail_rows
        found = {}
        for name, table in sealed.TABLES.items():
            batches = []
            for rows in store.arrived(name, start, answers.FOREVER):
                left -= len(rows)
                if left < 0:
                    raise StoreError(
                        f"more than {self._settings.tail_rows:,} events wait to be sealed into {self._folder}.",
                        hint="Is TURNOUT_PARQUET set? Without a tail the report is of the last seal.",
                    )
                batches.append(sealed.batch(table, rows))
            found[name] = pa.Table.from_batches(batches, sealed.schema(table))
        return found

    def _define(self, name: str, tail: pa.Table | None) -> None:
        """A view over the files and the tail of one table; an event that may be in two of them stands once."""
        table = sealed.TABLES[name]
        found = [piece for piece in sealed.pieces(self._folder, name) if self._counts(piece)]
        if tail is None and not found:
            tail = sealed.schema(table).empty_table()
        parts = []
        if found:
            files = ", ".join("'" + str(piece.path).replace("'", "''") + "'" for piece in found)
            parts.append(f"read_parquet([{files}], union_by_name = true, hive_partitioning = false)")
        if tail is not None:
            self._connection.register(f"{name}_tail", tail)
            parts.append(f"{name}_tail")
        columns = ", ".join(table.columns.keys())
        text = " UNION ALL ".join(f"SELECT {columns} FROM {part}" for part in parts)  # noqa: S608
        strangers = bool(self._tail_url) and any(piece.source != self._tail_source for piece in found)
        if strangers or sealed.overlapping(found):
            keys = ", ".join(column.name for column in table.primary_key.columns)
            text = f"SELECT DISTINCT ON ({keys}) {columns} FROM ({text}) every ORDER BY {keys}, ingested_at"  # noqa: S608
        with _translated("to open its files"):
            self._connection.execute(f"CREATE VIEW {name} AS {text}")

    def _counts(self, piece: sealed.Piece) -> bool:
        """Not what was sealed after the ledgers were read: the tail has it."""
        known = self._ledgers.get(piece.source)
        return not self._tail_url or (known is not None and piece.start < known.until)


@contextlib.contextmanager
def _translated(doing: str) -> Iterator[None]:
    """DuckDB's errors as ours."""
    try:
        yield
    except duckdb.Error as error:
        message = str(error).partition("\n")[0]
        raise StoreError(f"the sealed events failed {doing}: {message}") from error
