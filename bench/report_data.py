"""Sealed events of one experiment as a busy service would have left them, made with numpy and pyarrow alone.

14 days, two variants of equal weight. Requests per unit are heavy-tailed (Pareto, median 6), units come at a falling
rate over the days, latencies are log-normal per unit and request, 1 % of units meet both variants. One outcome in
five names the request instead of the unit, outcomes are up to two days late, 1 % of them are corrected, and units
have a history before their first exposure. Rows are complete: ids, traces, model names and hashes take their place
on disk as in real use. Everything comes from one seed.
"""

import binascii
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from pyarrow import compute as pc
from report_facts import DAYS, EXPERIMENT, HOUR_S, PHASE, SOURCE, START

from turnout.stores import sealed

VARIANTS = np.array(["generation", "retrieval"])
STEPS = '[["embed","embed","aa",0.0,%s,0.0,0.0,1,4,""],["rank","rank-v2","bb",0.0,0.0021,0.0,0.0,1,8,""]]'


def hex_ids(source: np.random.Generator, ts: np.ndarray) -> pa.Array:
    """Ids as the log makes them: 32 hex digits, ordered by time."""
    raw = source.integers(0, 256, (len(ts), 16), dtype=np.uint8)
    raw[:, :6] = (ts * 1000).astype(">u8").view(np.uint8).reshape(-1, 8)[:, 2:]
    return pa.array(np.frombuffer(binascii.hexlify(raw.tobytes()), dtype="S32")).cast(pa.string())


