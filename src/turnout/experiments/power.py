"""How many units an experiment needs, what it can find, and how long that takes. Pure.

Called by `turnout plan` and reports. Variances are of one unit's value: `spread` takes them
from an estimate of the real metric, which is where they should come from.

Source: docs/experiments.md, "Planning"; Chow, Shao, Wang 2008; Kohavi, Longbotham et al. 2009.
"""

import math
from typing import Final, Literal, Protocol

from msgspec import Struct, structs
from scipy import optimize, special

from turnout.experiments import distributions, sequences
from turnout.experiments.samples import Estimate


class Aim(Struct, frozen=True, kw_only=True):
    """What is asked of an experiment.

    Attributes:
        alpha: Error of a finding without a difference, in (0, 0.5).
        power: Probability of finding the effect at the planned end, in (0, 1).
        sides: 1 for a guardrail, which asks in one direction.
        horizon: `always` for the interval that may be looked at every day, which costs units.
        tightest_at: N* of that interval; None for the planned number of units itself.
        treatment_ratio: Treatment's units per unit of control.
    """

    alpha: float = 0.05
    power: float = 0.8
    sides: Literal[1, 2] = 2
    horizon: Literal["fixed", "always"] = "fixed"
    tightest_at: float | None = None
    treatment_ratio: float = 1.0


ORDINARY: Final = Aim()


class Units(Struct, frozen=True, kw_only=True):
    """Units of each variant, as computed; `total` is what to plan with."""

    treatment: float
    control: float

    @property
    def total(self) -> int:
        """Of both, each rounded up."""
        return math.ceil(self.treatment - 1e-9) + math.ceil(self.control - 1e-9)


def spread(found: Estimate) -> float:
    """Variance of one unit's value, whatever the kind of metric."""
    return found.v * found.n


def units_needed(effect: float, variance_t: float, variance_c: float, aim: Aim = ORDINARY) -> Units:
    """Units that find an effect of this size.

    Args:
        effect: Absolute, not 0; the smallest that matters.

    >>> v = 0.05 * 0.95
    >>> round(units_needed(0.0025, v, v).control)
    119303
    >>> units_needed(0.0025, v, v, Aim(horizon="always")).total
    456908
    """
    total_spread = variance_t / aim.treatment_ratio + variance_c
    n_c = _scaled(aim, lambda threshold: (threshold + _quantile(aim.power)) ** 2 * total_spread / effect**2)
    return Units(treatment=n_c * aim.treatment_ratio, control=n_c)


def units_for_margin(
    margin: float, variance_t: float, variance_c: float, aim: Aim = ORDINARY, *, expected_harm: float = 0.0
) -> Units:
    """Units that show a harm to be below its margin (non-inferiority; `aim.sides` counts as 1).

    Args:
        expected_harm: What the harm really is; below the margin, negative for a benefit.

    Raises:
        ValueError: The expected harm is not below the margin: no number of units shows it.

    >>> found = units_for_margin(0.10, 0.85 * 0.15, 0.65 * 0.35, expected_harm=-0.20)
    >>> round(found.control, 2), found.total
    (24.39, 50)
    """
    if expected_harm >= margin:
        raise ValueError(f"the expected harm {expected_harm:g} is not below the margin {margin:g}.")
    return units_needed(margin - expected_harm, variance_t, variance_c, _one_sided(aim))


def mde(n_t: float, n_c: float, variance_t: float, variance_c: float, aim: Aim = ORDINARY) -> float:
    """Smallest absolute effect that so many units find with the power aimed at.

    >>> round(mde(119_303, 119_303, 0.0475, 0.0475), 6)
    0.0025
    """
    return (_threshold(aim, n_t + n_c) + _quantile(aim.power)) * math.sqrt(variance_t / n_t + variance_c / n_c)


def power(effect: float, units: Units, variance_t: float, variance_c: float, aim: Aim = ORDINARY) -> float:
    """Probability that so many units find the effect at the planned end; stopping early only helps.

    >>> round(power(0.0025, Units(treatment=119_303, control=119_303), 0.0475, 0.0475), 4)
    0.8
    """
    se = math.sqrt(variance_t / units.treatment + variance_c / units.control)
    threshold = _threshold(aim, units.treatment + units.control)
    found = distributions.normal_cdf(abs(effect) / se - threshold)
    wrong_side = distributions.normal_cdf(-abs(effect) / se - threshold) if aim.sides == 2 else 0.0
    return found + wrong_side


