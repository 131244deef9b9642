"""Values printed elsewhere, and arithmetic done by hand."""

import math

import pytest

from turnout.experiments import comparisons, distributions, estimates, guardrails, power, samples, sequences
from turnout.experiments.samples import Buckets, Moments, Ranked


def pairs(values: list[tuple[float, float]]) -> Moments:
    """Sums of (value, denominator)."""
    return Moments(
        n=len(values),
        y=sum(y for y, _ in values),
        yy=sum(y * y for y, _ in values),
        d=sum(d for _, d in values),
        dd=sum(d * d for _, d in values),
        yd=sum(y * d for y, d in values),
    )


@pytest.mark.parametrize(
    ("values", "ratio", "se"),
    [
        pytest.param([(1, 2), (0, 1), (3, 4), (2, 3), (1, 1)], 0.636364, 0.0923995, id="treatment"),
        pytest.param([(1, 3), (0, 2), (1, 2), (2, 4), (0, 1)], 0.333333, 0.0982093, id="control"),
    ],
)
def test_a_ratio_by_the_delta_method(values: list[tuple[float, float]], ratio: float, se: float) -> None:
    found = estimates.estimate("ratio", pairs(values))
    assert found is not None
    assert found.m == pytest.approx(ratio, abs=5e-7)
    assert math.sqrt(found.v) == pytest.approx(se, abs=5e-8)


def test_cuped_takes_out_what_the_covariate_explains() -> None:
    y, x = [1, 3, 2, 5, 4, 6], [0, 2, 1, 4, 5, 6]
    sums = Moments(
        n=6,
        y=sum(y),
        yy=sum(v * v for v in y),
        x=sum(x),
        xx=sum(v * v for v in x),
        xy=sum(a * b for a, b in zip(y, x, strict=True)),
        n_x=6,
    )
    before, found = estimates.estimate("mean", sums), estimates.cuped(sums, sums)
    assert before is not None
    assert found is not None
    assert found.theta == pytest.approx(0.75)
    assert before.v * 6 == pytest.approx(3.5)
    assert found.treatment.v * 6 == pytest.approx(0.35)
    assert found.reduction == pytest.approx(0.9)
    assert (found.treatment.m, found.control.m) == pytest.approx((3.5, 3.5))


def test_ranks_around_a_quantile() -> None:
    z = distributions.normal_quantile(0.975)
    half = z * math.sqrt(0.95 * 0.05 / 10_000)
    assert (0.95 - half, 0.95 + half) == pytest.approx((0.945728, 0.954272), abs=5e-7)
    assert estimates.quantile_ranks(10_000, 0.95) == (9457, 9543)
    assert estimates.quantile_ranks(3, 0.95) == (2, 3)
    assert estimates.quantile_ranks(5, 0.05) == (1, 2)


def test_the_variance_of_a_quantile_comes_from_its_ranks() -> None:
    found = estimates.estimate("quantile", Ranked(n=10_000, low=0.9, value=1.0, high=1.2))
    assert found is not None
    assert found.m == 1.0
    assert math.sqrt(found.v) == pytest.approx(0.3 / (2 * 1.959964), rel=1e-6)


ONE_SIDED = {0.1: 4.133933, 0.25: 3.568880, 0.5: 3.399756, 2: 3.379528, 4: 3.439849}


@pytest.mark.parametrize(("ratio", "width"), ONE_SIDED.items())
def test_multiples_of_the_one_sided_bound(ratio: float, width: float) -> None:
    found = sequences.one_sided_width(ratio * 10_000, tightest_at=10_000, alpha=0.01)
    assert found == pytest.approx(width, abs=5e-7)


def test_the_example_of_the_one_sided_bound() -> None:
    found = sequences.one_sided(0.008, 0.002, n=20_000, tightest_at=10_000, alpha=0.01, side="lower")
    assert found.bound == pytest.approx(0.00124094, abs=5e-9)
    assert found.p_value == pytest.approx(0.0011256156, abs=5e-11)


def test_a_hundred_sub_buckets_widen_an_interval_by_six_thousandths() -> None:
    assert sequences.widened(1.0, 198, 0.05) == pytest.approx(1.006, abs=5e-4)
    assert sequences.widened(1.0, math.inf, 0.05) == 1.0


