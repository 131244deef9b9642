"""Estimates, differences and sample-ratio checks from sufficient statistics. Pure.

Called by reports; off the data plane's import path, because it needs scipy. Everything is
computed from counts and sums per *unit*, so any store can feed it, and a metric never has
to be read row by row. Effect = treatment − control.

Source: docs/experiments.md, "What the report computes", has the formulas and their papers.
"""

import math
from collections.abc import Mapping
from typing import Final, Literal

from msgspec import Struct
from scipy import special

Kind = Literal["conversion", "mean"]

SRM_P: Final = 0.001
"""Below this the chi-square test finds the sample ratio suspect: experiments are many and looked at often."""

SRM_E: Final = 1000.0
"""Evidence above which the sequential test finds a mismatch: wrong in one of 1,000 experiments at most, at any look."""

SRM_CONCENTRATION: Final = 100.0
"""Of the sequential test's prior around the weights; larger finds small deviations sooner and large ones later."""


class Moments(Struct, frozen=True, kw_only=True):
    """Sufficient statistics of one variant: units, Σx, Σx² over units. For a conversion x is 0 or 1."""

    n: int
    x: float
    xx: float

    @property
    def mean(self) -> float:
        """Σx / n; NaN without units."""
        return self.x / self.n if self.n else math.nan


class Interval(Struct, frozen=True):
    """Both ends belong to it."""

    low: float
    high: float


class Difference(Struct, frozen=True, kw_only=True):
    """Treatment against control on one metric.

    Attributes:
        estimate: m_t − m_c.
        se: Its standard error, unpooled.
        df: Welch's degrees of freedom; infinite for conversions, which use the normal distribution.
        interval: Fixed-horizon interval: right at one planned look, too narrow for peeking. None while
            one side shows no variation, since it would then claim certainty.
        p_value: Of the fixed-horizon test; None likewise.
        lift: m_t / m_c − 1; None when a mean is not above 0.
        lift_interval: From the log scale.
    """

    estimate: float
    se: float
    df: float
    interval: Interval | None
    p_value: float | None
    lift: float | None
    lift_interval: Interval | None


class Sequence(Struct, frozen=True, kw_only=True):
    """An always-valid interval: look as often as you like.

    Attributes:
        p_value: Valid at any time as well; a caller may keep the running minimum.
    """

    interval: Interval
    p_value: float


class RatioCheck(Struct, frozen=True, kw_only=True):
    """Units counted against units expected.

    Attributes:
        chi2: Pearson's statistic, no continuity correction.
        p_value: Of chi2; for one look at the end.
        ln_e: Logarithm of the sequential evidence against the weights; for any number of looks.
        expected: Units each variant should have, by name.
    """

    chi2: float
    df: int
    p_value: float
    ln_e: float
    expected: Mapping[str, float]


def variance(sample: Moments, kind: Kind) -> float:
    """Variance of the estimated mean; NaN with too few units (none, or one for a mean)."""
    if kind == "conversion":
        return sample.mean * (1 - sample.mean) / sample.n if sample.n else math.nan
    if sample.n < 2:
        return math.nan
    return max(0.0, sample.xx - sample.x * sample.x / sample.n) / (sample.n - 1) / sample.n


def estimate_interval(sample: Moments, kind: Kind, *, alpha: float = 0.05) -> Interval | None:
    """Interval of one variant's own mean; Wilson's for a conversion. None with too few units."""
    v = variance(sample, kind)
    if math.isnan(v):
        return None
    if kind == "mean":
        half = float(special.stdtrit(sample.n - 1, 1 - alpha / 2)) * math.sqrt(v)
        return Interval(sample.mean - half, sample.mean + half)
    z = quantile(1 - alpha / 2)
    n, p = sample.n, sample.mean
    middle = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n)) / (1 + z * z / n)
    low = middle - half if sample.x else 0.0  # exact at the edges, where rounding would cross them
    high = middle + half if sample.x < n else 1.0
    return Interval(low, high)


def difference(treatment: Moments, control: Moments, kind: Kind, *, alpha: float = 0.05) -> Difference | None:
    """Compare two variants at a fixed horizon.

    Conversions use z, unpooled for the interval and pooled for the p-value; means use Welch's t.

    Args:
        alpha: Two-sided error of the interval, in (0, 1).

    Returns:
        None when a side has too few units for a variance (none, or one for a mean).

    >>> found = difference(Moments(n=11_034, x=189, xx=189), Moments(n=11_037, x=104, xx=104), "conversion")
    >>> [round(found.interval.low, 5), round(found.interval.high, 5)]
    [0.00469, 0.01072]
    """
    v_t, v_c = variance(treatment, kind), variance(control, kind)
    if math.isnan(v_t + v_c):
        return None
    d, se = treatment.mean - control.mean, math.sqrt(v_t + v_c)
    df = math.inf if kind == "conversion" else _welch(v_t, treatment.n, v_c, control.n)
    width = _t_quantile(1 - alpha / 2, df)
    certain = v_t == 0 or v_c == 0 if kind == "conversion" else se == 0
    lift, lift_interval = _lift(treatment.mean, control.mean, v_t, v_c, width)
    return Difference(
        estimate=d,
        se=se,
        df=df,
        interval=None if certain else Interval(d - width * se, d + width * se),
        p_value=_p_value(treatment, control, kind, d, se, df),
        lift=lift,
        lift_interval=None if certain else lift_interval,
    )


