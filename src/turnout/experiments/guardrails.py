"""Is a variant not worse than control by more than a margin? Pure, standard library only.

Called by reports and rollouts. Three outcomes: safe, harmful, inconclusive; and inconclusive
is not safe. Harm is the effect signed so that positive is worse.

Source: docs/experiments.md, "Guardrails"; Chow, Shao, Wang 2008 for non-inferiority.
"""

import math
from typing import Literal

from msgspec import Struct

from turnout.experiments import distributions, estimates, samples, sequences
from turnout.experiments.samples import Effect, Estimate

State = Literal["safe", "harmful", "inconclusive"]


class Guardrail(Struct, frozen=True, kw_only=True):
    """What is known of a harm.

    Attributes:
        low: It is above this, with error alpha.
        high: It is below this, with error alpha.
        p: Of "it is the margin or more": small means safe.
        p_harmful: Of "it is the margin or less": small means harmful.
    """

    state: State
    low: float
    high: float
    p: float
    p_harmful: float


def harm(
    treatment: Estimate,
    control: Estimate,
    *,
    direction: samples.Direction,
    alpha: float,
    planned_end: bool = False,
    n: int | None = None,
    sides: Literal[1, 2] = 1,
) -> Effect:
    """The harm that treatment does, ready for `judge`.

    Args:
        direction: Which way the metric gets better; up makes a fall harmful.
        alpha: As for `judge`; the standard error is widened for few degrees of freedom.
        planned_end: As for `judge`.
        n: Units of both variants, where the estimates count requests.
        sides: Tails that share alpha; `judge` takes one.
    """
    found = estimates.effect(treatment, control, always=not planned_end, n=n)
    sign = -1 if direction == "up" else 1
    se = sequences.widened(found.se, found.df, alpha, sides=sides)
    return Effect(d=sign * found.d, se=se, n=found.n, df=found.df)


def judge(
    harm_estimate: float,
    se: float,
    n: float,
    margin: float,
    *,
    alpha: float,
    tightest_at: float,
    planned_end: bool = False,
) -> Guardrail:
    """Judge a harm against its margin.

    Args:
        se: Of the harm. Without one (0 or NaN) nothing is known.
        n: Units of both variants together, as `tightest_at`.
        margin: Absolute, at least 0.
        alpha: One-sided, in (0, 0.5); with G guardrails its G-th part.
        planned_end: The plan is complete: bounds for one look (z) instead of always-valid ones.

    >>> v = (50 / 2500 * 2450 / 2500 + 60 / 2500 * 2440 / 2500) / 2500
    >>> found = judge(10 / 2500, v**0.5, 5000, 0.01, alpha=0.05, tightest_at=5000, planned_end=True)
    >>> found.state, round(found.high, 7)
    ('inconclusive', 0.0108236)
    """
    if not se > 0 or not n > 0:
        return Guardrail(state="inconclusive", low=-math.inf, high=math.inf, p=1.0, p_harmful=1.0)
    beyond = harm_estimate - margin
    if planned_end:
        half = distributions.normal_quantile(1 - alpha) * se
        low, high = harm_estimate - half, harm_estimate + half
        p, p_harmful = distributions.normal_cdf(beyond / se), distributions.normal_cdf(-beyond / se)
    else:
        above = sequences.one_sided(beyond, se, n=n, tightest_at=tightest_at, alpha=alpha, side="lower")
        below = sequences.one_sided(beyond, se, n=n, tightest_at=tightest_at, alpha=alpha, side="upper")
        low, high = above.bound + margin, below.bound + margin
        p, p_harmful = below.p_value, above.p_value
    state: State = "safe" if high < margin else "harmful" if low > margin else "inconclusive"
    return Guardrail(state=state, low=low, high=high, p=p, p_harmful=p_harmful)
