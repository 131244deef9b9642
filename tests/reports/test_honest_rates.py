"""Over many experiments: what is claimed errs as seldom as it says, and is found as often as the plan says."""

import functools

import numpy as np
import pytest
from tests.reports import honest
from tests.reports.counted import Counted
from tests.reports.honest import DAY, START

from turnout.reports import planning, tables

HARM = "{outcome: harm, window: 1d, direction: down, margin: 0.03}"
ONE = "primary: {outcome: kept, window: 1d, effect: 0.05}"
FOUR = """{old: {weight: 1, control: true}, a: {pipeline: new, weight: 1}, b: {pipeline: new, weight: 1},
           c: {pipeline: new, weight: 1}}"""

Runs = list[list[tables.Report]]


def runs(  # one kind of experiment
    count: int,
    metrics: str,
    plan: str,
    *,
    units: int,
    effect: float = 0.0,
    harm: float = 0.0,
    variants: str = honest.TWO,
    looks: tuple[float, ...] = tuple(range(2, 23, 2)),
) -> Runs:
    """Experiments of 18 days; the first treatment does so much good and harm, the others nothing."""
    document = honest.admitted(metrics, plan, variants)
    names = tuple(document.document.experiments["e"].variants)
    made = []
    for run in range(count):
        rng = np.random.default_rng(run)
        t0, variant = np.sort(rng.random(units)) * 18 * DAY, rng.integers(0, len(names), units)
        outcomes = {
            "kept": (rng.random(units) < 0.3 + effect * (variant == 1)).astype(float),
            "harm": (rng.random(units) < 0.2 + harm * (variant == 1)).astype(float),
        }
        store = Counted(document, t0, variant, outcomes, names)
        made.append([store.report(START + look * DAY) for look in looks])
    return made


def planned(horizon: planning.Horizon) -> int:
    """Units that `turnout plan` asks for, to find 0.30 → 0.35 with 80 %."""
    found = planning.of(None, honest.admitted(ONE), "e", planning.Wish(baseline=0.3), now=START)
    return next(need.total for need in found.metrics[0].needs if need.horizon == horizon)


@functools.cache
def with_effect(horizon: planning.Horizon, count: int) -> Runs:
    units = planned(horizon)
    looks = (4.0, 8.0, 12.0, 16.0, 20.0)
    return runs(count, ONE, f"units: {units}, horizon: {horizon}", units=units, effect=0.05, looks=looks)


@pytest.mark.parametrize("horizon", planning.HORIZONS)
def test_an_effect_of_the_size_planned_for_is_found_as_often_as_the_plan_says(horizon: planning.Horizon) -> None:
    found = with_effect(horizon, 60)
    ends = [each[-1] for each in found]
    assert all(each.plan.complete for each in ends)
    assert 0.67 < honest.rate(honest.kinds([each]) == {"BETTER"} for each in ends) < 0.95, "80 %, 60 runs"
    assert honest.ever(found, lambda made: honest.kinds([made]) == {"WORSE"}) == 0


def test_intervals_that_are_shown_hold_the_truth() -> None:
    def holds(made: tables.Report) -> bool:
        (found,) = made.primary.comparisons if made.primary is not None else ()
        always = found.always_valid
        return always is None or always.interval.low <= 0.05 <= always.interval.high

    assert honest.rate(all(holds(made) for made in each) for each in with_effect("always", 60)) >= 0.95
    fixed = [each[-1].primary for each in with_effect("fixed", 60)]
    inside = [each.comparisons[0].fixed for each in fixed if each is not None]
    assert (
        honest.rate(
            found is not None and found.interval is not None and found.interval.low < 0.05 < found.interval.high
            for found in inside
        )
        >= 0.88
    )


def test_of_several_variants_and_guardrails_any_false_claim_is_as_rare_as_one() -> None:
    """Four variants, a guardrail with no margin at all: 3 chances of false harm, 3 of a false finding."""
    guard = "{outcome: harm, window: 1d, direction: down, margin: 0}"
    found = runs(60, f"{ONE}, guardrails: {{one: {guard}}}", "units: 1200, alpha: 0.1", units=1_400, variants=FOUR)
    assert {round(made.guardrails[0].alpha, 9) for each in found for made in each} == {round(0.1 / 3, 9)}
    assert honest.ever(found, lambda made: honest.kinds([made]) == {"HARMFUL"}) <= 0.18, "10 % and two standard errors"
    assert honest.ever(found, lambda made: bool(honest.kinds([made]) & {"BETTER", "WORSE"})) <= 0.1


def test_a_guardrail_at_its_margin_is_hardly_ever_called_safe_or_harmful_and_both_are_found() -> None:
    metrics = f"{ONE}, guardrails: {{harm: {HARM}}}"
    plan = "units: 2500, alpha: 0.05"
    edge, none, much = (runs(25, metrics, plan, units=2_700, harm=harm) for harm in (0.03, -0.01, 0.10))
    for state in ("safe", "harmful"):
        assert honest.ever(edge, lambda made, state=state: honest.harms(made)["harm"] == state) <= 0.16  # type: ignore[misc]
    assert honest.ever(none, lambda made: honest.harms(made)["harm"] == "safe") > 0.6
    assert honest.ever(none, lambda made: honest.harms(made)["harm"] == "harmful") == 0
    assert honest.ever(much, lambda made: honest.harms(made)["harm"] == "harmful") > 0.8
    assert honest.ever(much, lambda made: honest.harms(made)["harm"] == "safe") == 0


@pytest.mark.long
@pytest.mark.slow
def test_an_a_a_with_thirty_looks_is_hardly_ever_decided() -> None:
    looks = tuple(np.linspace(1, 22, 30).tolist())
    found = runs(150, ONE, "units: 2000, alpha: 0.05", units=2_400, looks=looks)
    assert honest.ever(found, lambda made: bool(honest.kinds([made]) & {"BETTER", "WORSE"})) <= 0.05
