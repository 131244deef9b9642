"""What the intervals promise, on simulated experiments with a fixed seed."""

import numpy as np

from turnout.experiments import estimates, ratio_checks, samples, sequences, statistics

LOOKS = 30
PER_LOOK = 1000
RUNS = 400


Pair = tuple[samples.Moments, samples.Moments]


def looks(rng: np.random.Generator, rate_c: float, rate_t: float) -> list[Pair]:
    """Growing totals of (treatment, control), one pair a look."""
    totals = np.cumsum(rng.binomial(PER_LOOK, [rate_t, rate_c], size=(LOOKS, 2)), axis=0)
    return [
        (samples.Moments(n=n, y=float(t), yy=float(t)), samples.Moments(n=n, y=float(c), yy=float(c)))
        for n, (t, c) in zip(range(PER_LOOK, PER_LOOK * (LOOKS + 1), PER_LOOK), totals, strict=True)
    ]


def always_valid(pair: Pair) -> samples.Interval:
    found_t, found_c = (estimates.estimate("conversion", sample) for sample in pair)
    assert found_t is not None
    assert found_c is not None
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
    missed = found = 0
    for _ in range(RUNS):
        intervals = [always_valid(pair) for pair in looks(rng, 0.02, 0.024)]
        missed += any(not (i.low <= 0.004 <= i.high) for i in intervals)
        found += any(i.low > 0 for i in intervals)
    assert missed / RUNS <= 0.05
    assert 0.55 < found / RUNS < 0.8


def test_the_sequential_ratio_check_seldom_alarms_without_cause() -> None:
    rng = np.random.default_rng(3)
    alarms = 0
    for _ in range(RUNS):
        counts = np.cumsum(rng.binomial(PER_LOOK, 0.5, size=LOOKS))
        totals = zip(range(PER_LOOK, PER_LOOK * (LOOKS + 1), PER_LOOK), counts.tolist(), strict=True)
        checks = [ratio_checks.check({"a": a, "b": n - a}, {"a": 1, "b": 1}) for n, a in totals]
        alarms += any(check is not None and check.ln_e > np.log(ratio_checks.E) for check in checks)
    assert alarms / RUNS <= 0.005
