"""Units of the exposure log, assigned by two documents: exact counts of who would move. Called by `turnout diff`."""

from collections import Counter
from collections.abc import Iterable
from typing import Any, Final, Protocol

import msgspec

from turnout.changes import tables
from turnout.experiments import allocations, assignment
from turnout.expressions import catalog
from turnout.spec import snapshot

LIMIT: Final = 200_000
"""Units of one experiment that are looked at; a second or two for each document."""

_attributes = msgspec.json.Decoder(dict[str, Any]).decode


class Seen(Protocol):
    """A unit as a store lists it."""

    @property
    def unit(self) -> str: ...
    @property
    def attributes(self) -> str: ...


def compare(
    before: snapshot.Snapshot, after: snapshot.Snapshot, name: str, units: Iterable[Seen], *, limit: int = LIMIT
) -> tables.Logged:
    """Assign every unit by both documents' experiment of this name.

    Args:
        units: From `EventStore.units`, one more than the limit where there are more.

    Raises:
        SpecError: A targeting condition does not compile, or CEL is not installed.
    """
    old, new = (_allocation(admitted, name) for admitted in (before, after))
    flows: Counter[str] = Counter()
    count = 0
    for seen in units:
        if count == limit:
            return _counted(count, flows, complete=False)
        count += 1
        known = _attributes(seen.attributes)
        had = assignment.assign(seen.unit, old, attributes=known).variant
        gets = assignment.assign(seen.unit, new, attributes=known).variant
        if had != gets:
            flows[f"{had} -> {gets}"] += 1
    return _counted(count, flows, complete=True)


def _counted(count: int, flows: Counter[str], *, complete: bool) -> tables.Logged:
    return tables.Logged(units=count, moved=flows.total(), flows=dict(flows), complete=complete)


def _allocation(admitted: snapshot.Snapshot, name: str) -> assignment.Allocation:
    content = admitted.document
    spec = content.experiments[name]
    endpoint = content.endpoints[spec.endpoint]
    return allocations.of(
        name,
        spec,
        unit_type=endpoint.unit or "",
        holdout=allocations.holdout_on(content, spec.endpoint),
        targeting=catalog.compile(spec.targeting, endpoint.attributes) if spec.targeting else None,
    )
