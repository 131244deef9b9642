"""One experiment, read from a store: who got what, what came of it, and whether to believe it.

Called by `turnout report`. Reads the store through five
verbs, adds the statistics of `experiments/statistics.py`, and lets `notes.py` say in plain
words what a reader must know.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Final, Literal, Protocol

import msgspec

from turnout.errors import NotFoundError, did_you_mean
from turnout.experiments import estimates, phases, ratio_checks, samples, sequences, statistics
from turnout.reports import notes, tables
from turnout.spec import document, measures, snapshot
from turnout.stores import base

DEFAULT_TIGHTEST_AT: Final = 10_000
"""N* of experiments without `plan.units`: a constant, because it must never be tuned on data."""

QUANTILES: Final = (0.5, 0.95, 0.99)


class Evidence(Protocol):
    """What a report asks of a store; every `stores.base.EventStore` answers it."""

    def phases(self, experiment: str) -> list[base.Phase]: ...

    def exposed(self, experiment: str, phase: str) -> base.Exposed: ...

    def metric(self, query: base.MetricQuery) -> dict[str, base.MetricSum]: ...

    def serving(self, experiment: str, phase: str, quantiles: Sequence[float]) -> dict[str, base.Serving]: ...

    def outcome_names(self) -> list[base.OutcomeName]: ...


def report(
    store: Evidence,
    admitted: snapshot.Snapshot,
    name: str,
    *,
    now: float,
    phase: str = "",
    dropped: Mapping[str, int] | None = None,
) -> tables.Report:
    """Report on one phase of one experiment.

    Args:
        name: The experiment, a key of the document's `experiments`.
        now: Seconds since the epoch; later outcomes are ignored.
        phase: Its digest; "" for the phase of the document.
        dropped: Events lost before they were logged, where the caller knows (the running server's status).

    Raises:
        NotFoundError: The document has no such experiment, or no such phase was ever seen.
        StoreError: The store is out of reach.
    """
    spec = find(admitted.document, name)
    current = phases.of(name, admitted.document, written=admitted.written, digests=admitted.digests)
    seen = store.phases(name)
    if phase not in ("", current, *(found.phase for found in seen)):
        known = ", ".join(found.phase for found in seen) or "none yet"
        raise NotFoundError(f"experiment {name!r} has no phase {phase!r}.", hint=f"Phases seen: {known}.")
    chosen = phase or current
    reader = _Reader(store, spec, name, chosen, chosen == current, now)
    found = next((found for found in seen if found.phase == chosen), None)
    exposed = store.exposed(name, chosen)
    outcomes = store.outcome_names()
    ratio, expected = reader.sample_ratio(exposed.units)
    metrics = tuple(reader.metric(*entry, outcomes) for entry in _metrics(spec.metrics))
    made = tables.Report(
        experiment=name,
        endpoint=spec.endpoint,
        description=spec.description,
        state="winner" if spec.winner else "running" if spec.enabled else "disabled",
        winner=spec.winner or "",
        unit=admitted.document.endpoints[spec.endpoint].unit or "",
        control=spec.control,
        ramp_ratio=spec.ramp,
        revision=admitted.short,
        phase=chosen,
        current=reader.current,
        as_of=now,
        first_ts=found.first_ts if found else None,
        last_ts=found.last_ts if found else None,
        builds=found.builds if found else (),
        variants=reader.variants(exposed.units, expected),
        units=sum(exposed.units.values()),
        crossed=exposed.crossed,
        reasons=dict(exposed.reasons),
        sample_ratio=ratio,
        metrics=metrics,
        guardrails=tuple(spec.metrics.guardrails),
        plan=reader.plan(sum(exposed.units.values()), metrics, found.first_ts if found else None),
        outcomes=tuple(tables.OutcomeCount(name=o.name, count=o.count, unmatched=o.unmatched) for o in outcomes),
        other_phases=tuple(_other(each) for each in seen if each.phase != chosen),
        dropped=dict(dropped or {}),
    )
    return msgspec.structs.replace(made, notes=notes.write(made))


def find(content: document.Document, name: str) -> document.ExperimentSpec:
    """The experiment of this name.

    Raises:
        NotFoundError: There is none; the nearest name is given.
    """
    spec = content.experiments.get(name)
    if spec is None:
        known = ", ".join(sorted(content.experiments)) or "none"
        hint = did_you_mean(name, content.experiments, f"Experiments in the document: {known}.")
        raise NotFoundError(f"the document has no experiment {name!r}.", hint=hint)
    return spec


Role = Literal["primary", "secondary"]


def _metrics(spec: measures.MetricsSpec) -> list[tuple[str, Role, measures.MetricSpec]]:
    primary: list[tuple[str, Role, measures.MetricSpec]] = (
        [] if spec.primary is None else [("primary", "primary", spec.primary)]
    )
    return primary + [(name, "secondary", metric) for name, metric in spec.secondary.items()]


def _other(found: base.Phase) -> tables.OtherPhase:
    return tables.OtherPhase(phase=found.phase, units=found.units, first_ts=found.first_ts, last_ts=found.last_ts)


class _Reader:
    """One phase of one experiment, as the store has it."""

    def __init__(
        self, store: Evidence, spec: document.ExperimentSpec, name: str, phase: str, current: bool, now: float
    ) -> None:
        self.store = store
        self.spec = spec
        self.name = name
        self.phase = phase
        self.current = current
        self.now = now
        planned = spec.plan.units
        self.tightest_at = float(spec.plan.tightest_at or planned or DEFAULT_TIGHTEST_AT)

    def sample_ratio(self, units: Mapping[str, int]) -> tuple[tables.SampleRatio | None, Mapping[str, float]]:
        """The check, and the units expected; nothing for a phase whose weights the document no longer tells."""
        weights = {name: variant.weight for name, variant in self.spec.variants.items()}
        found = ratio_checks.check(units, weights) if self.current else None
        if found is None:
            return None, {}
        verdict: Literal["fine", "suspect", "mismatch"] = "fine"
        if found.ln_e > math.log(ratio_checks.E):
            verdict = "mismatch"
        elif found.p_value < ratio_checks.P:
            verdict = "suspect"
        sequential_p = math.exp(min(0.0, -found.ln_e))
        ratio = tables.SampleRatio(
            chi2=found.chi2, df=found.df, p_value=found.p_value, sequential_p=sequential_p, verdict=verdict
        )
        return ratio, found.expected

    def variants(self, units: Mapping[str, int], expected: Mapping[str, float]) -> tuple[tables.VariantRow, ...]:
        """A row per variant, control first, with those that only the store knows."""
        serving = self.store.serving(self.name, self.phase, QUANTILES)
        names = self._names({*units, *serving})
        total = sum(units.values())
        return tuple(
            tables.VariantRow(
                name=name,
                control=name == self.spec.control,
                weight=self.spec.variants[name].weight if self.current and name in self.spec.variants else None,
                units=units.get(name, 0),
                unit_ratio=units.get(name, 0) / total if total else None,
                expected_units=expected.get(name),
                serving=_serving(serving.get(name)),
            )
            for name in names
        )

    def metric(
        self, name: str, role: Role, spec: measures.MetricSpec, outcomes: Sequence[base.OutcomeName]
    ) -> tables.MetricTable:
        """One metric over all variants."""
        query = base.MetricQuery(
            experiment=self.name,
            phase=self.phase,
            name=spec.outcome,
            kind=spec.kind,
            window_s=spec.window_s,
            as_of=self.now,
        )
        sums = self.store.metric(query)
        closed = self.store.metric(msgspec.structs.replace(query, closed_only=True))
        units = sum(found.n for found in sums.values())
        moments = {name: _moments(sums.get(name)) for name in self._names(sums)}
        return tables.MetricTable(
            name=name,
            role=role,
            outcome=spec.outcome,
            kind=spec.kind,
            window_s=spec.window_s,
            closed_ratio=sum(found.n for found in closed.values()) / units if units else None,
            outcomes=sum(found.count for found in outcomes if found.name == spec.outcome),
            estimates=tuple(self._estimate(name, found, spec.kind) for name, found in moments.items()),
            comparisons=tuple(
                self._comparison(name, found, moments[self.spec.control], spec.kind)
                for name, found in moments.items()
                if name != self.spec.control
            ),
        )

    def plan(self, units: int, metrics: Sequence[tables.MetricTable], first_ts: float | None) -> tables.Plan:
        """The document's plan, and whether it is fulfilled.

        Args:
            first_ts: Of the phase's first exposure; None before it.
        """
        plan = self.spec.plan
        closed = all(metric.closed_ratio == 1.0 for metric in metrics)
        left_s = max(0.0, (plan.min_duration_s or 0.0) - (0.0 if first_ts is None else self.now - first_ts))
        complete = None if plan.units is None else units >= plan.units and closed and not left_s
        return tables.Plan(
            units=plan.units, alpha=plan.alpha, tightest_at=self.tightest_at, left_s=left_s, complete=complete
        )

    def _names(self, seen: Iterable[str]) -> list[str]:
        known = list(self.spec.variants) if self.current else [self.spec.control]
        rest = sorted(name for name in seen if name and name not in known)
        return sorted(known, key=lambda name: name != self.spec.control) + rest

    def _estimate(self, name: str, found: samples.Moments, kind: samples.Kind) -> tables.Estimate:
        own = estimates.estimate(kind, found)
        return tables.Estimate(
            variant=name,
            units=found.n,
            total=found.y,
            mean=found.mean if found.n else None,
            interval=None if own is None else statistics.interval(own, kind, alpha=self.spec.plan.alpha),
        )

    def _comparison(
        self, name: str, treatment: samples.Moments, control: samples.Moments, kind: samples.Kind
    ) -> tables.Comparison:
        alpha = self.spec.plan.alpha
        several = max(1, len(self._names(())) - 1)  # k variants against one control share the error
        always = None
        found_t, found_c = estimates.estimate(kind, treatment), estimates.estimate(kind, control)
        if found_t and found_c and min(treatment.n, control.n) >= notes.FEW_UNITS:
            always = sequences.compare(found_t, found_c, tightest_at=self.tightest_at, alpha=alpha / several)
        return tables.Comparison(
            variant=name,
            fixed=statistics.difference(treatment, control, kind, alpha=alpha),
            always_valid=always,
            reading=_reading(always),
        )


def _reading(always: sequences.Sequence | None) -> Literal["higher", "lower", "unclear", "too-early"]:
    if always is None:
        return "too-early"
    if always.interval.low > 0:
        return "higher"
    return "lower" if always.interval.high < 0 else "unclear"


def _moments(found: base.MetricSum | None) -> samples.Moments:
    return samples.NOTHING if found is None else samples.Moments(n=found.n, y=found.x, yy=found.xx)


def _serving(found: base.Serving | None) -> tables.Serving:
    if found is None or not found.requests:
        return tables.Serving()
    p50_s, p95_s, p99_s = (found.latency_s.get(quantile) for quantile in QUANTILES)
    return tables.Serving(
        requests=found.requests,
        errors=found.errors,
        error_ratio=found.errors / found.requests,
        stood_in=found.fallbacks,
        p50_s=p50_s,
        p95_s=p95_s,
        p99_s=p99_s,
    )
