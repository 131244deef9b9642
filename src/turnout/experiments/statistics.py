"""Differences at a fixed horizon, and intervals of single estimates. Pure.

Called by reports; off the data plane's import path, because it needs scipy. Estimates come
from `estimates.py`, which computes them from counts and sums per *unit*, so any store can
feed it, and a metric never has to be read row by row. Effect = treatment − control.

Source: docs/experiments.md, "What the report computes", has the formulas and their papers.
"""

import math
from typing import Literal

from msgspec import Struct
from scipy import special

from turnout.experiments import estimates, samples
from turnout.experiments.samples import Estimate, Interval

Scale = Literal["log", "linear"]


class Difference(Struct, frozen=True, kw_only=True):
    """Treatment against control on one metric.

    Attributes:
        estimate: m_t − m_c.
        se: Its standard error, unpooled.
        df: Welch's degrees of freedom; infinite for conversions and quantiles, which use the normal distribution.
        interval: Fixed-horizon interval: right at one planned look, too narrow for peeking. None while
            one side shows no variation, since it would then claim certainty.
        p_value: Of the fixed-horizon test; None likewise.
        lift: m_t / m_c − 1; None when a mean is not above 0.
        lift_interval: On the scale asked for.
    """

    estimate: float
    se: float
    df: float
    interval: Interval | None
    p_value: float | None
    lift: float | None
    lift_interval: Interval | None


def difference(
    treatment: samples.Sample, control: samples.Sample, kind: samples.Kind, *, alpha: float = 0.05
) -> Difference | None:
    """Compare two samples at a fixed horizon; None when a side has too few units for a variance.

    >>> hits = samples.Moments(n=11_034, y=189, yy=189), samples.Moments(n=11_037, y=104, yy=104)
    >>> found = difference(*hits, "conversion")
    >>> [round(found.interval.low, 5), round(found.interval.high, 5)]
    [0.00469, 0.01072]
    """
    found_t, found_c = estimates.estimate(kind, treatment), estimates.estimate(kind, control)
    return None if found_t is None or found_c is None else compare(found_t, found_c, kind, alpha=alpha)


def compare(
    treatment: Estimate, control: Estimate, kind: samples.Kind, *, alpha: float = 0.05, scale: Scale = "log"
) -> Difference:
    """Compare two estimates at a fixed horizon.

    Conversions use z, unpooled for the interval and pooled for the p-value; the others Welch's t.

    Args:
        kind: `conversion` makes the p-value pooled; an estimate adjusted by a covariate is a `mean`.
        alpha: Two-sided error of the interval, in (0, 1).
        scale: Of the lift's interval: `log` is never below −100 %, `linear` is what GrowthBook and PostHog print.
    """
    v_t, v_c = treatment.v, control.v
    found = estimates.effect(treatment, control)
    half_width = t_quantile(1 - alpha / 2, found.df)
    certain = v_t == 0 or v_c == 0 if kind == "conversion" else found.se == 0
    return Difference(
        estimate=found.d,
        se=found.se,
        df=found.df,
        interval=None if certain else Interval(found.d - half_width * found.se, found.d + half_width * found.se),
        p_value=_p_value(found.d, _pooled_se(treatment, control) if kind == "conversion" else found.se, found.df),
        lift=treatment.m / control.m - 1 if treatment.m > 0 and control.m > 0 else None,
        lift_interval=None if certain else lift_interval(treatment, control, half_width, scale=scale),
    )


def lift_interval(
    treatment: Estimate, control: Estimate, half_width: float, *, scale: Scale = "log"
) -> Interval | None:
    """Interval of m_t / m_c − 1; None when a mean is not above 0.

    Args:
        half_width: In standard errors: a quantile, or the width of a sequence.
    """
    m_t, m_c = treatment.m, control.m
    if m_t <= 0 or m_c <= 0:
        return None
    se = math.hypot(math.sqrt(treatment.v) / m_t, math.sqrt(control.v) / m_c)  # of ln(m_t/m_c)
    if scale == "linear":
        ratio = m_t / m_c
        return Interval(ratio - 1 - half_width * se * ratio, ratio - 1 + half_width * se * ratio)
    center = math.log(m_t / m_c)
    return Interval(_expm1(center - half_width * se), _expm1(center + half_width * se))


def interval(found: Estimate, kind: samples.Kind, *, alpha: float = 0.05) -> Interval | None:
    """Interval of one variant's own metric, for one look; Wilson's for a conversion.

    None without any variation, for kinds where that would claim certainty.
    """
    if kind == "conversion":
        return _wilson(found.m, found.n, alpha)
    if found.v == 0 and kind in ("share", "share_over"):
        return None
    half = t_quantile(1 - alpha / 2, found.df) * math.sqrt(found.v)
    return Interval(found.m - half, found.m + half)


def _wilson(p: float, n: int, alpha: float) -> Interval:
    z = t_quantile(1 - alpha / 2, math.inf)
    middle = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n)) / (1 + z * z / n)
    low = middle - half if p > 0 else 0.0  # exact at the edges, where rounding would cross them
    high = middle + half if p < 1 else 1.0
    return Interval(low, high)


def _pooled_se(treatment: Estimate, control: Estimate) -> float:
    n_t, n_c = treatment.n, control.n
    pooled = (treatment.m * n_t + control.m * n_c) / (n_t + n_c)
    return math.sqrt(max(0.0, pooled * (1 - pooled)) * (1 / n_t + 1 / n_c))


def _p_value(d: float, se: float, df: float) -> float | None:
    if se == 0:
        return None
    tail = special.ndtr(-abs(d / se)) if math.isinf(df) else special.stdtr(df, -abs(d / se))
    return min(1.0, 2 * float(tail))


def _expm1(value: float) -> float:
    return math.expm1(value) if value < 700 else math.inf


def t_quantile(probability: float, df: float) -> float:
    """Of Student's t with any degrees of freedom; infinite ones give the normal distribution's."""
    return float(special.ndtri(probability) if math.isinf(df) else special.stdtrit(df, probability))
