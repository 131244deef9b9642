"""What holds for all numbers: sums add up, intervals and p-values agree, judgements exclude each other."""

import doctest
import importlib
import math

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from turnout.experiments import (
    comparisons,
    distributions,
    estimates,
    guardrails,
    ratio_checks,
    samples,
    sequences,
    statistics,
)
from turnout.experiments.samples import Buckets, Estimate, Moments

counts = st.integers(0, 10**6)
effects = st.floats(-10, 10).filter(lambda d: d == 0 or abs(d) > 1e-6)
errors = st.floats(1e-3, 10)
units = st.integers(2, 10**6)
alphas = st.sampled_from([0.001, 0.01, 0.05, 0.1])


def sums_of(values: list[tuple[int, int, int | None]]) -> Moments:
    """Of (value, denominator, covariate or None)."""
    have = [(y, d, x) for y, d, x in values if x is not None]
    return Moments(
        n=len(values),
        y=sum(y for y, _, _ in values),
        yy=sum(y * y for y, _, _ in values),
        d=sum(d for _, d, _ in values),
        dd=sum(d * d for _, d, _ in values),
        yd=sum(y * d for y, d, _ in values),
        x=sum(x for _, _, x in have),
        xx=sum(x * x for _, _, x in have),
        xy=sum(x * y for y, _, x in have),
        xd=sum(x * d for _, d, x in have),
        n_x=len(have),
        y_x=sum(y for y, _, _ in have),
        d_x=sum(d for _, d, _ in have),
    )


rows = st.lists(st.tuples(st.integers(0, 9), st.integers(1, 9), st.one_of(st.none(), st.integers(0, 9))), max_size=30)


@given(a=rows, b=rows)
def test_sums_of_parts_are_the_sum_of_the_whole(
    a: list[tuple[int, int, int | None]], b: list[tuple[int, int, int | None]]
) -> None:
    assert sums_of(a) + sums_of(b) == sums_of(a + b)
    assert samples.NOTHING + sums_of(a) == sums_of(a)


def test_sums_that_nobody_counted_stay_unknown() -> None:
    counted, uncounted = Moments(n=1, y=1, yy=1, y_x=1.0, d_x=1.0), Moments(n=1, y=1, yy=1)
    assert (counted + uncounted).y_x is None
    assert (counted + counted).d_x == 2.0


def test_sub_buckets_add_cell_by_cell() -> None:
    one = Buckets(sums=(1.0, 2.0), counts=(3.0, 4.0))
    assert one + one == Buckets(sums=(2.0, 4.0), counts=(6.0, 8.0))
    assert (samples.EMPTY + samples.EMPTY).requests == 0.0
    with pytest.raises(ValueError, match="argument 2"):
        one + samples.EMPTY


@given(values=st.lists(st.tuples(st.integers(0, 5), st.integers(1, 9)), min_size=2, max_size=80))
def test_one_unit_a_sub_bucket_is_the_variance_of_the_units(values: list[tuple[int, int]]) -> None:
    by_bucket = estimates.estimate(
        "share", Buckets(sums=tuple(float(s) for s, _ in values), counts=tuple(float(c) for _, c in values))
    )
    by_unit = estimates.estimate("ratio", sums_of([(s, c, None) for s, c in values]))
    assert by_bucket is not None
    assert by_unit is not None
    assert (by_bucket.m, by_bucket.v, by_bucket.df) == pytest.approx((by_unit.m, by_unit.v, by_unit.df), abs=1e-12)


@given(seed=st.integers(0, 2**32 - 1), loss=st.floats(0, 1))
def test_empty_sub_buckets_say_nothing(seed: int, loss: float) -> None:
    rng = np.random.default_rng(seed)
    c = rng.integers(1, 50, 40) * (rng.random(40) > loss)
    s = rng.integers(0, c + 1)
    full = Buckets(sums=tuple(s.astype(float).tolist()), counts=tuple(c.astype(float).tolist()))
    kept = Buckets(sums=tuple(s[c > 0].astype(float).tolist()), counts=tuple(c[c > 0].astype(float).tolist()))
    assert estimates.estimate("share", full) == estimates.estimate("share", kept)


