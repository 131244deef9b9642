"""Where a rollout stands, and how that is written into the overlay.

`Progress` has the keys of `spec.traffic.ProgressSpec`; here it is a struct, so that the state machine can
replace fields and nothing has to be validated twice. The overlay is JSON, which YAML readers take as well.
Entries of other parts (experiments, other rollouts) are carried along untouched.

Called by `states` and `controller`; pure.
"""

import json
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

import msgspec
from msgspec import Struct

from turnout.errors import StoreError
from turnout.spec import parsing, stages, traffic, tree

SECTIONS = ("experiments", "rollouts")
"""What an overlay may have; with anything else in it, it would be refused as a whole."""

NOTE_CHARACTERS = 1000
"""A note is cut to so many; the document allows 1,024."""


class Progress(Struct, frozen=True, kw_only=True):
    """Where a rollout stands.

    Attributes:
        phase: The rollout's phase; progress of another phase is void.
        share: Share of the units on the new side: a step's in ramping and holding, 1 from promoting on, else 0.
        step: Which step that is, counted from 1; 0 before the first.
        since: When this state began, in epoch seconds, like all times here.
        step_since: When this step, or the bake, began; moved on by the length of every pause.
        started: When the rollout began, for its deadline; moved on likewise.
        counts_from: Events before this do not count; 0: all of the phase. Set when a person starts it again.
        paused: A person holds it.
        forced: A person promoted it: no evidence undoes that, only a person.
        note: Why, in words.
    """

    phase: str
    state: traffic.State = "pending"
    share: float = 0.0
    step: int = 0
    since: float = 0.0
    step_since: float = 0.0
    started: float = 0.0
    counts_from: float = 0.0
    paused: bool = False
    forced: bool = False
    note: str = ""


def percent(share: float) -> str:
    """A share, for people.

    >>> percent(0.01), percent(0.125)
    ('1 %', '12.5 %')
    """
    return f"{share * 100:g} %"


def note_of(reason: str) -> str:
    """A reason as a note: short, without what YAML cannot carry, and nothing in it is filled in.

    >>> note_of("costs ${PRICE}\\n more")
    'costs $ {PRICE}  more'
    """
    plain = "".join(letter if letter.isprintable() else " " for letter in reason.replace("${", "$ {"))
    return (f" {plain}" if plain.startswith("secret:") else plain)[:NOTE_CHARACTERS]


def read(content: str, rollout: str, phase: str) -> Progress | None:
    """A rollout's progress in an overlay; None when there is none, or only of another phase.

    Raises:
        StoreError: The overlay cannot be read, or the entry has not the keys of a progress.
    """
    entry = _part(_part(_tree(content), "rollouts"), rollout).get("progress")
    if entry is None:
        return None
    try:
        found = msgspec.convert(entry, Progress, strict=False)
    except msgspec.ValidationError as error:
        raise StoreError(
            f"the overlay's progress of rollout {rollout!r} cannot be read: {error}.",
            hint="`turnout rollout abort` writes it anew.",
        ) from error
    return found if found.phase == phase else None


def readable(content: str) -> bool:
    """Whether an overlay can be read at all; its entries may still be wrong."""
    return not content.strip() or not parsing.parse(stages.OVERLAY, content)[1]


def write(content: str, rollout: str, progress: Progress | None) -> str:
    """The overlay with one rollout's progress replaced; None takes the entry out.

    Everything else that an overlay may hold stays; what would have it refused goes.

    Raises:
        StoreError: The overlay cannot be read.
    """
    whole = {key: part for key, part in _tree(content).items() if key in SECTIONS and isinstance(part, dict)}
    others = {name: _part(whole["rollouts"], name) for name in _part(whole, "rollouts")}
    rollouts = {name: {"progress": part["progress"]} for name, part in others.items() if "progress" in part}
    rollouts.pop(rollout, None)
    if progress is not None:
        entry = msgspec.to_builtins(progress)
        entry["share"] = _decimal(progress.share)
        rollouts[rollout] = {"progress": entry}
    whole.pop("rollouts", None)
    if rollouts:
        whole["rollouts"] = rollouts
    return json.dumps(whole, indent=1, sort_keys=True, ensure_ascii=False) + "\n" if whole else ""


def rollouts_of(content: str) -> tuple[str, ...]:
    """Names of the rollouts that an overlay has an entry for."""
    return tuple(_part(_tree(content), "rollouts"))


def _decimal(share: float) -> float | str:
    """A share as the document takes it: YAML 1.1 reads 1e-05 as text, and a share as text has no exponent."""
    return share if "e" not in repr(share) else f"{Decimal(repr(share)):f}"


def _tree(content: str) -> Mapping[str, Any]:
    root, errors = parsing.parse(stages.OVERLAY, content)
    if errors:
        raise StoreError(f"the overlay cannot be read: {errors[0].message}")
    found: Mapping[str, Any] = tree.plain(root)
    return found


def _part(whole: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    found = whole.get(key)
    return found if isinstance(found, dict) else {}
