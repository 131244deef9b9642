"""Layers: experiments that exclude each other share a thousand slots, each unit stands in one.

Called by assignment and `reports/explain.py`; pure. Layers are independent of each other, of
ramps, splits and holdouts, because each has a seed of its own.
"""

from collections.abc import Iterable
from typing import Final

from turnout.experiments import growthbook, hashing

SLOTS: Final = 1000

Slots = tuple[tuple[int, int], ...]
"""Ranges of slots, both ends included."""


class Layer:
    """The part of a layer that one experiment owns. Immutable by convention.

    Attributes:
        name: In the document.
        seed: What places units into slots; experiments of one layer share it.
        slots: Ranges in order, neighbours joined.
        namespace: Whether slots are those of a GrowthBook namespace of that seed.
    """

    __slots__ = ("_hash", "_owned", "name", "namespace", "seed", "slots")

    def __init__(
        self, name: str, slots: Iterable[tuple[int, int]], *, seed: str | None = None, namespace: bool = False
    ) -> None:
        self.name = name
        self.slots = joined(slots)
        self.namespace = namespace
        self.seed = seed or (name if namespace else f"layer:{name}")
        self._hash = hashing.Seeded(self.seed)
        self._owned = bytes(any(first <= slot <= last for first, last in self.slots) for slot in range(SLOTS))

    def slot(self, unit: str) -> int:
        """The unit's slot, 0..999: H(seed 0x00 unit).word(0) * 1000 >> 64, or the namespace's thousandth.

        Raises:
            UnicodeEncodeError: The unit holds a lone surrogate.
        """
        if self.namespace:
            return growthbook.thousandth(self.seed, unit)
        return self._hash.word(unit) * SLOTS >> 64

    def owns(self, unit: str) -> bool:
        """Whether the unit's slot belongs to this experiment."""
        return self._owned[self.slot(unit)] == 1


def joined(slots: Iterable[tuple[int, int]]) -> Slots:
    """Ranges in order, with neighbours and overlaps joined: two spellings of one set become equal.

    >>> joined([(500, 599), (0, 9), (10, 19)])
    ((0, 19), (500, 599))
    """
    found: list[tuple[int, int]] = []
    for first, last in sorted(slots):
        assert 0 <= first <= last < SLOTS, f"slots {first}-{last}; a layer has the slots 0-{SLOTS - 1}"
        if found and first <= found[-1][1] + 1:
            found[-1] = (found[-1][0], max(last, found[-1][1]))
        else:
            found.append((first, last))
    return tuple(found)
