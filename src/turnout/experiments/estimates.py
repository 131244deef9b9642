"""From sums to estimates with variances, for every kind of metric. Pure, standard library only.

Called by reports and rollouts. A variance is always at the unit: from units' sums, or from
sub-buckets of units; never from requests as if they were independent.

Source: docs/experiments.md, "What the report computes", has the formulas and their papers.
"""

import math
from typing import Final, NamedTuple

from turnout.experiments import distributions, samples
from turnout.experiments.samples import Buckets, Effect, Estimate, Moments, Ranked

RANK_ALPHA: Final = 0.05
"""Two-sided error of the ranks around a quantile. Any value gives the same variance in large samples."""


class Adjusted(NamedTuple):
    """Two estimates with what the covariate explains taken out.

    Attributes:
        theta: Slope of the value on the covariate.
        reduction: Share of the variance of the difference that went, at most 1; negative if the covariate
            only adds noise.
    """

    treatment: Estimate
    control: Estimate
    theta: float
    reduction: float


def estimate(
    kind: samples.Kind, sample: samples.Sample, *, alpha: float = RANK_ALPHA, units: int | None = None
) -> Estimate | None:
    """Estimate one variant's metric.

    Args:
        kind: `conversion`, `mean`, `count` and `ratio` are read from Moments; `share`, `share_over` and
            `mean` from Buckets; `quantile` from Ranked.
        alpha: Of the ranks that a quantile's sample was taken at.
        units: Of which the requests in Buckets are. A share without events then claims no more than so
            many units can, each of which may fail all its requests; default: as many as requests.

    Returns:
        None with too few units for a variance (one for a conversion, else two), or a ratio without denominators.

    Raises:
        TypeError: The sample is none that this kind is computed from.

    >>> clicks = Moments(n=5, y=7, yy=15, d=11, dd=31, yd=21)  # of (1, 2) (0, 1) (3, 4) (2, 3) (1, 1)
    >>> found = estimate("ratio", clicks)
    >>> round(found.m, 6), round(math.sqrt(found.v), 7)
    (0.636364, 0.0923995)
    """
    match sample:
        case Moments() if kind == "conversion":
            return _conversion(sample)
        case Moments() if kind in ("mean", "count"):
            return _mean(sample)
        case Moments() if kind == "ratio":
            return _ratio(sample)
        case Buckets() if kind in ("share", "share_over", "mean"):
            return _bucketed(kind, sample, units)
        case Ranked() if kind == "quantile":
            return _quantile(sample, alpha)
    raise TypeError(f"{kind} is not computed from {type(sample).__name__}")


def _conversion(sample: Moments) -> Estimate | None:
    n = sample.n
    if not n:
        return None
    p, smooth = sample.mean, (sample.y + 0.5) / (n + 1)
    return Estimate(m=p, v=p * (1 - p) / n, n=n, df=math.inf, v_always=smooth * (1 - smooth) / n)


def _mean(sample: Moments) -> Estimate | None:
    n = sample.n
    if n < 2:
        return None
    return _unit_estimate(sample.mean, _centered(sample.yy, sample.y, sample.y, n) / (n - 1) / n, n)


def _ratio(sample: Moments) -> Estimate | None:
    """By the delta method: the variance of y − r·d over the mean denominator."""
    n = sample.n
    if n < 2 or sample.d <= 0:
        return None
    r, mean_d = sample.y / sample.d, sample.d / n
    residual = max(0.0, sample.yy - 2 * r * sample.yd + r * r * sample.dd)  # its sum is 0 by the choice of r
    return _unit_estimate(r, residual / (n - 1) / (n * mean_d * mean_d), n)


def _unit_estimate(m: float, v: float, n: int) -> Estimate:
    v = max(0.0, v)
    return Estimate(m=m, v=v, n=n, df=n - 1.0, v_always=v)


def _bucketed(kind: samples.Kind, sample: Buckets, units: int | None) -> Estimate | None:
    """Ratio of sums, with the variance between sub-buckets.

    Sub-buckets that nobody fell into say nothing: with few units each filled one holds one unit,
    and the variance becomes that of the units.
    """
    filled = [(s, c) for s, c in zip(sample.sums, sample.counts, strict=True) if c]
    b, total = len(filled), sample.requests
    if b < 2:
        return None
    r = math.fsum(s for s, _ in filled) / total
    v = b / (b - 1) * math.fsum((s - r * c) ** 2 for s, c in filled) / total**2
    v_always = v if kind == "mean" else max(v + 0.5 / total**2, _unseen(units) if units else 0.0)
    return Estimate(m=r, v=v, n=round(total), df=b - 1.0, v_always=v_always, bucketed=True)


def _unseen(units: int) -> float:
    """Variance of a share of so many units, none of which had the event; half an event added."""
    smooth = 0.5 / (units + 1)
    return smooth * (1 - smooth) / units


def _quantile(sample: Ranked, alpha: float) -> Estimate | None:
    if sample.n < 2:
        return None
    half = (sample.high - sample.low) / (2 * distributions.normal_quantile(1 - alpha / 2))
    return Estimate(m=sample.value, v=half * half, n=sample.n, df=math.inf, v_always=half * half)


