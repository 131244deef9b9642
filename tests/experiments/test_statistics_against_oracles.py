"""Other libraries on random inputs: tea-tasting, statsmodels, scipy."""

import math
from typing import Any, TypeAlias

import numpy as np
import pytest
import tea_tasting  # type: ignore[import-untyped]
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import special
from statsmodels.stats import multitest, proportion
from statsmodels.stats import power as oracle_power
from tea_tasting import aggr

from turnout.experiments import comparisons, distributions, estimates, power, samples, statistics
from turnout.experiments.samples import Moments

Array: TypeAlias = NDArray[Any]

seeds = st.integers(0, 2**32 - 1)


class Side:
    """Units with a value, a denominator and a covariate, related to each other."""

    def __init__(self, seed: int, n: int, lift: float) -> None:
        rng = np.random.default_rng(seed)
        habit = rng.gamma(2.0, 1.0, n)
        self.d: Array = rng.poisson(3 * habit) + 1.0
        self.x: Array = rng.poisson(2 * habit) + rng.random(n)
        self.y: Array = rng.poisson(habit * lift) + 0.25 * self.d + rng.random(n)

    def moments(self, known: NDArray[np.bool_] | None = None) -> Moments:
        """Sums; units outside `known` have no covariate."""
        known = np.ones(len(self.y), dtype=bool) if known is None else known
        x = np.where(known, self.x, 0.0)
        return Moments(
            n=len(self.y),
            y=float(self.y.sum()),
            yy=float(self.y @ self.y),
            d=float(self.d.sum()),
            dd=float(self.d @ self.d),
            yd=float(self.y @ self.d),
            x=float(x.sum()),
            xx=float(x @ x),
            xy=float(x @ self.y),
            xd=float(x @ self.d),
            n_x=int(known.sum()),
            y_x=float(self.y[known].sum()),
            d_x=float(self.d[known].sum()),
        )

    def aggregates(self) -> aggr.Aggregates:
        columns = {"d": self.d, "x": self.x, "y": self.y}
        names = sorted(columns)
        return aggr.Aggregates(
            count_=len(self.y),
            mean_={name: float(columns[name].mean()) for name in names},
            var_={name: float(columns[name].var(ddof=1)) for name in names},
            cov_={(a, b): float(np.cov(columns[a], columns[b])[0, 1]) for a in names for b in names if a < b},
        )


def ask(metric: Any, treatment: Side, control: Side) -> Any:
    return metric.analyze_aggregates(control.aggregates(), treatment.aggregates())


def agree(found: statistics.Difference, oracle: Any, *, rel: float = 1e-6) -> None:
    assert found.interval is not None
    scale = rel * max(abs(oracle.effect_size_ci_lower), abs(oracle.effect_size_ci_upper))
    assert found.estimate == pytest.approx(oracle.effect_size, abs=scale)
    assert found.interval.low == pytest.approx(oracle.effect_size_ci_lower, abs=scale)
    assert found.interval.high == pytest.approx(oracle.effect_size_ci_upper, abs=scale)
    assert found.p_value == pytest.approx(oracle.pvalue, rel=1e-4, abs=1e-12)
    assert found.lift == pytest.approx(oracle.rel_effect_size, rel=rel)


sides = st.tuples(seeds, st.integers(20, 300), st.integers(20, 300), st.floats(0.5, 2.0)).map(
    lambda drawn: (Side(drawn[0], drawn[1], drawn[3]), Side(drawn[0] + 1, drawn[2], 1.0))
)


@settings(max_examples=40)
@given(pair=sides)
def test_means_agree_with_tea_tasting(pair: tuple[Side, Side]) -> None:
    found = statistics.difference(pair[0].moments(), pair[1].moments(), "mean")
    assert found is not None
    agree(found, ask(tea_tasting.Mean("y"), *pair))


