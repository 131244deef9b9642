"""The port to what a fleet knows of itself: replicas, revisions that were live, overlays, leases, rollouts' looks.

Opened by `catalog.open_control` beside the event store, on the same database; the control plane writes
through it, commands and reports read. All methods block. `tests/contracts/test_control_store.py` holds every
adapter to what stands here.
"""

from collections.abc import Mapping
from typing import Literal, Protocol

from msgspec import Struct

from turnout.errors import StoreError

Source = Literal["start", "document", "overlay"]

GONE_S = 10.0
"""A replica that has not announced itself for so long is gone; five announcements were missed."""

FOUND_LIMIT = 100
"""Most records that `revision` answers with."""


class StoreConflictError(StoreError):
    """Somebody else wrote first: what this write builds on is not the newest any more."""

    code = "store-conflict"


def superseded(after: int, newest: int) -> StoreConflictError:
    """The error of an overlay that was made from one that is not the newest."""
    text = f"the overlay was made from number {after}, but the newest is {newest}: somebody else wrote meanwhile."
    return StoreConflictError(text, hint="Look at the newest one and decide again.", retry_after_s=0.0)


def lasts(held: float, *, now: float, asked: float) -> bool:
    """Whether somebody else's lease until `held` is to be respected by one who asks for one until `asked`.

    One that lasts much longer than anybody may ask for was written by a clock that was wrong; nobody is to
    wait until that time has come.
    """
    return now < held <= asked + GONE_S


class Replica(Struct, frozen=True, kw_only=True):
    """One server of the fleet, as it announces itself.

    Attributes:
        id: Made once by each server; a restarted one is another replica.
        revision: In force on all its workers; "" before the first.
        since: Epoch seconds when that revision came into force.
        workers: Worker slots.
        workers_current: Of these, the ones that serve `revision` now.
        behind: Why others do not, a line for each.
        refusal: Why the document or overlay that was tried last is not in force, a line for each error; empty if it is.
        settled_s: Seconds from seeing the last change to serving it on the last worker.
        started: Epoch seconds when the server started.
        seen: Epoch seconds of this announcement.
    """

    id: str
    host: str
    pid: int
    url: str = ""
    revision: str = ""
    since: float = 0.0
    build: str = ""
    workers: int = 0
    workers_current: int = 0
    behind: tuple[str, ...] = ()
    refusal: tuple[str, ...] = ()
    settled_s: float = 0.0
    started: float = 0.0
    seen: float = 0.0


class RevisionRecord(Struct, frozen=True, kw_only=True):
    """A revision that came into force.

    Attributes:
        at: Epoch seconds.
        author: Who wrote it: a git author, a user of the operating system, or a part of Turnout.
        reason: Why, in the author's words; "" if unknown.
        host: Where it was first seen in force.
        document: File name -> text as written: `${NAME}` and `secret:NAME` are not filled in.
        digests: Model alias -> digest of its artifact.
        build: Digest of the user code.
        replaced: The revision before it; "" for the first.
        number: Given by the store, ascending from 1; 0 before.
    """

    revision: str
    at: float
    author: str = ""
    reason: str = ""
    source: Source = "document"
    host: str = ""
    document: Mapping[str, str] = {}
    stage: str = ""
    digests: Mapping[str, str] = {}
    build: str = ""
    replaced: str = ""
    number: int = 0


class Overlay(Struct, frozen=True, kw_only=True):
    """What Turnout itself has laid over the document.

    Attributes:
        number: Ascending from 1.
        content: The whole overlay, YAML or JSON; "" lays nothing over.
    """

    number: int
    at: float
    author: str
    reason: str
    content: str


class Look(Struct, frozen=True, kw_only=True):
    """One look of a rollout's controller at its data, or a move it made; the audit record.

    Attributes:
        kind: What the record is, such as "look" or "move"; the rollouts' own word.
        payload: JSON.
        number: Given by the store, ascending; 0 before.
    """

    rollout: str
    phase: str
    at: float
    kind: str
    payload: str
    number: int = 0


class Duty(Struct, frozen=True, kw_only=True):
    """How one duty of a control plane goes.

    Attributes:
        rounds: Rounds since the process started, failed ones too.
        failures: Rounds that failed.
        error: Why the last round failed; "" if it did not.
    """

    rounds: int = 0
    failures: int = 0
    error: str = ""


class View(Struct, frozen=True, kw_only=True):
    """What a control plane tells its supervisor: who is there, and how its own duties go.

    Attributes:
        at: Epoch seconds when the store was last asked; 0.0 if it never answered.
    """

    replicas: tuple[Replica, ...] = ()
    at: float = 0.0
    duties: Mapping[str, Duty] = {}


class ControlStore(Protocol):
    """Keeps the fleet's state. Raises StoreError, and nothing else, for trouble."""

    def announce(self, replica: Replica, *, forget_before: float = 0.0) -> None:
        """Keep or replace this replica's row; drop rows last seen before `forget_before` (epoch seconds)."""

    def leave(self, replica_id: str) -> None:
        """Drop a replica that ends on purpose; unknown ones do no harm."""

    def replicas(self, since: float) -> list[Replica]:
        """Those seen at or after `since` (epoch seconds), by host and id."""

    def record(self, record: RevisionRecord, *, after: int | None) -> int:
        """Keep a revision once for the whole fleet.

        Args:
            after: The number this replica's previous revision has. The first later record of the same revision is
                taken for this one; only if there is none, a new one is written. None: the replica just started; the
                newest record is taken if it is this revision.

        Returns:
            The record's number.
        """

    def history(self, limit: int) -> list[RevisionRecord]:
        """The newest records, newest first."""

    def revision(self, prefix: str) -> list[RevisionRecord]:
        """Records whose revision begins with `prefix` (hex digits), newest first, at most `FOUND_LIMIT`."""

    def overlay(self) -> Overlay | None:
        """The newest one; None when none was ever written."""

    def propose(self, content: str, *, after: int, author: str, reason: str, at: float) -> Overlay:
        """Write the next overlay.

        Args:
            after: Number of the overlay this one was made from; 0 when there was none.

        Raises:
            StoreConflictError: `after` is not the newest number; read again and decide anew.
        """

    def overlays(self, limit: int) -> list[Overlay]:
        """The newest ones, newest first."""

    def lease(self, name: str, holder: str, until: float, now: float) -> bool:
        """Take or extend a lease; whether `holder` has it until `until` (epoch seconds).

        It is taken when nobody has it, when it has run out at `now`, when `holder` has it already, or when it lasts
        longer than clocks of one fleet allow (`lasts`).
        """

    def looks(self, rollout: str, phase: str, limit: int = 10_000) -> list[Look]:
        """A rollout's records of one phase, the oldest first; the newest `limit` of them."""

    def add_look(self, look: Look) -> None:
        """Append a record."""

    def close(self) -> None:
        """Release connections."""
