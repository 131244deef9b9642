"""How many units an experiment needs, what it can find, and how long that takes. Called by `turnout plan`.

Spread comes from the logs of the real metric where there are any, days from the logged curve of
different units; both may be given instead.
"""

import itertools
import math
from collections.abc import Iterator, Sequence
from typing import Final, Literal, TypeAlias

from msgspec import Struct

from turnout.errors import InputError
from turnout.experiments import comparisons, duration, estimates, phases, power, samples
from turnout.reports import evidence, experiment, tables, wording
from turnout.spec import document, measures, snapshot
from turnout.stores import base

Horizon: TypeAlias = Literal["fixed", "always"]
HORIZONS: Final[tuple[Horizon, ...]] = ("fixed", "always")

SIZES: Final = (0.25, 0.5, 1.0, 2.0, 4.0)
"""Multiples of the planned (else needed) units for which the smallest effect is told."""

FEW_UNITS: Final = 100
"""Logged units below which a spread is not worth planning with."""

LARGEST: Final = 1e12
"""Of effects and standard deviations; beyond it, or below one over it, squares leave the range of numbers."""

EFFECT_HINT: Final = "Give --effect, such as 0.01, or 5% of the baseline."

LONGEST_DAYS: Final = 3_650


class Wish(Struct, frozen=True, kw_only=True):
    """What the caller says; None leaves it to the document and the logs.

    Attributes:
        baseline: Control's metric; for a conversion it tells the spread, too.
        sd: Standard deviation of one unit's value.
        effect: Absolute. relative: as a share of the baseline.
        units_per_day: New units a day over all variants, instead of the logged curve.
        variants: How many there are, where no document tells.
    """

    baseline: float | None = None
    sd: float | None = None
    effect: float | None = None
    relative: float | None = None
    alpha: float | None = None
    power: float | None = None
    units_per_day: float | None = None
    variants: int = 2


class Spread(Struct, frozen=True, kw_only=True):
    """One metric of control.

    Attributes:
        variance: Of one unit's value.
        units: Logged units it comes from; 0 when it was given.
        reduction: Share of the variance that the covariate takes away; None without one. It is in `variance`.
    """

    baseline: float | None
    variance: float
    units: int = 0
    reduction: float | None = None


class Need(Struct, frozen=True, kw_only=True):
    """Units that find the effect, or show a guardrail to be safe.

    Attributes:
        horizon: "fixed": one look at the planned end. "always": any number of looks.
        per_variant: Of the smaller of treatment and control.
        total: Over all variants.
        runtime: How long that takes; None when no flow is known.
    """

    horizon: Horizon
    per_variant: int
    total: int
    runtime: duration.Runtime | None


class Reach(Struct, frozen=True, kw_only=True):
    """The smallest effect that so many units find; lifts are relative to the baseline."""

    total: int
    fixed: float
    always: float
    fixed_lift: float | None
    always_lift: float | None
    runtime: duration.Runtime | None


class MetricPlan(Struct, frozen=True, kw_only=True):
    """One metric.

    Attributes:
        target: The effect to find, or a guardrail's margin; None where nothing says it.
        reaches: What several numbers of units find; of other metrics than the primary, what the planned number does.
        words: Why something is missing.
    """

    name: str
    role: tables.Role
    label: str
    scale: wording.Scale
    spread: Spread | None
    target: float | None
    needs: tuple[Need, ...] = ()
    reaches: tuple[Reach, ...] = ()
    words: str = ""


class Planned(Struct, frozen=True, kw_only=True):
    """The answer.

    Attributes:
        experiment: "" when everything was given.
        phase: Where spread and flow were read; "" for none. donor: the experiment it belongs to.
        planned_units: Of the document; None without.
        curve: Different units seen up to the end of day 1, 2, …
    """

    experiment: str
    variants: int
    alpha: float
    power: float
    planned_units: int | None
    phase: str
    donor: str
    curve: tuple[float, ...]
    metrics: tuple[MetricPlan, ...]


class Split(Struct, frozen=True, kw_only=True):
    """How units are divided.

    Attributes:
        ratio: Treatment's units per unit of control, for the smallest treatment.
        whole: All units per unit of control.
        alpha: Of one comparison.
    """

    variants: int
    ratio: float
    whole: float
    alpha: float


