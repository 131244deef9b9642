"""The planned end is one look, whenever and however often a report is made, and whatever traffic goes on."""

import pytest
from tests.reports import honest
from tests.reports.honest import DAY

from turnout.reports import tables

METRICS = """
  primary: {outcome: kept, window: 1d, effect: 0.3},
  secondary: {tail: {signal: latency, kind: quantile, quantile: 0.9}},
  guardrails: {
    left: {outcome: left, window: 2d, direction: down, margin: 0.02},
    errors: {signal: error, margin: 0.02}}
"""


def steady(plan: str, run: int = 1, days: float = 20, units: int = 900) -> honest.Log:
    """Traffic that never stops: 45 new units a day, who come back once."""
    log = honest.Log(honest.admitted(METRICS, plan), run)
    for unit, ts, found in log.units(units, days):
        request = log.expose(unit, ts, found)
        log.request(unit, ts, found, request=request, latency_s=float(log.rng.exponential(0.1)))
        log.request(unit, ts + log.rng.random() * 5 * DAY, found, failed=bool(log.rng.random() < 0.02))
        for name in ("kept", "left"):
            if log.rng.random() < 0.3:
                log.outcome(unit, name, ts + log.rng.random() * DAY)
    return log


def fixed(made: tables.Report) -> list[object]:
    """Everything that a one-look statement is made of."""
    return [
        (each.name, each.comparisons[0].fixed, each.comparisons[0].harm) for each in (*made.metrics, *made.guardrails)
    ]


@pytest.mark.parametrize("horizon", ["always", "fixed"])
def test_the_planned_end_comes_though_units_go_on_coming_and_is_the_same_look_ever_after(horizon: str) -> None:
    log = steady(f"units: 300, min_duration: 7d, horizon: {horizon}")
    made = log.reports(honest.days(8, 22, 2))
    done = [each.plan.complete for each in made]
    assert done == [False, *[True] * 7], "300 units are there on day 7, their windows are over on day 9"
    assert {str(fixed(each)) for each in made[1:]} == {str(fixed(made[1]))}
    assert made[-1].units > 2 * made[1].units - 100, "while units went on coming"


def test_with_a_fixed_horizon_the_result_stays_shown_and_so_does_the_verdict() -> None:
    made = steady("units: 300, min_duration: 7d, horizon: fixed").reports(honest.days(6, 22, 2))
    assert [bool(each.hidden) for each in made] == [True, True, *[False] * 7]
    assert len({each.verdict.kind for each in made[2:] if each.verdict}) == 1


def test_at_any_time_more_units_make_the_always_valid_interval_narrower_all_the_same() -> None:
    made = steady("units: 300, min_duration: 7d").reports(honest.days(10, 22, 4))
    found = [each.primary.comparisons[0] for each in made if each.primary]
    always = [each.always_valid for each in found if each.always_valid]
    widths = [each.interval.high - each.interval.low for each in always]
    assert widths == sorted(widths, reverse=True)
    assert widths[-1] < 0.9 * widths[0]
    assert found[-1].estimate != found[0].estimate


def test_harm_that_shows_after_the_planned_end_is_still_harm() -> None:
    log = steady("units: 300, min_duration: 7d", days=20)
    for unit, ts, found in log.units(600, 3, start=honest.START + 20 * DAY):
        log.expose(unit, ts, found)
        if found.variant == "new":
            log.outcome(unit, "left", ts + 60)
    before, after = log.reports(honest.days(19, 26, 7))
    assert honest.harms(before)["left"] != "harmful"
    assert honest.harms(after)["left"] == "harmful"
    assert after.verdict is not None
    assert after.verdict.kind == "HARMFUL"


@pytest.mark.long
@pytest.mark.slow
def test_looking_again_and_again_after_a_fixed_horizon_finds_no_more_than_one_look() -> None:
    looks = honest.days(9, 21, 4)
    runs = [steady("units: 300, min_duration: 7d, horizon: fixed", run).reports(looks) for run in range(80)]

    def found(made: tables.Report) -> bool:
        return made.primary is not None and made.primary.comparisons[0].better is not None

    assert honest.ever(runs, found) <= 0.11, "5 % and two standard errors"
    assert honest.ever(runs, found) == honest.rate(found(made) for made in (each[-1] for each in runs))
