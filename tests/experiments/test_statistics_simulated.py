"""What the intervals promise, on simulated experiments with a fixed seed."""

import math
from collections.abc import Callable, Iterator
from typing import Any, TypeAlias

import numpy as np
import pytest
from numpy.typing import NDArray

from turnout.experiments import estimates, guardrails, ratio_checks, samples, sequences, statistics
from turnout.experiments.samples import Buckets, Estimate, Moments

LOOKS = 30
PER_LOOK = 1000
RUNS = 400

Array: TypeAlias = NDArray[Any]
Pair: TypeAlias = tuple[Moments, Moments]


def known(found: Estimate | None) -> Estimate:
    assert found is not None
    return found


def looks(rng: np.random.Generator, rate_c: float, rate_t: float) -> list[Pair]:
    """Growing totals of (treatment, control), one pair a look."""
    totals = np.cumsum(rng.binomial(PER_LOOK, [rate_t, rate_c], size=(LOOKS, 2)), axis=0)
    return [
        (Moments(n=n, y=float(t), yy=float(t)), Moments(n=n, y=float(c), yy=float(c)))
        for n, (t, c) in zip(range(PER_LOOK, PER_LOOK * (LOOKS + 1), PER_LOOK), totals, strict=True)
    ]


def always_valid(pair: Pair) -> samples.Interval:
    found_t, found_c = (known(estimates.estimate("conversion", sample)) for sample in pair)
    found = sequences.compare(found_t, found_c, tightest_at=2 * LOOKS * PER_LOOK)
    assert found is not None
    return found.interval


def fixed(pair: Pair) -> samples.Interval:
    found = statistics.difference(*pair, "conversion")
    assert found is not None
    assert found.interval is not None
    return found.interval


def test_peeking_breaks_the_fixed_interval_and_not_the_always_valid_one() -> None:
    rng = np.random.default_rng(1)
    wrong_always = wrong_fixed = wrong_at_end = 0
    for _ in range(RUNS):
        pairs = looks(rng, 0.02, 0.02)
        wrong_always += any(not (i.low <= 0 <= i.high) for i in map(always_valid, pairs))
        wrong_fixed += any(not (i.low <= 0 <= i.high) for i in map(fixed, pairs))
        end = fixed(pairs[-1])
        wrong_at_end += not end.low <= 0 <= end.high
    assert wrong_always / RUNS <= 0.05
    assert 0.02 < wrong_at_end / RUNS < 0.08
    assert wrong_fixed / RUNS > 0.15


def test_the_always_valid_interval_covers_the_effect_at_every_look_and_finds_it() -> None:
    rng = np.random.default_rng(2)
    missed = found = at_end = 0
    for _ in range(RUNS):
        intervals = [always_valid(pair) for pair in looks(rng, 0.02, 0.024)]
        missed += any(not (i.low <= 0.004 <= i.high) for i in intervals)
        found += any(i.low > 0 for i in intervals)
        at_end += intervals[-1].low > 0
    assert missed / RUNS <= 0.05
    assert found / RUNS == pytest.approx(0.68, abs=0.07)
    assert at_end / RUNS == pytest.approx(0.62, abs=0.07)


def test_the_sequential_ratio_check_seldom_alarms_without_cause() -> None:
    rng = np.random.default_rng(3)
    alarms = 0
    for _ in range(RUNS):
        counts = np.cumsum(rng.binomial(PER_LOOK, 0.5, size=LOOKS))
        totals = zip(range(PER_LOOK, PER_LOOK * (LOOKS + 1), PER_LOOK), counts.tolist(), strict=True)
        checks = [ratio_checks.check({"a": a, "b": n - a}, {"a": 1, "b": 1}) for n, a in totals]
        alarms += any(check is not None and check.verdict == "mismatch" for check in checks)
    assert alarms / RUNS <= 0.005


# Metrics of units with a value, a denominator and a covariate ------------------------------------------------

UNITS_PER_LOOK = 100

Judge: TypeAlias = Callable[[Moments, Moments], tuple[Estimate, Estimate]]