def _p_value(treatment: Moments, control: Moments, kind: Kind, d: float, se: float, df: float) -> float | None:
    if kind == "conversion":
        pooled = (treatment.x + control.x) / (treatment.n + control.n)
        se = math.sqrt(pooled * (1 - pooled) * (1 / treatment.n + 1 / control.n))
    if se == 0:
        return None
    if math.isinf(df):
        return min(1.0, 2 * float(special.ndtr(-abs(d / se))))
    return min(1.0, 2 * float(special.stdtr(df, -abs(d / se))))


def _welch(v_t: float, n_t: int, v_c: float, n_c: int) -> float:
    if v_t + v_c == 0:
        return float(n_t + n_c - 2)
    share = v_t / (v_t + v_c)  # squares of tiny variances would underflow
    return 1 / (share**2 / (n_t - 1) + (1 - share) ** 2 / (n_c - 1))


def _lift(m_t: float, m_c: float, v_t: float, v_c: float, width: float) -> tuple[float | None, Interval | None]:
    if m_t <= 0 or m_c <= 0:
        return None, None
    half = width * math.hypot(math.sqrt(v_t) / m_t, math.sqrt(v_c) / m_c)
    center = math.log(m_t / m_c)
    return m_t / m_c - 1, Interval(_expm1(center - half), _expm1(center + half))


def _expm1(value: float) -> float:
    return math.expm1(value) if value < 700 else math.inf


def sequence(
    treatment: Moments, control: Moments, kind: Kind, *, tightest_at: float, alpha: float = 0.05
) -> Sequence | None:
    """Compare two variants with an interval that holds at every look.

    Args:
        tightest_at: N*, units in both variants together at which the interval is tightest for its
            error; fixed before the start, never tuned on data.

    Returns:
        None without a variance. Asymptotic: below about 100 units per variant only simulations support it.

    Source: Waudby-Smith, Arbour, Sinha, Kennedy, Ramdas, arXiv 2103.06476.
    """
    if kind == "conversion":
        v_t, v_c = _smoothed(treatment), _smoothed(control)
    else:
        v_t, v_c = variance(treatment, kind), variance(control, kind)
    if not v_t + v_c > 0:
        return None
    n, d, se = treatment.n + control.n, treatment.mean - control.mean, math.sqrt(v_t + v_c)
    half = se * sequence_width(n, tightest_at, alpha)
    growth = n * _rho_squared(tightest_at, alpha)
    exponent = 0.5 * math.log(growth + 1) - growth * (d / se) ** 2 / (2 * (growth + 1))
    return Sequence(interval=Interval(d - half, d + half), p_value=math.exp(min(0.0, exponent)))


def sequence_width(n: float, tightest_at: float, alpha: float) -> float:
    """Half width of the two-sided always-valid interval in multiples of the standard error.

    >>> round(sequence_width(20_000, 10_000, 0.01), 6)
    3.595605
    """
    growth = n * _rho_squared(tightest_at, alpha)
    return math.sqrt(2 * (growth + 1) / growth * math.log(math.sqrt(growth + 1) / alpha))


def _rho_squared(tightest_at: float, alpha: float) -> float:
    return (-2 * math.log(alpha) + math.log(1 - 2 * math.log(alpha))) / tightest_at


def _smoothed(sample: Moments) -> float:
    """Variance of a conversion with half an event and half a failure added, so that no events never give 0."""
    if not sample.n:
        return math.nan
    p = (sample.x + 0.5) / (sample.n + 1)
    return p * (1 - p) / sample.n


def ratio_check(counts: Mapping[str, int], weights: Mapping[str, float]) -> RatioCheck | None:
    """Test whether units arrived in the ratio of the weights.

    Args:
        counts: Units per variant; variants with weight 0 are left out of counts and df.

    Returns:
        None with fewer than two variants or without units.

    Source: chi-square by Pearson; sequential test by Lindon & Malek 2022, arXiv 2011.03567.
    """
    taking = {name: weight for name, weight in weights.items() if weight > 0}
    total = math.fsum(taking.values())
    n = sum(counts.get(name, 0) for name in taking)
    if len(taking) < 2 or n == 0:
        return None
    shares = {name: weight / total for name, weight in taking.items()}
    expected = {name: n * share for name, share in shares.items()}
    chi2 = math.fsum((counts.get(name, 0) - expected[name]) ** 2 / expected[name] for name in taking)
    ln_e = math.lgamma(SRM_CONCENTRATION) - math.lgamma(SRM_CONCENTRATION + n)
    for name, share in shares.items():
        x, prior = counts.get(name, 0), SRM_CONCENTRATION * share
        ln_e += math.lgamma(prior + x) - math.lgamma(prior) - x * math.log(share)
    df = len(taking) - 1
    return RatioCheck(chi2=chi2, df=df, p_value=float(special.chdtrc(df, chi2)), ln_e=ln_e, expected=expected)


def quantile(probability: float) -> float:
    """Of the standard normal distribution."""
    return float(special.ndtri(probability))


def _t_quantile(probability: float, df: float) -> float:
    return quantile(probability) if math.isinf(df) else float(special.stdtrit(df, probability))
