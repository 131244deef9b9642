"""Numbers as people read them, the same in every output of a report."""

import math
from datetime import UTC, datetime
from typing import Literal, TypeAlias

Scale: TypeAlias = Literal["ratio", "seconds", "number"]

MINUTE_S, HOUR_S, DAY_S = 60.0, 3_600.0, 86_400.0


def value(number: float | None, scale: Scale) -> str:
    """A metric's value.

    >>> value(0.1234, "ratio"), value(0.0123, "seconds"), value(1.5, "number"), value(None, "ratio")
    ('12.34 %', '12.3 ms', '1.5', '-')
    """
    if number is None or math.isnan(number):
        return "-"
    if scale == "ratio":
        return f"{number * 100:.2f} %"
    if scale == "seconds":
        return _time(number)
    return f"{number:.4g}" if abs(number) < 10_000 else f"{number:,.0f}"


def change(number: float | None, scale: Scale, *, sign: bool = True) -> str:
    """A difference of two values; of ratios in percentage points.

    >>> change(0.0123, "ratio"), change(-0.2, "number"), change(0.5, "seconds"), change(0.02, "ratio", sign=False)
    ('+1.23 pp', '-0.2', '+500 ms', '2.00 pp')
    """
    if number is None or math.isnan(number):
        return "-"
    plus = "+" if sign and number >= 0 else ""
    if math.isinf(number):
        return "∞" if number > 0 else "-∞"
    if scale == "ratio":
        return f"{plus}{number * 100:.2f} pp"
    return f"{plus}{value(number, scale)}"


def between(low: float | None, high: float | None, scale: Scale) -> str:
    """An interval of a difference.

    >>> between(-0.01, 0.02, "ratio"), between(None, None, "ratio")
    ('-1.00 to +2.00 pp', '-')
    """
    if low is None or high is None:
        return "-"
    if scale == "ratio":
        return f"{low * 100:+.2f} to {high * 100:+.2f} pp"
    return f"{change(low, scale)} to {change(high, scale)}"


def percent(ratio: float | None, digits: int = 1) -> str:
    """
    >>> percent(0.1234), percent(None)
    ('12.3 %', '-')
    """
    return "-" if ratio is None or math.isnan(ratio) else f"{100 * ratio:.{digits}f} %"


def lift(ratio: float | None) -> str:
    """
    >>> lift(0.051), lift(None)
    ('+5.1 %', '-')
    """
    return "-" if ratio is None else f"{100 * ratio:+.1f} %"


def p_value(number: float | None) -> str:
    """
    >>> p_value(0.00004), p_value(0.0312), p_value(None)
    ('< 0.0001', '0.0312', '-')
    """
    if number is None:
        return "-"
    return "< 0.0001" if number < 0.0001 else f"{number:.3g}"


def p_is(number: float | None) -> str:
    """
    >>> p_is(0.00004), p_is(0.0312)
    ('p < 0.0001', 'p = 0.0312')
    """
    told = p_value(number)
    return f"p {told}" if told.startswith("<") else f"p = {told}"


def count(number: float) -> str:
    """
    >>> count(1234567), count(12.0)
    ('1,234,567', '12')
    """
    return f"{number:,.0f}"


def several(number: int, noun: str) -> str:
    """
    >>> several(1, "unit"), several(1200, "unit")
    ('1 unit', '1,200 units')
    """
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def duration(seconds: float) -> str:
    """How long, in the one unit that fits.

    >>> duration(30), duration(5400), duration(90_000), duration(10 * 86_400)
    ('30 seconds', '90 minutes', '25 hours', '10.0 days')
    """
    if seconds < 2 * MINUTE_S:
        return f"{seconds:.0f} seconds"
    if seconds < 3 * HOUR_S:
        return f"{seconds / MINUTE_S:.0f} minutes"
    if seconds < 3 * DAY_S:
        return f"{seconds / HOUR_S:.0f} hours"
    return f"{seconds / DAY_S:.1f} days"


def _time(seconds: float) -> str:
    if abs(seconds) < 1.0:
        return f"{seconds * 1000:.3g} ms"
    return f"{seconds:.3g} s"


def moment(epoch_s: float | None) -> str:
    """A moment, UTC to the minute.

    >>> moment(0.0), moment(None)
    ('1970-01-01 00:00 UTC', '-')
    """
    if epoch_s is None:
        return "-"
    return datetime.fromtimestamp(epoch_s, UTC).strftime("%Y-%m-%d %H:%M UTC")