@given(d=effects, se=errors, n=units, n_star=units, alpha=alphas)
def test_an_interval_excludes_zero_exactly_when_its_p_value_is_below_alpha(
    d: float, se: float, n: int, n_star: int, alpha: float
) -> None:
    two = sequences.two_sided(d, se, n=n, tightest_at=n_star, alpha=alpha)
    assume(abs(two.p_value - alpha) > 1e-9)
    assert (two.interval.low > 0 or two.interval.high < 0) == (two.p_value < alpha)
    above = sequences.one_sided(d, se, n=n, tightest_at=n_star, alpha=alpha, side="lower")
    below = sequences.one_sided(d, se, n=n, tightest_at=n_star, alpha=alpha, side="upper")
    assume(min(abs(above.p_value - alpha), abs(below.p_value - alpha)) > 1e-9)
    assert (above.bound > 0) == (above.p_value < alpha)
    assert (below.bound < 0) == (below.p_value < alpha)


@given(d=effects, se=errors, n=units, n_star=units, alpha=alphas)
def test_bounds_mirror_each_other(d: float, se: float, n: int, n_star: int, alpha: float) -> None:
    above = sequences.one_sided(d, se, n=n, tightest_at=n_star, alpha=alpha, side="lower")
    below = sequences.one_sided(-d, se, n=n, tightest_at=n_star, alpha=alpha, side="upper")
    assert (above.bound, above.p_value) == (-below.bound, below.p_value)


@given(n=units, n_star=units, alpha=alphas)
def test_what_is_always_valid_is_wider_than_a_single_look(n: int, n_star: int, alpha: float) -> None:
    two = sequences.width(n, tightest_at=n_star, alpha=alpha)
    one = sequences.one_sided_width(n, tightest_at=n_star, alpha=alpha)
    assert two > statistics.t_quantile(1 - alpha / 2, math.inf)
    assert one > statistics.t_quantile(1 - alpha, math.inf)
    if n >= n_star / 10:
        assert one < two


@given(n_star=st.integers(100, 10**6), alpha=alphas, factor=st.floats(2, 100))
def test_at_the_planned_end_no_other_plan_gives_a_tighter_interval(n_star: int, alpha: float, factor: float) -> None:
    at_end = sequences.width(n_star, tightest_at=n_star, alpha=alpha)
    for elsewhere in (n_star * factor, n_star / factor):
        assert sequences.width(n_star, tightest_at=elsewhere, alpha=alpha) > at_end


@given(z=st.floats(1.0, 1e6))
def test_p_values_of_overwhelming_evidence_are_numbers(z: float) -> None:
    found = sequences.two_sided(z, 1.0, n=1000, tightest_at=1000)
    bound = sequences.one_sided(z, 1.0, n=1000, tightest_at=1000, side="lower")
    tiny = sequences.one_sided(1 / z**40, 1.0, n=1000, tightest_at=1000, side="lower")
    assert 0 <= found.p_value <= 1
    assert 0 <= bound.p_value <= 1
    assert tiny.p_value == pytest.approx(1.0)


@given(d=effects, se=errors, n=units, margin=st.floats(0, 5), alpha=alphas, end=st.booleans())
def test_a_guardrail_has_one_of_three_outcomes(
    d: float, se: float, n: int, margin: float, alpha: float, end: bool
) -> None:
    found = guardrails.judge(d, se, n, margin, alpha=alpha, tightest_at=10_000, planned_end=end)
    assert found.low < d < found.high
    assume(min(abs(found.p - alpha), abs(found.p_harmful - alpha)) > 1e-9)
    expected = "safe" if found.p < alpha else "harmful" if found.p_harmful < alpha else "inconclusive"
    assert found.state == expected


@given(d=effects, se=errors, n=units, margin=st.floats(0, 5))
def test_a_look_at_the_planned_end_judges_no_less_than_the_sequence(d: float, se: float, n: int, margin: float) -> None:
    always = guardrails.judge(d, se, n, margin, alpha=0.05, tightest_at=n)
    once = guardrails.judge(d, se, n, margin, alpha=0.05, tightest_at=n, planned_end=True)
    assert always.state in ("inconclusive", once.state)
    assert once.low >= always.low
    assert once.high <= always.high


