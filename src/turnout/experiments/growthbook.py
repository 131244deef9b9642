"""GrowthBook's hashing, so that its SDKs and Turnout give a unit the same variant.

Called by assignment and layers; pure. Ramp (there: coverage) and split share one number, so they
are not independent as in algorithm v1: raising the ramp widens every variant's range in place.

SDKs agree on ASCII. Elsewhere they differ (UTF-16 code units in JavaScript, bytes in Go, ...);
this is JavaScript's way.

Source: GrowthBook, "Build your own SDK" (FNV-1a 32; hash versions 1 and 2; namespaces).
"""

import struct
from collections.abc import Mapping, Sequence
from typing import Final

V1: Final = "growthbook-v1"
V2: Final = "growthbook-v2"

OFFSET: Final = 0x811C9DC5
PRIME: Final = 0x01000193
MASK: Final = 0xFFFFFFFF

Range = tuple[float, float]


def fnv1a(text: str) -> int:
    """FNV-1a of 32 bits over the UTF-16 code units of a text: 0..2^32 - 1.

    Lone surrogates are code units like others, as in JavaScript.

    >>> fnv1a("a")
    3826002220
    """
    value = OFFSET
    for unit in text.encode() if text.isascii() else _code_units(text):
        value = (value ^ unit) * PRIME & MASK
    return value


def _code_units(text: str) -> tuple[int, ...]:
    data = text.encode("utf-16-le", "surrogatepass")
    return struct.unpack(f"<{len(data) // 2}H", data)


def number(version: str, seed: str, unit: str) -> float:
    """Where a unit stands, in [0, 1): thousandths with `V1`, ten-thousandths with `V2`."""
    if version == V1:
        return fnv1a(unit + seed) % 1000 / 1000
    assert version == V2, f"hash {version!r}; there are {V1} and {V2}"
    return fnv1a(str(fnv1a(seed + unit))) % 10_000 / 10_000


def thousandth(namespace: str, unit: str) -> int:
    """The unit's place in a namespace, 0..999; GrowthBook writes the same as 0.000..0.999."""
    return fnv1a(f"{unit}__{namespace}") % 1000


def ranges(weights: Sequence[float], coverage: float) -> tuple[Range, ...]:
    """The part of [0, 1) that belongs to each variant, in the order given.

    Args:
        weights: A sum outside 0.99..1.01 means equal weights, as in the SDKs; `turnout check` refuses it.
        coverage: Share that takes part; clamped to [0, 1].
    """
    coverage = min(1.0, max(0.0, coverage))
    if not fits(weights):
        weights = [1 / len(weights)] * len(weights)
    start, found = 0.0, []
    for weight in weights:
        found.append((start, start + coverage * weight))
        start += weight
    return tuple(found)


def fits(weights: Sequence[float]) -> bool:
    """Whether an SDK takes these weights as they are: they sum to 1, give or take a hundredth."""
    return 0.99 <= sum(weights) <= 1.01


def choose(point: float, found: Mapping[str, Range]) -> str | None:
    """The first variant whose range holds the point; None outside all of them."""
    for name, (start, end) in found.items():
        if start <= point < end:
            return name
    return None
