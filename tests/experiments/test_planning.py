"""How long an experiment takes, and what waiting for an always-valid answer costs."""

import math
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from turnout.experiments import duration, estimates, power
from turnout.experiments.samples import Moments


def saturating(days: int, limit: float = 10_000.0, rate: float = 0.2) -> list[float]:
    """Unique units of a closed audience."""
    return [limit * (1 - math.exp(-rate * day)) for day in range(1, days + 1)]


def heaps(days: int, growth: float, first: float = 1000.0) -> list[float]:
    return [first * day**growth for day in range(1, days + 1)]


def test_days_within_the_curve_are_read_off() -> None:
    found = duration.runtime([100, 180, 240, 280], 210)
    assert (found.basis, found.days, found.earliest, found.latest) == ("measured", 2.5, 2.5, 2.5)
    assert found.run_days == 7
    assert duration.runtime([100, 180, 240, 280], 210, min_days=0).run_days == 3
    assert duration.runtime([100, 180, 240, 280], 210, min_days=0, window_days=7).run_days == 10
    assert duration.runtime([100, 100, 100], 100, min_days=0).days == 1.0


def test_a_share_of_the_units_takes_longer() -> None:
    whole, half = duration.runtime(heaps(28, 0.8), 5000), duration.runtime(heaps(28, 0.8), 5000, share=0.5)
    assert whole.days is not None
    assert half.days == pytest.approx(2 ** (1 / 0.8) * whole.days, rel=0.02)


@pytest.mark.parametrize("growth", [0.5, 0.8, 1.0])
def test_beyond_the_data_the_curve_goes_on_as_a_power(growth: float) -> None:
    asked = 1000 * 40**growth
    found = duration.runtime(heaps(20, growth), asked)
    assert found.basis == "extrapolated"
    assert found.days is not None
    assert found.earliest is not None
    assert found.days == pytest.approx(40, rel=0.02)
    assert found.earliest <= found.days * 1.001
    assert found.latest is None or found.latest >= found.days


def test_an_audience_that_is_used_up_never_suffices() -> None:
    found = duration.runtime(saturating(14), 12_000)
    assert found.latest is None
    assert found.earliest is not None
    stopped = duration.runtime([100, 200, 300, 400, 410, 410, 410], 450)
    assert stopped.latest is None
    enough = duration.runtime(saturating(7), 9500)  # reached on day 15
    assert enough.basis == "extrapolated"
    assert enough.earliest is not None
    assert enough.latest is not None
    assert enough.earliest < 15
    assert enough.latest == pytest.approx(14.98, abs=0.01)  # 1 − exp(−0.2 t) = 0.95


@pytest.mark.parametrize(
    ("curve", "units"),
    [
        pytest.param([], 10, id="no data"),
        pytest.param([100], 1000, id="one day"),
        pytest.param([0, 0, 0], 10, id="nobody"),
        pytest.param([100, 100, 100], 1000, id="nobody new"),
        pytest.param([0, 100, 100, 150, 150, 150, 150, 150, 150, 150, 150, 150], 1000, id="nobody new lately"),
        pytest.param(heaps(10, 1.0), 31_000, id="more than three times the data"),
    ],
)
def test_too_far_beyond_the_data_there_is_no_answer(curve: list[float], units: float) -> None:
    found = duration.runtime(curve, units)
    assert (found.basis, found.days, found.run_days) == ("out-of-reach", None, None)
    assert found.measured_days == len(curve)


@given(
    new=st.lists(st.integers(0, 1000), min_size=2, max_size=60), units=st.integers(1, 10**6), share=st.floats(0.01, 1)
)
def test_the_answer_is_a_range_around_its_middle(new: list[int], units: int, share: float) -> None:
    curve = [float(sum(new[: day + 1])) for day in range(len(new))]
    found = duration.runtime(curve, units, share=share)
    assert (found.days is None) == (found.basis == "out-of-reach") == (found.run_days is None)
    if found.days is not None:
        assert found.earliest is not None
        assert found.earliest <= found.days + 1e-9
        assert found.latest is None or found.days <= found.latest + 1e-9
        assert (found.basis == "measured") == (curve[-1] * share >= units * (1 - 1e-12))
        assert found.run_days is not None
        assert found.run_days >= max(7, found.days - 1e-6)


def test_looking_every_day_costs_units() -> None:
    fixed = power.units_needed(0.01, 0.09, 0.09)
    always = power.units_needed(0.01, 0.09, 0.09, power.Aim(horizon="always"))
    assert 1.8 < always.total / fixed.total < 2.0


@pytest.mark.parametrize("tightest_at", [500.0, 50_000.0, 1e8])
@pytest.mark.parametrize("sides", [1, 2])
def test_an_interval_tightest_elsewhere_costs_more(tightest_at: float, sides: Literal[1, 2]) -> None:
    at_end = power.units_needed(0.01, 0.09, 0.09, power.Aim(horizon="always", sides=sides))
    aim = power.Aim(horizon="always", tightest_at=tightest_at, sides=sides)
    elsewhere = power.units_needed(0.01, 0.09, 0.09, aim)
    assert elsewhere.control > at_end.control
    assert power.power(0.01, elsewhere, 0.09, 0.09, aim) == pytest.approx(0.8, abs=1e-6)
    assert power.mde(elsewhere.treatment, elsewhere.control, 0.09, 0.09, aim) == pytest.approx(0.01, rel=1e-6)
    proportions = power.units_of_proportions(0.11, 0.1, aim)
    assert power.power_of_proportions(0.11, 0.1, proportions.control, aim) == pytest.approx(0.8, abs=1e-6)


def test_a_guardrail_asks_one_question_so_it_needs_fewer_units() -> None:
    for aim in (power.Aim(), power.Aim(horizon="always")):
        both = power.units_needed(0.01, 0.09, 0.09, aim)
        one = power.units_for_margin(0.01, 0.09, 0.09, aim)
        assert one.total < both.total
        benefit = power.units_for_margin(0.01, 0.09, 0.09, aim, expected_harm=-0.01)
        assert benefit.control == pytest.approx(one.control / 4)


@pytest.mark.parametrize("units", [96.56929814852603, 2000.0, 1e6])
def test_the_power_of_large_effects_is_a_number(units: float) -> None:
    # scipy 1.17 answers NaN for tails of the noncentral t as far out as these
    assert 0.96 < power.power_of_t(0.7474481428834399, units, power.Aim(alpha=0.001)) <= 1.0


def test_an_uneven_split_needs_more_units_in_all() -> None:
    even, uneven = (
        power.units_needed(0.01, 0.1, 0.1),
        power.units_needed(0.01, 0.1, 0.1, power.Aim(treatment_ratio=0.25)),
    )
    assert uneven.treatment == pytest.approx(uneven.control / 4)
    assert uneven.total > 1.5 * even.total
    assert power.mde(uneven.treatment, uneven.control, 0.1, 0.1) == pytest.approx(0.01)


def test_the_spread_of_a_unit_comes_from_an_estimate() -> None:
    found = estimates.estimate("mean", Moments(n=6, y=21, yy=91))
    assert found is not None
    assert power.spread(found) == pytest.approx(3.5)
