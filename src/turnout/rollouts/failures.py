"""Hard failures of a new side: written down by the server that has them, read by whichever server steers.

A circuit belongs to one revision on one worker, so a failure counts only while that revision is in force; the
next move closes all circuits.

Called by `controlplane/steering.py` (`write`) and `controller` (`standing`).
"""

from typing import Final

from turnout.rollouts import commands, records
from turnout.stores import control

NEWEST: Final = 100
"""So many of a rollout's records are searched for a failure."""


def write(
    store: commands.Control, *, rollout: str, phase: str, revision: str, reason: str, host: str, now: float
) -> None:
    """Keep a failure for whoever steers.

    Args:
        revision: In force where it happened.
        host: Where that is.
    """
    record = records.Record(
        state="",
        after="",
        share=0.0,
        share_after=0.0,
        decision="alert",
        reason=reason,
        revision=revision,
        overlay=0,
        author=host,
    )
    store.add_look(records.look_of(record, rollout=rollout, phase=phase, at=now, kind=records.FAILURE))


def standing(store: commands.Control, *, rollout: str, phase: str, revision: str) -> str:
    """What failed hard under a revision, in words; "" for nothing."""
    found: list[control.Look] = [each for each in store.looks(rollout, phase, NEWEST) if each.kind == records.FAILURE]
    told = (each.record for each in records.read(found))
    return next((f"{each.reason} ({each.author})" for each in told if each.revision == revision), "")
