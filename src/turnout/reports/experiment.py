"""One experiment, read from a store: who got what, what came of it, and what to do about it.

Called by `turnout report`. `evidence` reads each metric once, `comparing` makes its table, `verdict`
decides, and `notes` says in plain words what a reader must know beside the verdict.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final

import msgspec
from msgspec import Struct

from turnout.errors import NotFoundError, did_you_mean
from turnout.experiments import comparisons, phases, ratio_checks
from turnout.reports import comparing, ending, evidence, notes, past, tables, verdict
from turnout.spec import document, measures, snapshot
from turnout.stores import base

DEFAULT_TIGHTEST_AT: Final = 10_000
"""N* of experiments without `plan.units`: a constant, because it must never be tuned on data."""

QUANTILES: Final = (0.5, 0.95, 0.99)

Units = Mapping[str, Mapping[int, int]]
Read = tuple[str, tables.Role, measures.MetricSpec, evidence.Measured, evidence.Measured | None]
"""A metric with its sums, and those of the planned end when that is over."""


class Known(Struct, frozen=True, kw_only=True):
    """What the caller knows beside the store.

    Attributes:
        dropped: Events lost before they were logged, by "type variant" (the running server's status).
        versions: From two moments to the experiment as revisions between them had it, and the one in force at the
            first, oldest first (the history of revisions); None where nothing is known.
    """

    dropped: Mapping[str, int] = {}
    versions: Callable[[float, float], Sequence[past.Past]] | None = None


NOTHING_KNOWN: Final = Known()


def report(
    store: evidence.Evidence,
    admitted: snapshot.Snapshot,
    name: str,
    *,
    now: float,
    phase: str = "",
    known: Known = NOTHING_KNOWN,
) -> tables.Report:
    """Report on one phase of one experiment.

    Args:
        name: The experiment, a key of the document's `experiments`.
        now: Seconds since the epoch; what happened later is ignored.
        phase: Its digest; "" for the phase of the document.

    Raises:
        NotFoundError: The document has no such experiment, or no such phase was ever seen.
        StoreError: The store is out of reach.
    """
    spec = find(admitted.document, name)
    current = phases.of(name, admitted.document, written=admitted.written, digests=admitted.digests)
    seen = store.phases(name)
    if phase not in ("", current, *(found.phase for found in seen)):
        listed = ", ".join(found.phase for found in seen) or "none yet"
        raise NotFoundError(f"experiment {name!r} has no phase {phase!r}.", hint=f"Phases seen: {listed}.")
    found = next((found for found in seen if found.phase == (phase or current)), None)
    span = evidence.Span(
        experiment=name,
        phase=phase or current,
        now=now,
        bucket_s=evidence.bucket_s(max(0.0, now - found.first_ts) if found is not None else 0.0),
        lateness_s=evidence.lateness(store, (metric for _, _, metric in declared(spec.metrics))),
    )
    reader = _Reader(store, spec, span, span.phase == current)
    bare = reader.bare(admitted, found, seen, known)
    made = judged(reader.measured(bare))
    return msgspec.structs.replace(made, notes=notes.write(made))


def judged(made: tables.Report) -> tables.Report:
    """The report with its verdict; what must not be read is gone."""
    mismatch = made.sample_ratio is not None and made.sample_ratio.verdict == "mismatch"
    if mismatch:
        made = veiled(made, "Effect numbers are hidden: units are missing on one side, so they mean nothing.")
    elif made.plan.horizon == "fixed" and not made.plan.complete:
        lacking = "" if made.plan.units is not None else "; plan.units is missing, so it never is"
        why = f"The result is hidden until the plan is complete (plan.horizon: fixed{lacking})."
        made = veiled(made, why, guardrails=False)
    return msgspec.structs.replace(made, verdict=verdict.decide(made))


def veiled(made: tables.Report, why: str, *, guardrails: bool = True) -> tables.Report:
    """The report without the numbers from which an effect could be read."""

    def veil(metric: tables.MetricTable) -> tables.MetricTable:
        bare = tuple(
            msgspec.structs.replace(each, total=0.0, mean=None, value=None, interval=None) for each in metric.estimates
        )
        hidden = tuple(
            tables.Comparison(variant=each.variant, fixed=None, always_valid=None, reading="hidden")
            for each in metric.comparisons
        )
        return msgspec.structs.replace(metric, estimates=bare, comparisons=hidden)

    return msgspec.structs.replace(
        made,
        hidden=why,
        metrics=tuple(veil(metric) for metric in made.metrics),
        guardrails=tuple(veil(metric) for metric in made.guardrails) if guardrails else made.guardrails,
    )


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


def declared(spec: measures.MetricsSpec) -> list[tuple[str, tables.Role, measures.MetricSpec]]:
    """Every metric of a document's experiment, with its name and role."""
    primary: list[tuple[str, tables.Role, measures.MetricSpec]] = (
        [] if spec.primary is None else [("primary", "primary", spec.primary)]
    )
    primary.extend((name, "secondary", metric) for name, metric in spec.secondary.items())
    return primary + [(name, "guardrail", metric) for name, metric in spec.guardrails.items()]


def tightest_at(plan: measures.PlanSpec) -> float:
    """N* of a plan."""
    return float(plan.tightest_at or plan.units or DEFAULT_TIGHTEST_AT)


class _Reader:
    """One phase of one experiment, as the store has it."""

    def __init__(
        self, store: evidence.Evidence, spec: document.ExperimentSpec, span: evidence.Span, current: bool
    ) -> None:
        self.store = store
        self.spec = spec
        self.span = span
        self.current = current
        self.flow = self._flow()

    def bare(
        self, admitted: snapshot.Snapshot, found: base.Phase | None, seen: Sequence[base.Phase], known: Known
    ) -> tables.Report:
        """The report without metrics."""
        exposed = self.store.exposed(self.span.experiment, self.span.phase)
        units = exposed.units
        if found is not None and found.last_ts > self.span.now:  # of a past moment, to the period
            units = {name: sum(by_time.values()) for name, by_time in self.flow.items()}
        ratio, expected = self._sample_ratio(units)
        versions = known.versions(found.first_ts, found.last_ts) if found and known.versions else ()
        return tables.Report(
            experiment=self.span.experiment,
            endpoint=self.spec.endpoint,
            description=self.spec.description,
            state="winner" if self.spec.winner else "running" if self.spec.enabled else "disabled",
            winner=self.spec.winner or "",
            unit=admitted.document.endpoints[self.spec.endpoint].unit or "",
            control=self.spec.control,
            ramp_ratio=self.spec.ramp,
            revision=admitted.short,
            phase=self.span.phase,
            current=self.current,
            as_of=self.span.now,
            first_ts=found.first_ts if found else None,
            last_ts=found.last_ts if found else None,
            builds=found.builds if found else (),
            variants=self._variants(units, expected),
            units=sum(units.values()),
            crossed=exposed.crossed,
            crossed_from={} if self.spec.assign == "external" else exposed.crossed_from,
            reasons=dict(exposed.reasons),
            sample_ratio=ratio,
            metrics=(),
            plan=self._plan(),
            outcomes=tuple(
                tables.OutcomeCount(name=each.name, count=each.count, unmatched=each.unmatched)
                for each in self.store.outcome_names()
            ),
            other_phases=tuple(_other(each) for each in seen if each.phase != self.span.phase),
            dropped=dict(known.dropped),
            ramps=past.ramps(versions, found.first_ts, found.last_ts) if found else (),
            changed=past.changed(versions, self.spec, found.first_ts) if found and self.current else (),
            late_s=evidence.too_late(self.span),
            bucket_s=self.span.bucket_s,
        )

    def measured(self, made: tables.Report) -> tables.Report:
        """The report with its metrics, each read once (after the planned end twice), and the plan's progress."""
        wanted = declared(self.spec.metrics)
        end = ending.find(
            self.store,
            self.span,
            made.plan,
            self.flow,
            first_ts=made.first_ts,
            wait_s=max(
                (evidence.wait_s(spec, self.span) for _, role, spec in wanted if role != "secondary"), default=0.0
            ),
        )
        plan = self._progress(made, end)
        over = end if plan.complete else None
        read = [(name, role, spec, *self._read(spec, over)) for name, role, spec in wanted]
        made = msgspec.structs.replace(made, plan=plan, flow=flow(self.flow, self.span.bucket_s))
        if made.sample_ratio is not None and over is not None:
            made = msgspec.structs.replace(made, sample_ratio=self._final(made.sample_ratio, over))
        terms = self._terms(plan, sum(role == "guardrail" for _, role, *_ in read))
        counts = {each.name: each.count for each in made.outcomes}
        found = [
            comparing.table(name, role, spec, sums, then, terms, counts.get(spec.outcome or "", 0))
            for name, role, spec, sums, then in read
        ]
        return msgspec.structs.replace(
            made,
            metrics=adjusted([each for each in found if each.role != "guardrail"]),
            guardrails=tuple(each for each in found if each.role == "guardrail"),
        )

    def _read(
        self, spec: measures.MetricSpec, over: ending.End | None
    ) -> tuple[evidence.Measured, evidence.Measured | None]:
        found = evidence.read(self.store, spec, self.span, self.flow)
        if over is None:
            return found, None
        span = msgspec.structs.replace(self.span, now=over.ts)
        return found, evidence.read(self.store, spec, span, over.units)

    def _flow(self) -> Units:
        units: defaultdict[str, dict[int, int]] = defaultdict(dict)
        for each in self.store.exposure_days(self.span.experiment, self.span.phase, self.span.bucket_s):
            if each.bucket * self.span.bucket_s <= self.span.now:
                units[each.variant][each.bucket] = each.units
        return units

    def _sample_ratio(self, units: Mapping[str, int]) -> tuple[tables.SampleRatio | None, Mapping[str, float]]:
        """The check, and the units expected; nothing for a phase whose weights the document no longer tells."""
        weights = {name: variant.weight for name, variant in self.spec.variants.items()}
        external = self.spec.assign == "external"  # another system decides, its weights are not ours
        found = ratio_checks.check(units, weights) if self.current and not external else None
        if found is None:
            return None, {}
        ratio = tables.SampleRatio(
            chi2=found.chi2,
            df=found.df,
            p_value=found.p_value,
            sequential_p=found.sequential_p,
            verdict=found.verdict,
        )
        return ratio, found.expected

    def _variants(self, units: Mapping[str, int], expected: Mapping[str, float]) -> tuple[tables.VariantRow, ...]:
        """A row per variant, control first, with those that only the store knows."""
        serving = self.store.serving(self.span.experiment, self.span.phase, QUANTILES)
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
            for name in self._names({*units, *serving})
        )

    def _plan(self) -> tables.Plan:
        plan = self.spec.plan
        return tables.Plan(
            units=plan.units,
            alpha=plan.alpha,
            tightest_at=tightest_at(plan),
            horizon=plan.horizon,
            power=plan.power,
            min_duration_s=plan.min_duration_s,
            complete=None,
        )

    def _progress(self, made: tables.Report, end: ending.End | None) -> tables.Plan:
        """The plan with what is still to come."""
        plan = made.plan
        gone_s = 0.0 if made.first_ts is None else self.span.now - made.first_ts
        return msgspec.structs.replace(
            plan,
            left_s=max(0.0, (plan.min_duration_s or 0.0) - gone_s),
            complete=None if plan.units is None else end is not None and end.ts <= self.span.now,
            filled_ts=end.filled_ts if end is not None else None,
        )

    def _final(self, ratio: tables.SampleRatio, end: ending.End) -> tables.SampleRatio:
        """Of the planned units one look at chi-square is enough."""
        found, _ = self._sample_ratio(end.planned)
        if found is None or found.verdict == "fine":
            return ratio
        return msgspec.structs.replace(found, verdict="mismatch")

    def _terms(self, plan: tables.Plan, guarded: int) -> comparing.Terms:
        treatments = max(1, len(self._names(())) - 1)  # k variants against one control share the error
        return comparing.Terms(
            names=self._names(()),
            control=self.spec.control,
            alpha=plan.alpha / treatments,
            guard_alpha=comparisons.share_of_guardrails(plan.alpha / treatments, guarded),
            tightest_at=plan.tightest_at,
            fixed=plan.horizon == "fixed",
            bucket_s=self.span.bucket_s,
        )

    def _names(self, seen: Iterable[str]) -> list[str]:
        known = list(self.spec.variants) if self.current else [self.spec.control]
        rest = sorted(name for name in seen if name and name not in known)
        return sorted(known, key=lambda name: name != self.spec.control) + rest


