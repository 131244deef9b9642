"""Holdouts: units that no experiment touches, so that all experiments together can be judged.

Called by assignment and reports; pure. A holdout's effect is read against an equal share of the
rest, such as the units with `ratio_ppm <= point_ppm(unit) < 2 * ratio_ppm`.
"""

from msgspec import Struct

from turnout.experiments import hashing


class Holdout(Struct, frozen=True):
    """A share of units that gets control of everything in scope, to see what all experiments together are worth.

    Attributes:
        name: In the document.
        ratio_ppm: Millionths of the units that are held out.
        hash: Its own seed, so that holdout, layers, ramps and splits are independent.
    """

    name: str
    ratio_ppm: int
    hash: hashing.Seeded

    def point_ppm(self, unit: str) -> int:
        """Where the unit stands, 0..999,999; it is held out below `ratio_ppm`."""
        return self.hash.word(unit) * hashing.MILLION >> 64

    def holds(self, unit: str) -> bool:
        """Whether the unit is held out. Raising the ratio never lets one in."""
        return self.hash.word(unit) * hashing.MILLION >> 64 < self.ratio_ppm


def holdout(name: str, ratio_ppm: int, seed: str | None = None) -> Holdout:
    """A holdout as the document has it.

    Args:
        ratio_ppm: Millionths, 0..1,000,000.
        seed: Default: "holdout:<name>".
    """
    assert 0 <= ratio_ppm <= hashing.MILLION, f"holdout {name!r}: ratio_ppm is {ratio_ppm}"
    return Holdout(name, ratio_ppm, hashing.Seeded(seed or f"holdout:{name}"))
