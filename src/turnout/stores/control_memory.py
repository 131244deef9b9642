"""The fleet's state in the memory of one process: for tests, and the plain-Python statement of the port.

Opened through `catalog`.
"""

from msgspec import structs

from turnout.errors import StoreError
from turnout.stores import control


class MemoryControlStore:
    """The `ControlStore` without a database. Lost with the process.

    Args:
        url: `memory:`; kept for the catalog's sake.
    """

    def __init__(self, url: str = "memory:", *, read_only: bool = False) -> None:
        self.url = url
        self._read_only = read_only
        self._replicas: dict[str, control.Replica] = {}
        self._revisions: list[control.RevisionRecord] = []
        self._overlays: list[control.Overlay] = []
        self._leases: dict[str, tuple[str, float]] = {}
        self._looks: list[control.Look] = []

    def announce(self, replica: control.Replica, *, forget_before: float = 0.0) -> None:
        """See `control.ControlStore.announce`."""
        self._writable()
        self._replicas = {key: row for key, row in self._replicas.items() if row.seen >= forget_before}
        self._replicas[replica.id] = replica

    def leave(self, replica_id: str) -> None:
        """See `control.ControlStore.leave`."""
        self._writable()
        self._replicas.pop(replica_id, None)

    def replicas(self, since: float) -> list[control.Replica]:
        """See `control.ControlStore.replicas`."""
        seen = [row for row in self._replicas.values() if row.seen >= since]
        return sorted(seen, key=lambda row: (row.host, row.id))

    def record(self, record: control.RevisionRecord, *, after: int | None) -> int:
        """See `control.ControlStore.record`."""
        self._writable()
        later = self._revisions[-1:] if after is None else self._revisions[after:]
        for known in later:
            if known.revision == record.revision:
                return known.number
        number = len(self._revisions) + 1
        self._revisions.append(structs.replace(record, number=number))
        return number

    def history(self, limit: int) -> list[control.RevisionRecord]:
        """See `control.ControlStore.history`."""
        return self._revisions[::-1][:limit]

    def revision(self, prefix: str) -> list[control.RevisionRecord]:
        """See `control.ControlStore.revision`."""
        found = [row for row in self._revisions[::-1] if row.revision.startswith(prefix)]
        return found[: control.FOUND_LIMIT]

    def overlay(self) -> control.Overlay | None:
        """See `control.ControlStore.overlay`."""
        return self._overlays[-1] if self._overlays else None

    def propose(self, content: str, *, after: int, author: str, reason: str, at: float) -> control.Overlay:
        """See `control.ControlStore.propose`."""
        self._writable()
        newest = len(self._overlays)
        if after != newest:
            raise control.superseded(after, newest)
        made = control.Overlay(number=newest + 1, at=at, author=author, reason=reason, content=content)
        self._overlays.append(made)
        return made

    def overlays(self, limit: int) -> list[control.Overlay]:
        """See `control.ControlStore.overlays`."""
        return self._overlays[::-1][:limit]

    def lease(self, name: str, holder: str, until: float, now: float) -> bool:
        """See `control.ControlStore.lease`."""
        self._writable()
        owner, end = self._leases.get(name, ("", 0.0))
        if owner != holder and owner and control.lasts(end, now=now, asked=until):
            return False
        self._leases[name] = (holder, until)
        return True

    def looks(self, rollout: str, phase: str, limit: int = 10_000) -> list[control.Look]:
        """See `control.ControlStore.looks`."""
        return [look for look in self._looks if (look.rollout, look.phase) == (rollout, phase)][-limit:]

    def add_look(self, look: control.Look) -> None:
        """See `control.ControlStore.add_look`."""
        self._writable()
        self._looks.append(structs.replace(look, number=len(self._looks) + 1))

    def close(self) -> None:
        """See `control.ControlStore.close`."""

    def _writable(self) -> None:
        if self._read_only:
            raise StoreError("this store was opened to read.")
