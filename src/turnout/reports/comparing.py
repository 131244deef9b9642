"""From a metric's sums to its table: estimates, intervals, curves, guardrails. Pure; called by `experiment`."""

import math
from collections.abc import Mapping, Sequence
from typing import Final

import msgspec
from msgspec import Struct

from turnout.experiments import estimates, guardrails, samples, sequences, statistics
from turnout.reports import evidence, tables, wording
from turnout.spec import measures

COHORTS: Final = 14
"""Cohorts of a short experiment; a long one has days."""

DAYS_FROM_S: Final = 3 * wording.DAY_S
FEW_IN_COHORT: Final = 30


class Terms(Struct, frozen=True, kw_only=True):
    """On what terms variants are compared.

    Attributes:
        names: Variants, control first.
        alpha: Two-sided error of one comparison. guard_alpha: one-sided error of one guardrail.
        fixed: The planned end decides, not the always-valid interval.
    """

    names: Sequence[str]
    control: str
    alpha: float
    guard_alpha: float
    tightest_at: float
    fixed: bool
    bucket_s: float


class Pair(Struct, frozen=True, kw_only=True):
    """Two estimates, as they are compared."""

    treatment: samples.Estimate
    control: samples.Estimate
    kind: samples.Kind
    n: int
    few: int


def table(
    name: str,
    role: tables.Role,
    spec: measures.MetricSpec,
    found: evidence.Measured,
    then: evidence.Measured | None,
    terms: Terms,
    outcomes: int,
) -> tables.MetricTable:
    """One metric over all variants.

    Args:
        then: What was known at the planned end, once that is over.
    """
    if terms.fixed and then is not None and role != "guardrail":
        found = then  # what came later has no part in the one look
    names = [*terms.names, *sorted(each for each in found.units if each not in terms.names)]
    treatments = [each for each in names if each != terms.control]
    return tables.MetricTable(
        name=name,
        role=role,
        outcome=spec.outcome or "",
        signal=spec.signal or "",
        label=evidence.label(spec),
        scale=evidence.scale(spec),
        kind=spec.kind,
        direction=spec.direction,
        window_s=spec.window_s if spec.outcome is not None else 0.0,
        closed_ratio=found.closed_ratio if spec.outcome is not None else 1.0 if found.units else None,
        outcomes=outcomes,
        effect=spec.effect,
        margin=spec.margin,
        alpha=terms.guard_alpha if role == "guardrail" else terms.alpha,
        estimates=tuple(_estimate(each, found, terms.alpha) for each in names),
        comparisons=tuple(
            _comparison(each, spec, found, then, terms, guarded=role == "guardrail") for each in treatments
        ),
    )


def _estimate(name: str, found: evidence.Measured, alpha: float) -> tables.Estimate:
    total, mean = found.so_far.get(name, (0.0, None))
    sample = found.sampled.get(name)
    made = estimates.estimate(found.kind, sample, units=found.closed.get(name, 0)) if sample is not None else None
    return tables.Estimate(
        variant=name,
        units=found.units.get(name, 0),
        total=total,
        mean=mean,
        closed=found.closed.get(name, 0),
        value=made.m if made is not None else None,
        interval=statistics.interval(made, found.kind, alpha=alpha) if made is not None else None,
    )


def _comparison(
    name: str,
    spec: measures.MetricSpec,
    found: evidence.Measured,
    then: evidence.Measured | None,
    terms: Terms,
    *,
    guarded: bool,
) -> tables.Comparison:
    compared = _compared(name, spec, found, terms)
    if compared is None:
        harm = tables.Harm(state="inconclusive", margin=spec.margin or 0.0) if guarded else None
        return tables.Comparison(variant=name, fixed=None, always_valid=None, reading="too-early", harm=harm)
    pair, adjustment = compared
    fixed = statistics.compare(pair.treatment, pair.control, pair.kind, alpha=terms.alpha)
    always = _always(pair, terms)
    ended = _compared(name, spec, then, terms) if then is not None else None
    shown = _fixed(fixed, ended, terms)
    reading = _reading(always, shown, found.kind, terms, pair.few)
    cohorts, trend_p = _cohorts(name, found, terms)
    return tables.Comparison(
        variant=name,
        estimate=fixed.estimate,
        lift=fixed.lift,
        fixed=shown,
        always_valid=always,
        reading=reading,
        better=_better(reading, spec.direction),
        harm=_harm(spec, pair, ended[0] if ended is not None else None, terms) if guarded else None,
        adjustment=adjustment,
        curve=_curve(name, spec, found, terms),
        cohorts=cohorts,
        trend_p=trend_p,
    )


