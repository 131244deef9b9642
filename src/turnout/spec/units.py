"""Durations, sizes and ratios as people write them in documents and on the command line.

In code a duration is seconds as float, a size bytes as int, a ratio a float in [0, 1].
A bare number is refused for durations and sizes: `timeout: 30` has meant seconds to one
reader and milliseconds to the next often enough.
"""

import re
from decimal import Decimal

from turnout.errors import SpecError

DURATION_UNITS = {"us": "0.000001", "ms": "0.001", "s": "1", "m": "60", "h": "3600", "d": "86400", "w": "604800"}
SIZE_UNITS = {
    "B": 1,
    "KB": 10**3,
    "MB": 10**6,
    "GB": 10**9,
    "TB": 10**12,
    "KiB": 2**10,
    "MiB": 2**20,
    "GiB": 2**30,
    "TiB": 2**40,
}
DURATION = "a duration such as 200ms, 5s, 10m, 2h or 30d"
SIZE = "a size such as 512KiB, 16MiB or 1GB"
RATIO = "a share such as 20%, or a number from 0 to 1"
DURATION_PATTERN = rf"^[0-9]+(\.[0-9]+)?({'|'.join(DURATION_UNITS)})$"
RATIO_PATTERN = r"^[0-9]+(\.[0-9]+)?%$"

_QUANTITY = re.compile(r"([0-9]{1,15}(?:\.[0-9]{1,9})?)([A-Za-z%]*)", re.ASCII)


def duration(text: str) -> float:
    """Seconds of a duration such as "200ms".

    Raises:
        SpecError: Not one non-negative number with one unit of us, ms, s, m, h, d, w.

    >>> duration("200ms"), duration("1.5h"), duration("30d")
    (0.2, 5400.0, 2592000.0)
    """
    number, unit = _split(text, DURATION)
    if unit not in DURATION_UNITS:
        raise SpecError(f"{text!r} is not {DURATION}.", hint=_unit_hint(number, unit, tuple(DURATION_UNITS), "s", "ms"))
    return float(Decimal(number) * Decimal(DURATION_UNITS[unit]))


def size(text: str) -> int:
    """Bytes of a size such as "16MiB"; a fraction of a byte is cut off.

    Raises:
        SpecError: Not one non-negative number with one unit of B, KB, MB, GB, TB, KiB, MiB, GiB, TiB.

    >>> size("16MiB"), size("1.5KB")
    (16777216, 1500)
    """
    number, unit = _split(text, SIZE)
    if unit not in SIZE_UNITS:
        raise SpecError(f"{text!r} is not {SIZE}.", hint=_unit_hint(number, unit, tuple(SIZE_UNITS), "MiB", "B"))
    return int(Decimal(number) * SIZE_UNITS[unit])


def ratio(text: str) -> float:
    """The share, from 0 to 1, of a text such as "20%" or "0.2".

    Raises:
        SpecError: Not a number, or outside 0 to 1.

    >>> ratio("20%"), ratio("0.2"), ratio("100%")
    (0.2, 0.2, 1.0)
    """
    number, unit = _split(text, RATIO)
    if unit not in ("", "%"):
        raise SpecError(f"{text!r} is not {RATIO}.", hint="Write the percent sign, as in 20%.")
    value = Decimal(number) / (100 if unit else 1)
    if value > 1:
        raise SpecError(f"{text!r} is more than the whole.", hint="" if unit else f"Write {number}% for per cent.")
    return float(value)


def duration_text(seconds: float) -> str:
    """The shortest exact text for a duration; the opposite of `duration`.

    >>> duration_text(0.2), duration_text(5400.0), duration_text(86400.0), duration_text(0.0)
    ('200ms', '90m', '1d', '0s')
    """
    if seconds == 0:
        return "0s"
    exact = Decimal(repr(seconds))
    for unit in ("w", "d", "h", "m", "s", "ms"):
        count = exact / Decimal(DURATION_UNITS[unit])
        if count == count.to_integral_value() and count * Decimal(DURATION_UNITS[unit]) == exact:
            return f"{int(count)}{unit}"
    return f"{(exact / Decimal(DURATION_UNITS['us'])).normalize():f}us"


def _split(text: str, expected: str) -> tuple[str, str]:
    found = _QUANTITY.fullmatch(text)
    if found is None:
        hint = "Negative values have no meaning here." if text.startswith("-") else "Write one number and one unit."
        raise SpecError(f"{text[:80]!r} is not {expected}.", hint=hint)
    return found[1], found[2]


def _unit_hint(number: str, unit: str, units: tuple[str, ...], usual: str, other: str) -> str:
    if not unit:
        return f"Say the unit: {number}{usual} or {number}{other}."
    same = [known for known in units if known.lower() == unit.lower()]
    if same:
        return f"Write {number}{same[0]}."
    return f"Units are {', '.join(units)}."