def experiments(seed: int, runs: int, lift: float = 0.0) -> Iterator[list[Pair]]:
    """Runs of growing sums. Values follow a unit's habit, are skewed, and rise by `lift` in treatment."""
    rng = np.random.default_rng(seed)
    for _ in range(runs):
        shape = (LOOKS, 2, UNITS_PER_LOOK)
        habit = rng.gamma(2.0, 1.0, shape)
        d = rng.poisson(2 * habit) + 1.0
        y = rng.poisson(habit) + rng.standard_exponential(shape) * 0.2 * d
        y[:, 0] = y[:, 0] + lift * d[:, 0]
        x = rng.poisson(2 * habit).astype(float)
        columns = (y, y * y, d, d * d, y * d, x, x * x, x * y, x * d)
        sums = np.cumsum(np.stack([column.sum(axis=2) for column in columns], axis=2), axis=0)
        yield [tuple(_moments(look + 1, side) for side in pair) for look, pair in enumerate(sums.tolist())]  # type: ignore[misc]


def _moments(looks: int, sums: list[float]) -> Moments:
    n, (y, yy, d, dd, yd, x, xx, xy, xd) = looks * UNITS_PER_LOOK, sums
    return Moments(n=n, y=y, yy=yy, d=d, dd=dd, yd=yd, x=x, xx=xx, xy=xy, xd=xd, n_x=n)


def plain(kind: samples.Kind) -> Judge:
    return lambda t, c: (known(estimates.estimate(kind, t)), known(estimates.estimate(kind, c)))


def adjusted(kind: samples.Kind) -> Judge:
    def judge(t: Moments, c: Moments) -> tuple[Estimate, Estimate]:
        found = estimates.cuped(t, c, kind)
        assert found is not None
        return found.treatment, found.control

    return judge


JUDGES = {
    "mean": plain("mean"),
    "ratio": plain("ratio"),
    "adjusted mean": adjusted("mean"),
    "adjusted ratio": adjusted("ratio"),
}


def false_findings(judge: Judge, seed: int, runs: int) -> tuple[float, float, float]:
    """Shares of A/A runs in which the sequence at any look, t at any look, and t at the end find something."""
    any_sequence = any_t = end_t = 0
    for pairs in experiments(seed, runs):
        valid, significant = [], []
        for pair in pairs:
            treatment, control = judge(*pair)
            found = sequences.compare(treatment, control, tightest_at=2 * LOOKS * UNITS_PER_LOOK)
            assert found is not None
            valid.append(not found.interval.low <= 0 <= found.interval.high)
            significant.append((statistics.compare(treatment, control, "mean").p_value or 1.0) < 0.05)
        any_sequence += any(valid)
        any_t += any(significant)
        end_t += significant[-1]
    return any_sequence / runs, any_t / runs, end_t / runs


@pytest.mark.parametrize("name", JUDGES)
def test_thirty_looks_at_nothing_find_something_in_few_runs(name: str) -> None:
    any_sequence, any_t, end_t = false_findings(JUDGES[name], seed=4, runs=150)
    assert any_sequence <= 0.05
    assert any_t > 0.15
    assert 0.015 <= end_t <= 0.09


@pytest.mark.long
@pytest.mark.slow
@pytest.mark.parametrize("name", JUDGES)
def test_thirty_looks_at_nothing_in_many_runs(name: str) -> None:
    any_sequence, any_t, end_t = false_findings(JUDGES[name], seed=5, runs=2000)
    assert any_sequence <= 0.03
    assert any_t > 0.2
    assert end_t == pytest.approx(0.05, abs=0.012)


@pytest.mark.parametrize("name", ["ratio", "adjusted ratio"])
def test_the_sequence_of_a_ratio_covers_its_effect_at_every_look(name: str) -> None:
    missed = found = 0
    for pairs in experiments(6, 150, lift=0.05):
        intervals = []
        for pair in pairs:
            valid = sequences.compare(*JUDGES[name](*pair), tightest_at=2 * LOOKS * UNITS_PER_LOOK)
            assert valid is not None
            intervals.append(valid.interval)
        missed += any(not i.low <= 0.05 <= i.high for i in intervals)
        found += any(i.low > 0 for i in intervals)
    assert missed / 150 <= 0.05
    assert found / 150 > 0.8


def test_a_covariate_narrows_what_it_explains() -> None:
    pairs = next(experiments(7, 1))
    found = estimates.cuped(*pairs[-1], "mean")
    assert found is not None
    assert found.reduction == pytest.approx(0.42, abs=0.08)  # ρ² of two counts around one habit


# Requests of units ------------------------------------------------------------------------------------------