def _compared(
    name: str, spec: measures.MetricSpec, found: evidence.Measured, terms: Terms
) -> tuple[Pair, tables.Adjustment | None] | None:
    """Both sides as they are compared; None while one of them has too few units for a variance."""
    t, c = found.sampled.get(name), found.sampled.get(terms.control)
    plain = _pair(t, c, found.kind, (found.closed.get(name, 0), found.closed.get(terms.control, 0)))
    if plain is None:
        return None
    if spec.covariate_s is not None and isinstance(t, samples.Moments) and isinstance(c, samples.Moments):
        return _adjusted(plain, t, c, found, terms)
    return plain, None


def _fixed(
    now: statistics.Difference, ended: tuple[Pair, tables.Adjustment | None] | None, terms: Terms
) -> statistics.Difference:
    """The planned end's difference, with its interval; before it the present one, without."""
    if ended is None:
        return msgspec.structs.replace(now, interval=None, p_value=None, lift_interval=None)
    pair, _ = ended
    return statistics.compare(pair.treatment, pair.control, pair.kind, alpha=terms.alpha)


def _pair(t: samples.Sample | None, c: samples.Sample | None, kind: tables.Kind, units: tuple[int, int]) -> Pair | None:
    """Both sides' estimates; None while one of them has too few units for a variance.

    Args:
        units: Of (treatment, control). They tell how much silence is worth: a share of requests without
            an event claims no more than so many units can.
    """
    treatment = estimates.estimate(kind, t, units=units[0]) if t is not None else None
    control = estimates.estimate(kind, c, units=units[1]) if c is not None else None
    if treatment is None or control is None:
        return None
    return Pair(treatment=treatment, control=control, kind=kind, n=sum(units), few=min(units))


def _adjusted(
    plain: Pair, t: samples.Moments, c: samples.Moments, found: evidence.Measured, terms: Terms
) -> tuple[Pair, tables.Adjustment | None]:
    made = estimates.cuped(t, c, plain.kind)
    if made is None:
        return plain, None
    always = _always(plain, terms)
    adjustment = tables.Adjustment(
        theta=made.theta,
        reduction=made.reduction,
        covariate_ratio=found.covariates / max(1, sum(found.closed.values())),
        estimate=plain.treatment.m - plain.control.m,
        interval=always.interval if always is not None else None,
    )
    pair = Pair(treatment=made.treatment, control=made.control, kind="mean", n=plain.n, few=plain.few)
    return pair, adjustment


def _always(pair: Pair, terms: Terms) -> sequences.Sequence | None:
    """The always-valid interval; none for quantiles, whose order statistics are no running sums."""
    if pair.few < sequences.MIN_UNITS or pair.kind == "quantile":
        return None
    return sequences.compare(pair.treatment, pair.control, tightest_at=terms.tightest_at, alpha=terms.alpha, n=pair.n)


def _reading(
    always: sequences.Sequence | None,
    fixed: statistics.Difference,
    kind: tables.Kind,
    terms: Terms,
    few: int,
) -> tables.Reading:
    interval = always.interval if always is not None else None
    if terms.fixed or kind == "quantile":
        interval = fixed.interval
    if interval is None:  # no variation, or a quantile before the planned end
        return "unclear" if few >= sequences.MIN_UNITS else "too-early"
    if interval.low > 0:
        return "higher"
    return "lower" if interval.high < 0 else "unclear"


def _better(reading: tables.Reading, direction: str) -> bool | None:
    if reading not in ("higher", "lower"):
        return None
    return (reading == "higher") == (direction == "up")


def _harm(spec: measures.MetricSpec, pair: Pair, ended: Pair | None, terms: Terms) -> tables.Harm:
    """What is known of the harm at any time, and from the planned end on what was known at that one look.

    Harm that shows later stays harm: the bounds of any time go on being watched.
    """
    watched = _judged(spec, pair, terms, planned_end=False)
    if ended is None or watched.state == "harmful":
        return watched
    return _judged(spec, ended, terms, planned_end=True)


def _judged(spec: measures.MetricSpec, pair: Pair, terms: Terms, *, planned_end: bool) -> tables.Harm:
    margin = spec.margin or 0.0
    least = sequences.MIN_UNITS_OF_SHARES if pair.kind in ("share", "share_over") else sequences.MIN_UNITS
    if pair.few < least or (pair.kind == "quantile" and not planned_end):
        return tables.Harm(state="inconclusive", margin=margin)
    harm = guardrails.harm(
        pair.treatment,
        pair.control,
        direction=spec.direction,
        alpha=terms.guard_alpha,
        planned_end=planned_end,
        n=pair.n,
    )
    judged = guardrails.judge(
        harm.d,
        harm.se,
        harm.n,
        margin,
        alpha=terms.guard_alpha,
        tightest_at=terms.tightest_at,
        planned_end=planned_end,
    )
    bounded = math.isfinite(judged.low) and math.isfinite(judged.high)
    return tables.Harm(
        state=judged.state,
        margin=margin,
        estimate=harm.d,
        low=judged.low if bounded else None,
        high=judged.high if bounded else None,
        p_value=judged.p,
    )


