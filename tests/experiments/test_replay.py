"""Logged units with variants at random: what a metric then claims."""

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from turnout.experiments import estimates, replay, samples, sequences, statistics
from turnout.experiments.samples import Moments

Array = NDArray[Any]


def columns(seed: int, units: int) -> tuple[Array, Array, Array]:
    """Values, denominators and covariates (some missing), skewed and related."""
    rng = np.random.default_rng(seed)
    habit = rng.gamma(2.0, 1.0, units)
    d = rng.poisson(3 * habit) + 1.0
    x = rng.poisson(2 * habit).astype(float)
    x[rng.random(units) < 0.2] = np.nan
    return rng.poisson(habit).astype(float), d, x


CASES = {
    "conversion": ("conversion", False),
    "mean": ("mean", False),
    "ratio": ("ratio", False),
    "adjusted conversion": ("conversion", True),
    "adjusted mean": ("mean", True),
    "adjusted ratio": ("ratio", True),
}


def given_columns(name: str, seed: int, units: int) -> tuple[samples.Kind, replay.Columns]:
    kind, adjusted = CASES[name]
    y, d, x = columns(seed, units)
    y = (y > 1).astype(float) if kind == "conversion" else y
    return kind, replay.Columns(y=y, d=d if kind == "ratio" else None, x=x if adjusted else None)  # type: ignore[return-value]


@pytest.mark.parametrize("name", CASES)
def test_a_sound_metric_is_usable(name: str) -> None:
    kind, units = given_columns(name, 1, 6000)
    found = replay.replay(kind, units, replay.Design(runs=600, seed=2))
    assert found.verdict == "usable"
    assert found.false_ratio == pytest.approx(0.05, abs=0.03)
    assert found.false_interval.low <= found.false_ratio <= found.false_interval.high
    assert found.any_look_ratio <= 0.05
    assert found.uniform_p > 0.001
    assert (found.runs, found.units, found.looks, len(found.p_values)) == (600, 6000, 30, 600)


@pytest.mark.parametrize("name", CASES)
def test_a_thousand_runs_of_a_hundred_thousand_units(name: str) -> None:
    kind, units = given_columns(name, 3, 100_000)
    found = replay.replay(kind, units)
    assert found.verdict == "usable"
    assert found.false_ratio == pytest.approx(0.05, abs=0.021)
    assert found.any_look_ratio <= 0.03


def sums(y: Array, d: Array, x: Array) -> Moments:
    have = ~np.isnan(x)
    filled = np.where(have, x, 0.0)
    return Moments(
        n=len(y),
        y=float(y.sum()),
        yy=float(y @ y),
        d=float(d.sum()),
        dd=float(d @ d),
        yd=float(y @ d),
        x=float(filled.sum()),
        xx=float(filled @ filled),
        xy=float(filled @ y),
        xd=float(filled @ d),
        n_x=int(have.sum()),
        y_x=float(y[have].sum()),
        d_x=float(d[have].sum()),
    )


def alone(kind: samples.Kind, sides: list[Moments], adjusted: bool) -> tuple[float, bool]:
    """p-value, and whether the sequence (N* 100, alpha 0.9) excludes 0, of one run."""
    tested: samples.Kind = "mean" if adjusted and kind != "ratio" else kind
    treatment, control = (estimates.estimate(kind, side) for side in sides)
    if adjusted:
        found = estimates.cuped(sides[0], sides[1], kind)
        assert found is not None
        treatment, control = found.treatment, found.control
    assert treatment is not None
    assert control is not None
    valid = sequences.compare(treatment, control, tightest_at=100.0, alpha=0.9)
    p_value = statistics.compare(treatment, control, tested).p_value
    assert valid is not None
    assert p_value is not None
    ready = min(side.n for side in sides) >= sequences.MIN_UNITS
    return p_value, ready and not valid.interval.low <= 0 <= valid.interval.high


@pytest.mark.parametrize("ratio", [0.5, 0.2])
@pytest.mark.parametrize("name", CASES)
def test_all_runs_at_once_say_what_each_alone_would(name: str, ratio: float) -> None:
    kind, units = given_columns(name, 5, 900)
    design = replay.Design(runs=40, looks=3, treatment_ratio=ratio, tightest_at=100.0, alpha=0.9, seed=6)
    found = replay.replay(kind, units, design)
    y, d = units.y, np.ones(900) if units.d is None else units.d
    x = np.full(900, np.nan) if units.x is None else units.x
    rng = np.random.default_rng(6)
    treated = np.concatenate([replay.draw(rng, (40, 300), ratio) for _ in range(3)], axis=1).astype(bool)
    crossed = 0
    for run in range(40):
        looks = []
        for end in (300, 600, 900):
            mask = treated[run, :end]
            sides = [sums(y[:end][m], d[:end][m], x[:end][m]) for m in (mask, ~mask)]
            looks.append(alone(kind, sides, units.x is not None))
        assert found.p_values[run] == pytest.approx(looks[-1][0], rel=1e-5)
        crossed += any(excluded for _, excluded in looks)
    # a missing covariate is the mean of the others over all units there, of those so far here
    assert found.any_look_ratio == pytest.approx(crossed / 40, abs=0.05 if units.x is not None else 0.0)
    assert crossed > 0


def test_a_tail_that_is_too_heavy_is_timid() -> None:
    y = np.zeros(2000)
    y[0], y[1] = 1e6, 1e-3  # one unit is the whole metric
    found = replay.replay("mean", replay.Columns(y=y), replay.Design(runs=500))
    assert found.verdict == "timid"
    assert found.false_ratio < 0.01


def test_more_false_findings_than_alpha_alarm() -> None:
    # 90 % of units in treatment, and one of the rare ones in control decides: Welch's t finds too much
    y = np.zeros(600)
    y[:40] = 1.0
    found = replay.replay("mean", replay.Columns(y=y), replay.Design(runs=1000, treatment_ratio=0.95, looks=5))
    assert found.verdict == "alarms"


def test_the_same_seed_gives_the_same_replay_whatever_the_blocks() -> None:
    kind, units = given_columns("mean", 8, 1000)
    first = replay.replay(kind, units, replay.Design(runs=50, seed=1))
    assert replay.replay(kind, units, replay.Design(runs=50, seed=1)) == first
    assert replay.replay(kind, units, replay.Design(runs=50, seed=2)) != first


def test_a_metric_without_variation_finds_nothing() -> None:
    found = replay.replay("conversion", replay.Columns(y=np.zeros(300)), replay.Design(runs=20))
    assert (found.false_ratio, found.any_look_ratio, set(found.p_values)) == (0.0, 0.0, {1.0})


def test_what_cannot_be_replayed_is_said() -> None:
    with pytest.raises(ValueError, match="59 units are too few for 30 looks; at least 60 are needed"):
        replay.replay("mean", replay.Columns(y=np.ones(59)))
    with pytest.raises(ValueError, match="columns differ in length: y 100, d 99, x 100"):
        replay.replay("ratio", replay.Columns(y=np.ones(100), d=np.ones(99)))
    with pytest.raises(ValueError, match="quantile cannot be replayed"):
        replay.replay("quantile", replay.Columns(y=np.ones(100)))


def test_the_interval_of_a_share_of_runs() -> None:
    assert replay.binomial_interval(0, 10).low == 0.0
    assert replay.binomial_interval(10, 10).high == 1.0
    assert replay.binomial_interval(0, 10).high == pytest.approx(1 - 0.025 ** (1 / 10))