@settings(max_examples=40)
@given(pair=sides)
def test_lifts_agree_with_tea_tasting(pair: tuple[Side, Side]) -> None:
    # by the normal distribution: tea-tasting gives the lift degrees of freedom of its own
    treatment, control = (estimates.estimate("mean", side.moments()) for side in pair)
    assert treatment is not None
    assert control is not None
    oracle = ask(tea_tasting.Mean("y", use_t=False), *pair)
    found = statistics.lift_interval(treatment, control, distributions.normal_quantile(0.975))
    assert found is not None
    assert found.low == pytest.approx(oracle.rel_effect_size_ci_lower, rel=1e-6, abs=1e-9)
    assert found.high == pytest.approx(oracle.rel_effect_size_ci_upper, rel=1e-6, abs=1e-9)


@settings(max_examples=40)
@given(pair=sides)
def test_ratios_agree_with_tea_tasting(pair: tuple[Side, Side]) -> None:
    found = statistics.difference(pair[0].moments(), pair[1].moments(), "ratio")
    assert found is not None
    agree(found, ask(tea_tasting.RatioOfMeans("y", "d"), *pair))


@settings(max_examples=40)
@given(pair=sides, kind=st.sampled_from(["mean", "ratio"]))
def test_cuped_agrees_with_tea_tasting(pair: tuple[Side, Side], kind: samples.Kind) -> None:
    adjusted = estimates.cuped(pair[0].moments(), pair[1].moments(), kind)
    assert adjusted is not None
    found = statistics.compare(adjusted.treatment, adjusted.control, kind)
    metric = tea_tasting.Mean("y", "x") if kind == "mean" else tea_tasting.RatioOfMeans("y", "d", "x")
    agree(found, ask(metric, *pair))


