"""From a store's sums to what a look saw: every guardrail and outcome with its bounds. Pure.

The new side is compared with the old side that runs beside it, of equal size, so what hits both blames nobody.
Bounds hold at every look: one-sided confidence sequences for guardrails, two-sided ones for outcomes, each at
the rollout's alpha divided by the number of readings, over the whole rollout and not step by step.

A request is a sample of its own only where the request is the unit; else the variance is that between the 100
sub-buckets that units fall into.

Called by `sight`. Source: docs/rollouts.md, "What a look computes".
"""

import math
from collections.abc import Iterable
from typing import Final, Literal, NamedTuple

from turnout.errors import SpecError
from turnout.experiments import comparisons, estimates, guardrails, ratio_checks, samples, sequences
from turnout.rollouts import evidence
from turnout.spec import measures, traffic
from turnout.stores import base


class Sides(NamedTuple):
    """The names of the variants that are compared."""

    new: str
    old: str


class Terms(NamedTuple):
    """How sure a reading has to be.

    Attributes:
        alpha: Of one bound.
        tightest_at: Units of both sides at which bounds are tightest.
    """

    alpha: float
    tightest_at: int


_SHARES: Final = ("share", "share_over", "conversion")


def of_signal(
    name: str,
    metric: measures.MetricSpec,
    sums: Iterable[base.SignalSums],
    *,
    sides: Sides,
    terms: Terms,
    units: tuple[int, int] | None,
) -> evidence.Reading:
    """Read a guardrail.

    Args:
        metric: On a signal: a share, a share over a threshold, or a mean.
        sums: Over the whole rollout; variants other than the sides are ignored.
        units: Of (new, old); None where the request is the unit.
    """
    buckets = _buckets(sums)
    new, old = buckets.get(sides.new, samples.EMPTY), buckets.get(sides.old, samples.EMPTY)
    counted = units or (round(new.requests), round(old.requests))
    estimate_new = _of_requests(metric.kind, new, None if units is None else units[0])
    estimate_old = _of_requests(metric.kind, old, None if units is None else units[1])
    return reading(name, metric, (estimate_new, estimate_old), counted, terms)


def of_outcome(
    name: str, metric: measures.MetricSpec, sums: Iterable[base.UnitSums], *, sides: Sides, terms: Terms
) -> evidence.Reading:
    """Read an outcome, over units whose window has closed."""
    closed = {sides.new: samples.NOTHING, sides.old: samples.NOTHING}
    exposed = 0
    for each in sums:
        if each.variant not in closed:
            continue
        exposed += each.n
        if each.closed:
            closed[each.variant] += samples.Moments(
                n=each.n, y=each.y, yy=each.yy, d=each.d, dd=each.dd, yd=each.yd, y_x=0.0, d_x=0.0
            )
    new, old = closed[sides.new], closed[sides.old]
    both = (estimates.estimate(metric.kind, new), estimates.estimate(metric.kind, old))
    share = (new.n + old.n) / exposed if exposed else 0.0
    return reading(name, metric, both, (new.n, old.n), terms, two_sided=True, closed=share)


def since_switch(after: base.Answered, before: base.Answered, *, terms: Terms, margin: float) -> evidence.Reading:
    """What the new side lost after everybody was moved against what the old side lost before.

    Time has passed between the two, so this only alerts.
    """
    metric = measures.MetricSpec(signal="error", margin=margin)
    both = (proportion(after.lost, after.requests), proportion(before.lost, before.requests))
    return reading("errors", metric, both, (after.requests, before.requests), terms)


def ratio_of(units: tuple[int, int], sides: Sides) -> tuple[bool, float]:
    """Whether both sides got equally many units, and the logarithm of the evidence that they did not."""
    weights = {sides.new: 1.0, sides.old: 1.0}
    found = ratio_checks.check(dict(zip(sides, units, strict=True)), weights)
    return (True, 0.0) if found is None else (found.ln_e <= math.log(ratio_checks.E), found.ln_e)


def requests_of(sums: Iterable[base.SignalSums], sides: Sides) -> tuple[int, int]:
    """Requests on (new, old)."""
    buckets = _buckets(sums)
    new, old = (round(buckets.get(side, samples.EMPTY).requests) for side in sides)
    return new, old


