"""All numbers behind one unit's assignment. Called by `reports/explain.py`; pure."""

import hashlib
import math

from msgspec import Struct

from turnout.experiments import assignment, growthbook, hashing


class Draw(Struct, frozen=True, kw_only=True):
    """One variant's part in the rendezvous of one unit, for `turnout explain`.

    Attributes:
        variant: Name.
        weight: As in the document.
        word: First 8 bytes of the digest as 16 hex digits.
        u: (word + 0.5) / 2^64.
        score: ln(u) / weight; -inf for weight 0.
    """

    variant: str
    weight: float
    word: str
    u: float
    score: float


class Points(Struct, frozen=True, kw_only=True):
    """All numbers behind one unit's assignment.

    Attributes:
        ramp_point_ppm: The unit takes part when this is below the ramp, in millionths; of algorithm v1.
        sub_bucket: 0..99.
        draws: One per variant, in bytewise order of the names; empty under a GrowthBook hash.
        holdout_point_ppm: The unit is held out when this is below the holdout's ratio; None without a holdout.
        slot: Its slot in the layer, 0..999; None without a layer.
        number: Where it stands under a GrowthBook hash, in [0, 1); None under v1.
    """

    ramp_point_ppm: int
    sub_bucket: int
    draws: tuple[Draw, ...]
    holdout_point_ppm: int | None = None
    slot: int | None = None
    number: float | None = None


def of(unit: str, allocation: assignment.Allocation) -> Points:
    """Compute every number `assign` looks at, including those that did not matter for this unit.

    Written apart from `assign`, so that a test can hold the two against each other.

    Raises:
        UnicodeEncodeError: The unit holds a lone surrogate, which UTF-8 cannot carry.
    """
    text, gates = f"{allocation.seed}\0{unit}", allocation.gates
    digest = hashlib.sha256(text.encode()).digest()
    ramp_word, bucket_word = int.from_bytes(digest[:8]), int.from_bytes(digest[8:16])
    v1 = gates.hash == assignment.V1
    return Points(
        ramp_point_ppm=ramp_word * hashing.MILLION >> 64,
        sub_bucket=bucket_word * assignment.SUB_BUCKETS >> 64,
        draws=tuple(_draw(text, share) for share in allocation.shares) if v1 else (),
        holdout_point_ppm=gates.holdout.point_ppm(unit) if gates.holdout else None,
        slot=gates.layer.slot(unit) if gates.layer else None,
        number=None if v1 else growthbook.number(gates.hash, allocation.seed, unit),
    )


def _draw(text: str, share: assignment.Share) -> Draw:
    word = hashlib.sha256(f"{text}\0{share.name}".encode()).digest()[:8]
    u = (int.from_bytes(word) + 0.5) / assignment.WORD
    score = math.log(u) / share.weight if share.weight > 0 else -math.inf
    return Draw(variant=share.name, weight=share.weight, word=word.hex(), u=u, score=score)