@pytest.mark.parametrize(("standardised", "units"), [(0.2, 393.4), (0.5, 63.77), (0.8, 25.52)])
def test_sample_sizes_of_cohen(standardised: float, units: float) -> None:
    found = power.units_of_t(standardised)
    assert found.control == pytest.approx(units, rel=2e-4)
    assert found.total == 2 * {0.2: 394, 0.5: 64, 0.8: 26}[standardised]


def test_a_one_sided_sample_size_from_the_noncentral_t() -> None:
    found = power.units_of_t(1.0, power.Aim(power=0.9, sides=1))
    assert found.control == pytest.approx(17.847, abs=5e-4)


def test_the_rule_of_sixteen() -> None:
    v, effect = 0.05 * 0.95, 0.0025
    assert 16 * v / effect**2 == pytest.approx(121_600)
    found = power.units_needed(effect, v, v)
    assert round(found.control) == 119_303
    assert found.control * effect**2 / v == pytest.approx(15.698, abs=5e-4)


def test_units_that_show_non_inferiority() -> None:
    found = power.units_for_margin(0.10, 0.85 * 0.15, 0.65 * 0.35, expected_harm=-0.20)
    assert found.control == pytest.approx(24.39, abs=5e-3)
    assert found.total == 50
    with pytest.raises(ValueError, match=r"0\.1 is not below the margin 0\.1"):
        power.units_for_margin(0.1, 1.0, 1.0, expected_harm=0.1)


BENJAMINI = [
    *(0.0001, 0.0004, 0.0019, 0.0095, 0.0201, 0.0278, 0.0298, 0.0344),
    *(0.0459, 0.3240, 0.4262, 0.5719, 0.6528, 0.7590, 1.0),
]


def test_the_fifteen_p_values_of_benjamini_and_hochberg() -> None:
    discovered = comparisons.benjamini_hochberg(BENJAMINI)
    assert sum(p <= 0.05 for p in discovered) == 4
    assert discovered[3] == pytest.approx(0.035625)
    assert sum(p <= 0.05 for p in comparisons.holm(BENJAMINI)) == 3
    assert sum(p <= 0.05 / 15 for p in BENJAMINI) == 3


def test_a_guardrail_at_the_planned_end() -> None:
    hits = [Moments(n=2500, y=y, yy=y) for y in (60, 50)]
    treatment, control = (estimates.estimate("conversion", sample) for sample in hits)
    assert treatment is not None
    assert control is not None
    harm = guardrails.harm(treatment, control, direction="down", alpha=0.05, planned_end=True)
    found = guardrails.judge(harm.d, harm.se, harm.n, 0.01, alpha=0.05, tightest_at=5000, planned_end=True)
    assert found.high == pytest.approx(0.0108236, abs=5e-8)
    assert found.state == "inconclusive"


def test_the_operating_characteristics_at_two_per_cent() -> None:
    assert power.power_of_proportions(0.024, 0.020, 30_000) == pytest.approx(0.92, abs=0.005)
    always = power.power_of_proportions(0.024, 0.020, 30_000, power.Aim(horizon="always"))
    assert always == pytest.approx(0.62, abs=0.01)


def test_estimates_of_sub_buckets_by_hand() -> None:
    # two sub-buckets: R = 3/12, e = 1 − 4/4 = 0 and 2 − 8/4 = 0; then errors that differ
    even = estimates.estimate("share", Buckets(sums=(1, 2, 0), counts=(4, 8, 0)))
    assert even is not None
    assert (even.m, even.v, even.n, even.df) == (0.25, 0.0, 12, 1.0)
    assert even.v_always == pytest.approx(0.5 / 144)
    odd = estimates.estimate("mean", Buckets(sums=(3, 0), counts=(4, 8)))
    assert odd is not None
    assert odd.v == pytest.approx(2 / 1 * (2.0**2 + 2.0**2) / 12**2)  # e = 3 − 1 and 0 − 2
    assert odd.v_always == odd.v
    assert estimates.estimate("share", Buckets(sums=(1.0, 0.0), counts=(4.0, 0.0))) is None
    assert estimates.estimate("share", samples.EMPTY) is None


def test_a_kind_is_not_computed_from_sums_of_another() -> None:
    with pytest.raises(TypeError, match="quantile is not computed from Buckets"):
        estimates.estimate("quantile", samples.EMPTY)
    with pytest.raises(TypeError, match="share is not computed from Moments"):
        estimates.estimate("share", samples.NOTHING)
