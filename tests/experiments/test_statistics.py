"""Published values, and other libraries on random inputs."""

import math

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy import stats
from statsmodels.stats import proportion, weightstats

from turnout.experiments import distributions, estimates, ratio_checks, samples, sequences, statistics
from turnout.experiments.samples import Moments


def moments(values: list[float]) -> Moments:
    return Moments(n=len(values), y=math.fsum(values), yy=math.fsum(v * v for v in values))


def from_sd(n: int, mean: float, sd: float) -> Moments:
    return Moments(n=n, y=n * mean, yy=(n - 1) * sd * sd + n * mean * mean)


def hits(x: int, n: int) -> Moments:
    return Moments(n=n, y=x, yy=x)


def always_valid(
    treatment: Moments, control: Moments, kind: samples.Kind, *, tightest_at: float, alpha: float = 0.05
) -> sequences.Sequence | None:
    found_t, found_c = estimates.estimate(kind, treatment), estimates.estimate(kind, control)
    if found_t is None or found_c is None:
        return None
    return sequences.compare(found_t, found_c, tightest_at=tightest_at, alpha=alpha)


def own_interval(sample: Moments, kind: samples.Kind) -> samples.Interval | None:
    found = estimates.estimate(kind, sample)
    return None if found is None else statistics.interval(found, kind)


def test_welch_from_moments_as_in_the_nist_handbook() -> None:
    found = statistics.difference(from_sd(249, 20.14458, 6.41470), from_sd(79, 30.48101, 6.10771), "mean")
    assert found is not None
    assert found.estimate / found.se == pytest.approx(-12.94627, abs=5e-6)
    assert found.df == pytest.approx(136.8750, abs=5e-5)


def test_pooled_z_of_two_proportions() -> None:
    found = statistics.difference(hits(5, 83), hits(12, 99), "conversion")
    assert found is not None
    assert found.p_value == pytest.approx(0.159, abs=0.0005)
    assert distributions.normal_quantile((found.p_value or 0) / 2) == pytest.approx(-1.40783, abs=5e-6)


def test_the_aspirin_trial() -> None:
    found = statistics.difference(hits(189, 11_034), hits(104, 11_037), "conversion")
    assert found is not None
    assert found.interval is not None
    assert found.lift_interval is not None
    assert found.lift is not None
    assert found.estimate == pytest.approx(0.0077, abs=5e-5)
    assert [found.interval.low, found.interval.high] == pytest.approx([0.00469, 0.01072], abs=5e-6)
    assert found.lift + 1 == pytest.approx(1.8178, abs=5e-5)
    assert [1 + found.lift_interval.low, 1 + found.lift_interval.high] == pytest.approx([1.4330, 2.3059], abs=5e-5)


@pytest.mark.parametrize(
    ("counts", "weights", "chi2", "df", "p_value"),
    [
        pytest.param((315, 108, 101, 32), (9, 3, 3, 1), 0.470024, 3, 0.9254, id="peas"),
        pytest.param((89, 37, 30, 28, 2), (40, 20, 20, 15, 5), 9.9901, 4, 0.04059, id="chisq.test"),
    ],
)
def test_chi_square_of_unequal_weights(
    counts: tuple[int, ...], weights: tuple[float, ...], chi2: float, df: int, p_value: float
) -> None:
    named = dict(zip("abcde", counts, strict=False)), dict(zip("abcde", weights, strict=False))
    found = ratio_checks.check(*named)
    assert found is not None
    assert found.chi2 == pytest.approx(chi2, abs=5e-5)
    assert found.df == df
    assert found.p_value == pytest.approx(p_value, abs=5e-5)


@pytest.mark.parametrize(
    ("a", "b", "share", "ln_e"),
    [(600, 400, 0.5, 17.0989), (550, 450, 0.5, 3.3547), (51_000, 49_000, 0.5, 16.5247), (95, 5, 0.9, 0.5343)],
)
def test_sequential_ratio_check(a: int, b: int, share: float, ln_e: float) -> None:
    found = ratio_checks.check({"a": a, "b": b}, {"a": 100 * share, "b": 100 * (1 - share), "off": 0})
    assert found is not None
    assert found.ln_e == pytest.approx(ln_e, abs=5e-5)


