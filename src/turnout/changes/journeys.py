"""How many of an endpoint's units go from what to what when a document changes: closed form, from the documents alone.

    holdout, layer slot, ramp point, draw     independent numbers of a unit, each made from its own seed
    same seed on both sides                   the same number: counted together, so few units move
    another seed, hash or unit field          a fresh number: independent

Which units meet a targeting condition, or what another system assigns, no document tells:
shares are then those of the units that meet every condition. Called by `traffic` and `change`;
calls `experiments/movement`. Pure.
"""

import itertools
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Final, TypeAlias, TypeVar

from msgspec import Struct

from turnout.experiments import growthbook, movement

MILLION: Final = 1_000_000
SLOTS: Final = 1_000
POINTS: Final = {growthbook.V1: 1_000, growthbook.V2: 10_000}
"""How many different points GrowthBook's hashes have."""

ROUNDING: Final = 1e-12

Face = TypeVar("Face")
Faces: TypeAlias = list[tuple[float, Face, Face]]
"""Shares that sum to 1, each with what the number behind it means before and after."""

Place: TypeAlias = tuple[str, str]
"""Experiment or rollout, and variant; two empty texts where nothing is split."""


class Gate(Struct, frozen=True):
    """A share of the units, chosen by a seed.

    Attributes:
        ppm: Millionths.
    """

    seed: str
    ppm: int


class Split(Struct, frozen=True, kw_only=True):
    """One experiment or rollout as one document has it.

    Attributes:
        source: What is hashed beside the seed: the endpoint's unit field.
        weights: By variant; at least one above 0.
        slots: Ranges of the layer that are its own, ends included; None for the whole.
        fixed: The variant that everybody gets whatever the draw; "" when units are split.
        won: Whether that is the winner.
    """

    name: str
    seed: str
    source: str
    control: str
    weights: Mapping[str, float]
    hash: str = "v1"
    ramp_ppm: int = MILLION
    layer: str = ""
    slots: tuple[tuple[int, int], ...] | None = None
    fixed: str = ""
    won: bool = False


class Traffic(Struct, frozen=True, kw_only=True):
    """What splits one endpoint in one document.

    Attributes:
        splits: Those that can replace the pipeline; several share one layer.
        holdout: Units that get control of everything; None without one.
    """

    splits: tuple[Split, ...] = ()
    holdout: Gate | None = None


def places(before: Traffic, after: Traffic) -> dict[tuple[Place, Place], float]:
    """Share of the units by where they are before and after, in [0, 1]; sums to 1.

    >>> def split(a, b):
    ...     return Split(name="x", seed="x", source="user_id", control="a", weights={"a": a, "b": b})
    >>> found = places(Traffic(splits=(split(90, 10),)), Traffic(splits=(split(50, 50),)))
    >>> {pair: round(share, 6) for pair, share in found.items() if pair[0] != pair[1]}
    {(('x', 'a'), ('x', 'b')): 0.4}
    """
    found: defaultdict[tuple[Place, Place], float] = defaultdict(float)
    draws: dict[tuple[int, int], Faces[str]] = {}
    for held_share, *held in _gates(before.holdout, after.holdout):
        for slot_share, *owners in _owners(before.splits, after.splits):
            pair = (owners[0], owners[1])
            if pair not in draws:
                draws[pair] = _draws(_split(before, pair[0]), _split(after, pair[1]))
            for draw_share, *drawn in draws[pair]:
                ends = [
                    _place(side, owner, is_held, variant)
                    for side, owner, is_held, variant in zip((before, after), owners, held, drawn, strict=True)
                ]
                found[ends[0], ends[1]] += held_share * slot_share * draw_share
    return {pair: share for pair, share in found.items() if share > ROUNDING}


def alone(split: Split, holdout: Gate | None) -> Traffic:
    """One split as if nothing else were on its endpoint."""
    return Traffic(splits=(split,), holdout=holdout)


def taking_part(side: Traffic) -> float:
    """Share of the units that are split at all, by the only split of a side (of those that meet its targeting)."""
    (split,) = side.splits
    if split.fixed:
        return 0.0
    held = side.holdout.ppm / MILLION if side.holdout else 0.0
    slots = sum(last - first + 1 for first, last in split.slots) / SLOTS if split.slots is not None else 1.0
    return (1 - held) * slots * split.ramp_ppm / MILLION


def moved(found: Mapping[tuple[Face, Face], float]) -> float:
    """Share that is elsewhere afterwards."""
    return sum(share for (source, target), share in found.items() if source != target)


def regrouped(
    found: Mapping[tuple[Place, Place], float], ends: Sequence[Mapping[Place, Face]]
) -> dict[tuple[Face, Face], float]:
    """The same shares under other names, before and after; equal names join."""
    joined: defaultdict[tuple[Face, Face], float] = defaultdict(float)
    for (source, target), share in found.items():
        joined[ends[0][source], ends[1][target]] += share
    return dict(joined)


def _place(side: Traffic, owner: int, held: bool, drawn: str) -> Place:
    split = _claimant(side, owner, held)
    if split is None:
        return ("", "")
    if split.fixed:
        return (split.name, split.fixed)
    return (split.name, split.control if held or owner < 0 or not drawn else drawn)


