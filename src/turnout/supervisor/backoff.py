"""How long to wait before a crashed child is started again. Pure: the caller tells how long the child lived."""

from typing import Final

FIRST_S: Final = 0.1
LONGEST_S: Final = 10.0
LOOP_FAILURES: Final = 4
"""Short lives in a row after which the child is called a crash loop."""

SOUND_S: Final = 10.0
"""A child that lived this long starts again at once: its death is news, not a loop."""


class Backoff:
    """Doubling delays, bounded; the first restart is immediate.

    >>> backoff = Backoff()
    >>> [backoff.after(lived_s=0.5) for _ in range(4)]
    [0.0, 0.1, 0.2, 0.4]
    >>> backoff.looping
    True
    >>> backoff.after(lived_s=60.0)
    0.0
    """

    def __init__(self) -> None:
        self.failures = 0

    @property
    def looping(self) -> bool:
        return self.failures >= LOOP_FAILURES

    def after(self, *, lived_s: float) -> float:
        """Seconds to wait before the next start, after a life of `lived_s` (0.0: it never became ready)."""
        self.failures = 1 if lived_s >= SOUND_S else self.failures + 1
        if self.failures == 1:
            return 0.0
        return min(LONGEST_S, FIRST_S * 2.0 ** min(self.failures - 2, 30))

    def clear(self) -> None:
        """Forget the past: somebody replaced the child on purpose, and the new one is ready."""
        self.failures = 0
