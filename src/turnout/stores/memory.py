"""Events in the memory of one process: for tests, and the plain-Python statement of what `queries.py` means.

Opened through `catalog`.
"""

import math
from collections import Counter, defaultdict
from collections.abc import Sequence

import msgspec

from turnout.errors import StoreError
from turnout.events import Comparison, Event, Exposure, Outcome, Prediction
from turnout.stores import base

_ARRIVAL_S = 1e-6


class MemoryStore:
    """The `EventStore` without a database. Lost with the process.

    Args:
        url: `memory:`; kept for the catalog's sake.
        limit_events: More are refused: this store is for tests.
    """

    def __init__(self, url: str = "memory:", *, read_only: bool = False, limit_events: int = 1_000_000) -> None:
        self.url = url
        self._read_only = read_only
        self._limit_events = limit_events
        self._exposures: dict[str, Exposure] = {}
        self._predictions: dict[str, Prediction] = {}
        self._outcomes: dict[tuple[str, str], tuple[float, Outcome]] = {}
        self._comparisons: dict[str, Comparison] = {}
        self._subjects: dict[str, str] = {}
        self._checkpoints: dict[str, int] = {}

    def append(
        self,
        events: Sequence[Event],
        checkpoint: base.Checkpoint | None,
        *,
        ingested_at: float,
        subject: base.Subject,
    ) -> None:
        """See `base.EventStore.append`."""
        if self._read_only:
            raise StoreError("this store was opened to read.")
        kept = (self._exposures, self._predictions, self._outcomes, self._comparisons)
        if sum(len(events) for events in kept) + len(events) > self._limit_events:
            raise StoreError(f"the memory store is full: {self._limit_events} events.", hint="Use sqlite:///PATH.")
        for at, event in enumerate(events):
            if isinstance(event, Exposure):
                self._exposures.setdefault(event.event_id, event)
            elif isinstance(event, Prediction):
                # What a segment would make of it: the trace's list is the request's own.
                frozen = msgspec.structs.replace(event, steps=list(event.steps))
                self._predictions.setdefault(event.event_id, frozen)
            elif isinstance(event, Comparison):
                self._comparisons.setdefault(event.event_id, event)
            else:
                self._outcomes.setdefault((event.project, event.event_id), (ingested_at + at * _ARRIVAL_S, event))
            if event.unit:
                self._subjects[event.unit] = subject(event.unit)
        if checkpoint is not None:
            self._checkpoints[checkpoint.segment] = checkpoint.offset

    def checkpoints(self) -> dict[str, int]:
        """See `base.EventStore.checkpoints`."""
        return dict(self._checkpoints)

    def forget(self, segments: Sequence[str]) -> None:
        """See `base.EventStore.forget`."""
        for segment in segments:
            self._checkpoints.pop(segment, None)

    @property
    def known_until(self) -> float | None:
        """See `base.EventStore.known_until`."""
        return None

    def phases(self, experiment: str) -> list[base.Phase]:
        """See `base.EventStore.phases`."""
        seen: defaultdict[str, list[Exposure]] = defaultdict(list)
        for event in self._exposures.values():
            if event.experiment == experiment:
                seen[event.phase].append(event)
        found = [
            base.Phase(
                experiment=experiment,
                phase=phase,
                first_ts=min(event.ts for event in events),
                last_ts=max(event.ts for event in events),
                units=len({event.unit for event in events}),
                builds=tuple(sorted({event.build for event in self._served(experiment, phase)})),
            )
            for phase, events in seen.items()
        ]
        return sorted(found, key=lambda phase: (-phase.last_ts, phase.phase))

    def exposed(self, experiment: str, phase: str) -> base.Exposed:
        """See `base.EventStore.exposed`."""
        events = self._met(experiment, phase)
        variants = _variants_by_unit(events)
        return base.Exposed(
            units=Counter(next(iter(seen)) for seen in variants.values() if len(seen) == 1),
            crossed=sum(len(seen) > 1 for seen in variants.values()),
            reasons=Counter(reason for reason, _ in {(e.reason, e.unit or e.request_id) for e in events}),
            crossed_from=Counter(_first_variant(events, unit) for unit, seen in variants.items() if len(seen) > 1),
        )

    def unit_sums(self, query: base.UnitQuery) -> list[base.UnitSums]:
        """See `base.EventStore.unit_sums`."""
        cells: defaultdict[tuple[str, int, bool], list[_Unit]] = defaultdict(list)
        for unit in self._measured(query):
            cells[unit.first.variant, math.floor(unit.first.ts / query.bucket_s), unit.closed].append(unit)
        return [
            base.UnitSums(
                variant=variant,
                bucket=bucket,
                closed=closed,
                n=len(units),
                y=sum(u.y for u in units),
                yy=sum(u.y * u.y for u in units),
                d=sum(u.d for u in units),
                dd=sum(u.d * u.d for u in units),
                yd=sum(u.y * u.d for u in units),
                x=sum(u.x for u in units),
                xx=sum(u.x * u.x for u in units),
                xy=sum(u.x * u.y for u in units),
                xd=sum(u.x * u.d for u in units),
                n_x=sum(u.seen for u in units),
            )
            for (variant, bucket, closed), units in sorted(cells.items())
        ]

    def unit_values(self, query: base.UnitQuery, limit: int) -> base.UnitValues:
        """See `base.EventStore.unit_values`."""
        units = sorted(self._measured(query), key=lambda unit: self._subjects[unit.first.unit])
        first = units[:limit]
        return base.UnitValues(
            subjects=[self._subjects[unit.first.unit] for unit in first],
            variants=[unit.first.variant for unit in first],
            sub_buckets=[unit.first.sub_bucket for unit in first],
            t0=[unit.first.ts for unit in first],
            closed=[unit.closed for unit in first],
            y=[unit.y for unit in first],
            d=[unit.d for unit in first],
            x=[unit.x for unit in first],
            total=len(units),
        )

    def signal_sums(self, query: base.SignalQuery) -> list[base.SignalSums]:
        """See `base.EventStore.signal_sums`."""
        since = -math.inf if query.since is None else query.since
        cells: defaultdict[tuple[str, int, int], list[float]] = defaultdict(list)
        for first, request in self._requests(query.experiment, query.phase, query.as_of, whole=query.whole):
            if request.ts >= since:
                cell = first.variant, first.sub_bucket, math.floor(request.ts / query.bucket_s)
                cells[cell].append(_signal(request, query))
        return [
            base.SignalSums(variant=variant, sub_bucket=sub_bucket, bucket=bucket, s=sum(values), c=len(values))
            for (variant, sub_bucket, bucket), values in sorted(cells.items())
        ]

    def signal_ranks(
        self, experiment: str, phase: str, quantile: float, alpha: float, as_of: float | None = None
    ) -> dict[str, base.Ranks]:
        """See `base.EventStore.signal_ranks`."""
        per_unit: defaultdict[tuple[str, str], list[float]] = defaultdict(list)
        for first, request in self._requests(experiment, phase, as_of):
            per_unit[first.variant, first.unit].append(request.latency_s)
        means: defaultdict[str, list[float]] = defaultdict(list)
        for (variant, _), latencies in per_unit.items():
            means[variant].append(sum(latencies) / len(latencies))
        found = {}
        for variant, values in sorted(means.items()):
            n = len(values)
            low, middle, high = (sorted(values)[place - 1] for place in base.ranks(n, quantile, alpha))
            found[variant] = base.Ranks(n=n, low=low, value=middle, high=high)
        return found

    def serving(
        self, experiment: str, phase: str, quantiles: Sequence[float] = base.LATENCY_QUANTILES
    ) -> dict[str, base.Serving]:
        """See `base.EventStore.serving`."""
        by_variant: defaultdict[str, list[Prediction]] = defaultdict(list)
        for first, request in self._requests(experiment, phase, None):
            by_variant[first.variant].append(request)
        return {
            variant: base.Serving(
                requests=len(events),
                errors=sum(event.status != "ok" for event in events),
                fallbacks=sum(event.fallback for event in events),
                latency_s=_quantiles([event.latency_s for event in events], quantiles),
            )
            for variant, events in by_variant.items()
        }

    def answered(self, experiment: str, phase: str, since: float = 0.0) -> dict[str, base.Answered]:
        """See `base.EventStore.answered`."""
        by_variant: defaultdict[str, list[Prediction]] = defaultdict(list)
        for event in self._served(experiment, phase):
            if event.ts >= since and not event.shadow:
                by_variant[event.variant].append(event)
        return {
            variant: base.Answered(
                requests=len(events), lost=sum(event.status != "ok" or event.fallback for event in events)
            )
            for variant, events in by_variant.items()
        }

    def exposure_days(self, experiment: str, phase: str, bucket_s: float = base.DAY_S) -> list[base.ExposureDay]:
        """See `base.EventStore.exposure_days`."""
        firsts = self._firsts(experiment, phase, None).values()
        counts = Counter((math.floor(first.ts / bucket_s), first.variant) for first in firsts)
        return [
            base.ExposureDay(bucket=bucket, variant=variant, units=units)
            for (bucket, variant), units in sorted(counts.items())
        ]

    def units(self, experiment: str, phase: str, limit: int) -> list[base.SeenUnit]:
        """See `base.EventStore.units`."""
        found: dict[str, str] = {}
        for event in self._exposures.values():
            if (event.experiment, event.phase) == (experiment, phase) and event.unit_type != "request_id":
                attributes = msgspec.json.encode(event.attributes).decode()
                found[event.unit] = max(found.get(event.unit, ""), attributes)
        return [base.SeenUnit(unit=unit, attributes=found[unit]) for unit in sorted(found) if unit][:limit]

    def comparisons(self, shadow: str, since: float = 0.0) -> base.Compared:
        """See `base.EventStore.comparisons`."""
        runs = [run for run in self._comparisons.values() if run.shadow == shadow and run.ts >= since]
        differences = [run.difference for run in runs if run.difference is not None]
        return base.Compared(
            runs=len(runs),
            statuses=Counter(run.status for run in runs),
            agreed=sum(run.agree is True for run in runs),
            disagreed=sum(run.agree is False for run in runs),
            differences=len(differences),
            difference_mean=sum(differences) / len(differences) if differences else None,
            difference_max=max(differences, default=None),
            latency_s=_quantiles([run.latency_s for run in runs if run.status == "ok"], base.LATENCY_QUANTILES),
            primary_latency_s=_quantiles([run.primary_latency_s for run in runs], base.LATENCY_QUANTILES),
            first_ts=min((run.ts for run in runs), default=None),
            last_ts=max((run.ts for run in runs), default=None),
        )

    def lateness(self, name: str) -> base.Lateness | None:
        """See `base.EventStore.lateness`."""
        late = [max(arrival - o.ts, 0.0) for arrival, o in self._outcomes.values() if o.name == name]
        if not late:
            return None
        found = _quantiles(late, (0.5, 0.99))
        return base.Lateness(count=len(late), p50_s=found[0.5], p99_s=found[0.99])

    def outcome_names(self) -> list[base.OutcomeName]:
        """See `base.EventStore.outcome_names`."""
        units = {event.unit for event in self._exposures.values()}
        requests = {event.request_id for event in self._exposures.values()} | set(self._predictions)
        by_name: defaultdict[str, list[Outcome]] = defaultdict(list)
        for _, outcome in self._outcomes.values():
            by_name[outcome.name].append(outcome)
        return [
            base.OutcomeName(
                name=name,
                count=len(found),
                unmatched=sum(not (o.unit and o.unit in units) and o.request_id not in requests for o in found),
                first_ts=min(outcome.ts for outcome in found),
                last_ts=max(outcome.ts for outcome in found),
            )
            for name, found in sorted(by_name.items())
        ]

    def close(self) -> None:
        """See `base.EventStore.close`: nothing to release, what was kept stays readable."""

    def _met(self, experiment: str, phase: str) -> list[Exposure]:
        return [e for e in self._exposures.values() if e.experiment == experiment and e.phase == phase]

    def _served(self, experiment: str, phase: str) -> list[Prediction]:
        return [e for e in self._predictions.values() if e.experiment == experiment and e.phase == phase]

    def _standing(self) -> list[Outcome]:
        """Outcomes that are not corrected, and the latest correction of each that is."""
        corrections: defaultdict[tuple[str, str], list[tuple[float, str]]] = defaultdict(list)
        for arrival, outcome in self._outcomes.values():
            if outcome.correction_of and outcome.correction_of != outcome.event_id:
                corrections[outcome.project, outcome.correction_of].append((arrival, outcome.event_id))
        return [
            outcome
            for key, (_, outcome) in self._outcomes.items()
            if key not in corrections
            and (
                (outcome.project, outcome.correction_of) not in corrections
                or max(corrections[outcome.project, outcome.correction_of])[1] == outcome.event_id
            )
        ]

    def _firsts(self, experiment: str, phase: str, as_of: float | None) -> dict[str, Exposure]:
        """First exposures of analysed units that were seen in one variant alone, by unit."""
        until = math.inf if as_of is None else as_of
        events = [event for event in self._met(experiment, phase) if event.ts < until]
        variants = _variants_by_unit(events)
        first: dict[str, Exposure] = {}
        for event in sorted(events, key=lambda event: -event.ts):
            if _counts(event) and len(variants[event.unit]) == 1:
                first[event.unit] = event
        return first

    def _began(self, experiment: str) -> dict[str, float]:
        """First analysed exposure of each unit in any phase."""
        began: dict[str, float] = {}
        for event in self._exposures.values():
            if event.experiment == experiment and _counts(event):
                began[event.unit] = min(event.ts, began.get(event.unit, math.inf))
        return began

    def _measured(self, query: base.UnitQuery) -> list["_Unit"]:
        """Analysed units with their values."""
        as_of = math.inf if query.as_of is None else query.as_of
        cap = math.inf if query.cap is None else query.cap
        found: defaultdict[str, list[Outcome]] = defaultdict(list)
        for outcome in self._standing():
            if outcome.name in (query.outcome, query.per if query.kind == "ratio" else "") and outcome.ts < as_of:
                found[self._unit_of(outcome, query)].append(outcome)
        units = []
        began = self._began(query.experiment)
        for unit, first in self._firsts(query.experiment, query.phase, query.as_of).items():
            theirs = [o for o in found[unit] if o.project == first.project and _same_type(o, first)]
            after = [o for o in theirs if first.ts <= o.ts < first.ts + query.window_s]
            before = [o for o in theirs if began[unit] - (query.covariate_s or 0.0) <= o.ts < began[unit]]
            units.append(
                _Unit(
                    first=first,
                    closed=first.ts <= as_of - query.window_s - query.lateness_s,
                    y=min(_value(after, query), cap),
                    d=_denominator(after, query),
                    x=min(_value(before, query), cap),
                    x_d=_denominator(before, query),
                    seen=bool(before),
                )
            )
        if query.kind == "ratio":
            x_d = sum(unit.x_d for unit in units)
            r = sum(unit.x for unit in units) / x_d if x_d else 0.0
            units = [msgspec.structs.replace(unit, x=unit.x - r * unit.x_d) for unit in units]
        return units

    def _requests(
        self, experiment: str, phase: str, as_of: float | None, *, whole: bool = True
    ) -> list[tuple[Exposure, Prediction]]:
        """Requests of analysed units, each with its unit's first exposure; see `base.SignalQuery.whole`."""
        until = math.inf if as_of is None else as_of
        firsts = self._firsts(experiment, phase, as_of)
        found = []
        for request in self._predictions.values():
            first = firsts.get(request.unit or request.event_id)
            if first is not None and not request.shadow and first.ts <= request.ts < until:
                assigned = [(request.experiment, request.phase, request.variant), *request.also]
                variants = {variant for of, its, variant in assigned if (of, its) == (experiment, phase)}
                if first.variant in variants or (whole and variants):
                    found.append((first, request))
        return found

    def _unit_of(self, outcome: Outcome, query: base.UnitQuery) -> str:
        if outcome.unit:
            return outcome.unit
        prediction = self._predictions.get(outcome.request_id)
        if prediction is not None and prediction.unit:
            return prediction.unit
        met = [e.unit for e in self._met(query.experiment, query.phase) if e.request_id == outcome.request_id]
        return min(met, default=outcome.request_id)


