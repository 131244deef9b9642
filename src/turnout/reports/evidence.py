"""What a report asks of a store, once per metric, and the sums it keeps of it. Called by `experiment`, `planning`
and `replaying`.

A metric is read once, in buckets of time; the estimate, its curve over time and its cohorts all
come from the same sums.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Final, Protocol

from msgspec import Struct

from turnout.experiments import estimates, samples
from turnout.reports import tables, wording
from turnout.spec import measures
from turnout.stores import base

MAX_LATENESS_S: Final = 2 * wording.DAY_S
"""Outcomes later than this are not waited for, however late the others were."""

BUCKETS_S: Final = (60.0, 300.0, 900.0, 3_600.0, 10_800.0, 21_600.0, 43_200.0, 86_400.0, 604_800.0)
MOST_BUCKETS: Final = 60


class Evidence(Protocol):
    """What a report asks of a store; every `stores.base.EventStore` answers it."""

    def phases(self, experiment: str) -> list[base.Phase]: ...

    def exposed(self, experiment: str, phase: str) -> base.Exposed: ...

    def serving(self, experiment: str, phase: str, quantiles: Sequence[float]) -> dict[str, base.Serving]: ...

    def outcome_names(self) -> list[base.OutcomeName]: ...

    def unit_sums(self, query: base.UnitQuery) -> list[base.UnitSums]: ...

    def signal_sums(self, query: base.SignalQuery) -> list[base.SignalSums]: ...

    def signal_ranks(
        self, experiment: str, phase: str, quantile: float, alpha: float, as_of: float | None
    ) -> dict[str, base.Ranks]: ...

    def exposure_days(self, experiment: str, phase: str, bucket_s: float) -> list[base.ExposureDay]: ...

    def lateness(self, name: str) -> base.Lateness | None: ...


class Span(Struct, frozen=True, kw_only=True):
    """The part of the log a report is about.

    Attributes:
        now: What happened later is not read.
        bucket_s: Length of the periods.
        lateness_s: Outcome name to how late it arrives (`lateness`); windows stay open so long, within bounds.
    """

    experiment: str
    phase: str
    now: float
    bucket_s: float
    lateness_s: Mapping[str, float] = {}


class Measured(Struct, frozen=True, kw_only=True):
    """One metric's sums.

    Attributes:
        kind: How estimates are made of the samples.
        sampled: Of closed units, by variant.
        parts: The same by variant and period; () for quantiles, which do not add up.
        part_units: Units of each part.
        closed: Units whose window is over, by variant. units: all seen.
        so_far: (total, mean) over all units seen.
        covariates: Closed units that had outcomes in the look-back, over all variants.
    """

    kind: tables.Kind
    sampled: Mapping[str, samples.Sample]
    parts: Mapping[str, Mapping[int, samples.Sample]]
    part_units: Mapping[str, Mapping[int, int]]
    closed: Mapping[str, int]
    units: Mapping[str, int]
    so_far: Mapping[str, tuple[float, float | None]]
    covariates: int = 0

    @property
    def closed_ratio(self) -> float | None:
        """Share of the units whose window is over; None without units."""
        total = sum(self.units.values())
        return sum(self.closed.values()) / total if total else None


def bucket_s(span_s: float) -> float:
    """Length of the periods in which a span is cut, such that they are not too many.

    >>> bucket_s(1_800), bucket_s(14 * 86_400), bucket_s(10_000 * 86_400)
    (60.0, 21600.0, 604800.0)
    """
    return next((length for length in BUCKETS_S if span_s <= MOST_BUCKETS * length), BUCKETS_S[-1])


def label(spec: measures.MetricSpec) -> str:
    """What a metric measures, for people."""
    if spec.outcome is not None:
        return {"ratio": f"{spec.outcome} per {spec.per}", "count": f"number of {spec.outcome}"}.get(
            spec.kind, spec.outcome
        )
    if spec.signal == "latency":
        threshold = wording.value(spec.threshold_s, "seconds")
        quantile = "" if spec.quantile is None else f"p{100 * spec.quantile:g} latency"
        return {"share_over": f"latency over {threshold}", "quantile": quantile}.get(spec.kind, "mean latency")
    return {"error": "errors", "fallback": "fallbacks"}[spec.signal or "error"]


def scale(spec: measures.MetricSpec) -> wording.Scale:
    """How its numbers read."""
    if spec.kind in ("conversion", "share", "share_over"):
        return "ratio"
    return "seconds" if spec.signal == "latency" else "number"


def read(store: Evidence, spec: measures.MetricSpec, span: Span, units: Mapping[str, Mapping[int, int]]) -> Measured:
    """The sums of one metric.

    Args:
        units: New units by variant and period, for signals: what is summed there are requests.
    """
    if spec.outcome is not None:
        return _from_units(store.unit_sums(query(spec, span)), spec)
    if spec.kind == "quantile":
        return _from_ranks(store, spec, span, units)
    kind = spec.kind
    assert spec.signal is not None and kind in ("mean", "share", "share_over"), "spec checks keep the others away"  # noqa: PT018
    asked = base.SignalQuery(
        experiment=span.experiment,
        phase=span.phase,
        signal=spec.signal,
        kind=kind,
        threshold_s=spec.threshold_s,
        as_of=span.now,
        bucket_s=span.bucket_s,
        whole=True,
    )
    return _from_signals(store.signal_sums(asked), kind, units)


def lateness(store: Evidence, specs: Iterable[measures.MetricSpec]) -> dict[str, float]:
    """How late the outcomes of these metrics arrive, each name asked once: the 99th percentile."""
    names = dict.fromkeys(name for spec in specs for name in (spec.outcome, spec.per) if name is not None)
    late = {name: store.lateness(name) for name in names}
    return {name: found.p99_s for name, found in late.items() if found is not None}


def too_late(span: Span) -> dict[str, float]:
    """Outcomes that windows do not wait for, with their lateness in full hours."""
    hour_s = wording.DAY_S / 24
    return {name: round(late / hour_s) * hour_s for name, late in span.lateness_s.items() if late > MAX_LATENESS_S}


def _late_s(spec: measures.MetricSpec, span: Span) -> float:
    """How long windows stay open beyond their end; a ratio waits for both of its outcomes."""
    late = (span.lateness_s.get(name, 0.0) for name in (spec.outcome, spec.per) if name is not None)
    return min(max(late, default=0.0), MAX_LATENESS_S)


def wait_s(spec: measures.MetricSpec, span: Span) -> float:
    """How long after its first exposure a unit's value is known; of signals at once."""
    return spec.window_s + _late_s(spec, span) if spec.outcome is not None else 0.0