def first_alarm(share: float, steps: range) -> int:
    for n in steps:
        found = ratio_checks.check({"a": round(n * share), "b": n - round(n * share)}, {"a": 1, "b": 1})
        if found is not None and found.ln_e > math.log(ratio_checks.E):
            return n
    raise AssertionError


def test_sequential_ratio_check_fires_as_early_as_published() -> None:
    assert first_alarm(0.9, range(1, 500)) == pytest.approx(60, abs=10)
    assert first_alarm(0.6, range(1, 2000)) == pytest.approx(470, abs=30)
    assert first_alarm(0.52, range(5000, 20_000, 100)) == pytest.approx(11_700, abs=300)


def test_variants_without_weight_leave_the_ratio_check() -> None:
    with_off = ratio_checks.check({"a": 60, "b": 40, "off": 7}, {"a": 1, "b": 1, "off": 0})
    assert with_off == ratio_checks.check({"a": 60, "b": 40}, {"a": 1, "b": 1})
    assert ratio_checks.check({"a": 60, "off": 4}, {"a": 1, "off": 0}) is None
    assert ratio_checks.check({}, {"a": 1, "b": 1}) is None


WIDTHS = {
    0.01: {0.1: 4.316014, 0.25: 3.772507, 0.5: 3.612623, 2: 3.595605, 4: 3.653288},
    0.10: {0.1: 3.625847, 0.25: 3.010643, 0.5: 2.817421, 2: 2.791028, 4: 2.861191},
}


@pytest.mark.parametrize("alpha", WIDTHS)
def test_multiples_of_the_always_valid_interval(alpha: float) -> None:
    for ratio, width in WIDTHS[alpha].items():
        assert sequences.width(ratio * 10_000, tightest_at=10_000, alpha=alpha) == pytest.approx(width, abs=5e-7)


def test_the_example_of_the_always_valid_interval() -> None:
    # two samples of 10,000 with d = 0.008 and se = 0.002
    n, v = 10_000, 0.002**2 / 2
    xx = v * n * (n - 1)
    treatment = Moments(n=n, y=n * 0.008, yy=xx + n * 0.008**2)
    found = always_valid(treatment, Moments(n=n, y=0.0, yy=xx), "mean", tightest_at=10_000, alpha=0.01)
    assert found is not None
    assert found.interval.high - 0.008 == pytest.approx(0.0071912, abs=5e-8)
    assert found.p_value == pytest.approx(0.00229466, abs=5e-9)


def test_the_always_valid_interval_excludes_zero_exactly_when_its_p_value_is_small() -> None:
    for x in range(60, 160, 2):
        found = always_valid(hits(x, 1000), hits(100, 1000), "conversion", tightest_at=2000)
        assert found is not None
        outside = not found.interval.low <= 0 <= found.interval.high
        assert outside == (found.p_value < 0.05)


def test_no_events_never_give_an_interval_of_width_zero() -> None:
    nothing, some = hits(0, 200), hits(3, 200)
    fixed = statistics.difference(nothing, nothing, "conversion")
    assert fixed is not None
    assert (fixed.interval, fixed.p_value, fixed.lift) == (None, None, None)
    one_sided = statistics.difference(some, nothing, "conversion")
    assert one_sided is not None
    assert one_sided.interval is None
    assert one_sided.p_value == pytest.approx(0.0824, abs=0.001)
    valid = always_valid(nothing, nothing, "conversion", tightest_at=1000)
    assert valid is not None
    assert valid.interval.high > 0.005
    assert valid.p_value == 1.0
    own = own_interval(nothing, "conversion")
    assert own is not None
    assert own.low == 0.0
    assert own.high == pytest.approx(0.018846, abs=1e-5)


def test_too_few_units_give_nothing() -> None:
    none, one, two = Moments(n=0, y=0, yy=0), moments([1.0]), moments([1.0, 2.0])
    assert statistics.difference(none, hits(1, 5), "conversion") is None
    assert statistics.difference(one, two, "mean") is None
    assert statistics.difference(two, two, "mean") is not None
    assert always_valid(none, hits(1, 5), "conversion", tightest_at=10) is None
    assert always_valid(one, two, "mean", tightest_at=10) is None
    assert own_interval(none, "conversion") is None
    assert math.isnan(none.mean)