def _claimant(side: Traffic, owner: int, held: bool) -> Split | None:
    """Whose a unit is: the slot's owner's, else that of an experiment that is decided, else the first one's."""
    if not side.splits:
        return None
    if owner >= 0 and not held and not side.splits[owner].fixed:
        return side.splits[owner]
    return next((split for split in side.splits if split.won), side.splits[0])


def _gates(before: Gate | None, after: Gate | None) -> Faces[bool]:
    old, new = before or Gate("", 0), after or Gate("", 0)
    return _intervals(old.ppm, new.ppm, together=old.seed == new.seed)


def _intervals(before_ppm: int, after_ppm: int, *, together: bool) -> Faces[bool]:
    """Whether a number of the unit lies below a bound before and below another after."""
    if together:
        cuts = sorted({0, before_ppm, after_ppm, MILLION})
        return [((high - low) / MILLION, low < before_ppm, low < after_ppm) for low, high in itertools.pairwise(cuts)]
    marginals = ({True: ppm / MILLION, False: 1 - ppm / MILLION} for ppm in (before_ppm, after_ppm))
    return _independent(*marginals)


def _owners(before: Sequence[Split], after: Sequence[Split]) -> Faces[int]:
    """Index of the split that owns a unit's slot, -1 for nobody's."""
    owned = [[_owner_of(slot, splits) for slot in range(SLOTS)] for splits in (before, after)]
    layers = [{split.layer for split in splits if split.slots is not None} for splits in (before, after)]
    if all(layers) and layers[0] != layers[1]:
        return _independent(*(_shared(Counter(side)) for side in owned))
    return [(count / SLOTS, *pair) for pair, count in Counter(zip(*owned, strict=True)).items()]


def _owner_of(slot: int, splits: Sequence[Split]) -> int:
    for index, split in enumerate(splits):
        if split.slots is None or any(first <= slot <= last for first, last in split.slots):
            return index
    return -1


def _split(side: Traffic, owner: int) -> Split | None:
    return side.splits[owner] if side.splits and owner >= 0 else None


def _draws(before: Split | None, after: Split | None) -> Faces[str]:
    """The variant that ramp and draw give; "" for units outside the ramp."""
    if before is None or after is None or before.fixed or after.fixed:
        return _independent(_marginal(before), _marginal(after))
    if (before.seed, before.source, before.hash) != (after.seed, after.source, after.hash):
        return _independent(_marginal(before), _marginal(after))
    if before.hash in POINTS:
        points = zip(_on_grid(before), _on_grid(after), strict=True)
        return [(share, *pair) for pair, share in _shared(Counter(points)).items()]
    ramps = _intervals(before.ramp_ppm, after.ramp_ppm, together=True)
    joined: defaultdict[tuple[str, str], float] = defaultdict(float)
    for ramp_share, old_in, new_in in ramps:
        for share, old, new in _together(before.weights, after.weights):
            joined[old if old_in else "", new if new_in else ""] += ramp_share * share
    return [(share, *pair) for pair, share in joined.items()]


def _together(before: Mapping[str, float], after: Mapping[str, float]) -> Iterator[tuple[float, str, str]]:
    """Rendezvous under one seed: the flows of the closed form, and who stays."""
    flows = movement.flows(before, after)
    yield from ((share, *pair) for pair, share in flows.items())
    for name, share in _shared(before).items():
        stays = share - sum(flow for (source, _), flow in flows.items() if source == name)
        if stays > ROUNDING:
            yield stays, name, name


def _marginal(split: Split | None) -> dict[str, float]:
    if split is None or split.fixed:
        return {"": 1.0}
    if split.hash in POINTS:
        return _shared(Counter(_on_grid(split)))
    ramp = split.ramp_ppm / MILLION
    return {"": 1 - ramp, **{name: ramp * share for name, share in _shared(split.weights).items()}}


def _on_grid(split: Split) -> Iterator[str]:
    """The variant of every point of GrowthBook's hash; "" outside of all ranges."""
    ranges = growthbook.ranges(list(split.weights.values()), split.ramp_ppm / MILLION)
    named = dict(zip(split.weights, ranges, strict=True))
    count = POINTS[split.hash]
    for point in range(count):
        yield growthbook.choose(point / count, named) or ""


def _independent(before: Mapping[Face, float], after: Mapping[Face, float]) -> Faces[Face]:
    return [
        (one * other, old, new) for old, one in before.items() for new, other in after.items() if one * other > ROUNDING
    ]


def _shared(weights: Mapping[Face, float]) -> dict[Face, float]:
    total = sum(weights.values())
    return {name: weight / total for name, weight in weights.items()}


def largest(found: Mapping[tuple[Face, Face], float]) -> Iterable[tuple[tuple[Face, Face], float]]:
    """What moves, the largest share first."""
    flows = [(pair, share) for pair, share in found.items() if pair[0] != pair[1]]
    return sorted(flows, key=lambda flow: (-flow[1], str(flow[0])))
