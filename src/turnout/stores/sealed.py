"""The folder of sealed events: its layout, its ledgers, and writing into it. `parquet.py` reads it.

    FOLDER/predictions/hour=2026-11-22T01/SOURCE-1795312800-1795316400.parquet
    FOLDER/sealed-SOURCE.json

A file holds the rows of one table that happened in one UTC hour and reached the store SOURCE (a hash of its URL)
in one range of time, named in epoch seconds. What arrives late is therefore in files of later ranges beside the
first. A range is sealed as a whole: its files appear by renaming, under names that are always the same, and then
the ledger says so; whatever dies in between, the next try writes the same files again. Nothing is ever appended.

Called by `seal`, `parquet` and the bench. Needs pyarrow: the extra `turnout[parquet]`.
"""

import datetime
import hashlib
import itertools
import os
import re
import socket
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import msgspec
import pyarrow as pa
import sqlalchemy as sa
from pyarrow import parquet as pq

from turnout.stores import base, tables

TABLES: Mapping[str, sa.Table] = {table.name: table for table in tables.EVENTS}

_GROUP_ROWS = 100_000
"""Rows of a row group: what a reader skips or reads at once."""

_BUFFER_BYTES = 64 * 2**20
"""Arrow memory of all hours under way; above it the largest is written, whatever its size."""

_LEVEL = 3
"""Of zstd: smaller by a third than level 1 here, for little more time."""

_NAME = re.compile(r"(?P<source>[0-9a-f]{8})-(?P<start>\d+)-(?P<end>\d+)\.parquet")


class Range(msgspec.Struct, frozen=True, kw_only=True):
    """Rows that arrived in [start, end), seconds since the epoch, by table."""

    start: float
    end: float
    rows: Mapping[str, int]


class Ledger(msgspec.Struct, frozen=True, kw_only=True):
    """How far one store has been sealed.

    Attributes:
        until: Everything that reached the store before this time is in the folder.
        ranges: The last ones, oldest first.
    """

    source: str
    until: float
    ranges: tuple[Range, ...] = ()


class Piece(NamedTuple):
    """What a file's name says."""

    path: Path
    source: str
    start: int
    end: int


def source_of(url: str) -> str:
    """Eight hex digits that tell stores apart: of the URL without user and password; a file's with the host's name."""
    parts = urlsplit(url)
    place = parts.hostname or (parts.query if "host=" in parts.query else socket.gethostname())
    text = f"{parts.scheme.partition('+')[0]} {place} {parts.port or ''} {parts.path}"
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def hour_name(hour: int) -> str:
    """Folder of an hour since the epoch: `hour=2026-11-22T01`."""
    return f"hour={datetime.datetime.fromtimestamp(hour * base.HOUR_S, datetime.UTC):%Y-%m-%dT%H}"


def pieces(folder: Path, table: str) -> list[Piece]:
    """Sealed files of one table, in the order of their hours; drafts are none."""
    found = []
    for path in sorted((folder / table).glob("hour=*/*.parquet")):
        name = _NAME.fullmatch(path.name)
        if name is not None:
            found.append(Piece(path, name["source"], int(name["start"]), int(name["end"])))
    return found


def overlapping(found: Iterable[Piece]) -> bool:
    """Whether an event might be in two files: two stores, or ranges of one that overlap."""
    ranges = sorted({(piece.source, piece.start, piece.end) for piece in found})
    if len({source for source, _, _ in ranges}) > 1:
        return True
    return any(one[2] > other[1] for one, other in itertools.pairwise(ranges))


def ledgers(folder: Path) -> list[Ledger]:
    """Of every store that was sealed into this folder."""
    decode = msgspec.json.Decoder(Ledger).decode
    return [decode(path.read_bytes()) for path in sorted(folder.glob("sealed-*.json"))]


def ledger(folder: Path, source: str) -> Ledger | None:
    """Of one store; None before its first range."""
    return next((found for found in ledgers(folder) if found.source == source), None)


