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
