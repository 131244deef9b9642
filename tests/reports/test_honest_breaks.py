"""What breaks a split is said to be broken, what does not is not; each as often as it may be."""

import numpy as np
import pytest
from tests.reports import honest
from tests.reports.honest import DAY, START

from turnout.experiments import ratio_checks
from turnout.reports import experiment, tables


def exposed(run: int, units: int, *, lost: float = 0.0, more: str = "", weights: str = honest.TWO) -> honest.Log:
    """Everybody is exposed; of the treatment's exposures a share never reaches the log."""
    log = honest.Log(honest.admitted(variants=weights, more=more, plan="units: 100000"), run)
    for unit, ts, found in log.units(units, 8):
        if found.reason != "SPLIT" or found.variant != "new" or log.rng.random() >= lost:
            log.expose(unit, ts, found)
    return log


def last(log: honest.Log, known: experiment.Known = experiment.NOTHING_KNOWN) -> tables.Report:
    return log.reports([START + 10 * DAY], known)[0]


def test_drops_that_hit_one_variant_make_it_broken() -> None:
    made = [last(exposed(run, 2_400, lost=0.35)) for run in range(3)]
    assert {honest.state(each, "sample-ratio") for each in made} == {"broken"}
    assert honest.kinds(made) == {"INVALID"}
    assert all(each.hidden for each in made)


def test_drops_that_the_server_counted_are_compared_only_where_control_has_nobody_beside_the_split() -> None:
    lost = experiment.Known(dropped={"prediction old": 900, "prediction new": 100})
    assert honest.state(last(exposed(1, 500), lost), "dropped") == "broken"
    ramped = last(exposed(1, 500, more="ramp: 20%"), lost)
    assert honest.state(ramped, "dropped") == "warning", "9 of 10 requests are control's"
    even = experiment.Known(dropped={"prediction old": 510, "prediction new": 490})
    assert honest.state(last(exposed(1, 500), even), "dropped") == "warning"


def test_a_ramp_a_holdout_or_a_layer_leaves_the_sample_ratio_as_it_is() -> None:
    for more in ("ramp: 30%", "layer: {name: l, slots: 0-399}", "ramp: 40%, hash: v1"):
        made = last(exposed(1, 3_000, more=more))
        assert honest.state(made, "sample-ratio") == "fine"
        assert 700 < made.units < 1_400


@pytest.mark.parametrize(("share", "fires_at"), [(0.9, 60), (0.6, 470), (0.52, 11_700)])
def test_the_sequential_ratio_test_fires_about_where_it_should(share: float, fires_at: int) -> None:
    """Lindon & Malek's test, as the report asks it after each tenth of the way."""
    rng = np.random.default_rng(3)
    found = []
    for _ in range(60):
        ours = np.cumsum(rng.random(3 * fires_at) < share)
        for n in range(fires_at // 10, 3 * fires_at, max(1, fires_at // 10)):
            check = ratio_checks.check({"a": int(ours[n - 1]), "b": n - int(ours[n - 1])}, {"a": 1.0, "b": 1.0})
            if check is not None and check.verdict == "mismatch":
                found.append(n)
                break
    assert len(found) > 55
    assert 0.7 * fires_at < float(np.median(found)) < 1.3 * fires_at


def test_crossed_units_are_told_by_where_they_came_from() -> None:
    log = exposed(1, 6_000)
    for at, (unit, ts, found) in enumerate(log.units(30, 2)):
        if found.variant == "new":
            log.expose(unit, ts, found)
            log.expose(unit, ts + at, found, variant="old")
    made = last(log)
    assert made.crossed == made.crossed_from["new"] > 10
    assert honest.state(made, "crossed") == "broken", "few, but all of one side"


@pytest.mark.parametrize(("late_days", "state"), [(0.5, ""), (3.0, "warning")])
def test_outcomes_that_come_later_than_windows_wait_are_told(late_days: float, state: str) -> None:
    log = exposed(1, 200)
    for unit, ts, _ in log.units(100, 4):
        log.outcome(unit, "kept", ts, late_s=late_days * DAY)
    assert honest.state(last(log), "late-outcomes") == state


@pytest.mark.long
@pytest.mark.slow
def test_whole_splits_are_hardly_ever_called_broken() -> None:
    looks = honest.days(1, 9, 1)
    runs = [
        exposed(run, 400, weights="{old: {weight: 80, control: true}, new: {weight: 20}}").reports(looks)
        for run in range(80)
    ]
    assert honest.ever(runs, lambda made: honest.state(made, "sample-ratio") == "broken") == 0
