"""What a report learns beside the event store: an experiment as earlier revisions had it.

It comes from the history of revisions in the control store; where there is none, nothing is known.
"""

from collections.abc import Sequence
from typing import Final

import pydantic

from turnout.cli import history
from turnout.errors import StoreError, TurnoutError
from turnout.reports import past
from turnout.spec import document, tree
from turnout.stores import catalog, control

MOST_REVISIONS: Final = 1_000


def revisions(url: str) -> list[control.RevisionRecord]:
    """What was in force, oldest first; empty where the store keeps none (sealed Parquet), or none was recorded."""
    if url.partition(":")[0].partition("+")[0] not in (*catalog.CONTROL_STORES, "postgres"):
        return []
    try:
        opened = catalog.open_control(url, read_only=True)
    except StoreError:
        return []
    try:
        return opened.history(MOST_REVISIONS)[::-1]
    finally:
        opened.close()


def versions(records: Sequence[control.RevisionRecord], name: str) -> tuple[past.Past, ...]:
    """The experiment in each revision that had it and can still be read."""
    found = []
    for record in records:
        try:
            content = tree.plain(history.as_served(record))
        except TurnoutError:
            continue
        written = (content.get("experiments") or {}).get(name) if isinstance(content, dict) else None
        try:
            found.append(past.Past(at=record.at, spec=document.ExperimentSpec.model_validate(written)))
        except pydantic.ValidationError:  # not there, or written for another release
            continue
    return tuple(found)