class _Unit(msgspec.Struct, frozen=True, kw_only=True):
    """One analysed unit; see `base.UnitSums` for y, d and x. `x_d` is the denominator before t0."""

    first: Exposure
    closed: bool
    y: float
    d: float
    x: float
    x_d: float
    seen: bool


def _same_type(outcome: Outcome, first: Exposure) -> bool:
    return not outcome.unit_type or not first.unit_type or outcome.unit_type == first.unit_type


def _value(outcomes: Sequence[Outcome], query: base.UnitQuery) -> float:
    """A unit's value, from its outcomes of one stretch of time."""
    values = [outcome.value for outcome in outcomes if outcome.name == query.outcome]
    if query.kind == "conversion":
        return float(any(values))
    return float(len(values) if query.kind == "count" else sum(values))


def _denominator(outcomes: Sequence[Outcome], query: base.UnitQuery) -> float:
    of_ratio = query.kind == "ratio"
    return float(sum(outcome.value for outcome in outcomes if of_ratio and outcome.name == query.per))


def _signal(request: Prediction, query: base.SignalQuery) -> float:
    if query.signal == "latency":
        over = query.kind == "share_over"
        return float(request.latency_s > base.threshold(query)) if over else request.latency_s
    return float(request.fallback or (query.signal == "error" and request.status != "ok"))


def _quantiles(values: Sequence[float], wanted: Sequence[float]) -> dict[float, float]:
    """The smallest value with rank >= q n; nothing from nothing."""
    ascending = sorted(values)
    return {q: ascending[max(math.ceil(q * len(ascending)), 1) - 1] for q in wanted if ascending}


def _counts(event: Exposure) -> bool:
    """Whether an exposure is analysed; one without a unit is nobody's."""
    return event.reason in base.ANALYSED and event.unit != ""


def _first_variant(events: Sequence[Exposure], unit: str) -> str:
    return min((e.ts, e.variant) for e in events if e.unit == unit and _counts(e))[1]


def _variants_by_unit(events: Sequence[Exposure]) -> dict[str, set[str]]:
    variants: defaultdict[str, set[str]] = defaultdict(set)
    for event in events:
        if _counts(event):
            variants[event.unit].add(event.variant)
    return variants
