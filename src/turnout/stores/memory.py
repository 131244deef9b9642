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
        if len(self._exposures) + len(self._predictions) + len(self._outcomes) + len(events) > self._limit_events:
            raise StoreError(f"the memory store is full: {self._limit_events} events.", hint="Use sqlite:///PATH.")
        for at, event in enumerate(events):
            if isinstance(event, Exposure):
                self._exposures.setdefault(event.event_id, event)
            elif isinstance(event, Prediction):
                # What a segment would make of it: the trace's list is the request's own.
                frozen = msgspec.structs.replace(event, steps=list(event.steps))
                self._predictions.setdefault(event.event_id, frozen)
            elif not isinstance(event, Comparison):
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
        )

    def metric(self, query: base.MetricQuery) -> dict[str, base.MetricSum]:
        """See `base.EventStore.metric`."""
        as_of = math.inf if query.as_of is None else query.as_of
        events = [event for event in self._met(query.experiment, query.phase) if event.ts < as_of]
        variants = _variants_by_unit(events)
        first: dict[str, Exposure] = {}
        for event in sorted(events, key=lambda event: -event.ts):
            if event.reason in base.ANALYSED and len(variants[event.unit]) == 1:
                first[event.unit] = event
        if query.closed_only:
            first = {unit: event for unit, event in first.items() if event.ts <= as_of - query.window_s}
        values: defaultdict[str, list[float]] = defaultdict(list)
        for outcome in self._standing():
            exposure = first.get(self._unit_of(outcome, query))
            if outcome.name == query.name and exposure is not None and outcome.ts < as_of:
                in_window = exposure.ts <= outcome.ts < exposure.ts + query.window_s
                if in_window and (not outcome.unit_type or outcome.unit_type == exposure.unit_type):
                    values[exposure.unit].append(outcome.value)
        sums: defaultdict[str, list[float]] = defaultdict(list)
        for unit, exposure in first.items():
            found = values[unit]
            sums[exposure.variant].append(float(any(found)) if query.kind == "conversion" else sum(found))
        return {
            variant: base.MetricSum(n=len(xs), x=float(sum(xs)), xx=float(sum(x * x for x in xs)))
            for variant, xs in sums.items()
        }

    def serving(
        self, experiment: str, phase: str, quantiles: Sequence[float] = (0.5, 0.95, 0.99)
    ) -> dict[str, base.Serving]:
        """See `base.EventStore.serving`."""
        by_variant: defaultdict[str, list[Prediction]] = defaultdict(list)
        for event in self._served(experiment, phase):
            if not event.shadow:
                by_variant[event.served].append(event)
        found = {}
        for served, events in by_variant.items():
            latencies = sorted(event.latency_s for event in events)
            found[served] = base.Serving(
                requests=len(events),
                errors=sum(event.status != "ok" for event in events),
                fallbacks=sum(event.fallback for event in events),
                latency_s={q: latencies[max(math.ceil(q * len(latencies)), 1) - 1] for q in quantiles},
            )
        return found

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

    def _unit_of(self, outcome: Outcome, query: base.MetricQuery) -> str:
        if outcome.unit:
            return outcome.unit
        prediction = self._predictions.get(outcome.request_id)
        if prediction is not None and prediction.unit:
            return prediction.unit
        met = [e.unit for e in self._met(query.experiment, query.phase) if e.request_id == outcome.request_id]
        return min(met, default=outcome.request_id)


def _variants_by_unit(events: Sequence[Exposure]) -> dict[str, set[str]]:
    variants: defaultdict[str, set[str]] = defaultdict(set)
    for event in events:
        if event.reason in base.ANALYSED:
            variants[event.unit].add(event.variant)
    return variants