def write_ledger(folder: Path, made: Ledger) -> None:
    """Replace a store's ledger."""
    place = folder / f"sealed-{made.source}.json"
    draft = place.with_name(f".{place.name}")
    _durable(draft, msgspec.json.encode(made))
    draft.replace(place)
    _sync(folder)


def schema(table: sa.Table) -> pa.Schema:
    """Columns as Parquet has them."""
    kinds = {sa.Text: pa.string(), sa.Double: pa.float64(), sa.Integer: pa.int32(), sa.Boolean: pa.bool_()}
    return pa.schema([pa.field(c.name, kinds[type(c.type)], nullable=bool(c.nullable)) for c in table.columns])


def batch(table: sa.Table, rows: Sequence[Sequence[Any]]) -> pa.RecordBatch:
    """Rows, at least one, as Arrow; their values in the order of the table's columns."""
    made = schema(table)
    columns = [pa.array(values, field.type) for values, field in zip(zip(*rows, strict=True), made, strict=True)]
    return pa.RecordBatch.from_arrays(columns, schema=made)


class Writer:
    """Writes one range of one table, a file per hour, open until `finish`; nothing shows before."""

    def __init__(self, folder: Path, table: str, source: str, start: float, end: float) -> None:
        self._folder = folder / table
        self._table = TABLES[table]
        self._schema = schema(self._table)
        self._name = f"{source}-{int(start)}-{int(end)}.parquet"
        self._buffers: dict[int, list[pa.RecordBatch]] = {}
        self._files: dict[int, pq.ParquetWriter] = {}

    def add(self, hour: int, rows: Sequence[Sequence[Any]]) -> None:
        """Rows of one hour, their values in the order of the table's columns."""
        columns = [
            pa.array(values, field.type) for values, field in zip(zip(*rows, strict=True), self._schema, strict=True)
        ]
        self.add_batch(hour, pa.RecordBatch.from_arrays(columns, schema=self._schema))

    def add_batch(self, hour: int, rows: pa.RecordBatch) -> None:
        """The same as Arrow."""
        self._buffers.setdefault(hour, []).append(rows)
        if sum(one.num_rows for one in self._buffers[hour]) >= _GROUP_ROWS:
            self._flush(hour)
        elif sum(one.nbytes for batches in self._buffers.values() for one in batches) > _BUFFER_BYTES:
            self._flush(max(self._buffers, key=lambda each: sum(one.nbytes for one in self._buffers[each])))

    def finish(self) -> None:
        """Close the files and give them their names."""
        for hour in list(self._buffers):
            self._flush(hour)
        for hour, file in self._files.items():
            file.close()
            draft = self._draft(hour)
            _sync(draft)
            draft.replace(draft.parent / self._name)
            _sync(draft.parent)
        self._files.clear()

    def _flush(self, hour: int) -> None:
        batches = self._buffers.pop(hour)
        file = self._files.get(hour)
        if file is None:
            draft = self._draft(hour)
            draft.parent.mkdir(parents=True, exist_ok=True)
            file = self._files[hour] = pq.ParquetWriter(
                draft, self._schema, compression="zstd", compression_level=_LEVEL
            )
        file.write_table(pa.Table.from_batches(batches, self._schema), row_group_size=_GROUP_ROWS)

    def _draft(self, hour: int) -> Path:
        return self._folder / hour_name(hour) / f".{self._name}.draft"


def sweep(folder: Path, source: str) -> None:
    """Delete drafts that a dead sealer of this store left."""
    for table in TABLES:
        for draft in (folder / table).glob(f"hour=*/.{source}-*.draft"):
            draft.unlink()


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _durable(path: Path, data: bytes) -> None:
    path.write_bytes(data)
    _sync(path)


def rows_by_hour(rows: Iterable[Sequence[Any]], ts_at: int) -> dict[int, list[Sequence[Any]]]:
    """Rows by the UTC hour they happened in, counted from the epoch."""
    found: dict[int, list[Sequence[Any]]] = {}
    for row in rows:
        found.setdefault(base.hour_of(row[ts_at]), []).append(row)
    return found