class Log(Struct, frozen=True, kw_only=True):
    """Where spread and flow are read.

    Attributes:
        share: Of the units in its curve, those that would take part in the experiment that is planned.
    """

    experiment: str
    phase: str
    control: str
    span: evidence.Span
    units: dict[str, dict[int, int]]
    share: float = 1.0


def given(wish: Wish) -> Planned:
    """Plan from numbers alone.

    Raises:
        InputError: A number is missing or out of range.
    """
    spread = _given_spread(wish)
    if spread is None:
        raise InputError(
            "nothing to plan with.",
            hint="Name an EXPERIMENT, or give --baseline (a share) or --sd, with --effect.",
        )
    alpha, aimed = wish.alpha or 0.05, wish.power or 0.8
    split = Split(
        variants=wish.variants,
        ratio=1.0,
        whole=float(wish.variants),
        alpha=comparisons.share_of_variants(alpha, wish.variants),
    )
    curve = _steady(wish.units_per_day)
    target = _target(wish, None, spread)
    if target is None:
        raise InputError("no effect to find.", hint=EFFECT_HINT)
    scale: wording.Scale = "ratio" if wish.sd is None else "number"
    terms = _Terms(split=split, guard_alpha=alpha, wanted_power=aimed, curve=curve)
    made = _metric("primary", "primary", "the metric", scale, spread, target, terms)
    return Planned(
        experiment="",
        variants=wish.variants,
        alpha=alpha,
        power=aimed,
        planned_units=None,
        phase="",
        donor="",
        curve=tuple(curve),
        metrics=(made,),
    )


def of(
    store: evidence.Evidence | None, admitted: snapshot.Snapshot, name: str, wish: Wish, *, now: float, phase: str = ""
) -> Planned:
    """Plan an experiment of the document.

    Args:
        store: None when nothing was recorded yet.
        phase: Where to read; "" for the one with the most to say: its own, else another experiment's on the endpoint.

    Raises:
        NotFoundError: The document has no such experiment.
        InputError: A number is out of range.
    """
    spec = experiment.find(admitted.document, name)
    log = find_log(store, admitted, name, now=now, phase=phase) if store is not None else None
    terms = _terms(spec, wish, log)
    made = []
    for key, role, metric in experiment.declared(spec.metrics):
        spread = (_given_spread(wish) if role == "primary" else None) or _spread(store, log, metric)
        target = _target(wish, metric, spread) if role == "primary" else metric.effect
        if role == "guardrail":
            target = metric.margin
        made.append(
            _metric(key, role, evidence.label(metric), evidence.scale(metric), spread, target, terms, metric.window_s)
        )
    return Planned(
        experiment=name,
        variants=terms.split.variants,
        alpha=wish.alpha or spec.plan.alpha,
        power=terms.wanted_power,
        planned_units=spec.plan.units,
        phase=log.phase if log is not None else "",
        donor=log.experiment if log is not None else "",
        curve=tuple(terms.curve),
        metrics=tuple(made),
    )


def _terms(spec: document.ExperimentSpec, wish: Wish, log: Log | None) -> "_Terms":
    """What the document says, where the caller does not."""
    plan, alpha = spec.plan, wish.alpha or spec.plan.alpha
    weights = {name: variant.weight for name, variant in spec.variants.items() if variant.weight > 0}
    own = weights.get(spec.control) or min(weights.values())
    others = [weight for name, weight in weights.items() if name != spec.control] or [own]
    split = Split(
        variants=len(weights),
        ratio=min(others) / own,
        whole=sum(weights.values()) / own,
        alpha=comparisons.share_of_variants(alpha, len(weights)),
    )
    return _Terms(
        split=split,
        guard_alpha=comparisons.share_of_guardrails(split.alpha, len(spec.metrics.guardrails)),
        wanted_power=wish.power or plan.power,
        curve=_steady(wish.units_per_day) if wish.units_per_day else days(log),
        tightest_at=plan.tightest_at,
        share=1.0 if log is None or wish.units_per_day else log.share,
        planned=plan.units,
        min_days=float(duration.WEEK) if plan.min_duration_s is None else plan.min_duration_s / wording.DAY_S,
    )