def quantile_ranks(n: int, quantile: float, alpha: float = RANK_ALPHA) -> tuple[int, int]:
    """Ranks of the order statistics around a quantile, from 1 to n.

    Args:
        quantile: In (0, 1).

    Source: Deng, Knoblich, Lu 2018 (outer confidence interval).

    >>> quantile_ranks(10_000, 0.95)
    (9457, 9543)
    """
    half = distributions.normal_quantile(1 - alpha / 2) * math.sqrt(quantile * (1 - quantile) / n)
    low, high = math.floor(n * (quantile - half)), math.ceil(n * (quantile + half))
    return max(1, low), min(n, high)


def effect(treatment: Estimate, control: Estimate, *, always: bool = False, n: int | None = None) -> Effect:
    """Treatment − control with its standard error.

    Args:
        always: For an always-valid interval: shares have half an event added, and only the degrees of
            freedom of sub-buckets are few enough to count.
        n: Units of both variants, where the estimates count requests; default the sum of theirs.
    """
    sides = (treatment, control)
    v_t, v_c = (side.v_always if always else side.v for side in sides)
    df_t, df_c = (math.inf if always and not side.bucketed else side.df for side in sides)
    return Effect(
        d=treatment.m - control.m,
        se=math.sqrt(v_t + v_c),
        n=treatment.n + control.n if n is None else n,
        df=welch(v_t, df_t, v_c, df_c),
    )


def welch(v_t: float, df_t: float, v_c: float, df_c: float) -> float:
    """Degrees of freedom of a difference whose sides have these variances and degrees.

    Source: Welch 1947; Satterthwaite 1946.

    >>> round(welch(1.0, 99, 1.0, 99), 6)
    198.0
    """
    if v_t + v_c == 0:
        return df_t + df_c
    share = v_t / (v_t + v_c)  # squares of tiny variances would underflow
    shares = share**2 / df_t + (1 - share) ** 2 / df_c
    return 1 / shares if shares else math.inf


def cuped(treatment: Moments, control: Moments, kind: samples.Kind = "mean") -> Adjusted | None:
    """Take out what a covariate from before the experiment explains.

    A unit without covariate gets the mean of the others (of both variants, so that it cannot favour
    one), for which `y_x` must be counted; where it is not, such a unit gets 0, which is as right and
    explains less. A ratio is linearised: the value becomes y − r·d over the mean denominator.

    Args:
        kind: `mean`, `count`, `conversion` or `ratio`.

    Returns:
        None without an estimate, without a covariate, or when all covariates are equal. θ is pooled over
        both variants about their common mean; the variances are each variant's own.

    Source: Deng, Xu, Kohavi, Walker 2013; ratios, Deng & Shi 2016.

    >>> sums = Moments(n=6, y=21, yy=91, x=18, xx=82, xy=84, n_x=6)
    >>> found = cuped(sums, sums)
    >>> round(found.theta, 6), round(found.treatment.v * 6, 6)
    (0.75, 0.35)
    """
    plain_kind: samples.Kind = "mean" if kind == "conversion" else kind
    plain_t, plain_c = estimate(plain_kind, treatment), estimate(plain_kind, control)
    both = treatment + control
    if plain_t is None or plain_c is None or not both.n_x:
        return None
    missing_as = both.x / both.n_x if _missing_are_known(both, kind) else 0.0
    pooled = _Centered.of(both, kind, missing_as)
    if not pooled.xx > 0:
        return None
    theta = pooled.xy / pooled.xx
    after_t = _adjusted(plain_t, _Centered.of(treatment, kind, missing_as), pooled.mean_x, theta)
    after_c = _adjusted(plain_c, _Centered.of(control, kind, missing_as), pooled.mean_x, theta)
    before = plain_t.v + plain_c.v
    return Adjusted(after_t, after_c, theta, 1 - (after_t.v + after_c.v) / before if before else 0.0)


def _adjusted(plain: Estimate, own: "_Centered", mean_x: float, theta: float) -> Estimate:
    n = plain.n
    v = (own.yy - 2 * theta * own.xy + theta * theta * own.xx) / (n - 1) / n
    return _unit_estimate(plain.m - theta * (own.mean_x - mean_x), v, n)


def _missing_are_known(both: Moments, kind: samples.Kind) -> bool:
    """Whether the sums tell what the values of units without covariate are."""
    counted = both.y_x is not None and (kind != "ratio" or both.d_x is not None)
    return both.n_x == both.n or counted


class _Centered(NamedTuple):
    """Sums of squares and products about the means; of a ratio's linearisation for its value."""

    mean_x: float
    yy: float
    xy: float
    xx: float

    @classmethod
    def of(cls, sample: Moments, kind: samples.Kind, missing_as: float) -> "_Centered":
        n, lacking = sample.n, sample.n - sample.n_x
        x = sample.x + missing_as * lacking
        xx = sample.xx + missing_as * missing_as * lacking
        xy, xd = sample.xy, sample.xd
        if missing_as and lacking:
            xy += missing_as * (sample.y - (sample.y_x or 0.0))
            xd += missing_as * (sample.d - (sample.d_x or 0.0))
        if kind != "ratio":
            return cls(
                x / n,
                _centered(sample.yy, sample.y, sample.y, n),
                _centered(xy, x, sample.y, n),
                _centered(xx, x, x, n),
            )
        r, mean_d = sample.y / sample.d, sample.d / n
        yy = max(0.0, sample.yy - 2 * r * sample.yd + r * r * sample.dd) / (mean_d * mean_d)
        return cls(x / n, yy, (xy - r * xd) / mean_d, _centered(xx, x, x, n))


def _centered(products: float, a: float, b: float, n: int) -> float:
    """Σ(a − ā)(b − b̄) from Σab, Σa and Σb."""
    return products - a * b / n