class Crowd:
    """Units with heavy-tailed numbers of requests, whose errors are their own: most have none, some have many."""

    def __init__(self, seed: int, size: int = 200_000) -> None:
        self.rng = np.random.default_rng(seed)
        self.requests: Array = np.minimum(200, np.floor(self.rng.lognormal(0.8, 1.0, size)) + 1)
        self.rates: Array = self.rng.beta(0.2, 6.0, size)
        self.errors: Array = self.rng.binomial(self.requests.astype(np.int64), self.rates).astype(float)

    def draw(self, units: int, looks: int = 1) -> Array:
        """Sums of two variants' units, who come evenly over the looks: [looks, side, (s, c, ss, cc, sc), bucket]."""
        index = self.rng.integers(0, len(self.requests), 2 * units)
        side = np.arange(2 * units) % 2
        look = np.arange(2 * units) * looks // (2 * units)
        cell = (look * 2 + side) * samples.SUB_BUCKETS + self.rng.integers(0, samples.SUB_BUCKETS, 2 * units)
        s, c = self.errors[index], self.requests[index]
        cells = looks * 2 * samples.SUB_BUCKETS
        sums = [np.bincount(cell, weights, cells) for weights in (s, c, s * s, c * c, s * c)]
        return np.cumsum(np.stack(sums).reshape(5, looks, 2, -1).transpose(1, 2, 0, 3), axis=0)

    def draw_regulars(self, units: int, looks: int) -> Array:
        """As `draw`, but all units come at every look: what their requests share shows more and more."""
        index = self.rng.integers(0, len(self.requests), 2 * units)
        requests = self.rng.poisson(self.requests[index] / 2, (looks, 2 * units))
        errors = self.rng.binomial(requests, self.rates[index])
        cell = np.arange(2 * units) % 2 * samples.SUB_BUCKETS + self.rng.integers(0, samples.SUB_BUCKETS, 2 * units)
        cells = (np.arange(looks)[:, None] * 2 * samples.SUB_BUCKETS + cell).ravel()
        size = looks * 2 * samples.SUB_BUCKETS
        sums = np.stack([np.bincount(cells, weights.ravel(), size) for weights in (errors, requests)])
        return np.cumsum(sums.reshape(2, looks, 2, samples.SUB_BUCKETS).transpose(1, 2, 0, 3), axis=0)


def by_bucket(sums: Array) -> Estimate:
    return known(estimates.estimate("share", Buckets(sums=tuple(sums[0].tolist()), counts=tuple(sums[1].tolist()))))


def by_request(sums: Array) -> Estimate:
    s, c = float(sums[0].sum()), round(sums[1].sum())
    return known(estimates.estimate("conversion", Moments(n=c, y=s, yy=s)))


def by_unit(sums: Array, units: int) -> Estimate:
    s, c, ss, cc, sc = sums.sum(axis=1).tolist()
    return known(estimates.estimate("ratio", Moments(n=units, y=s, yy=ss, d=c, dd=cc, yd=sc)))


def clustered(seed: int, runs: int, units: int) -> tuple[float, float, float]:
    """False-positive rates of the fixed horizon: variance by bucket, by unit, by request."""
    crowd, wrong = Crowd(seed), [0, 0, 0]
    for _ in range(runs):
        t, c = crowd.draw(units)[0]
        pairs = (
            (by_bucket(t), by_bucket(c)),
            (by_unit(t, units), by_unit(c, units)),
            (by_request(t), by_request(c)),
        )
        for index, (pair, kind) in enumerate(zip(pairs, ("share", "ratio", "conversion"), strict=True)):
            wrong[index] += (statistics.compare(*pair, kind).p_value or 1.0) < 0.05  # type: ignore[arg-type]
    return wrong[0] / runs, wrong[1] / runs, wrong[2] / runs


def test_sub_buckets_see_that_requests_of_one_unit_resemble_each_other() -> None:
    bucket, unit, request = clustered(8, 1000, 4000)
    assert 0.035 <= bucket <= 0.065
    assert 0.035 <= unit <= 0.065
    assert request > 0.15


@pytest.mark.long
@pytest.mark.slow
def test_sub_buckets_keep_their_error_in_many_runs() -> None:
    bucket, unit, request = clustered(9, 10_000, 4000)
    assert bucket == pytest.approx(0.05, abs=0.007)
    assert unit == pytest.approx(0.05, abs=0.007)
    assert request > 0.15