def test_values_without_spread_claim_nothing() -> None:
    found = statistics.difference(moments([2.0, 2.0]), moments([1.0, 1.0]), "mean")
    assert found is not None
    assert (found.estimate, found.interval, found.p_value, found.lift) == (1.0, None, None, 1.0)


numbers = st.lists(st.floats(-1e3, 1e3).map(lambda v: round(v, 3)), min_size=2, max_size=40)


@given(treatment=numbers, control=numbers, alpha=st.sampled_from([0.01, 0.05, 0.1]))
def test_means_agree_with_scipy(treatment: list[float], control: list[float], alpha: float) -> None:
    assume(len(set(treatment)) > 1 and len(set(control)) > 1)
    found = statistics.difference(moments(treatment), moments(control), "mean", alpha=alpha)
    oracle = stats.ttest_ind(treatment, control, equal_var=False)
    expected = oracle.confidence_interval(1 - alpha)
    assert found is not None
    assert found.interval is not None
    assert found.p_value == pytest.approx(oracle.pvalue, rel=1e-6, abs=1e-12)
    assert found.df == pytest.approx(oracle.df, rel=1e-6)
    scale = 1e-7 * max(1.0, abs(expected.high), abs(expected.low))
    assert [found.interval.low, found.interval.high] == pytest.approx([expected.low, expected.high], abs=scale)


@given(treatment=numbers, control=numbers)
def test_means_agree_with_statsmodels(treatment: list[float], control: list[float]) -> None:
    assume(len(set(treatment)) > 1 and len(set(control)) > 1)
    found = statistics.difference(moments(treatment), moments(control), "mean")
    compare = weightstats.CompareMeans(weightstats.DescrStatsW(treatment), weightstats.DescrStatsW(control))
    low, high = compare.tconfint_diff(usevar="unequal")
    assert found is not None
    assert found.interval is not None
    scale = 1e-7 * max(1.0, abs(low), abs(high))
    assert [found.interval.low, found.interval.high] == pytest.approx([low, high], abs=scale)


@given(n_t=st.integers(2, 10**6), n_c=st.integers(2, 10**6), a=st.floats(0, 1), b=st.floats(0, 1))
def test_conversions_agree_with_statsmodels(n_t: int, n_c: int, a: float, b: float) -> None:
    x_t, x_c = round(a * n_t), round(b * n_c)
    assume(0 < x_t < n_t and 0 < x_c < n_c)
    found = statistics.difference(hits(x_t, n_t), hits(x_c, n_c), "conversion")
    low, high = proportion.confint_proportions_2indep(x_t, n_t, x_c, n_c, method="wald", compare="diff")
    ratio = proportion.confint_proportions_2indep(x_t, n_t, x_c, n_c, method="log", compare="ratio")
    _, p_value = proportion.proportions_ztest([x_t, x_c], [n_t, n_c])
    assert found is not None
    assert found.interval is not None
    assert found.lift_interval is not None
    assert [found.interval.low, found.interval.high] == pytest.approx([low, high], rel=1e-9, abs=1e-12)
    assert [1 + found.lift_interval.low, 1 + found.lift_interval.high] == pytest.approx(ratio, rel=1e-9)
    assert found.p_value == pytest.approx(p_value, rel=1e-9, abs=1e-300)
    own = own_interval(hits(x_t, n_t), "conversion")
    assert own is not None
    assert [own.low, own.high] == pytest.approx(proportion.proportion_confint(x_t, n_t, method="wilson"), rel=1e-9)


@given(counts=st.lists(st.integers(0, 10**6), min_size=2, max_size=6), seed=st.data())
def test_ratio_check_agrees_with_scipy(counts: list[int], seed: st.DataObject) -> None:
    weights = seed.draw(st.lists(st.floats(0.01, 100), min_size=len(counts), max_size=len(counts)))
    assume(sum(counts) > 0)
    found = ratio_checks.check(dict(zip("abcdef", counts, strict=False)), dict(zip("abcdef", weights, strict=False)))
    expected = [sum(counts) * weight / math.fsum(weights) for weight in weights]
    oracle = stats.chisquare(counts, expected)
    assert found is not None
    assert found.chi2 == pytest.approx(oracle.statistic, rel=1e-9, abs=1e-9)
    assert found.p_value == pytest.approx(oracle.pvalue, rel=1e-6, abs=1e-12)
