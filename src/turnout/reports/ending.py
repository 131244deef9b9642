"""When a plan is complete, and which units belong to its one look. Called by `experiment` alone.

An interval for one look is right at one look. Units go on coming after the planned ones, and reports go
on being made, so "the data when somebody looked" would be many looks. The planned end is a moment
that the log itself tells: the planned number of units is there, the windows of the last of them are over,
the shortest duration has passed. What a report says of the planned end is what was known then, whenever
it is made.
"""

from collections import defaultdict
from collections.abc import Mapping
from typing import Final

from msgspec import Struct

from turnout.reports import evidence, tables

LENGTHS_S: Final = (60.0, 1.0)
"""The moment at which the planned units are there is told to the minute, or to the second within the first hour.

Not to a part of the report's periods: these grow with time, and the planned end must not move.
"""

SHORT_S: Final = 3_600.0


class End(Struct, frozen=True, kw_only=True):
    """The planned end of an experiment, past or to come.

    Attributes:
        filled_ts: The planned units were there.
        ts: Their windows were over, too, and the shortest duration.
        units: New units until `ts`, by variant and (finer) period.
        planned: The planned units, by variant.
    """

    filled_ts: float
    ts: float
    units: Mapping[str, Mapping[int, int]]
    planned: Mapping[str, int]


def find(
    store: evidence.Evidence,
    span: evidence.Span,
    plan: tables.Plan,
    units: Mapping[str, Mapping[int, int]],
    *,
    first_ts: float | None,
    wait_s: float,
) -> End | None:
    """The planned end; None while the planned units are not there, or none are planned.

    Args:
        units: New units so far, by variant and period.
        first_ts: Of the first exposure.
        wait_s: After its first exposure a unit has to be waited for so long: windows and lateness of what decides.
    """
    total = sum(sum(by_time.values()) for by_time in units.values())
    if plan.units is None or first_ts is None or total < plan.units:
        return None
    new: defaultdict[str, dict[int, int]] = defaultdict(dict)
    last, filled_ts, length_s = 0, 0.0, 0.0
    for length_s in LENGTHS_S:
        new.clear()
        for each in store.exposure_days(span.experiment, span.phase, length_s):
            new[each.variant][each.bucket] = each.units
        last = _filled(new, plan.units)
        filled_ts = (last + 1) * length_s
        if filled_ts - first_ts > SHORT_S:
            break
    ts = max(filled_ts + wait_s, first_ts + (plan.min_duration_s or 0.0))
    return End(
        filled_ts=filled_ts,
        ts=ts,
        units={name: _until(by_time, ts / length_s) for name, by_time in new.items()},
        planned={name: sum(_until(by_time, last + 1).values()) for name, by_time in new.items()},
    )


def _filled(new: Mapping[str, Mapping[int, int]], wanted: int) -> int:
    """The period in which so many units were reached; there are so many."""
    seen, at = 0, 0
    for at in sorted({at for by_time in new.values() for at in by_time}):
        seen += sum(by_time.get(at, 0) for by_time in new.values())
        if seen >= wanted:
            break
    return at


def _until(by_time: Mapping[int, int], end: float) -> dict[int, int]:
    return {at: count for at, count in by_time.items() if at < end}
