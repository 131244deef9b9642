"""Which variant a unit gets: weighted rendezvous hashing, algorithm v1.

Called by dispatch for each request, by OFREP and by `reports/explain.py`; calls holdouts,
layers and a compiled targeting condition where the document has them. An assignment is a
function of the document and the request alone, so replicas agree without talking and a
restart changes nothing.

    unit     text as given; an integer becomes decimal text; "" or None is no unit
    H        SHA-256 over UTF-8 bytes; word(i) = bytes 8i..8i+7 of the digest, big-endian
    d        H(seed 0x00 unit): word(0) ramp, word(1) sub-bucket, word(2) and word(3) reserved
    variant  word(0) of H(seed 0x00 unit 0x00 variant's name), u = (word + 0.5) / 2^64,
             score = ln(u) / weight; the highest wins, a tie goes to the smaller name (bytewise)

Invariants: frozen, see `tests/experiments/vectors.json`; a weight of 0 never wins; no
unit is ever drawn at random; nothing raises.

Source: docs/experiments.md, algorithm v1.
"""

import hashlib
import math
import struct
from collections.abc import Mapping
from typing import Final, Literal, Protocol

from msgspec import Struct

from turnout.experiments import growthbook, hashing, holdouts, layers

WORD: Final = 2.0**64
MILLION: Final = hashing.MILLION
SUB_BUCKETS: Final = 100
NO_SUB_BUCKET: Final = -1
V1: Final = "v1"
ATTRIBUTE: Final = "attribute:"
"""Begins an `on_missing_unit` that names an attribute."""

MissingUnit = Literal["control", "request"] | str
"""What stands in for an absent unit: "control" (nothing), "request" (the request id), "attribute:<name>"."""

_words = struct.Struct(">4Q").unpack
_first_word = struct.Struct(">Q24x").unpack
_log = math.log


class Reason:
    """Why a unit got its variant, in order of evaluation; the first match decides."""

    WINNER: Final = "WINNER"
    """The document names a winner."""
    DISABLED: Final = "DISABLED"
    """The document switches the experiment off."""
    OVERRIDE: Final = "OVERRIDE"
    """The unit stands on a variant's list."""
    EXTERNAL: Final = "EXTERNAL"
    """Another system named the variant."""
    EXTERNAL_UNKNOWN: Final = "EXTERNAL_UNKNOWN"
    """Another system should have named the variant and did not, or named none of ours."""
    NO_UNIT: Final = "NO_UNIT"
    """The request carries no unit."""
    HOLDOUT: Final = "HOLDOUT"
    """The unit is held out of experiments."""
    NOT_IN_LAYER: Final = "NOT_IN_LAYER"
    """The unit's slot belongs to another experiment of the layer, or to nobody."""
    TARGETING: Final = "TARGETING"
    """A targeting condition is false."""
    NOT_IN_RAMP: Final = "NOT_IN_RAMP"
    """The unit is outside the share that takes part."""
    SPLIT: Final = "SPLIT"
    """Rendezvous decided."""
    ERROR: Final = "ERROR"
    """Something raised on the way; a request never fails for an experiment's sake."""


ANALYSED: Final = (Reason.SPLIT, Reason.EXTERNAL)
"""Reasons that enter an analysis; all others are only counted."""


class Share(Struct, frozen=True):
    """A variant and its weight. Weights need not sum to anything; 0 takes no units."""

    name: str
    weight: float


class Assignment(Struct, frozen=True, gc=False):
    """The answer for one unit.

    Attributes:
        variant: The assigned variant's name.
        reason: One of `Reason`.
        unit: The unit as text, after `on_missing_unit`; "" when there is none.
        sub_bucket: 0..99, or -1 without a unit.
        propensity: Probability of this variant among units that reach the split; 1 where no
            chance was involved, 0 when unknown (`ERROR`).
        unit_type: What the unit is: the endpoint's unit field, "request_id", or the attribute's name.
        error: What went wrong, for reason `ERROR` (and where the document decides for all); else "".
        missing: The attribute that targeting needed and the request lacks; else "".
    """

    variant: str
    reason: str
    unit: str
    sub_bucket: int
    propensity: float
    unit_type: str = ""
    error: str = ""
    missing: str = ""


class Condition(Protocol):
    """A compiled targeting condition; `turnout.expressions` makes them."""

    @property
    def names(self) -> tuple[str, ...]:
        """The attributes it reads."""

    def holds(self, attributes: Mapping[str, object]) -> bool:
        """Whether it is true.

        Raises:
            LookupError: It needs an attribute that is not there; `args[0]` is its name.
        """
        ...


