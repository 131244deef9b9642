"""Which exposures this process has logged already, so that a busy unit is not logged on every request."""

from collections import OrderedDict

_DAY_S = 86_400


class ExposureMemory:
    """A bounded memory of exposures; what it forgets is logged twice, never lost.

    A unit is logged when it first meets a phase, again when it gets another answer in it (a ramp
    was raised, another system moved it), and once more on every further day (UTC) it is seen in
    this process. Reports use the first exposure that counts, so duplicates do no harm.

    Args:
        capacity: Exposures remembered; about 300 bytes each. The least recently seen goes first.
    """

    def __init__(self, capacity: int = 65_536) -> None:
        self._capacity = capacity
        self._told: OrderedDict[tuple[str, str, str], tuple[int, str, str]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._told)

    def first(self, experiment: str, phase: str, unit: str, answer: tuple[str, str], now: float) -> bool:
        """True when this exposure has to be logged. O(1), about 0.3 µs.

        Args:
            answer: Reason and variant.
            now: Seconds since the epoch.
        """
        key = (experiment, phase, unit)
        mark = (int(now // _DAY_S), *answer)
        told = self._told
        seen = told.get(key)
        told[key] = mark
        if seen is None:
            if len(told) > self._capacity:
                told.popitem(last=False)
            return True
        told.move_to_end(key)
        return seen != mark

    def forget(self, experiment: str, phase: str, unit: str) -> None:
        """Take an exposure back, when the log had to drop it: the next request tries again."""
        self._told.pop((experiment, phase, unit), None)
