"""Logs whose truth is known, through a real store: what is there is found, what is not is not."""

from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
from tests.reports import simulated
from tests.reports.simulated import DAY, START, Truth

from turnout.reports import experiment, tables
from turnout.spec import snapshot

Report = Callable[..., tables.Report]


@pytest.fixture(scope="module")
def reported(tmp_path_factory: pytest.TempPathFactory) -> Report:
    def make(
        truth: Mapping[str, Truth] | None = None, *, day: float = 11.0, text: str = simulated.TEXT, **world: object
    ) -> tables.Report:
        admitted = simulated.admitted(text)
        store = simulated.filled(Path(tmp_path_factory.mktemp("log")), made(admitted, truth, world))
        try:
            return experiment.report(store, admitted, "structure", now=START + day * DAY)
        finally:
            store.close()

    def made(
        admitted: snapshot.Snapshot, truth: Mapping[str, Truth] | None, world: Mapping[str, object]
    ) -> simulated.World:
        return simulated.World(admitted, truth, **world)  # type: ignore[arg-type]

    return make


@pytest.fixture(scope="module")
def better(reported: Report) -> tables.Report:
    return reported({"generation": Truth(kept=0.39, spend=1.5, click=0.28)})


def metric(made: tables.Report, name: str) -> tables.MetricTable:
    return next(each for each in (*made.metrics, *made.guardrails) if each.name == name)


def effect(made: tables.Report, name: str) -> tables.Comparison:
    (found,) = metric(made, name).comparisons
    return found


def test_a_difference_is_found_and_shipped(better: tables.Report) -> None:
    assert better.verdict is not None
    assert (better.verdict.kind, better.verdict.variant) == ("BETTER", "generation")
    found = effect(better, "primary")
    assert found.always_valid is not None
    assert found.always_valid.interval.low < 0.09 < found.always_valid.interval.high
    assert found.always_valid.interval.low > 0
    assert {each.harm.state for guard in better.guardrails for each in guard.comparisons if each.harm} == {"safe"}


def test_every_kind_of_metric_recovers_its_truth(better: tables.Report) -> None:
    clicks, views, spent = effect(better, "clicks"), metric(better, "views"), effect(better, "spent")
    assert (clicks.reading, clicks.better) == ("higher", True)
    assert clicks.estimate == pytest.approx(0.08, abs=0.03)
    assert [each.value for each in views.estimates] == [3.0, 3.0]
    assert spent.reading == "higher"
    assert spent.lift == pytest.approx(0.5, abs=0.25)
    speed = metric(better, "speed")
    assert (speed.scale, speed.direction, effect(better, "speed").reading) == ("seconds", "down", "unclear")
    assert [each.value for each in metric(better, "tail").estimates] == [pytest.approx(0.22, abs=0.1)] * 2
    slow = metric(better, "slow")
    assert [each.value for each in slow.estimates] == [pytest.approx(0.02, abs=0.01)] * 2


def test_a_covariate_narrows_the_interval_and_the_other_is_shown_beside(better: tables.Report) -> None:
    spent = effect(better, "spent")
    assert spent.adjustment is not None
    assert spent.adjustment.interval is not None
    assert spent.always_valid is not None
    assert spent.adjustment.reduction > 0.15
    assert spent.adjustment.covariate_ratio == pytest.approx(0.8, abs=0.05)
    with_it = spent.always_valid.interval.high - spent.always_valid.interval.low
    without = spent.adjustment.interval.high - spent.adjustment.interval.low
    assert with_it < 0.95 * without


def test_the_curve_ends_at_the_estimate_and_its_band_narrows(better: tables.Report) -> None:
    found = effect(better, "primary")
    assert found.estimate == pytest.approx(found.curve[-1].estimate)
    assert [point.units for point in found.curve] == sorted(point.units for point in found.curve)
    assert found.curve[-1].units == better.units
    widths = [point.high - point.low for point in found.curve if point.high is not None and point.low is not None]
    assert widths[-1] < widths[0] / 2
    assert found.always_valid is not None
    assert found.curve[-1].low == pytest.approx(found.always_valid.interval.low)
    assert found.curve[-1].high == pytest.approx(found.always_valid.interval.high)
    assert sum(cohort.units for cohort in found.cohorts) == better.units
    assert len(found.cohorts) == 8
    assert sum(sum(each.units.values()) for each in better.flow) == better.units