class Allocation:
    """An experiment as the hot path needs it. Immutable by convention, built once per document.

    Attributes:
        name: The experiment's name.
        phase: 16 hex digits, see `phases.phase`.
        seed: Holds no 0x00.
        shares: All variants in bytewise order of their names.
        control: Name of the control variant.
        ramp_ppm: Millionths of the units that take part, 0..1,000,000.
        unit_type: The endpoint's unit field, for the log.
        gates: What stands before the split, as given.
        ranges: Variant to its part of [0, 1) under a GrowthBook hash; empty under v1.
    """

    __slots__ = (
        "_candidates",
        "_chances",
        "_fixed",
        "_missing",
        "_overrides",
        "_plain",
        "_prefix",
        "control",
        "gates",
        "name",
        "phase",
        "ramp_ppm",
        "ranges",
        "seed",
        "shares",
        "unit_type",
    )

    def __init__(
        self,
        name: str,
        shares: Mapping[str, float],
        control: str,
        *,
        phase: str = "",
        seed: str | None = None,
        ramp_ppm: int = MILLION,
        gates: "Gates | None" = None,
    ) -> None:
        gates = gates or Gates()
        self.name = name
        self.phase = phase
        self.seed = seed or name
        self.shares = tuple(Share(key, float(shares[key])) for key in sorted(shares, key=str.encode))
        self.control = control
        self.ramp_ppm = ramp_ppm
        self.unit_type = gates.unit_type
        self.gates = gates
        self._check(gates)
        self._prefix = hashlib.sha256(self.seed.encode() + b"\0")
        self._missing = gates.on_missing_unit
        self._overrides = dict(gates.overrides)
        self._fixed = self._decided_by_document(gates)
        total = sum(share.weight for share in self.shares)
        # (name, bytes that follow the unit in the hash, weight, propensity), weight 0 left out
        self._candidates = tuple(
            (share.name, b"\0" + share.name.encode(), share.weight, share.weight / total)
            for share in self.shares
            if share.weight > 0
        )
        self.ranges: dict[str, growthbook.Range] = {}
        if gates.hash != V1:  # there, variants stand in the document's order
            parts = growthbook.ranges([float(weight) for weight in shares.values()], ramp_ppm / MILLION)
            self.ranges = dict(zip(shares, parts, strict=True))
        covered = sum(end - start for start, end in self.ranges.values())
        self._chances = {name: (end - start) / covered for name, (start, end) in self.ranges.items() if covered}
        self._plain = gates.plain

    def _check(self, gates: "Gates") -> None:
        names = {share.name for share in self.shares}
        named = {self.control, *gates.overrides.values()} | ({gates.winner} if gates.winner else set())
        assert named <= names, (
            f"experiment {self.name!r} names {sorted(named - names)}, its variants are {sorted(names)}"
        )
        assert "\0" not in self.seed + "".join(names), f"experiment {self.name!r}: seed and names hold no 0x00"
        weights = [share.weight for share in self.shares]
        assert all(math.isfinite(w) and w >= 0 for w in weights), f"experiment {self.name!r}: weights are {weights}"
        assert any(weights), f"experiment {self.name!r}: at least one weight is above 0"

    def _decided_by_document(self, gates: "Gates") -> tuple[str, str] | None:
        if gates.winner:
            return gates.winner, Reason.WINNER
        return None if gates.enabled else (self.control, Reason.DISABLED)

    def __repr__(self) -> str:
        return f"<allocation {self.name} {self.phase}>"


class Gates(Struct, frozen=True, kw_only=True):
    """What stands before the split: who may take part at all, and whom it never asks.

    Attributes:
        enabled: False sends everybody to control.
        winner: Variant that everybody gets; "" for none.
        overrides: Unit to variant, for people who test; never analysed.
        on_missing_unit: See `MissingUnit`.
        unit_type: The endpoint's unit field.
        hash: "v1", or one of GrowthBook's.
        external: Another system names the variant in a request header.
        holdout: Whose units get control; None for nobody.
        layer: The slots that may take part; None for all.
        targeting: Who may take part; None for everybody.
    """

    enabled: bool = True
    winner: str = ""
    overrides: Mapping[str, str] = {}
    on_missing_unit: MissingUnit = "control"
    unit_type: str = ""
    hash: str = V1
    external: bool = False
    holdout: holdouts.Holdout | None = None
    layer: layers.Layer | None = None
    targeting: Condition | None = None

    @property
    def plain(self) -> bool:
        """Whether seed, weights, ramp and a list of overrides are all there is: the fast way."""
        beside = self.holdout or self.layer or self.targeting
        return beside is None and self.hash == V1 and not self.external