@pytest.mark.parametrize("se", [0.0, math.nan])
def test_without_an_error_nothing_is_safe(se: float) -> None:
    found = guardrails.judge(-1.0, se, 1000, 0.1, alpha=0.05, tightest_at=1000)
    assert (found.state, found.low, found.high, found.p) == ("inconclusive", -math.inf, math.inf, 1.0)


def test_a_canary_without_any_error_is_not_safe_at_once() -> None:
    silent = Buckets(sums=(0.0,) * 100, counts=(1.0,) * 100)
    sides = [estimates.estimate("share", silent) for _ in range(2)]
    assert sides[0] is not None
    assert sides[1] is not None
    harm = guardrails.harm(sides[0], sides[1], direction="down", alpha=0.01)
    assert harm.se > 0
    early = guardrails.judge(harm.d, harm.se, harm.n, 0.005, alpha=0.01, tightest_at=1000)
    assert early.state == "inconclusive"
    more = Buckets(sums=(0.0,) * 100, counts=(50.0,) * 100)
    later = estimates.estimate("share", more)
    assert later is not None
    harm = guardrails.harm(later, later, direction="down", alpha=0.01)
    assert guardrails.judge(harm.d, harm.se, harm.n, 0.005, alpha=0.01, tightest_at=1000).state == "safe"


def test_many_silent_requests_of_few_units_are_not_safe() -> None:
    silent = Buckets(sums=(0.0,) * 100, counts=(50.0,) * 100)
    requests, units = (estimates.estimate("share", silent, units=units) for units in (None, 60))
    assert requests is not None
    assert units is not None
    assert (units.m, units.v) == (requests.m, requests.v) == (0.0, 0.0)
    none_of_sixty = estimates.estimate("conversion", Moments(n=60, y=0, yy=0))
    assert none_of_sixty is not None
    assert units.v_always == pytest.approx(none_of_sixty.v_always)
    harm = guardrails.harm(units, units, direction="down", alpha=0.01, n=120)
    judged = guardrails.judge(harm.d, harm.se, harm.n, 0.005, alpha=0.01, tightest_at=1000)
    assert judged.state == "inconclusive"


def test_harm_is_what_gets_worse() -> None:
    better = Estimate(m=0.3, v=0.0001, n=500, df=math.inf, v_always=0.0002)
    worse = Estimate(m=0.2, v=0.0001, n=500, df=math.inf, v_always=0.0002)
    assert guardrails.harm(worse, better, direction="up", alpha=0.05).d == pytest.approx(0.1)
    assert guardrails.harm(worse, better, direction="down", alpha=0.05).d == pytest.approx(-0.1)
    at_end = guardrails.harm(worse, better, direction="up", alpha=0.05, planned_end=True)
    assert at_end.n == 1000
    assert at_end.se == pytest.approx(math.sqrt(0.0002))
    assert guardrails.harm(worse, better, direction="up", alpha=0.05, n=7).n == 7


@given(p_values=st.lists(st.floats(0, 1), min_size=1, max_size=20))
def test_corrections_only_raise_p_values_and_keep_their_order(p_values: list[float]) -> None:
    strict, lenient = comparisons.holm(p_values), comparisons.benjamini_hochberg(p_values)
    for p, h, b in zip(p_values, strict, lenient, strict=True):
        assert p <= b + 1e-15 <= h + 2e-15 <= 1 + 3e-15
    order = sorted(range(len(p_values)), key=p_values.__getitem__)
    assert sorted(strict) == [strict[i] for i in order]


def test_alpha_is_shared() -> None:
    assert comparisons.share_of_variants(0.05, 2) == 0.05
    assert comparisons.share_of_variants(0.06, 4) == pytest.approx(0.02)
    assert comparisons.share_of_guardrails(0.01, 4) == 0.0025
    assert comparisons.share_of_guardrails(0.01, 0) == 0.01
    assert comparisons.holm([]) == comparisons.benjamini_hochberg([]) == ()