def test_the_fixed_interval_appears_only_at_the_planned_end(reported: Report, better: tables.Report) -> None:
    early = reported({"generation": Truth(kept=0.39)}, day=5.0, units=1_000)
    first, last = effect(early, "primary").fixed, effect(better, "primary").fixed
    assert first is not None
    assert last is not None
    assert (early.plan.complete, first.interval, first.p_value) == (False, None, None)
    assert better.plan.complete is True
    assert last.interval is not None
    assert last.p_value is not None
    assert last.p_value < 0.001


def test_an_a_a_is_not_shipped(reported: Report) -> None:
    made = reported(seed=5, units=2_000)
    assert made.verdict is not None
    assert made.verdict.kind in ("EQUIVALENT", "UNDECIDED")
    assert effect(made, "primary").reading == "unclear"


def test_a_sample_ratio_mismatch_is_broken_and_hides_the_effect(reported: Report) -> None:
    made = reported({"generation": Truth(kept=0.5, lost=0.4)}, units=2_000)
    assert made.verdict is not None
    assert (made.verdict.kind, made.verdict.checks[0].code) == ("INVALID", "sample-ratio")
    assert made.hidden
    for each in (*made.metrics, *made.guardrails):
        assert {row.value for row in each.estimates} == {None}
        assert {compared.estimate for compared in each.comparisons} == {None}
        assert {compared.curve for compared in each.comparisons} == {()}


def test_a_harmful_guardrail_stops_a_better_variant(reported: Report) -> None:
    made = reported({"generation": Truth(kept=0.45, slow=0.25)}, units=2_000)
    assert made.verdict is not None
    assert (made.verdict.kind, effect(made, "primary").reading) == ("HARMFUL", "higher")
    assert "latency over 800 ms: worse by" in made.verdict.reasons[0]
    harm = effect(made, "slow").harm
    assert harm is not None
    assert harm.low is not None
    assert harm.low > harm.margin


@pytest.mark.parametrize(("truth", "state"), [(Truth(error=0.1), "harmful"), (Truth(left=0.25), "harmful")])
def test_errors_and_outcomes_are_guarded_too(reported: Report, truth: Truth, state: str) -> None:
    made = reported({"generation": truth}, units=2_000)
    name = "errors" if truth.error > 0.05 else "left"
    harm = effect(made, name).harm
    assert harm is not None
    assert harm.state == state


def test_crossed_units_break_it(reported: Report) -> None:
    made = reported(crossing=0.03, units=1_000)
    assert made.verdict is not None
    assert (made.verdict.kind, made.verdict.checks[0].code) == ("INVALID", "crossed")
    assert made.crossed > 10


def test_open_windows_are_not_compared_and_the_end_is_foreseen(reported: Report) -> None:
    made = reported(day=4.0, units=2_000, days=4.0)
    assert made.verdict is not None
    assert made.verdict.kind == "UNDECIDED"
    primary = metric(made, "primary")
    assert 0.4 < (primary.closed_ratio or 0.0) < 0.85
    assert sum(row.closed for row in primary.estimates) < made.units == sum(row.units for row in primary.estimates)
    needed = made.verdict.needed
    assert needed.units_left == 4_000 - made.units
    assert needed.days_left == pytest.approx(5.0, abs=0.5)  # 4 days for the other half, and the window of a day


def test_mixed_builds_are_told(reported: Report) -> None:
    made = reported(units=600, builds=("b1", "b2"))
    assert made.verdict is not None
    assert [check.state for check in made.verdict.checks if check.code == "mixed-builds"] == ["warning"]


def test_a_fixed_horizon_hides_the_result_until_the_end(reported: Report, better: tables.Report) -> None:
    text = simulated.TEXT.replace("min_duration: 7d", "min_duration: 7d, horizon: fixed")
    text = text.replace("units: 4000", "units: 1500")
    truth = {"generation": Truth(kept=0.42)}
    early, late = (reported(truth, day=day, text=text, units=1_500) for day in (5.0, 11.0))
    assert early.verdict is not None
    assert late.verdict is not None
    assert (early.verdict.kind, effect(early, "primary").reading) == ("UNDECIDED", "hidden")
    assert effect(early, "slow").harm is not None  # guardrails are watched all the time
    assert (late.verdict.kind, late.hidden) == ("BETTER", "")
    assert "planned-end interval" in late.verdict.reasons[0]


def test_a_past_moment_is_reported_as_it_was(reported: Report) -> None:
    then = reported(units=1_000, day=3.0)
    assert 325 < then.units < 425
    assert sum(row.units for row in metric(then, "primary").estimates) == pytest.approx(then.units, rel=0.1)