def power_of_proportions(p_t: float, p_c: float, n: float, aim: Aim = ORDINARY) -> float:
    """Power of the pooled z test with n units in each variant.

    >>> round(power_of_proportions(0.024, 0.020, 30_000), 2)
    0.92
    """
    middle = (p_t + p_c) / 2
    pooled, own = 2 * middle * (1 - middle), p_t * (1 - p_t) + p_c * (1 - p_c)
    excess = math.sqrt(n) * abs(p_t - p_c) - _threshold(aim, 2 * n) * math.sqrt(pooled)
    return distributions.normal_cdf(excess / math.sqrt(own))


def units_of_proportions(p_t: float, p_c: float, aim: Aim = ORDINARY) -> Units:
    """Units, the same number in each variant, that `power_of_proportions` asks for.

    >>> round(units_of_proportions(0.024, 0.020).control)
    21108
    """
    middle = (p_t + p_c) / 2
    pooled, own = 2 * middle * (1 - middle), p_t * (1 - p_t) + p_c * (1 - p_c)
    z = _quantile(aim.power) * math.sqrt(own)
    n = _scaled(aim, lambda threshold: ((threshold * math.sqrt(pooled) + z) / (p_t - p_c)) ** 2)
    return Units(treatment=n, control=n)


def power_of_t(standardised: float, n: float, aim: Aim = ORDINARY) -> float:
    """Power of Student's t test with n units in each variant: for small samples. Fixed horizon only.

    Args:
        standardised: Effect / standard deviation of one unit, at least 0.
        n: Above 1.
    """
    df, shift = 2 * n - 2, standardised * math.sqrt(n / 2)
    critical = float(special.stdtrit(df, 1 - aim.alpha / aim.sides))
    wrong_side = _noncentral_tail(critical, df, -shift) if aim.sides == 2 else 0.0
    return _noncentral_tail(critical, df, shift) + wrong_side


def _noncentral_tail(t: float, df: float, shift: float) -> float:
    """Probability of a noncentral t above `t`; far out, where scipy has no answer, by the normal distribution."""
    below = float(special.nctdtr(df, shift, t))
    return distributions.normal_cdf(shift - t) if math.isnan(below) else 1 - below


def units_of_t(standardised: float, aim: Aim = ORDINARY) -> Units:
    """Units in each variant that `power_of_t` asks for.

    >>> round(units_of_t(0.5).control, 2)
    63.77
    """
    high = 4 + 4 * units_needed(standardised, 1.0, 1.0, aim).control
    n = float(optimize.brentq(lambda n: power_of_t(standardised, n, aim) - aim.power, 1.01, high, xtol=1e-9))
    return Units(treatment=n, control=n)


def _threshold(aim: Aim, total: float) -> float:
    """Standard errors beyond which an effect is found."""
    if aim.horizon == "fixed":
        return _quantile(1 - aim.alpha / aim.sides)
    of = sequences.width if aim.sides == 2 else sequences.one_sided_width
    return of(total, tightest_at=aim.tightest_at or total, alpha=aim.alpha)


class _OfThreshold(Protocol):
    def __call__(self, threshold: float, /) -> float: ...


def _scaled(aim: Aim, units: _OfThreshold) -> float:
    """Units of control, where the threshold may depend on the units of both."""
    if aim.horizon == "fixed" or aim.tightest_at is None:
        return units(_threshold(aim, 1.0))  # at its own end a sequence has the same width for every plan

    def excess(n: float) -> float:
        return n - units(_threshold(aim, n * (1 + aim.treatment_ratio)))

    low = units(_threshold(structs.replace(aim, tightest_at=None), 1.0))  # no other plan's is narrower
    high = 2 * low
    while excess(high) < 0:
        high *= 2
    return float(optimize.brentq(excess, 0.999 * low, high, rtol=1e-12))


def _one_sided(aim: Aim) -> Aim:
    return structs.replace(aim, sides=1)


def _quantile(probability: float) -> float:
    return distributions.normal_quantile(probability)
