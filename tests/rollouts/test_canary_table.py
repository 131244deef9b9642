"""What the guardrail decides on average: the table of docs/rollouts.md, simulated.

Requests are independent, 50 per look and side, margin 0.005, alpha 0.01, tightest at 1,000, 90 looks of 10 s.
4,000 rollouts a row; what is asked allows for their noise.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pytest

from turnout.rollouts import looks
from turnout.spec import measures
from turnout.stores import base

RUNS = 4_000
LOOKS = 90
PER_LOOK = 50
ERRORS = measures.MetricSpec(signal="error", margin=0.005)
Counts = npt.NDArray[np.int64]
Rate = float | npt.NDArray[np.float64]


class Row(NamedTuple):
    """Rates, and what §5 of the design says of them: share rolled back, and the median look (None: too few)."""

    new: float
    rolled_back: float
    median_look: int | None


TABLE = [
    Row(0.01, 0.0, None),
    Row(0.02, 0.09, 57),
    Row(0.03, 0.97, 36),
    Row(0.05, 1.0, 11),
    Row(0.10, 1.0, 4),
    Row(0.30, 1.0, 1),
]


def failures(rate: Rate, runs: int, per_look: int, seed: int) -> Counts:
    """Failures per rollout and look, not yet added up."""
    drawn = np.random.default_rng(seed).binomial(per_look, rate, (runs, LOOKS))
    return drawn.astype(np.int64)


def first_alarms(new: Counts, old: Counts, margin: float) -> Counts:
    """The look that rolls each rollout back, from 1; 0 for none."""
    metric = ERRORS.model_copy(update={"margin": margin})
    terms = looks.Terms(alpha=0.01, tightest_at=1000)
    added_new, added_old = new.cumsum(axis=1), old.cumsum(axis=1)
    alarms = np.zeros(new.shape[0], dtype=np.int64)
    for look in range(LOOKS):
        n = PER_LOOK * (look + 1)
        going = np.flatnonzero(alarms == 0)
        pairs, which = np.unique(
            np.stack([added_new[going, look], added_old[going, look]], axis=1), axis=0, return_inverse=True
        )
        harmful = np.fromiter(
            (
                a > b
                and looks.reading(
                    "errors", metric, (looks.proportion(a, n), looks.proportion(b, n)), (n, n), terms
                ).state
                == "harmful"
                for a, b in pairs.tolist()
            ),
            dtype=bool,
            count=len(pairs),
        )
        alarms[going[harmful[which.reshape(-1)]]] = look + 1
    return alarms


def rolled_back(new: float, old: float, *, runs: int, margin: float = 0.005, seed: int = 1) -> Counts:
    return first_alarms(failures(new, runs, PER_LOOK, seed), failures(old, runs, PER_LOOK, seed + 1), margin)


@pytest.mark.parametrize("row", TABLE, ids=lambda row: f"{row.new:.0%}")
def test_the_table_of_the_documentation_is_what_the_code_does(row: Row) -> None:
    alarms = rolled_back(row.new, 0.01, runs=RUNS)
    noise = 4 * (max(row.rolled_back * (1 - row.rolled_back), 0.001) / RUNS) ** 0.5
    assert abs(float((alarms > 0).mean()) - row.rolled_back) <= noise + 0.005, "half a point for its digits"
    if row.median_look is not None:
        median = float(np.median(alarms[alarms > 0]))
        assert abs(median - row.median_look) <= max(1.0, 0.15 * row.median_look)


@pytest.mark.parametrize("rate", [0.001, 0.005, 0.01, 0.05])
def test_with_no_margin_at_all_equal_sides_are_hardly_ever_taken_back(rate: float) -> None:
    alarms = rolled_back(rate, rate, runs=RUNS, margin=0.0)
    assert float((alarms > 0).mean()) <= 0.01, "alpha"


def test_what_hits_both_sides_together_blames_nobody() -> None:
    together = np.repeat([0.01, 0.03, 0.20], LOOKS // 3)
    alarms = first_alarms(failures(together, 500, PER_LOOK, 5), failures(together, 500, PER_LOOK, 6), 0.005)
    assert int((alarms > 0).sum()) <= 2


def common_rule(rate: Rate, per_window: int, seed: int) -> float:
    """Share of rollouts that "error rate above 2 % in three windows" aborts."""
    over = failures(rate, 1_000, per_window, seed) / per_window > 0.02
    return float((over.sum(axis=1) >= 3).mean())


@pytest.mark.parametrize(
    ("rate", "per_window", "expected"), [(0.01, 50, 0.99), (0.01, 300, 0.56), (0.01, 3_000, 0.0), (0.03, 50, 1.0)]
)
def test_the_common_rule_aborts_what_is_healthy(rate: float, per_window: int, expected: float) -> None:
    """The contrast: it looks at the new side alone, and at a window as if it had no noise."""
    assert abs(common_rule(rate, per_window, 9) - expected) <= 0.05


Look = list[base.SignalSums]


def clustered(users: int, variant: str, random: np.random.Generator) -> Iterator[Look]:
    """One side of an A/A look by look: users with error rates of their own and very different numbers of requests."""
    rates = random.beta(0.05, 0.95, users)  # 5 % on average: most users have none, a few nearly only errors
    volume = random.pareto(1.5, users) + 0.2
    buckets = random.integers(0, 100, users)
    bad, requests = np.zeros(100), np.zeros(100)
    for _ in range(30):
        more = random.poisson(volume)
        bad += np.bincount(buckets, random.binomial(more, rates), 100)
        requests += np.bincount(buckets, more, 100)
        yield [
            base.SignalSums(variant=variant, sub_bucket=cell, bucket=0, s=float(bad[cell]), c=int(requests[cell]))
            for cell in range(100)
        ]


def false_alarms(runs: int, units: tuple[int, int] | None) -> float:
    """Share of A/A rollouts, 1,000 users a side, that 30 looks take back."""
    metric = ERRORS.model_copy(update={"margin": 0.0})
    sides, terms = looks.Sides("canary", "control"), looks.Terms(alpha=0.01, tightest_at=1000)
    random = np.random.default_rng(3)
    alarms = 0
    for _ in range(runs):
        both = zip(clustered(1_000, "canary", random), clustered(1_000, "control", random), strict=True)
        readings = (
            looks.of_signal("errors", metric, [*new, *old], sides=sides, terms=terms, units=units) for new, old in both
        )
        alarms += any(each.state == "harmful" for each in readings)
    return alarms / runs


def test_requests_of_one_user_are_not_taken_for_a_sample_of_many() -> None:
    assert false_alarms(100, (1_000, 1_000)) <= 0.03
    assert false_alarms(40, None) >= 0.10, "the contrast: requests as if they were independent"