def adjusted(found: Sequence[tables.MetricTable]) -> tuple[tables.MetricTable, ...]:
    """The tables with p-values adjusted for several comparisons: Holm over the variants of the primary metric,
    Benjamini-Hochberg over all secondary ones."""
    made = {metric.name: metric for metric in found}
    for role, adjust in (("primary", comparisons.holm), ("secondary", comparisons.benjamini_hochberg)):
        places = [
            (metric.name, at, p)
            for metric in found
            if metric.role == role
            for at, compared in enumerate(metric.comparisons)
            if (p := _p_value(compared)) is not None
        ]
        for (name, at, _), p in zip(places, adjust([p for _, _, p in places]), strict=True):
            metric = made[name]
            compared = list(metric.comparisons)
            compared[at] = msgspec.structs.replace(compared[at], adjusted_p=p)
            made[name] = msgspec.structs.replace(metric, comparisons=tuple(compared))
    return tuple(made.values())


def _p_value(compared: tables.Comparison) -> float | None:
    """Of the planned end, once it is there; else the one that holds at any time."""
    if compared.fixed is not None and compared.fixed.p_value is not None:
        return compared.fixed.p_value
    return compared.always_valid.p_value if compared.always_valid is not None else None


def flow(units: Units, bucket_s: float) -> tuple[tables.Flow, ...]:
    """New units by period, oldest first; periods without any are there, too."""
    buckets = {at for by_time in units.values() for at in by_time}
    if not buckets:
        return ()
    return tuple(
        tables.Flow(start=at * bucket_s, units={name: by_time.get(at, 0) for name, by_time in units.items()})
        for at in range(min(buckets), max(buckets) + 1)
    )


def _other(found: base.Phase) -> tables.OtherPhase:
    return tables.OtherPhase(phase=found.phase, units=found.units, first_ts=found.first_ts, last_ts=found.last_ts)


def _serving(found: base.Serving | None) -> tables.Serving:
    if found is None or not found.requests:
        return tables.Serving()
    p50_s, p95_s, p99_s = (found.latency_s.get(quantile) for quantile in QUANTILES)
    return tables.Serving(
        requests=found.requests,
        errors=found.errors,
        error_ratio=found.errors / found.requests,
        fallbacks=found.fallbacks,
        fallback_ratio=found.fallbacks / found.requests,
        p50_s=p50_s,
        p95_s=p95_s,
        p99_s=p99_s,
    )
