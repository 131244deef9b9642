"""What a report learns beside the event store: an experiment as earlier revisions had it.

It comes from the history of revisions in the control store; where there is none, nothing is known.
"""

from collections.abc import Callable, Sequence
from typing import Final

import pydantic

from turnout.cli import history
from turnout.errors import StoreError, TurnoutError
from turnout.reports import past
from turnout.spec import document, tree
from turnout.stores import catalog, control

MOST_REVISIONS: Final = 1_000
MOST_PARSED: Final = 100
"""Of the revisions in a phase, the newest so many are looked at: a document takes milliseconds to parse."""


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


def versions(
    records: Sequence[control.RevisionRecord], name: str
) -> Callable[[float, float], Sequence[past.Past]] | None:
    """How a report asks for one experiment's versions; only what lies in its time is parsed."""
    if not records:
        return None

    def between(first: float, last: float) -> list[past.Past]:
        before = [record for record in records if record.at <= first][-1:]
        during = [record for record in records if first < record.at <= last]
        found = (_version(record, name) for record in before + during[-MOST_PARSED:])
        return [each for each in found if each is not None]

    return between


def _version(record: control.RevisionRecord, name: str) -> past.Past | None:
    """The experiment in a revision; None where it was not there, or was written for another release."""
    try:
        content = tree.plain(history.as_served(record))
        written = (content.get("experiments") or {}).get(name) if isinstance(content, dict) else None
        return past.Past(at=record.at, spec=document.ExperimentSpec.model_validate(written))
    except (TurnoutError, pydantic.ValidationError):
        return None