def find_log(
    store: evidence.Evidence, admitted: snapshot.Snapshot, name: str, *, now: float, phase: str = ""
) -> Log | None:
    """The phase that tells most: the experiment's own, if it has units enough, else one on the same endpoint."""
    content = admitted.document
    spec = content.experiments[name]
    found: list[tuple[int, str, document.ExperimentSpec, base.Phase]] = []
    for key, each in content.experiments.items():
        if each.endpoint != spec.endpoint or (phase and key != name):
            continue
        current = phases.of(key, content, written=admitted.written, digests=admitted.digests)
        for seen in store.phases(key):
            enough = seen.units >= FEW_UNITS
            rank = (key == name) * 2 + (seen.phase == current) if enough else -1
            if phase in ("", seen.phase):
                found.append((rank, key, each, seen))
    if not found:
        return None
    _, key, each, seen = max(found, key=lambda one: (one[0], one[3].units))
    late = evidence.lateness(store, (metric for _, _, metric in experiment.declared(spec.metrics)))
    span = evidence.Span(experiment=key, phase=seen.phase, now=now, bucket_s=wording.DAY_S, lateness_s=late)
    units: dict[str, dict[int, int]] = {}
    for day in store.exposure_days(key, seen.phase, wording.DAY_S):
        units.setdefault(day.variant, {})[day.bucket] = day.units
    share = 1.0 if key == name or not each.ramp else min(1.0, spec.ramp / each.ramp)
    return Log(experiment=key, phase=seen.phase, control=each.control, span=span, units=units, share=share or 1.0)


def days(log: Log | None) -> list[float]:
    """Different units seen up to the end of each day; the day that is still running is left out."""
    if log is None or not log.units:
        return []
    buckets = {at for by_day in log.units.values() for at in by_day}
    last = min(max(buckets), math.floor(log.span.now / wording.DAY_S) - 1)
    new = [sum(by_day.get(at, 0) for by_day in log.units.values()) for at in range(min(buckets), last + 1)]
    return [float(total) for total in itertools.accumulate(new)]


class _Terms(Struct, frozen=True, kw_only=True):
    """What all metrics of one plan share.

    Attributes:
        guard_alpha: One-sided error of one guardrail.
        curve: Different units seen up to the end of day 1, 2, …; empty when no flow is known.
        share: Of the units in the curve, those that would take part.
        planned: Units of the document; None without.
        min_days: Shortest run.
    """

    split: Split
    guard_alpha: float
    wanted_power: float
    curve: Sequence[float]
    tightest_at: int | None = None
    share: float = 1.0
    planned: int | None = None
    min_days: float = float(duration.WEEK)

    def aim(self, horizon: Horizon, *, guardrail: bool) -> power.Aim:
        return power.Aim(
            alpha=self.guard_alpha if guardrail else self.split.alpha,
            power=self.wanted_power,
            sides=1 if guardrail else 2,
            horizon=horizon,
            tightest_at=None if self.tightest_at is None else float(self.tightest_at),
            treatment_ratio=self.split.ratio,
        )

    def runtime(self, total: float, window_s: float) -> duration.Runtime | None:
        if not self.curve:
            return None
        window_days = window_s / wording.DAY_S
        return duration.runtime(self.curve, total, share=self.share, min_days=self.min_days, window_days=window_days)


def _metric(  # noqa: PLR0913  # a metric's own numbers
    name: str,
    role: tables.Role,
    label: str,
    scale: wording.Scale,
    spread: Spread | None,
    target: float | None,
    terms: _Terms,
    window_s: float = 0.0,
) -> MetricPlan:
    if spread is None or not spread.variance > 0:
        words = "nothing is logged of it yet" if spread is None else "every unit has the same value"
        if role == "primary":
            words = f"{words}: give --baseline or --sd"
        return MetricPlan(name=name, role=role, label=label, scale=scale, spread=None, target=target, words=words)
    needs = tuple(_needs(role, spread, target, terms, window_s)) if target else ()
    total = terms.planned or (needs[0].total if needs and role == "primary" else 10_000)
    sizes = SIZES if role == "primary" else (1.0,)
    reaches = tuple(_reach(math.ceil(total * size), spread, terms, window_s) for size in sizes)
    missing = "margin" if role == "guardrail" else "effect"
    return MetricPlan(
        name=name,
        role=role,
        label=label,
        scale=scale,
        spread=spread,
        target=target,
        needs=needs,
        reaches=reaches,
        words="" if needs else f"the document says no {missing}",
    )