def reading(
    name: str,
    metric: measures.MetricSpec,
    sides: tuple[samples.Estimate | None, samples.Estimate | None],
    units: tuple[int, int],
    terms: Terms,
    *,
    two_sided: bool = False,
    closed: float = 1.0,
) -> evidence.Reading:
    """Judge one metric from both sides' estimates.

    Args:
        sides: Estimates of (new, old); None without data.
        units: Of (new, old), as `terms.tightest_at` counts them.
        two_sided: As for outcomes.
        closed: Share of the exposed units whose window has closed.
    """
    new, old = sides
    margin = metric.margin or 0.0
    n = sum(units)
    shown = _unit_of(metric)
    if new is None or old is None:
        return evidence.Reading(
            name=name, state="no data", n=n, margin=margin, alpha=terms.alpha, closed=closed, unit=shown
        )
    harm = guardrails.harm(new, old, direction=metric.direction, alpha=terms.alpha, n=n, sides=2 if two_sided else 1)
    low, high, p = _bounds(harm.d, harm.se, n, margin, terms, two_sided=two_sided)
    state: evidence.State = "safe" if high < margin else "harmful" if low > margin else "inconclusive"
    if min(units) < _fewest(metric.kind) or not harm.se > 0:
        state = "no data"
    return evidence.Reading(
        name=name,
        state=state,
        n=n,
        new=new.m,
        old=old.m,
        harm=harm.d,
        se=harm.se,
        low=low if math.isfinite(low) else None,
        high=high if math.isfinite(high) else None,
        margin=margin,
        alpha=terms.alpha,
        p=p,
        closed=closed,
        unit=shown,
    )


def _bounds(
    harm: float, se: float, n: int, margin: float, terms: Terms, *, two_sided: bool
) -> tuple[float, float, float]:
    """Lower and upper bound of the harm, and the p-value of "it is within the margin"."""
    if not se > 0 or not n > 0:
        return -math.inf, math.inf, 1.0
    if not two_sided:
        judged = guardrails.judge(harm, se, n, margin, alpha=terms.alpha, tightest_at=terms.tightest_at)
        return judged.low, judged.high, judged.p_harmful
    found = sequences.two_sided(harm, se, n=n, tightest_at=terms.tightest_at, alpha=terms.alpha)
    beyond = sequences.two_sided(harm - margin, se, n=n, tightest_at=terms.tightest_at, alpha=terms.alpha)
    return found.interval.low, found.interval.high, beyond.p_value if harm > margin else 1.0


def _of_requests(kind: samples.Kind, sample: samples.Buckets, units: int | None) -> samples.Estimate | None:
    """The estimate of one side; at the request only where the request is the unit."""
    if units is None and kind in _SHARES:
        return proportion(math.fsum(sample.sums), round(sample.requests))
    return estimates.estimate(kind, sample, units=units)


def proportion(bad: float, requests: int) -> samples.Estimate | None:
    """One side's share where every request is a sample of its own; None without requests."""
    return estimates.estimate("conversion", samples.Moments(n=requests, y=bad, yy=bad)) if requests > 0 else None


def _buckets(sums: Iterable[base.SignalSums]) -> dict[str, samples.Buckets]:
    cells: dict[str, list[tuple[int, float, float]]] = {}
    for each in sums:
        cells.setdefault(each.variant, []).append((each.sub_bucket, each.s, each.c))
    return {name: samples.buckets(found) for name, found in cells.items()}


def _fewest(kind: measures.Kind) -> int:
    return sequences.MIN_UNITS_OF_SHARES if kind in _SHARES else sequences.MIN_UNITS


def _unit_of(metric: measures.MetricSpec) -> Literal["share", "seconds", "value"]:
    if metric.kind in _SHARES:
        return "share"
    return "seconds" if metric.signal == "latency" else "value"


def query_of(
    metric: measures.MetricSpec,
    rollout: str,
    phase: str,
    *,
    as_of: float,
    since: float | None = None,
) -> base.SignalQuery:
    """What to ask the store for a guardrail.

    Raises:
        SpecError: The metric is on no signal that adds up; the document's checks refuse it earlier.
    """
    if metric.signal is None or metric.kind not in ("mean", "share", "share_over"):
        raise SpecError(f"a guardrail of kind {metric.kind} cannot be watched at every look.")
    return base.SignalQuery(
        experiment=rollout,
        phase=phase,
        signal=metric.signal,
        kind=metric.kind,
        threshold_s=metric.threshold_s if metric.kind == "share_over" else None,
        as_of=as_of,
        since=since,
    )


def terms_of(spec: traffic.RolloutSpec) -> Terms:
    """Each reading's part of the rollout's error."""
    readings = len(spec.guardrails) + len(spec.outcomes)
    return Terms(comparisons.share_of_guardrails(spec.alpha, readings), spec.tightest_at)
