"""Identifiers of events and requests: 32 hex digits in UUIDv7 layout, ascending within one process.

The gateway calls this once per request and the event log's users once per event, so it is
written for speed: one clock read, one `pop` and one format. Layout (RFC 9562, section 5.7 with
method 3 of section 6.2): 48 bits of milliseconds, the version, 12 bits of the millisecond's
fraction, the variant, 62 random bits.
"""

import os
import time
from collections.abc import Callable

_BLOCK = 512
"""Random tails drawn at a time: 4 KiB of entropy, about 0.1 ms every 512 ids."""

_VARIANT = dict(zip("0123456789abcdef", "89ab" * 4, strict=True))
_FRACTION = tuple(f"7{fraction:03x}" for fraction in range(4096))
_TICKS = 4_096_000.0
"""Ticks a second: 4096 a millisecond. A float holds them exactly until the year 2039 (2**53)."""


def generator(
    clock: Callable[[], float] = time.time, entropy: Callable[[int], bytes] = os.urandom
) -> Callable[[], str]:
    """A function that returns a new id on every call.

    Ids ascend strictly within one generator, also when the clock steps back. A forked child
    draws fresh entropy. Not for several threads at once.

    Args:
        clock: Seconds since the epoch.
        entropy: Returns that many random bytes.

    Complexity: about 0.4 µs a call.
    """
    tails: list[str] = []
    last = 0
    last_ms = -1
    prefix = ""

    def refill() -> str:
        digits = entropy(8 * _BLOCK).hex()
        tails.extend(_VARIANT[digits[at]] + digits[at + 1 : at + 16] for at in range(0, 16 * _BLOCK, 16))
        return tails.pop()

    def new_id() -> str:
        nonlocal last, last_ms, prefix
        tick = int(clock() * _TICKS)
        if tick <= last:
            tick = last + 1
        last = tick
        if tick >> 12 != last_ms:
            last_ms = tick >> 12
            prefix = f"{last_ms:012x}"
        return prefix + _FRACTION[tick & 0xFFF] + (tails.pop() if tails else refill())

    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=tails.clear)
    return new_id