def test_lifts_on_two_scales() -> None:
    treatment = Estimate(m=1.2, v=0.01, n=100, df=99.0, v_always=0.01)
    control = Estimate(m=1.0, v=0.01, n=100, df=99.0, v_always=0.01)
    log = statistics.lift_interval(treatment, control, 1.96)
    linear = statistics.lift_interval(treatment, control, 1.96, scale="linear")
    assert log is not None
    assert linear is not None
    # v_t/m_c² + v_c·m_t²/m_c⁴ = 0.01 + 0.0144
    assert (linear.high - linear.low) / 2 / 1.96 == pytest.approx(math.sqrt(0.0244))
    assert (linear.high + linear.low) / 2 == pytest.approx(0.2)
    assert math.sqrt((1 + log.low) * (1 + log.high)) == pytest.approx(1.2)
    assert statistics.compare(treatment, control, "mean", scale="linear").lift_interval != log
    below = Estimate(m=-1.0, v=0.01, n=100, df=99.0, v_always=0.01)
    assert statistics.lift_interval(below, control, 1.96) is None
    assert statistics.compare(below, control, "mean").lift is None


def test_a_share_without_events_has_no_interval_of_its_own() -> None:
    silent = estimates.estimate("share", Buckets(sums=(0.0, 0.0), counts=(5.0, 5.0)))
    assert silent is not None
    assert statistics.interval(silent, "share") is None
    noisy = estimates.estimate("share", Buckets(sums=(1.0, 0.0, 0.0), counts=(5.0, 5.0, 5.0)))
    assert noisy is not None
    found = statistics.interval(noisy, "share")
    assert found is not None
    half = statistics.t_quantile(0.975, 2) * math.sqrt(noisy.v)
    assert (found.low, found.high) == pytest.approx((noisy.m - half, noisy.m + half))


def test_too_few_units_have_no_estimate() -> None:
    assert estimates.estimate("conversion", samples.NOTHING) is None
    assert estimates.estimate("ratio", Moments(n=5, y=0, yy=0)) is None
    assert estimates.estimate("quantile", samples.Ranked(n=1, low=1.0, value=1.0, high=1.0)) is None
    assert distributions.t_quantile(0.975, math.inf) == distributions.normal_quantile(0.975)


def test_values_that_do_not_vary_have_no_sequence() -> None:
    same = estimates.estimate("mean", Moments(n=200, y=200, yy=200))
    assert same is not None
    assert sequences.compare(same, same, tightest_at=400) is None


def test_a_covariate_that_says_nothing_changes_nothing() -> None:
    without = Moments(n=10, y=5, yy=9)
    assert estimates.cuped(without, without) is None
    constant = Moments(n=10, y=5, yy=9, x=20, xx=40, xy=10, n_x=10)
    assert estimates.cuped(constant, constant) is None
    assert estimates.cuped(Moments(n=1, y=1, yy=1, x=1, xx=1, xy=1, n_x=1), constant) is None


def test_units_that_changed_sides() -> None:
    assert ratio_checks.crossovers(0, 0).verdict == "fine"
    assert ratio_checks.crossovers(10, 990).verdict == "fine"
    assert ratio_checks.crossovers(11, 989).verdict == "mismatch"
    uneven = ratio_checks.crossovers(90, 100_000, began_in={"a": 80, "b": 10}, weights={"a": 1, "b": 1})
    assert uneven.verdict == "mismatch"
    assert uneven.p_value is not None
    assert uneven.p_value < 1e-6
    even = ratio_checks.crossovers(90, 100_000, began_in={"a": 48, "b": 42}, weights={"a": 1, "b": 1})
    assert even.verdict == "fine"


def test_a_ratio_is_suspect_before_it_is_a_mismatch() -> None:
    verdicts = []
    for a in (500, 560, 600):
        found = ratio_checks.check({"a": a, "b": 1000 - a}, {"a": 1, "b": 1})
        assert found is not None
        verdicts.append(found.verdict)
        assert found.sequential_p == pytest.approx(min(1.0, math.exp(-found.ln_e)))
    assert verdicts == ["fine", "suspect", "mismatch"]


MODULES = (
    "comparisons",
    "distributions",
    "duration",
    "estimates",
    "guardrails",
    "power",
    "ratio_checks",
    "replay",
    "sequences",
    "statistics",
)


@pytest.mark.parametrize("name", MODULES)
def test_examples_in_docstrings_are_right(name: str) -> None:
    found = doctest.testmod(importlib.import_module(f"turnout.experiments.{name}"))
    assert found.attempted > 0
    assert found.failed == 0
