"""The audit record of a rollout: one for every look and every command of a person. Vocabulary only.

Kept by the control store as JSON, read by `turnout rollout looks` and by the controller itself.
"""

import logging
from collections.abc import Iterable

import msgspec
from msgspec import Struct

from turnout.rollouts import evidence, progress, states
from turnout.stores import control

logger = logging.getLogger("turnout.rollouts")

LOOK = "look"
MOVE = "move"
HAND = "hand"
FAILURE = "failure"


class Record(Struct, frozen=True, kw_only=True):
    """What was seen, what was decided, and why.

    Attributes:
        state: The state that was looked at; `after` what it became. share and share_after likewise.
        revision: The document's, with its overlay, that was in force.
        overlay: Number of the overlay that was looked at; of the new one, if it moved.
        author: Who decided.
        seen: None for a person's command.
    """

    state: str
    after: str
    share: float
    share_after: float
    decision: states.Decision
    reason: str
    revision: str
    overlay: int
    author: str
    seen: evidence.Evidence | None = None


class Dated(Struct, frozen=True, kw_only=True):
    """A record with when and how it was made."""

    at: float
    kind: str
    number: int
    record: Record


def of_move(
    before: progress.Progress,
    move: states.Move,
    *,
    revision: str,
    overlay: int,
    author: str,
    seen: evidence.Evidence | None = None,
) -> Record:
    """The record of a decision.

    Args:
        overlay: The newest overlay's number, the decision's own included.
    """
    return Record(
        state=before.state,
        after=move.progress.state,
        share=before.share,
        share_after=move.progress.share,
        decision=move.decision,
        reason=move.reason,
        revision=revision,
        overlay=overlay,
        author=author,
        seen=seen,
    )


def look_of(record: Record, *, rollout: str, phase: str, at: float, kind: str) -> control.Look:
    """For the store."""
    payload = msgspec.json.encode(record).decode()
    return control.Look(rollout=rollout, phase=phase, at=at, kind=kind, payload=payload)


def read(found: Iterable[control.Look]) -> list[Dated]:
    """From the store. What is none of ours is left out: nobody decides by it."""
    pairs = ((each, _record(each)) for each in found)
    return [Dated(at=each.at, kind=each.kind, number=each.number, record=record) for each, record in pairs if record]


def _record(look: control.Look) -> Record | None:
    try:
        return msgspec.json.decode(look.payload, type=Record)
    except (msgspec.MsgspecError, RecursionError) as error:
        logger.debug("look %d of rollout %r cannot be read: %s", look.number, look.rollout, error)
        return None
