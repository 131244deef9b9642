"""Did the units arrive as they were allocated? Pure, standard library only.

Called by reports and rollouts. A sample ratio that does not fit the weights means that units
are missing on one side, by chance never: then no difference is to be read.

Source: Fabijan et al. 2019; sequentially Lindon & Malek 2022, arXiv 2011.03567.
"""

import math
from collections.abc import Mapping
from typing import Final, Literal

from msgspec import Struct

from turnout.experiments import distributions

P: Final = 0.001
"""Below this the chi-square test finds the sample ratio suspect: experiments are many and looked at often."""

E: Final = 1000.0
"""Evidence above which the sequential test finds a mismatch: wrong in one of 1,000 experiments at most, at any look."""

CONCENTRATION: Final = 100.0
"""Of the sequential test's prior around the weights; larger finds small deviations sooner and large ones later."""

CROSSED_RATIO: Final = 0.01
"""Share of units seen in two variants above which the rest is not to be trusted."""

Verdict = Literal["fine", "suspect", "mismatch"]


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

    @property
    def sequential_p(self) -> float:
        """1 / evidence, at most 1; valid at any look, and so is its running minimum."""
        return math.exp(min(0.0, -self.ln_e))

    @property
    def verdict(self) -> Verdict:
        """`mismatch` by the sequential test, `suspect` when only chi-square finds something."""
        if self.ln_e > math.log(E):
            return "mismatch"
        return "suspect" if self.p_value < P else "fine"


class CrossoverCheck(Struct, frozen=True, kw_only=True):
    """Units seen in two variants of one phase, which are dropped.

    Attributes:
        ratio: Their share of all units.
        p_value: Of "they began in the variants in the ratio of the weights"; None where that is not known.
        verdict: `mismatch` above `CROSSED_RATIO`, or when p_value is below `P`.
    """

    crossed: int
    ratio: float
    p_value: float | None
    verdict: Verdict


def check(counts: Mapping[str, int], weights: Mapping[str, float]) -> RatioCheck | None:
    """Test whether units arrived in the ratio of the weights.

    Args:
        counts: Units per variant; variants with weight 0 are left out of counts and df.

    Returns:
        None with fewer than two variants or without units.

    >>> found = check({"a": 600, "b": 400}, {"a": 1, "b": 1})
    >>> round(found.chi2, 1), round(found.ln_e, 4), found.verdict
    (40.0, 17.0989, 'mismatch')
    """
    taking = {name: weight for name, weight in weights.items() if weight > 0}
    total = math.fsum(taking.values())
    n = sum(counts.get(name, 0) for name in taking)
    if len(taking) < 2 or n == 0:
        return None
    shares = {name: weight / total for name, weight in taking.items()}
    expected = {name: n * share for name, share in shares.items()}
    chi2 = math.fsum((counts.get(name, 0) - expected[name]) ** 2 / expected[name] for name in taking)
    ln_e = math.lgamma(CONCENTRATION) - math.lgamma(CONCENTRATION + n)
    for name, share in shares.items():
        x, prior = counts.get(name, 0), CONCENTRATION * share
        ln_e += math.lgamma(prior + x) - math.lgamma(prior) - x * math.log(share)
    df = len(taking) - 1
    p_value = distributions.chi_square_tail(chi2, df)
    return RatioCheck(chi2=chi2, df=df, p_value=p_value, ln_e=ln_e, expected=expected)


def crossovers(
    crossed: int,
    units: int,
    *,
    began_in: Mapping[str, int] | None = None,
    weights: Mapping[str, float] | None = None,
) -> CrossoverCheck:
    """Test whether units that changed sides are few, and came from all sides alike.

    Args:
        crossed: Units seen in two variants.
        units: Those seen in one.
        began_in: Crossed units by their first variant; with `weights`, tested against these.

    >>> crossovers(30, 970).verdict
    'mismatch'
    """
    total = crossed + units
    ratio = crossed / total if total else 0.0
    sides = check(began_in, weights) if began_in and weights else None
    p_value = None if sides is None else sides.p_value
    wrong = ratio > CROSSED_RATIO or (p_value is not None and p_value < P)
    return CrossoverCheck(crossed=crossed, ratio=ratio, p_value=p_value, verdict="mismatch" if wrong else "fine")