@settings(max_examples=40)
@given(pair=sides, kind=st.sampled_from(["mean", "ratio"]), rare=st.floats(0.1, 0.9), seed=seeds)
def test_a_missing_covariate_is_the_mean_of_the_others(
    pair: tuple[Side, Side], kind: samples.Kind, rare: float, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    known = [rng.random(len(side.y)) < rare for side in pair]
    assume(all(have.sum() > 2 for have in known))
    found = estimates.cuped(pair[0].moments(known[0]), pair[1].moments(known[1]), kind)
    others = np.concatenate([side.x[have] for side, have in zip(pair, known, strict=True)]).mean()
    for side, have in zip(pair, known, strict=True):
        side.x = np.where(have, side.x, others)
    filled = estimates.cuped(pair[0].moments(), pair[1].moments(), kind)
    assert found is not None
    assert filled is not None
    assert found.theta == pytest.approx(filled.theta, rel=1e-6, abs=1e-9)
    for one, other in ((found.treatment, filled.treatment), (found.control, filled.control)):
        assert (one.m, one.v) == pytest.approx((other.m, other.v), rel=1e-6)


def test_a_missing_covariate_counts_as_nothing_where_nobody_summed_the_values_of_the_others() -> None:
    pair = Side(1, 400, 1.0), Side(2, 400, 1.0)
    known = np.random.default_rng(3).random(400) < 0.7
    bare = [Moments(**{**_fields(side.moments(known)), "y_x": None, "d_x": None}) for side in pair]
    found = estimates.cuped(bare[0], bare[1])
    for side in pair:
        side.x = np.where(known, side.x, 0.0)
    filled = estimates.cuped(pair[0].moments(), pair[1].moments())
    assert found is not None
    assert filled is not None
    assert found.treatment.m == pytest.approx(filled.treatment.m)
    assert found.treatment.v == pytest.approx(filled.treatment.v)


def _fields(sums: Moments) -> dict[str, Any]:
    return {name: getattr(sums, name) for name in sums.__struct_fields__}


@settings(max_examples=30)
@given(
    p_values=st.lists(st.floats(0, 1), min_size=1, max_size=30),
    method=st.sampled_from([("holm", comparisons.holm), ("fdr_bh", comparisons.benjamini_hochberg)]),
)
def test_corrections_agree_with_statsmodels(p_values: list[float], method: Any) -> None:
    _, adjusted, _, _ = multitest.multipletests(p_values, method=method[0])
    assert method[1](p_values) == pytest.approx(tuple(adjusted), rel=1e-12, abs=1e-300)


@given(
    standardised=st.floats(0.1, 2.0),
    alpha=st.floats(0.001, 0.1),
    wanted=st.floats(0.5, 0.99),
    sides=st.sampled_from([1, 2]),
)
@settings(max_examples=60)
def test_sample_sizes_agree_with_statsmodels(standardised: float, alpha: float, wanted: float, sides: Any) -> None:
    alternative = "two-sided" if sides == 2 else "larger"
    aim = power.Aim(alpha=alpha, power=wanted, sides=sides)
    n = power.units_needed(standardised, 1.0, 1.0, aim).control
    reached = oracle_power.NormalIndPower().power(standardised, n, alpha, alternative=alternative)
    assert reached == pytest.approx(wanted, abs=0.001)  # the far side, which the formula leaves out
    small = power.units_of_t(standardised, aim).control
    reached = oracle_power.TTestIndPower().power(standardised, small, alpha, alternative=alternative)
    assume(not math.isnan(reached))  # it asks scipy for a far tail of the noncentral t
    assert reached == pytest.approx(wanted, abs=1e-6)


@given(
    n_t=st.integers(50, 10**6), n_c=st.integers(50, 10**6), effect=st.floats(0.001, 0.5), sides=st.sampled_from([1, 2])
)
def test_power_agrees_with_statsmodels(n_t: int, n_c: int, effect: float, sides: Any) -> None:
    aim = power.Aim(sides=sides)
    alternative = "two-sided" if sides == 2 else "larger"
    oracle = oracle_power.NormalIndPower().power(effect, n_c, 0.05, ratio=n_t / n_c, alternative=alternative)
    found = power.power(effect, power.Units(treatment=n_t, control=n_c), 1.0, 1.0, aim)
    assert found == pytest.approx(oracle, abs=1e-9)
    smallest = power.mde(n_t, n_c, 1.0, 1.0, aim)
    again = oracle_power.NormalIndPower().power(smallest, n_c, 0.05, ratio=n_t / n_c, alternative=alternative)
    assert again == pytest.approx(0.8, abs=1e-4)


@given(p_t=st.floats(0.01, 0.99), p_c=st.floats(0.01, 0.99), n=st.integers(10, 10**5))
def test_power_of_proportions_agrees_with_statsmodels(p_t: float, p_c: float, n: int) -> None:
    assume(abs(p_t - p_c) > 1e-4)
    oracle = proportion.power_proportions_2indep(p_t - p_c, p_c, n, return_results=False)
    far = special.ndtr(-math.sqrt(n) * abs(p_t - p_c) / math.sqrt(p_t * (1 - p_t) + p_c * (1 - p_c)) - 1.5)
    assert power.power_of_proportions(p_t, p_c, n) == pytest.approx(float(oracle), abs=far + 1e-9)
    needed = power.units_of_proportions(p_t, p_c).control
    assert power.power_of_proportions(p_t, p_c, needed) == pytest.approx(0.8, abs=1e-9)


@given(probability=st.floats(1e-6, 1 - 1e-6), df=st.integers(1, 30_000))
def test_quantiles_of_t_agree_with_scipy(probability: float, df: int) -> None:
    assert distributions.t_quantile(probability, df) == pytest.approx(
        float(special.stdtrit(df, probability)), rel=1e-7, abs=1e-9
    )


@given(z=st.floats(-30, 30), probability=st.floats(1e-12, 1 - 1e-12))
def test_the_normal_distribution_agrees_with_scipy(z: float, probability: float) -> None:
    assert distributions.normal_cdf(z) == pytest.approx(float(special.ndtr(z)), rel=1e-10, abs=1e-300)
    expected = float(special.ndtri(probability))
    assert distributions.normal_quantile(probability) == pytest.approx(expected, rel=1e-10, abs=1e-10)


@given(chi2=st.floats(0, 500), df=st.integers(1, 60))
def test_the_tail_of_chi_square_agrees_with_scipy(chi2: float, df: int) -> None:
    assert distributions.chi_square_tail(chi2, df) == pytest.approx(
        float(special.chdtrc(df, chi2)), rel=1e-9, abs=1e-300
    )
