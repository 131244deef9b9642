"""Intervals and p-values that hold at any number of looks. Pure, standard library only.

Called by reports and rollouts. The asymptotic confidence sequence: its interval covers the
true effect at all looks together with probability 1 − α, so whoever stops when it excludes
zero errs in at most α of the cases.

`n` counts the same as `tightest_at` (N*): units of both variants; requests only where the
request is the unit. N* is fixed before the start and never tuned on data.

Source: Waudby-Smith, Arbour, Sinha, Kennedy, Ramdas, arXiv 2103.06476.
"""

import math
from typing import Final, Literal

from msgspec import Struct

from turnout.experiments import distributions, estimates
from turnout.experiments.samples import Estimate, Interval

MIN_UNITS: Final = 100
"""Units per variant below which only simulations support an interval, which is asymptotic."""

MIN_UNITS_OF_SHARES: Final = 50
"""Units per variant for the proportions of a canary, where simulations do."""


class Sequence(Struct, frozen=True, kw_only=True):
    """An always-valid interval: look as often as you like.

    Attributes:
        p_value: Valid at any time as well; a caller may keep the running minimum.
    """

    interval: Interval
    p_value: float


class Bound(Struct, frozen=True, kw_only=True):
    """An always-valid bound on one side.

    Attributes:
        bound: The effect lies above it (`lower`) or below it (`upper`).
        p_value: Of "the effect is at most 0" for a lower bound, "at least 0" for an upper one.
    """

    bound: float
    p_value: float


def compare(
    treatment: Estimate, control: Estimate, *, tightest_at: float, alpha: float = 0.05, n: int | None = None
) -> Sequence | None:
    """The always-valid interval of treatment − control.

    Args:
        n: Units of both variants, where the estimates count requests.

    Returns:
        None without a variance. Below `MIN_UNITS` a variant it is not to be relied on.
    """
    found = estimates.effect(treatment, control, always=True, n=n)
    if not found.se > 0:
        return None
    se = widened(found.se, found.df, alpha)
    return two_sided(found.d, se, n=found.n, tightest_at=tightest_at, alpha=alpha)


def two_sided(d: float, se: float, *, n: float, tightest_at: float, alpha: float = 0.05) -> Sequence:
    """Interval of an effect, and the p-value of "it is 0" (for another value, shift d).

    Args:
        se: Standard error, above 0; `widened` where it has few degrees of freedom.
        alpha: In (0, 1).

    >>> found = two_sided(0.008, 0.002, n=20_000, tightest_at=10_000, alpha=0.01)
    >>> round(found.interval.high - 0.008, 7), round(found.p_value, 8)
    (0.0071912, 0.00229466)
    """
    half = se * width(n, tightest_at=tightest_at, alpha=alpha)
    growth = n * _rho_squared(tightest_at, alpha)
    exponent = 0.5 * math.log1p(growth) - growth * (d / se) ** 2 / (2 * (growth + 1))
    return Sequence(interval=Interval(d - half, d + half), p_value=math.exp(min(0.0, exponent)))


def one_sided(
    d: float, se: float, *, n: float, tightest_at: float, alpha: float = 0.05, side: Literal["lower", "upper"]
) -> Bound:
    """Bound of an effect from below or above, with the p-value of the far side of 0.

    >>> found = one_sided(0.008, 0.002, n=20_000, tightest_at=10_000, alpha=0.01, side="lower")
    >>> round(found.bound, 8), round(found.p_value, 8)
    (0.00124094, 0.00112562)
    """
    sign = 1 if side == "lower" else -1
    half = se * one_sided_width(n, tightest_at=tightest_at, alpha=alpha)
    z = sign * d / se
    if z <= 0:
        return Bound(bound=d - sign * half, p_value=1.0)
    growth = n * _rho_squared(tightest_at, 2 * alpha)
    exponent = growth * z * z / (2 * (growth + 1))
    log_expm1 = exponent + math.log(-math.expm1(-exponent)) if exponent > 0 else -math.inf
    log_p = 0.5 * math.log1p(growth) - math.log(2) - log_expm1
    return Bound(bound=d - sign * half, p_value=math.exp(min(0.0, log_p)))


def width(n: float, *, tightest_at: float, alpha: float) -> float:
    """Half width of the two-sided interval in multiples of the standard error.

    >>> round(width(20_000, tightest_at=10_000, alpha=0.01), 6)
    3.595605
    """
    growth = n * _rho_squared(tightest_at, alpha)
    return math.sqrt(2 * (growth + 1) / growth * math.log(math.sqrt(growth + 1) / alpha))


def one_sided_width(n: float, *, tightest_at: float, alpha: float) -> float:
    """Distance of the one-sided bound in multiples of the standard error.

    Args:
        alpha: In (0, 0.5).

    >>> round(one_sided_width(20_000, tightest_at=10_000, alpha=0.01), 6)
    3.379528
    """
    growth = n * _rho_squared(tightest_at, 2 * alpha)
    return math.sqrt(2 * (growth + 1) / growth * math.log1p(math.sqrt(growth + 1) / (2 * alpha)))


def widened(se: float, df: float, alpha: float, *, sides: Literal[1, 2] = 2) -> float:
    """A standard error from few degrees of freedom, as if it came from many.

    Args:
        df: Of `estimates.Effect`; infinite leaves it as it is.

    >>> round(widened(1.0, 198, 0.05), 3)
    1.006
    """
    if math.isinf(df):
        return se
    tail = 1 - alpha / sides
    return se * distributions.t_quantile(tail, df) / distributions.normal_quantile(tail)


def _rho_squared(tightest_at: float, alpha: float) -> float:
    return (-2 * math.log(alpha) + math.log1p(-2 * math.log(alpha))) / tightest_at