class World:
    """Units, requests, exposures and outcomes as columns of numbers; text is made when rows are written."""

    def __init__(self, units: int, requests: int, outcomes: int, seed: int) -> None:
        source = self.source = np.random.default_rng(seed)
        self.units = units
        self.variant = source.integers(0, 2, units)
        self.crossed = source.random(units) < 0.01
        self.sub_bucket = source.integers(0, 100, units).astype(np.int32)
        span = DAYS * 86_400.0
        self.t0 = START + span * np.minimum(source.beta(1.0, 2.2, units), 0.999)
        self.slow = source.normal(0, 0.4, units)
        self.names = pa.array([f"user-{number:07d}" for number in range(units)])
        raw = source.integers(0, 256, (units, 32), dtype=np.uint8)
        self.subjects = pa.array(np.frombuffer(binascii.hexlify(raw.tobytes()), dtype="S64")).cast(pa.string())
        self._requests(requests)
        self._exposures()
        self._outcomes(outcomes)

    def _requests(self, count: int) -> None:
        source = self.source
        weights = source.pareto(1.8, self.units) + 0.4
        each = 1 + source.poisson(weights / weights.sum() * (count - self.units))
        unit = np.repeat(np.arange(self.units), each)[:count]
        end = START + DAYS * 86_400
        ts = self.t0[unit] + (end - 1 - self.t0[unit]) * source.random(len(unit)) ** 3
        first = np.r_[True, unit[1:] != unit[:-1]]
        ts[first] = self.t0[unit[first]]
        order = np.argsort(ts, kind="stable")
        self.request_unit, self.request_ts = unit[order], ts[order]
        n = len(unit)
        level = np.where(self.variant[self.request_unit] == 1, np.log(0.210), np.log(0.200))
        self.latency_s = np.exp(level + self.slow[self.request_unit] + source.normal(0, 0.5, n))
        self.failed = source.random(n) < np.where(self.variant[self.request_unit] == 1, 0.011, 0.010)
        self.request_id: pa.Array = hex_ids(source, self.request_ts)
        swapped = self.crossed[self.request_unit] & (source.random(n) < 0.5)
        self.request_variant = np.where(swapped, 1 - self.variant[self.request_unit], self.variant[self.request_unit])

    def _exposures(self) -> None:
        """A unit's first request of each day: what the gateway's memory lets through."""
        day = ((self.request_ts - START) // 86_400).astype(np.int64)
        pairs = self.request_unit * 2 + self.request_variant
        _, self.exposed = np.unique(pairs * DAYS + day, return_index=True)
        self.exposed.sort()

    def _outcomes(self, count: int) -> None:
        source = self.source
        unit = source.integers(0, self.units, count)
        kept = source.random(count) < 0.6
        before = source.random(count) < 0.25
        apart = np.where(before, -source.random(count) * 20 * 86_400, source.exponential(0.8 * 86_400, count))
        self.outcome_unit = unit
        self.outcome_ts = self.t0[unit] + apart
        self.outcome_name = np.where(kept, "kept_talking", "revenue")
        better = np.where(self.variant[unit] == 1, 1.03, 1.0)
        spent = np.round(np.exp(source.normal(2.0 + 0.6 * self.slow[unit], 1.0)) * better, 2)
        self.outcome_value = np.where(kept, 1.0, spent)
        self.arrived = self.outcome_ts + np.minimum(source.exponential(600, count), 2 * 86_400.0)
        self.outcome_id = pa.array([f"crm-{number:09d}" for number in range(count)])
        self.correction = np.full(count, -1)
        for_others = source.random(count) < 0.01
        self.correction[for_others] = source.integers(0, count, int(for_others.sum()))
        corrected = self.correction[for_others]
        for column in (self.outcome_unit, self.outcome_ts, self.outcome_name):
            column[for_others] = column[corrected]
        self.arrived[for_others] = self.arrived[corrected] + 3_600
        last = np.searchsorted(self.request_ts, self.outcome_ts)
        self.by_request = np.full(count, -1)
        order = np.argsort(self.request_unit, kind="stable")
        firsts = order[np.searchsorted(self.request_unit[order], np.arange(self.units))]
        named = (source.random(count) < 0.2) & (last > 0)
        self.by_request[named] = firsts[self.outcome_unit[named]]


def constant(text: str, rows: int) -> pa.Array:
    return pa.repeat(pa.scalar(text), rows)


def record_batch(table: str, columns: dict[str, Any]) -> pa.RecordBatch:
    """Columns in the table's order; `take` on much text gives pieces, which are joined."""
    whole = [one.combine_chunks() if isinstance(one, pa.ChunkedArray) else one for one in columns.values()]
    return pa.RecordBatch.from_arrays(whole, schema=sealed.schema(sealed.TABLES[table]))


def predictions(world: World, at: np.ndarray) -> pa.RecordBatch:
    """Rows of these requests."""
    n, unit = len(at), world.request_unit[at]
    latency_s = world.latency_s[at]
    variants = pa.array(VARIANTS).take(pa.array(world.request_variant[at]))
    told = pc.utf8_slice_codeunits(pa.array(latency_s / 3).cast(pa.string()), 0, 8)
    head, tail = STEPS.split("%s")
    failed = pa.array(world.failed[at])
    columns = {
        "event_id": world.request_id.take(pa.array(at)),
        "ts": pa.array(world.request_ts[at]),
        "revision": constant("3fa2c1d0", n),
        "endpoint": constant("reply", n),
        "unit": world.names.take(pa.array(unit)),
        "experiment": constant(EXPERIMENT, n),
        "phase": constant(PHASE, n),
        "variant": variants,
        "served": variants,
        "sub_bucket": pa.array(world.sub_bucket[unit]),
        "pipeline": variants,
        "models": constant('["embed@aa0011","rank-v2@bb2233"]', n),
        "build": constant("b1c2d3e4", n),
        "status": pc.if_else(failed, "deadline", "ok"),
        "error": pc.if_else(failed, "the deadline of 2 s was over", ""),
        "latency_s": pa.array(latency_s),
        "steps": pc.binary_join_element_wise(head, told, tail, ""),
        "fallback": pa.repeat(pa.scalar(False), n),
        "cached": pa.repeat(pa.scalar(False), n),
        "shadow": pa.repeat(pa.scalar(False), n),
        "cost": pa.array(np.zeros(n)),
        "worker": constant("w0", n),
        "project": constant("default", n),
        "schema_version": pa.array(np.ones(n, np.int32)),
        "also": constant("[]", n),
        "ingested_at": pa.array(world.request_ts[at] + 0.2),
        "subject": world.subjects.take(pa.array(unit)),
    }
    return record_batch("predictions", columns)


def exposures(world: World, at: np.ndarray) -> pa.RecordBatch:
    """Rows of the exposures that these requests caused."""
    n, unit = len(at), world.request_unit[at]
    variants = pa.array(VARIANTS).take(pa.array(world.request_variant[at]))
    columns = {
        "event_id": hex_ids(world.source, world.request_ts[at]),
        "ts": pa.array(world.request_ts[at]),
        "revision": constant("3fa2c1d0", n),
        "endpoint": constant("reply", n),
        "experiment": constant(EXPERIMENT, n),
        "phase": constant(PHASE, n),
        "unit_type": constant("user_id", n),
        "unit": world.names.take(pa.array(unit)),
        "variant": variants,
        "served": variants,
        "reason": constant("SPLIT", n),
        "propensity": pa.array(np.full(n, 0.5)),
        "sub_bucket": pa.array(world.sub_bucket[unit]),
        "request_id": world.request_id.take(pa.array(at)),
        "fallback": pa.repeat(pa.scalar(False), n),
        "layer": constant("", n),
        "also": constant("[]", n),
        "attributes": constant('{"country":"KR","plan":"free"}', n),
        "project": constant("default", n),
        "schema_version": pa.array(np.ones(n, np.int32)),
        "ingested_at": pa.array(world.request_ts[at] + 0.2),
        "subject": world.subjects.take(pa.array(unit)),
    }
    return record_batch("exposures", columns)


def outcomes(world: World, at: np.ndarray) -> pa.RecordBatch:
    """Rows of these outcomes."""
    n, unit = len(at), world.outcome_unit[at]
    request, correction = world.by_request[at], world.correction[at]
    named = pa.array(request >= 0)
    columns = {
        "event_id": world.outcome_id.take(pa.array(at)),
        "ts": pa.array(world.outcome_ts[at]),
        "name": pa.array(world.outcome_name[at]),
        "value": pa.array(world.outcome_value[at]),
        "unit": pc.if_else(named, "", world.names.take(pa.array(unit))),
        "request_id": pc.if_else(named, world.request_id.take(pa.array(np.maximum(request, 0))), ""),
        "unit_type": constant("", n),
        "source": constant("crm", n),
        "correction_of": pc.if_else(
            pa.array(correction >= 0), world.outcome_id.take(pa.array(np.maximum(correction, 0))), ""
        ),
        "project": constant("default", n),
        "schema_version": pa.array(np.ones(n, np.int32)),
        "ingested_at": pa.array(world.arrived[at]),
        "subject": world.subjects.take(pa.array(unit)),
    }
    return record_batch("outcomes", columns)


def by_hours(ts: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
    """(hour, places) of the hours that occur."""
    hour = (ts // HOUR_S).astype(np.int64)
    order = np.argsort(hour, kind="stable")
    hours, firsts = np.unique(hour[order], return_index=True)
    yield from zip(hours.tolist(), np.split(order, firsts[1:]), strict=True)


def write(folder: Path, *, units: int, requests: int, outcomes_count: int, seed: int = 7) -> dict[str, float]:
    """Make the folder. Returns counts, and seconds it took."""
    started = time.monotonic()
    world = World(units, requests, outcomes_count, seed)
    made = {"predictions": predictions, "exposures": exposures, "outcomes": outcomes}
    places = {
        "predictions": (np.arange(len(world.request_ts)), world.request_ts, world.request_ts + 0.2),
        "exposures": (world.exposed, world.request_ts[world.exposed], world.request_ts[world.exposed] + 0.2),
        "outcomes": (np.arange(outcomes_count), world.outcome_ts, world.arrived),
    }
    end = 0.0
    for table, (rows, happened, arrived) in places.items():
        for hour, at in by_hours(arrived):
            writer = sealed.Writer(folder, table, SOURCE, hour * HOUR_S, (hour + 1) * HOUR_S)
            for happened_hour, inner in by_hours(happened[at]):
                writer.add_batch(happened_hour, made[table](world, rows[at[inner]]))
            writer.finish()
            end = max(end, (hour + 1.0) * HOUR_S)
    sealed.write_ledger(folder, sealed.Ledger(source=SOURCE, until=end))
    counts = {table: len(rows) for table, (rows, _, _) in places.items()}
    return {**counts, "units": units, "seconds": time.monotonic() - started}
