"""The reading half of every store that speaks SQL: asks `queries.py`, and makes the records of `base.py` of the rows.

`sql.SqlStore` and `parquet.ParquetStore` are this with a database behind it.
"""

import abc
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from turnout.stores import base, queries

FOREVER = 1e12
"""A time after every event."""

_NO_CAP = 1e308

Value = str | float

_NONE: Mapping[str, str] = {}

_STRETCHES = (("y", "e.ts >= u.t0"), ("x", "e.ts < COALESCE(b.ts, u.t0)"))
"""When what counts for a unit's value and for its covariate happened."""

_NAMED = re.compile(r"(?<!:):([a-z_]+)")


class Answers(abc.ABC):
    """The read verbs of `base.EventStore` over a database.

    Args:
        dialect: A key of `queries.DIALECTS`.
    """

    _outcome_names = queries.OUTCOME_NAMES

    def __init__(self, dialect: str) -> None:
        self._words = queries.DIALECTS[dialect]

    @abc.abstractmethod
    def _rows(self, query: str, **values: Value) -> list[Any]:
        """Rows of a query whose `:names` are bound to these values, no more and no less."""

    @property
    def known_until(self) -> float | None:
        """See `base.EventStore.known_until`."""
        return None

    def _ask(self, query: queries.Query, words: Mapping[str, str], values: Mapping[str, Value]) -> list[Any]:
        """Rows of a query in parts, its braces filled; values it does not name are left out."""
        text = queries.whole(query).format(**words, **self._words)
        return self._rows(text, **{name: values[name] for name in names(text)})

    def _events_as_of(self, as_of: float) -> float:
        """The same, or any later time, where no exposure or prediction lies between both."""
        return as_of

    def _as_of(self, as_of: float | None) -> float:
        """The time from which on nothing is looked at."""
        return FOREVER if as_of is None else as_of

    def phases(self, experiment: str) -> list[base.Phase]:
        """See `base.EventStore.phases`."""
        builds: dict[str, list[str]] = {}
        for phase, build in self._rows(queries.BUILDS, experiment=experiment):
            builds.setdefault(phase, []).append(build)
        return [
            base.Phase(
                experiment=experiment,
                phase=phase,
                first_ts=first,
                last_ts=last,
                units=units,
                builds=tuple(builds.get(phase, ())),
            )
            for phase, first, last, units in self._rows(queries.PHASES, experiment=experiment)
        ]

    def exposed(self, experiment: str, phase: str) -> base.Exposed:
        """See `base.EventStore.exposed`."""
        units: dict[str, int] = {}
        crossed = 0
        for first, last, count in self._rows(queries.VARIANT_UNITS, experiment=experiment, phase=phase):
            if first == last:
                units[first] = count
            else:
                crossed += count
        reasons = dict(map(tuple, self._rows(queries.REASONS, experiment=experiment, phase=phase)))
        crossed_from = self._rows(queries.CROSSED_FROM, experiment=experiment, phase=phase) if crossed else ()
        return base.Exposed(units=units, crossed=crossed, reasons=reasons, crossed_from=dict(map(tuple, crossed_from)))

    def unit_sums(self, query: base.UnitQuery) -> list[base.UnitSums]:
        """See `base.EventStore.unit_sums`."""
        return [
            base.UnitSums(
                variant=variant,
                bucket=int(bucket),
                closed=bool(closed),
                n=n,
                y=float(y),
                yy=float(yy),
                d=float(d),
                dd=float(dd),
                yd=float(yd),
                x=float(x),
                xx=float(xx),
                xy=float(xy),
                xd=float(xd),
                n_x=int(n_x),
            )
            for variant, bucket, closed, n, y, yy, d, dd, yd, x, xx, xy, xd, n_x in self._per_unit(
                queries.UNIT_SUMS, query
            )
        ]

    def unit_values(self, query: base.UnitQuery, limit: int) -> base.UnitValues:
        """See `base.EventStore.unit_values`."""
        found = self._per_unit(queries.UNIT_VALUES, query, at_most=limit)
        columns: Sequence[Any] = list(zip(*found, strict=True)) or [()] * 9
        subjects, variants, sub_buckets, t0, closed, y, d, x, totals = columns
        return base.UnitValues(
            subjects=subjects,
            variants=variants,
            sub_buckets=sub_buckets,
            t0=t0,
            closed=[bool(one) for one in closed],
            y=y,
            d=d,
            x=x,
            total=totals[0] if totals else 0,
        )

    def _per_unit(self, asked: queries.Query, query: base.UnitQuery, **more: Value) -> list[Any]:
        as_of = self._as_of(query.as_of)
        words = {name: queries.value(query.kind, when) for name, when in _STRETCHES}
        values: dict[str, Value] = {
            "experiment": query.experiment,
            "phase": query.phase,
            "outcome": query.outcome,
            "per": (query.per or "") if query.kind == "ratio" else "",
            "window_s": query.window_s,
            "covariate_s": query.covariate_s or 0.0,
            "cap": _NO_CAP if query.cap is None else query.cap,
            "bucket_s": query.bucket_s,
            "as_of": self._events_as_of(as_of),
            "outcomes_as_of": as_of,
            "closed_start": FOREVER if as_of == FOREVER else as_of - query.window_s - query.lateness_s,
            **more,
        }
        return self._ask(asked, words, values)

    def signal_sums(self, query: base.SignalQuery) -> list[base.SignalSums]:
        """See `base.EventStore.signal_sums`."""
        values: dict[str, Value] = {
            "bucket_s": query.bucket_s,
            "since": query.since or 0.0,
            "whole": int(query.whole),
        }
        if query.kind == "share_over":
            values["threshold_s"] = base.threshold(query)
        words = {"signal": queries.SIGNALS[query.signal, query.kind]}
        found = self._per_request(
            queries.SIGNAL_SUMS, (query.experiment, query.phase, query.as_of), words=words, values=values
        )
        return [
            base.SignalSums(variant=variant, sub_bucket=sub_bucket, bucket=int(bucket), s=float(s), c=c)
            for variant, sub_bucket, bucket, s, c in found
        ]

    def signal_ranks(
        self, experiment: str, phase: str, quantile: float, alpha: float, as_of: float | None = None
    ) -> dict[str, base.Ranks]:
        """See `base.EventStore.signal_ranks`."""
        counts = self._per_request(queries.UNITS_WITH_REQUESTS, (experiment, phase, as_of))
        wanted = {variant: (n, base.ranks(n, quantile, alpha)) for variant, n in counts}
        if not wanted:
            return {}
        values: dict[str, Value] = {}
        places = []
        for at, (variant, (_, three)) in enumerate(wanted.items()):
            name = f"variant_{_letters(at)}"
            values[name] = variant
            places.append(f"(variant = :{name} AND place IN ({', '.join(map(str, sorted(set(three))))}))")
        rows = self._per_request(
            queries.RANKED, (experiment, phase, as_of), words={"places": " OR ".join(places)}, values=values
        )
        found = {(variant, place): mean_s for variant, place, mean_s in rows}
        return {
            variant: base.Ranks(n=n, low=found[variant, low], value=found[variant, middle], high=found[variant, high])
            for variant, (n, (low, middle, high)) in wanted.items()
            if {(variant, low), (variant, middle), (variant, high)} <= found.keys()
        }

    def serving(
        self, experiment: str, phase: str, quantiles: Sequence[float] = base.LATENCY_QUANTILES
    ) -> dict[str, base.Serving]:
        """See `base.EventStore.serving`."""
        by_variant: dict[str, list[tuple[int, int, int, int]]] = {}
        for variant, *counts in self._per_request(queries.SERVING, (experiment, phase, None)):
            latency_us, requests, errors, fallbacks = map(int, counts)
            by_variant.setdefault(variant, []).append((latency_us, requests, errors, fallbacks))
        return {
            variant: base.Serving(
                requests=sum(requests for _, requests, _, _ in found),
                errors=sum(errors for _, _, errors, _ in found),
                fallbacks=sum(fallbacks for _, _, _, fallbacks in found),
                latency_s=_seconds(counted_quantiles([(us, requests) for us, requests, _, _ in found], quantiles)),
            )
            for variant, found in by_variant.items()
        }

    def _per_request(
        self,
        asked: queries.Query,
        of: tuple[str, str, float | None],
        *,
        words: Mapping[str, str] = _NONE,
        values: Mapping[str, Value] = _NONE,
    ) -> list[Any]:
        """Rows over the requests of (experiment, phase) before a time."""
        experiment, phase, as_of = of
        every: dict[str, Value] = {
            "experiment": experiment,
            "phase": phase,
            "also": base.also_prefix(experiment, phase),
            "as_of": self._events_as_of(self._as_of(as_of)),
            "since": 0.0,
            "whole": 1,
            **values,
        }
        return self._ask(asked, words, every)

    def answered(self, experiment: str, phase: str, since: float = 0.0) -> dict[str, base.Answered]:
        """See `base.EventStore.answered`."""
        found = self._rows(queries.ANSWERED, experiment=experiment, phase=phase, since=since)
        return {variant: base.Answered(requests=requests, lost=int(lost)) for variant, requests, lost in found}

    def exposure_days(self, experiment: str, phase: str, bucket_s: float = base.DAY_S) -> list[base.ExposureDay]:
        """See `base.EventStore.exposure_days`."""
        found = self._per_request(queries.EXPOSURE_DAYS, (experiment, phase, None), values={"bucket_s": bucket_s})
        return [base.ExposureDay(bucket=int(bucket), variant=variant, units=units) for bucket, variant, units in found]

    def units(self, experiment: str, phase: str, limit: int) -> list[base.SeenUnit]:
        """See `base.EventStore.units`."""
        found = self._rows(queries.SEEN_UNITS, experiment=experiment, phase=phase, at_most=limit)
        return [base.SeenUnit(unit=unit, attributes=attributes) for unit, attributes in found]

    def comparisons(self, shadow: str, since: float = 0.0) -> base.Compared:
        """See `base.EventStore.comparisons`."""
        found = self._rows(queries.COMPARED, shadow=shadow, since=since)
        latencies: tuple[list[tuple[int, int]], list[tuple[int, int]]] = ([], [])
        for side, latency_us, count in self._rows(queries.COMPARED_LATENCIES, shadow=shadow, since=since):
            latencies[side].append((int(latency_us), count))
        own, primary = (_seconds(counted_quantiles(counts, base.LATENCY_QUANTILES)) for counts in latencies)
        differences = sum(row[4] for row in found)
        return base.Compared(
            runs=sum(row[1] for row in found),
            statuses={row[0]: row[1] for row in found},
            agreed=sum(int(row[2]) for row in found),
            disagreed=sum(int(row[3]) for row in found),
            differences=differences,
            difference_mean=sum(row[5] or 0.0 for row in found) / differences if differences else None,
            difference_max=max((row[6] for row in found if row[6] is not None), default=None),
            latency_s=own,
            primary_latency_s=primary,
            first_ts=min((row[7] for row in found), default=None),
            last_ts=max((row[8] for row in found), default=None),
        )

    def lateness(self, name: str) -> base.Lateness | None:
        """See `base.EventStore.lateness`."""
        counts = [(int(late_ms), count) for late_ms, count in self._rows(queries.LATENESS, name=name)]
        if not counts:
            return None
        found = counted_quantiles(counts, (0.5, 0.99))
        return base.Lateness(count=sum(count for _, count in counts), p50_s=found[0.5] / 1e3, p99_s=found[0.99] / 1e3)

    def outcome_names(self) -> list[base.OutcomeName]:
        """See `base.EventStore.outcome_names`."""
        return [
            base.OutcomeName(name=name, count=count, unmatched=int(unmatched), first_ts=first, last_ts=last)
            for name, count, first, last, unmatched in self._rows(self._outcome_names)
        ]


def names(query: str) -> set[str]:
    """Names that a query binds."""
    return set(_NAMED.findall(query))


def dollars(query: str) -> str:
    """The same query with `$name` for `:name`, as DuckDB binds."""
    return _NAMED.sub(r"$\1", query)


def counted_quantiles(counts: Iterable[tuple[int, int]], wanted: Sequence[float]) -> dict[float, float]:
    """Quantiles of (value, how many) pairs: the smallest value with rank >= q n. Nothing from nothing."""
    ascending = sorted(counts)
    total = sum(count for _, count in ascending)
    found: dict[float, float] = {}
    for quantile in wanted:
        left = max(math.ceil(quantile * total), 1)
        for value, count in ascending:
            left -= count
            if left <= 0:
                found[quantile] = value
                break
    return found


def _seconds(found_us: dict[float, float]) -> dict[float, float]:
    return {quantile: value / 1e6 for quantile, value in found_us.items()}


def _letters(number: int) -> str:
    """A number as letters: names of bound values hold no digits."""
    return "".join(chr(ord("a") + int(digit)) for digit in str(number))