def assign(
    unit: object,
    allocation: Allocation,
    *,
    request_id: str = "",
    attributes: Mapping[str, object] | None = None,
    external: str | None = None,
    override: str | None = None,
) -> Assignment:
    """Choose the variant for one unit. Pure and stable; never raises.

    The same unit, seed and weights give the same variant in every process and release.

    Args:
        unit: Text as given (no trim, no case fold, no Unicode normalisation) or an integer, which
            becomes decimal text. None and "" mean no unit. Any other type is an `ERROR`: a float or
            a bool has no one text form, so other systems would not find the unit again.
        request_id: Stands in for a missing unit under `on_missing_unit: request`.
        attributes: What targeting may know, by the names that the endpoint declares, and where
            `on_missing_unit: attribute:<name>` looks. None as a value means that it is missing.
        external: What the header of `assign: external` says; None without it.
        override: The variant that a verified `Turnout-Override` header names for this experiment.

    Returns:
        The variant and why. On `ERROR` the control, with the cause in `error`.

    Complexity: one SHA-256 of seed and unit, and one block more per variant; 2 µs for two variants.
    Source: docs/experiments.md, algorithm v1 (weighted rendezvous hashing).

    >>> assign("user-1", Allocation("structure", {"retrieval": 50, "generation": 50}, "retrieval")).variant
    'generation'
    """
    try:
        kind = allocation.unit_type
        if type(unit) is not str or not unit:
            unit, kind = _unit_or_stand_in(unit, allocation, request_id, attributes)
        if allocation._plain and override is None:
            return _decide(unit, kind, allocation)
        return _decide_stepwise(unit, kind, allocation, Asked(attributes or {}, external, override))
    except Exception as exc:  # noqa: BLE001 - the border: counted by its reason, and the request goes on
        return _failed(allocation, exc)


class Asked(Struct, frozen=True, gc=False):
    """What a request says beside its unit; see `assign`."""

    attributes: Mapping[str, object]
    external: str | None
    override: str | None


def _decide_stepwise(unit: str, unit_type: str, allocation: Allocation, asked: Asked) -> Assignment:
    """The order of evaluation, first match decides; what the document says of all or of this unit comes first."""
    if allocation._fixed:
        return _decide(unit, unit_type, allocation)
    if asked.override is not None:
        return _answer(_variant_named(asked.override, allocation), Reason.OVERRIDE, unit, unit_type, allocation)
    if unit in allocation._overrides:
        return _decide(unit, unit_type, allocation)
    if allocation.gates.external:
        if any(asked.external == share.name for share in allocation.shares):
            return _answer(str(asked.external), Reason.EXTERNAL, unit, unit_type, allocation, propensity=0.0)
        return _answer(allocation.control, Reason.EXTERNAL_UNKNOWN, unit, unit_type, allocation)
    if not unit:
        return _answer(allocation.control, Reason.NO_UNIT, unit, unit_type, allocation)
    outside = _outside(unit, unit_type, allocation, asked.attributes)
    if outside is not None:
        return outside
    return _decide(unit, unit_type, allocation) if allocation.gates.hash == V1 else _drawn(unit, unit_type, allocation)


def _outside(unit: str, unit_type: str, allocation: Allocation, attributes: Mapping[str, object]) -> Assignment | None:
    """The answer for a unit that may not take part: holdout, layer, targeting; None for one that may."""
    gates, control = allocation.gates, allocation.control
    if gates.holdout is not None and gates.holdout.holds(unit):
        return _answer(control, Reason.HOLDOUT, unit, unit_type, allocation)
    if gates.layer is not None and not gates.layer.owns(unit):
        return _answer(control, Reason.NOT_IN_LAYER, unit, unit_type, allocation)
    if gates.targeting is not None:
        try:
            if not gates.targeting.holds(attributes):
                return _answer(control, Reason.TARGETING, unit, unit_type, allocation)
        except LookupError as missing:
            lacking = str(missing.args[0]) if missing.args else "an attribute"
            return _answer(control, Reason.TARGETING, unit, unit_type, allocation, missing=lacking)
        except Exception as exc:  # noqa: BLE001 - the same border as in `assign`; here the unit is known
            bucket = _sub_bucket(unit, allocation)
            return Assignment(control, Reason.ERROR, unit, bucket, 0.0, unit_type, _cause(exc))
    return None