def _sums(parts: Mapping[int, samples.Sample], upto: Sequence[int]) -> samples.Sample | None:
    found = [parts[at] for at in upto if at in parts]
    if not found:
        return None
    whole = found[0]
    for part in found[1:]:
        whole = _both(whole, part)
    return whole


def _both(one: samples.Sample, other: samples.Sample) -> samples.Sample:
    if isinstance(one, samples.Moments) and isinstance(other, samples.Moments):
        return one + other
    assert isinstance(one, samples.Buckets) and isinstance(other, samples.Buckets), "ranks have no parts"  # noqa: PT018
    return one + other


def _curve(name: str, spec: measures.MetricSpec, found: evidence.Measured, terms: Terms) -> tuple[tables.Point, ...]:
    """Running sums over the periods: what a report made at each moment would have said."""
    ours, theirs = found.parts.get(name, {}), found.parts.get(terms.control, {})
    window_s = spec.window_s if spec.outcome is not None else 0.0
    points: list[tables.Point] = []
    t: samples.Sample | None = None
    c: samples.Sample | None = None
    n_t = n_c = 0
    for at in sorted({*ours, *theirs}):
        t, c = _grown(t, ours.get(at)), _grown(c, theirs.get(at))
        n_t += found.part_units.get(name, {}).get(at, 0)
        n_c += found.part_units.get(terms.control, {}).get(at, 0)
        pair = _pair(t, c, found.kind, (n_t, n_c))
        if pair is None:
            continue
        if spec.covariate_s is not None and isinstance(t, samples.Moments) and isinstance(c, samples.Moments):
            pair, _ = _adjusted(pair, t, c, found, terms)
        always = _always(pair, terms)
        points.append(
            tables.Point(
                ts=(at + 1) * terms.bucket_s + window_s,
                units=pair.n,
                estimate=pair.treatment.m - pair.control.m,
                low=always.interval.low if always is not None else None,
                high=always.interval.high if always is not None else None,
            )
        )
    return tuple(points)


def _grown(whole: samples.Sample | None, part: samples.Sample | None) -> samples.Sample | None:
    if whole is None or part is None:
        return part if whole is None else whole
    return _both(whole, part)


def _cohorts(name: str, found: evidence.Measured, terms: Terms) -> tuple[tuple[tables.Cohort, ...], float | None]:
    """The effect by period of first exposure (of signals: of the request), and the p-value of its trend."""
    ours, theirs = found.parts.get(name, {}), found.parts.get(terms.control, {})
    periods = sorted({*ours, *theirs})
    if not periods:
        return (), None
    span_s = (periods[-1] + 1 - periods[0]) * terms.bucket_s
    length_s = max(terms.bucket_s, wording.DAY_S if span_s >= DAYS_FROM_S else span_s / COHORTS)
    groups: dict[int, list[int]] = {}
    for at in periods:
        groups.setdefault(math.floor(at * terms.bucket_s / length_s), []).append(at)
    cohorts: list[tables.Cohort] = []
    effects: list[tuple[float, float, float]] = []
    for group, members in sorted(groups.items()):
        n_t, n_c = (sum(found.part_units.get(each, {}).get(at, 0) for at in members) for each in (name, terms.control))
        pair = _pair(_sums(ours, members), _sums(theirs, members), found.kind, (n_t, n_c))
        if pair is None:
            continue
        made = statistics.compare(pair.treatment, pair.control, pair.kind)
        interval = made.interval if pair.few >= FEW_IN_COHORT else None
        cohorts.append(
            tables.Cohort(
                start=group * length_s,
                units=pair.n,
                estimate=made.estimate,
                low=interval.low if interval is not None else None,
                high=interval.high if interval is not None else None,
            )
        )
        if interval is not None and made.se > 0:
            effects.append((float(group), made.estimate, made.se))
    return tuple(cohorts), trend(effects)


def trend(effects: Sequence[tuple[float, float, float]]) -> float | None:
    """Two-sided p-value of the slope of effects over time, weighted by their precision.

    Args:
        effects: (time, effect, standard error above 0); fewer than three give None.

    >>> trend([(0, 1.0, 0.1), (1, 0.5, 0.1), (2, 0.0, 0.1)]) < 0.001
    True
    """
    if len(effects) < 3:
        return None
    weights = [1 / se**2 for _, _, se in effects]
    center = math.fsum(w * at for w, (at, _, _) in zip(weights, effects, strict=True)) / math.fsum(weights)
    sxx = math.fsum(w * (at - center) ** 2 for w, (at, _, _) in zip(weights, effects, strict=True))
    sxy = math.fsum(w * (at - center) * d for w, (at, d, _) in zip(weights, effects, strict=True))
    return math.erfc(abs(sxy) / math.sqrt(sxx) / math.sqrt(2)) if sxx > 0 else None