def _needs(role: tables.Role, spread: Spread, target: float | None, terms: _Terms, window_s: float) -> Iterator[Need]:
    if not target:
        return
    for horizon in HORIZONS:
        aim = terms.aim(horizon, guardrail=role == "guardrail")
        of_margin = power.units_for_margin if role == "guardrail" else power.units_needed
        found = of_margin(target, spread.variance, spread.variance, aim)
        total = math.ceil(found.control * terms.split.whole - 1e-9)
        yield Need(
            horizon=horizon,
            per_variant=math.ceil(min(found.treatment, found.control)),
            total=total,
            runtime=terms.runtime(total, window_s),
        )


def _reach(total: int, spread: Spread, terms: _Terms, window_s: float) -> Reach:
    n_c = total / terms.split.whole
    fixed, always = (
        power.mde(n_c * terms.split.ratio, n_c, spread.variance, spread.variance, terms.aim(horizon, guardrail=False))
        for horizon in HORIZONS
    )
    base_value = spread.baseline
    return Reach(
        total=total,
        fixed=fixed,
        always=always,
        fixed_lift=fixed / base_value if base_value else None,
        always_lift=always / base_value if base_value else None,
        runtime=terms.runtime(total, window_s),
    )


def _given_spread(wish: Wish) -> Spread | None:
    if wish.sd is not None:
        if not 1 / LARGEST <= wish.sd <= LARGEST:
            raise InputError(
                f"a standard deviation of {wish.sd:g} is beyond what can be planned.",
                hint="Give --sd a positive number.",
            )
        return Spread(baseline=wish.baseline, variance=wish.sd**2)
    if wish.baseline is None:
        return None
    if not 0 < wish.baseline < 1:
        text = f"a baseline of {wish.baseline:g} is no share between 0 and 1."
        raise InputError(text, hint="Of a mean, give its standard deviation, too: --sd.")
    return Spread(baseline=wish.baseline, variance=wish.baseline * (1 - wish.baseline))


def _target(wish: Wish, metric: measures.MetricSpec | None, spread: Spread | None) -> float | None:
    if wish.effect is not None:
        return _plannable(wish.effect)
    if wish.relative is not None:
        if spread is None or not spread.baseline:
            raise InputError("a relative effect needs a baseline.", hint="Give --baseline, or an absolute --effect.")
        return _plannable(wish.relative * spread.baseline)
    return metric.effect if metric is not None else None


def _plannable(effect: float) -> float:
    if not 1 / LARGEST <= abs(effect) <= LARGEST:
        raise InputError(f"an effect of {effect:g} is beyond what can be planned.", hint=EFFECT_HINT)
    return abs(effect)


def _steady(units_per_day: float | None) -> list[float]:
    return [units_per_day * (day + 1) for day in range(LONGEST_DAYS)] if units_per_day else []


def _spread(store: evidence.Evidence | None, log: Log | None, metric: measures.MetricSpec) -> Spread | None:
    """Of control, from the log; None with too little in it."""
    if store is None or log is None:
        return None
    found = evidence.read(store, metric, log.span, log.units)
    sample = found.sampled.get(log.control)
    made = estimates.estimate(found.kind, sample) if sample is not None else None
    units = found.closed.get(log.control, 0)
    if made is None or units < FEW_UNITS:
        return None
    variance, reduction = made.v * units, None
    if metric.covariate_s is not None and isinstance(sample, samples.Moments):
        adjusted = estimates.cuped(sample, sample, found.kind)
        if adjusted is not None:
            variance, reduction = adjusted.control.v * units, adjusted.reduction
    return Spread(baseline=made.m, variance=variance, units=units, reduction=reduction)
