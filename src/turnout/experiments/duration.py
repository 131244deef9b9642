"""How many days until enough different units have come. Pure, standard library only.

Called by `turnout plan` and reports. Requests per day do not tell, since the same people come
back: what counts is the curve of cumulative unique units, which flattens. Beyond the days that
were measured the answer is a range, and far beyond them there is none.
"""

import math
from collections.abc import Sequence
from typing import Final, Literal

from msgspec import Struct

REACH: Final = 3.0
"""An answer is given up to this many times the days measured; the form of the curve is a guess beyond."""

WEEK: Final = 7


class Runtime(Struct, frozen=True, kw_only=True):
    """Days until the units have come.

    Attributes:
        basis: `measured`: the curve gets there. `extrapolated`: it was continued. `out-of-reach`: it
            would take more than `REACH` times the days measured, or nothing was measured.
        days: Until then; None when out of reach.
        earliest: If as many new units come each day as in the last week measured.
        latest: If new units go on getting rarer at the pace measured; None: then they never suffice.
        run_days: What to plan: `days` in whole days, with the window of the outcome, and at least the minimum.
        measured_days: Length of the curve.
    """

    basis: Literal["measured", "extrapolated", "out-of-reach"]
    days: float | None
    earliest: float | None
    latest: float | None
    run_days: int | None
    measured_days: int


def runtime(
    curve: Sequence[float], units: float, *, share: float = 1.0, min_days: float = 7.0, window_days: float = 0.0
) -> Runtime:
    """Days until `units` different units take part.

    Args:
        curve: Unique units seen up to the end of day 1, 2, …; never falling.
        share: Of the units that take part (ramp, layer, targeting, variants compared), in (0, 1].
        min_days: At least so long, so that every weekday counts.
        window_days: Of the outcome: the last unit's window must close too.

    >>> flat = [1000, 1500, 1800, 2000, 2150, 2270, 2370]
    >>> runtime(flat, 1900, min_days=0).days
    3.5
    >>> runtime(flat, 2600).basis, runtime(flat, 50_000).basis
    ('extrapolated', 'out-of-reach')
    """
    asked, measured = units / share, len(curve)
    within = _measured(curve, asked)
    if within is not None:
        run_days = math.ceil(max(within + window_days, min_days) - 1e-9)
        return Runtime(
            basis="measured", days=within, earliest=within, latest=within, run_days=run_days, measured_days=measured
        )
    days, earliest, latest = _extrapolated(curve, asked)
    if days is None or days > REACH * measured:
        return Runtime(
            basis="out-of-reach", days=None, earliest=earliest, latest=None, run_days=None, measured_days=measured
        )
    run_days = math.ceil(max(days + window_days, min_days) - 1e-9)
    return Runtime(
        basis="extrapolated", days=days, earliest=earliest, latest=latest, run_days=run_days, measured_days=measured
    )


def _measured(curve: Sequence[float], asked: float) -> float | None:
    before = 0.0
    for day, seen in enumerate(curve):
        if seen >= asked:
            return day + ((asked - before) / (seen - before) if seen > before else 0.0)
        before = seen
    return None


def _extrapolated(curve: Sequence[float], asked: float) -> tuple[float | None, float | None, float | None]:
    """Central, earliest and latest day; units grow as a power of time in the middle (Heaps' law)."""
    measured = len(curve)
    if measured < 2 or curve[-1] <= 0:
        return None, None, None
    last, lacking = curve[-1], asked - curve[-1]
    recent = min(WEEK, measured - 1)
    daily = (last - curve[-1 - recent]) / recent
    if daily <= 0:
        return None, None, None
    earliest = measured + lacking / daily
    half = max(0, measured // 2 - 1)
    growth = math.log(last / curve[half]) / math.log(measured / (half + 1)) if curve[half] > 0 else 1.0
    growth = min(1.0, max(1e-3, growth))
    log_days = math.log(measured) + math.log(asked / last) / growth
    days = max(earliest, math.exp(min(log_days, 100.0)))
    latest = _decaying(curve, lacking, daily)
    return days, earliest, None if latest is None else max(days, latest)


def _decaying(curve: Sequence[float], lacking: float, daily: float) -> float | None:
    """Day at which new units suffice that get rarer by a constant factor a day; None if they never do."""
    measured = len(curve)
    span = min(WEEK, (measured - 1) // 2)
    if not span:
        return None
    late = curve[-1] - curve[-1 - span]
    early = curve[-1 - span] - curve[-1 - 2 * span]
    if late >= early:
        return measured + lacking / daily
    if late <= 0:
        return None
    factor = (late / early) ** (1 / span)
    first = late * factor**span * (1 - factor) / (1 - factor**span)  # new units of the first day to come
    left = 1 - lacking * (1 - factor) / first
    return measured + math.log(left) / math.log(factor) if left > 0 else None
