"""Tails and quantiles with the standard library alone. Pure.

Called by the sequences, guardrails and ratio checks, which processes without scipy run
(a rollout is steered by them). Reports and planning use scipy, where the arguments are
no longer those that have a short exact form.
"""

import math
from statistics import NormalDist
from typing import Final

_NORMAL: Final = NormalDist()


def normal_quantile(probability: float) -> float:
    """Of the standard normal distribution.

    Args:
        probability: In (0, 1).

    >>> round(normal_quantile(0.975), 6)
    1.959964
    """
    return _NORMAL.inv_cdf(probability)


def normal_cdf(z: float) -> float:
    """Of the standard normal distribution, exact in both tails."""
    return 0.5 * math.erfc(-z / math.sqrt(2))


def t_quantile(probability: float, df: float) -> float:
    """Of Student's t with whole degrees of freedom.

    Args:
        probability: In (1e-9, 1 - 1e-9).
        df: Rounded down to a whole number, at least 1; infinite gives the normal quantile.

    Complexity: O(df) up to 10,000 degrees; above, the normal quantile with a correction, exact to 1e-9.

    Source: Abramowitz & Stegun 26.7.3, 26.7.4 (finite sums), 26.7.5 (start).

    >>> round(t_quantile(0.975, 198), 6)
    1.972017
    """
    z = normal_quantile(probability)
    if math.isinf(df):
        return z
    whole = max(1, int(df + 1e-6))  # 197.99999 is 198 but for rounding
    start = z + (z**3 + z) / (4 * whole) + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * whole**2)
    if whole > 10_000:
        return start
    if whole <= 2:  # closed forms; the start is poor there
        angle = math.pi * (probability - 0.5)
        both = 2 * probability - 1
        return math.tan(angle) if whole == 1 else both * math.sqrt(2 / (1 - both * both))
    return _newton(start, probability, whole)


def _newton(t: float, probability: float, df: int) -> float:
    log_scale = math.lgamma((df + 1) / 2) - math.lgamma(df / 2) - 0.5 * math.log(df * math.pi)
    for _ in range(50):
        density = math.exp(log_scale - (df + 1) / 2 * math.log1p(t * t / df))
        step = (t_cdf(t, df) - probability) / density
        t -= max(-1.0, min(1.0, step))
        if abs(step) < 1e-12 * max(1.0, abs(t)):
            break
    return t


def t_cdf(t: float, df: int) -> float:
    """Of Student's t with `df` >= 1 degrees of freedom; absolute error about 1e-15.

    Complexity: O(df).
    """
    angle = math.atan(t / math.sqrt(df))
    square = math.cos(angle) ** 2
    odd = df % 2
    term = math.cos(angle) if odd else 1.0
    total = 0.0 if df == 1 else term
    for k in range(2 + odd, df - 1, 2):  # cos^j times 2·4·…/(3·5·…) for odd df, 1·3·…/(2·4·…) for even
        term *= square * (k - 1) / k
        total += term
    both = 2 / math.pi * (angle + math.sin(angle) * total) if odd else math.sin(angle) * total
    return 0.5 + 0.5 * both


def chi_square_tail(chi2: float, df: int) -> float:
    """Probability of a value above `chi2` with `df` >= 1 degrees of freedom.

    Complexity: O(df).

    Source: Abramowitz & Stegun 26.4.4, 26.4.5.

    >>> round(chi_square_tail(9.9901, 4), 5)
    0.04059
    """
    half = chi2 / 2
    if half <= 0:
        return 1.0
    tail = math.erfc(math.sqrt(half)) if df % 2 else math.exp(-half)
    log_term = -half - math.lgamma(1.5) + 0.5 * math.log(half) if df % 2 else -half + math.log(half)
    for k in range(3 if df % 2 else 4, df + 1, 2):
        tail += math.exp(log_term)
        log_term += math.log(half / (k / 2))
    return min(1.0, tail)