def query(spec: measures.MetricSpec, span: Span) -> base.UnitQuery:
    """The question for an outcome's sums; a window closes later where outcomes arrive late."""
    kind = spec.kind
    assert spec.outcome is not None and kind in ("conversion", "mean", "count", "ratio"), "as above"  # noqa: PT018
    return base.UnitQuery(
        experiment=span.experiment,
        phase=span.phase,
        outcome=spec.outcome,
        kind=kind,
        per=spec.per,
        window_s=spec.window_s,
        cap=spec.cap,
        covariate_s=spec.covariate_s,
        as_of=span.now,
        lateness_s=_late_s(spec, span),
        bucket_s=span.bucket_s,
    )


def moments(sums: base.UnitSums, *, covariate: bool) -> samples.Moments:
    """As estimates take them; a unit without earlier outcomes has the covariate 0, which is its value."""
    return samples.Moments(
        n=sums.n,
        y=sums.y,
        yy=sums.yy,
        d=sums.d,
        dd=sums.dd,
        yd=sums.yd,
        x=sums.x,
        xx=sums.xx,
        xy=sums.xy,
        xd=sums.xd,
        n_x=sums.n if covariate else 0,
        y_x=sums.y if covariate else 0.0,
        d_x=sums.d if covariate else 0.0,
    )


def _from_units(rows: Iterable[base.UnitSums], spec: measures.MetricSpec) -> Measured:
    parts: defaultdict[str, dict[int, samples.Sample]] = defaultdict(dict)
    counts: defaultdict[str, dict[int, int]] = defaultdict(dict)
    everybody: dict[str, samples.Moments] = {}
    closed: dict[str, samples.Moments] = {}
    covariates = 0
    for row in rows:
        found = moments(row, covariate=spec.covariate_s is not None)
        everybody[row.variant] = everybody.get(row.variant, samples.NOTHING) + found
        if row.closed:
            parts[row.variant][row.bucket] = found
            counts[row.variant][row.bucket] = row.n
            closed[row.variant] = closed.get(row.variant, samples.NOTHING) + found
            covariates += row.n_x
    return Measured(
        kind=spec.kind,
        sampled=closed,
        parts=parts,
        part_units=counts,
        closed={name: sums.n for name, sums in closed.items()},
        units={name: sums.n for name, sums in everybody.items()},
        so_far={
            name: (sums.y, _over(sums.y, sums.d if spec.kind == "ratio" else sums.n))
            for name, sums in everybody.items()
        },
        covariates=covariates,
    )


def _from_signals(
    rows: Iterable[base.SignalSums], kind: tables.Kind, units: Mapping[str, Mapping[int, int]]
) -> Measured:
    cells: defaultdict[str, defaultdict[int, list[base.SignalSums]]] = defaultdict(lambda: defaultdict(list))
    for row in rows:
        cells[row.variant][row.bucket].append(row)
    parts = {name: {at: _cells(found) for at, found in by_time.items()} for name, by_time in cells.items()}
    whole = {name: _cells(row for found in by_time.values() for row in found) for name, by_time in cells.items()}
    totals = {name: sum(units.get(name, {}).values()) for name in {*units, *whole}}
    return Measured(
        kind=kind,
        sampled=whole,
        parts=parts,
        part_units=units,
        closed=totals,
        units=totals,
        so_far={name: (sum(found.sums), _over(sum(found.sums), found.requests)) for name, found in whole.items()},
    )


def _cells(rows: Iterable[base.SignalSums]) -> samples.Buckets:
    return samples.buckets((row.sub_bucket, row.s, row.c) for row in rows)


def _from_ranks(
    store: Evidence, spec: measures.MetricSpec, span: Span, units: Mapping[str, Mapping[int, int]]
) -> Measured:
    found = store.signal_ranks(span.experiment, span.phase, spec.quantile or 0.5, estimates.RANK_ALPHA, span.now)
    ranked = {
        name: samples.Ranked(n=ranks.n, low=ranks.low, value=ranks.value, high=ranks.high)
        for name, ranks in found.items()
    }
    totals = {name: ranks.n for name, ranks in ranked.items()}
    return Measured(
        kind="quantile",
        sampled=ranked,
        parts={},
        part_units=units,
        closed=totals,
        units=totals,
        so_far={name: (0.0, ranks.value) for name, ranks in ranked.items()},
    )


def _over(total: float, by: float) -> float | None:
    return total / by if by else None