def any_look_alarms(draws: list[Array], estimate: Callable[[Array], Estimate]) -> tuple[float, float]:
    """Shares of A/A runs with a false alarm at any of 30 looks: two-sided at 5 %, one-sided at 1 %.

    Looks are counted in requests, planned as many as came.
    """
    two = one = 0
    for sums in draws:
        planned = float(sums[-1, :, 1].sum())
        wrong_two = wrong_one = False
        for t, c in sums[LOOKS // 10 :]:
            n = round(t[1].sum() + c[1].sum())
            treatment, control = estimate(t), estimate(c)
            found = sequences.compare(treatment, control, tightest_at=planned, n=n)
            assert found is not None
            wrong_two |= not found.interval.low <= 0 <= found.interval.high
            harm = guardrails.harm(treatment, control, direction="down", alpha=0.01, n=n)
            judged = guardrails.judge(harm.d, harm.se, n, 0.0, alpha=0.01, tightest_at=planned)
            wrong_one |= judged.state == "harmful"
        two += wrong_two
        one += wrong_one
    return two / len(draws), one / len(draws)


@pytest.fixture(scope="module")
def newcomers() -> list[Array]:
    crowd = Crowd(10)
    return [crowd.draw(1000, LOOKS) for _ in range(150)]


@pytest.fixture(scope="module")
def regulars() -> list[Array]:
    crowd = Crowd(10)
    return [crowd.draw_regulars(1000, LOOKS) for _ in range(150)]


def test_a_sequence_from_sub_buckets_holds_at_every_look(newcomers: list[Array], regulars: list[Array]) -> None:
    for draws in (newcomers, regulars):
        two, one = any_look_alarms(draws, by_bucket)
        assert two <= 0.03
        assert one <= 0.01


def test_a_sequence_on_the_variance_of_requests_is_not_valid(newcomers: list[Array], regulars: list[Array]) -> None:
    assert any_look_alarms(newcomers, by_request)[0] > 0.08
    two, one = any_look_alarms(regulars, by_request)
    assert two > 0.4
    assert one > 0.15


# Canaries ---------------------------------------------------------------------------------------------------


def rolled_back(seed: int, rate: float, runs: int, margin: float = 0.005, control: float = 0.01) -> list[int]:
    """Look, from 1, at which each run is rolled back; 0 for those that never are. 50 requests a look and side."""
    rng, alarms = np.random.default_rng(seed), []
    for _ in range(runs):
        counts = np.cumsum(rng.binomial(50, [rate, control], size=(90, 2)), axis=0)
        alarm = 0
        for look, (t, c) in enumerate(counts.tolist(), start=1):
            n = 50 * look
            sides = [known(estimates.estimate("conversion", Moments(n=n, y=y, yy=y))) for y in (t, c)]
            harm = guardrails.harm(sides[0], sides[1], direction="down", alpha=0.01)
            found = guardrails.judge(harm.d, harm.se, 2 * n, margin, alpha=0.01, tightest_at=1000)
            if found.state == "harmful":
                alarm = look
                break
        alarms.append(alarm)
    return alarms


@pytest.mark.parametrize(
    ("rate", "share", "median"),
    [
        pytest.param(0.01, 0.0, None, id="healthy"),
        pytest.param(0.02, 0.09, 57, id="two per cent"),
        pytest.param(0.03, 0.97, 36, id="three"),
        pytest.param(0.05, 1.0, 11, id="five"),
        pytest.param(0.10, 1.0, 4, id="ten"),
        pytest.param(0.30, 1.0, 1, id="thirty"),
    ],
)
def test_canaries_are_rolled_back_as_early_as_published(rate: float, share: float, median: int | None) -> None:
    runs = 120
    alarms = rolled_back(11, rate, runs)
    back = [look for look in alarms if look]
    noise = 3 * math.sqrt(share * (1 - share) / runs)
    assert len(back) / runs == pytest.approx(share, abs=noise + 0.01)
    if median is not None:
        assert float(np.median(back)) == pytest.approx(median, abs=0.25 * median + 0.5)


@pytest.mark.parametrize("rate", [0.001, 0.01, 0.05])
def test_healthy_canaries_without_margin_are_seldom_rolled_back(rate: float) -> None:
    alarms = rolled_back(12, rate, 150, margin=0.0, control=rate)
    assert sum(look > 0 for look in alarms) / 150 <= 0.02
