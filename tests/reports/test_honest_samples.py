"""Who is compared with whom: both sides have the same people, of the same age, from the same time."""

from tests.reports import honest
from tests.reports.honest import DAY, START

from turnout.reports import tables

SIGNALS = (
    "primary: {signal: error}, guardrails: {slow: {signal: latency, kind: share_over, threshold: 800ms, margin: 0}}"
)


def leaving(run: int, units: int = 600) -> honest.Log:
    """An A/A whose ramp falls to 20 % on day 4; those who leave get control. On day 5 everything fails more often."""
    log = honest.Log(honest.admitted(SIGNALS, "units: 4000"), run)
    for unit, ts, found in log.units(units, 4):
        log.expose(unit, ts, found)
        stays = log.rng.random() < 0.2
        log.request(unit, ts, found, failed=bool(log.rng.random() < 0.01))
        for day in range(4, 7):
            failed = bool(log.rng.random() < (0.15 if day == 5 else 0.01))
            moment = START + (day + log.rng.random()) * DAY
            log.request(unit, moment, found, failed=failed, variant=found.variant if stays else "old")
    return log


def test_units_that_leave_the_ramp_leave_both_sides_alike() -> None:
    """Had control the requests of its leavers and the treatment not: a third of these A/As would find something."""
    made = [leaving(run).reports([START + 7 * DAY])[0] for run in range(8)]
    for each in made:
        requests = {row.name: row.serving.requests for row in each.variants}
        assert requests == {row.name: 4 * row.units for row in each.variants}
    assert honest.rate(differs(each) for each in made) == 0


def differs(made: tables.Report) -> bool:
    assert made.primary is not None
    return made.primary.comparisons[0].better is not None


def second_phase(run: int, lift: float, units: int = 500) -> tables.Report:
    """The treatment worked in an earlier phase already, with the same split; its model was changed since."""
    text = "primary: {outcome: spent, kind: mean, window: 1d, covariate: 14d}"
    log = honest.Log(honest.admitted(text, "units: 4000"), run)
    for unit, ts, found in log.units(units, 4):
        taste = 3 * log.rng.lognormal()
        more = lift if found.variant == "new" else 0.0
        log.outcome(unit, "spent", ts - 20 * DAY, taste + log.rng.normal())
        log.expose(unit, ts - 10 * DAY, found, phase="earlier")
        log.outcome(unit, "spent", ts - 9 * DAY, 2 * (taste + more) + log.rng.normal())
        log.expose(unit, ts, found)
        log.outcome(unit, "spent", ts + 60, taste + more + log.rng.normal())
    return log.reports([START + 6 * DAY])[0]


def test_a_covariate_holds_nothing_of_what_an_earlier_phases_treatment_did() -> None:
    """Taken from the days before this phase, it would explain the effect away: 0 instead of 3."""
    for run in range(3):
        made = second_phase(run, lift=3.0)
        assert made.primary is not None
        (found,) = made.primary.comparisons
        assert found.adjustment is not None
        assert found.adjustment.reduction > 0.8
        assert found.always_valid is not None
        assert found.always_valid.interval.low < 3.0 < found.always_valid.interval.high