def _drawn(unit: str, unit_type: str, allocation: Allocation) -> Assignment:
    """Ramp and split as a GrowthBook SDK does them: one number for both."""
    name = growthbook.choose(growthbook.number(allocation.gates.hash, allocation.seed, unit), allocation.ranges)
    if name is None:
        return _answer(allocation.control, Reason.NOT_IN_RAMP, unit, unit_type, allocation)
    return _answer(name, Reason.SPLIT, unit, unit_type, allocation, propensity=allocation._chances[name])


def _answer(
    variant: str,
    reason: str,
    unit: str,
    unit_type: str,
    allocation: Allocation,
    *,
    propensity: float = 1.0,
    missing: str = "",
) -> Assignment:
    """An assignment that was not made on the fast way; by default no chance of ours was involved."""
    return Assignment(variant, reason, unit, _sub_bucket(unit, allocation), propensity, unit_type, "", missing)


def _sub_bucket(unit: str, allocation: Allocation) -> int:
    if not unit:
        return NO_SUB_BUCKET
    digest = allocation._prefix.copy()
    digest.update(unit.encode())
    bucket_word: int = _words(digest.digest())[1]
    return bucket_word * SUB_BUCKETS >> 64


def _variant_named(name: str, allocation: Allocation) -> str:
    names = [share.name for share in allocation.shares]
    if name not in names:
        raise ValueError(f"the override names variant {name!r}; there are {', '.join(names)}")
    return name


def _decide(unit: str, unit_type: str, allocation: Allocation) -> Assignment:
    """What every experiment has, the fast way: the document's word, overrides by unit, ramp, split."""
    fixed = allocation._fixed
    if not unit:
        variant, reason = fixed or (allocation.control, Reason.NO_UNIT)
        return Assignment(variant, reason, "", NO_SUB_BUCKET, 1.0, unit_type)
    digest = allocation._prefix.copy()
    digest.update(unit.encode())
    ramp_word, bucket_word, _, _ = _words(digest.digest())
    bucket = bucket_word * SUB_BUCKETS >> 64
    if fixed:
        return Assignment(fixed[0], fixed[1], unit, bucket, 1.0, unit_type)
    if unit in allocation._overrides:
        return Assignment(allocation._overrides[unit], Reason.OVERRIDE, unit, bucket, 1.0, unit_type)
    if ramp_word * MILLION >> 64 >= allocation.ramp_ppm:
        return Assignment(allocation.control, Reason.NOT_IN_RAMP, unit, bucket, 1.0, unit_type)
    best = -math.inf
    winner, propensity = allocation.control, 0.0
    for name, suffix, weight, share in allocation._candidates:
        branch = digest.copy()
        branch.update(suffix)
        score = _log((_first_word(branch.digest())[0] + 0.5) / WORD) / weight
        if score > best:  # candidates stand in bytewise order, so a tie stays with the smaller name
            best, winner, propensity = score, name, share
    return Assignment(winner, Reason.SPLIT, unit, bucket, propensity, unit_type)


def _unit_or_stand_in(
    unit: object, allocation: Allocation, request_id: str, attributes: Mapping[str, object] | None
) -> tuple[str, str]:
    text = unit_text(unit)
    if text:
        return text, allocation.unit_type
    missing = allocation._missing
    if missing == "request":
        return request_id, "request_id"
    if missing.startswith(ATTRIBUTE):
        name = missing.removeprefix(ATTRIBUTE)
        return unit_text((attributes or {}).get(name)), name
    return "", allocation.unit_type


def unit_text(value: object) -> str:
    """The one text form of a unit; "" for none.

    Raises:
        TypeError: Neither text, nor an integer, nor None.
        ValueError: An integer with more digits than Python prints (4,300).
    """
    if value is None:
        return ""
    if isinstance(value, str):
        return str(value)
    if isinstance(value, int) and not isinstance(value, bool):
        return str(int(value))
    raise TypeError(f"a unit is text or an integer, not {type(value).__name__}; send it as text")


def _failed(allocation: Allocation, exc: Exception) -> Assignment:
    cause, kind = _cause(exc), allocation.unit_type
    if allocation._fixed:  # the document decides without looking at the unit
        variant, reason = allocation._fixed
        return Assignment(variant, reason, "", NO_SUB_BUCKET, 1.0, kind, cause)
    return Assignment(allocation.control, Reason.ERROR, "", NO_SUB_BUCKET, 0.0, kind, cause)


def _cause(exc: Exception) -> str:
    text = str(exc)
    if isinstance(exc, UnicodeEncodeError):
        text = "the unit holds a lone surrogate, which UTF-8 cannot carry"
    return f"{type(exc).__name__}: {text}"[:200]
