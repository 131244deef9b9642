"""Steers all rollouts of a document: looks when a look is due, decides, writes the overlay and the audit record.

    overlay's progress + the store's events ─▶ evidence ─▶ states.step ─▶ next overlay + record

It keeps nothing that matters: where a rollout stands is in the newest overlay, what was seen is in the event
store, so a controller that starts anywhere goes on where another one was killed. One acts at a time in a fleet
(a lease), and even two could not harm: an overlay is only written on top of the one it was decided from.

Run by `controlplane/steering.py`, blocking, outside of any event loop. The clock is passed in.
"""

import logging
import math
from collections.abc import Callable
from typing import Final

from msgspec import Struct

from turnout.experiments import phases
from turnout.rollouts import commands, evidence, failures, progress, records, sight, states
from turnout.spec import document, snapshot, traffic
from turnout.stores import control

logger = logging.getLogger("turnout.rollouts")

LEASE: Final = "rollouts"
AUTHOR: Final = "turnout rollouts"

LOAD_RATIO: Final = 5.0
"""After a look that took the store a second, the next one waits at least so many: looking never fills its time."""

SETTLING: Final = ("pending", "promoting")
"""States that only wait for every worker to follow; they are looked at oftener."""

SETTLING_S: Final = 1.0


class Turn(Struct, frozen=True, kw_only=True):
    """One look that was made.

    Attributes:
        overlay: Number of the overlay that was written; 0 for none.
    """

    rollout: str
    move: states.Move
    overlay: int = 0


class Controller:
    """Looks at every rollout of a document when its look is due.

    Args:
        holder: Names this process in the lease; no other one has this name.
        clock: Epoch seconds.
        lease_s: So long after its last pass a silent controller is replaced by another server's.
    """

    def __init__(
        self,
        events: sight.Events,
        control: commands.Control,
        *,
        holder: str,
        clock: Callable[[], float],
        lease_s: float = 15.0,
    ) -> None:
        self._events = events
        self._control = control
        self._holder = holder
        self._clock = clock
        self._lease_s = lease_s
        self._due: dict[tuple[str, str], float] = {}
        self._recorded: dict[tuple[str, str], float] = {}
        self._failures: dict[str, str] = {}
        self._until = 0.0

    def act(self, content: snapshot.Snapshot, everywhere: str) -> list[Turn]:
        """Make the looks that are due.

        Args:
            content: The document in force here, with its overlay.
            everywhere: The revision that every worker of every server serves; "" while they differ.

        Raises:
            StoreError: The store gave no answer; nothing was decided for the rollout in question or those after it.
        """
        now = self._clock()
        rollouts = content.document.rollouts
        newest = commands.newest(self._control)
        if not rollouts and not (newest and progress.rollouts_of(newest.content)):
            return []
        if not self._holds(now):
            self._due.clear()
            return []
        if newest is not None and everywhere == content.revision:
            self._forget_deleted(content.document, newest, now)
        made = []
        for name in rollouts:
            phase = phases.of_rollout(name, content.document, written=content.written, digests=content.digests)
            failure = failures.standing(self._control, rollout=name, phase=phase, revision=content.revision)
            news = failure != self._failures.get(name, "")
            if news or now >= self._due.get((name, phase), 0.0):
                self._failures[name] = failure
                made.extend(self._look(name, phase, content, everywhere))
        self._due = {key: due for key, due in self._due.items() if key[0] in rollouts and due > now}
        return made

    def wait_s(self) -> float:
        """How long no look is due; infinite when there is none to make."""
        return max(0.0, min(self._due.values(), default=math.inf) - self._clock())

    def _holds(self, now: float) -> bool:
        """Whether this controller may act; the lease is extended when half of it is over."""
        if now >= self._until - self._lease_s / 2:
            until = now + self._lease_s
            self._until = until if self._control.lease(LEASE, self._holder, until, now) else 0.0
        return self._until > now

    def _look(self, name: str, phase: str, content: snapshot.Snapshot, everywhere: str) -> list[Turn]:
        """Look at one rollout; nothing when it has ended, or was written by somebody else meanwhile."""
        now, spec = self._clock(), content.document.rollouts[name]
        newest = commands.newest(self._control)
        text = newest.content if newest else ""
        now_at = progress.read(text, name, phase) or progress.Progress(phase=phase)
        self._due[name, phase] = now + spec.look_s
        if now_at.state in states.ENDED:
            return []
        unit = content.document.endpoints[spec.endpoint].unit
        view = sight.Sight(self._events, name, spec, now_at, by_request=unit is None, now=now)
        follows = everywhere == content.revision and _in_force(spec, phase) == now_at
        seen = self._seen(view, self._failures.get(name, ""), converged=follows)
        move = states.step(now_at, seen, spec, now)
        number = newest.number if newest else 0
        if move.progress is not now_at:
            try:
                number = self._write(text, number, name, move, now)
            except control.StoreConflictError:
                logger.info("rollout %s: somebody else wrote the overlay meanwhile; it is looked at again", name)
                self._due[name, phase] = now
                return []
        record = records.of_move(now_at, move, revision=content.revision, overlay=number, author=AUTHOR, seen=seen)
        self._record(record, name, phase, now, moved=move.progress is not now_at, pause_s=spec.look_s)
        pause_s = min(spec.look_s, SETTLING_S) if move.progress.state in SETTLING else spec.look_s
        self._due[name, phase] = now + max(pause_s, LOAD_RATIO * (self._clock() - now))
        return [Turn(rollout=name, move=move, overlay=number if move.progress is not now_at else 0)]

    def _write(self, text: str, number: int, name: str, move: states.Move, now: float) -> int:
        content, reason = progress.write(text, name, move.progress), commands.told(name, move)
        overlay = self._control.propose(content, after=number, author=AUTHOR, reason=reason, at=now)
        logger.info("rollout %s: %s: %s", name, move.decision, move.reason)
        return overlay.number

    def _record(
        self, record: records.Record, name: str, phase: str, now: float, *, moved: bool, pause_s: float
    ) -> None:
        """Keep the record of a look; of those that only wait for workers to follow, one per look interval."""
        waits = not moved and record.after in SETTLING
        if waits and now < self._recorded.get((name, phase), 0.0) + pause_s:
            return
        self._recorded[name, phase] = now
        kind = records.MOVE if moved else records.LOOK
        self._control.add_look(records.look_of(record, rollout=name, phase=phase, at=now, kind=kind))

    def _seen(self, view: sight.Sight, hard: str, *, converged: bool) -> evidence.Evidence:
        if view.now_at.state in SETTLING:
            return evidence.Evidence(converged=converged, hard=hard)
        if view.now_at.state == "baking":
            return view.since_switch(converged=converged, hard=hard)
        return view.beside(converged=converged, hard=hard)

    def _forget_deleted(self, content: document.Document, newest: control.Overlay, now: float) -> None:
        """A rollout whose block a person deleted has ended; its progress would only be warned of."""
        gone = [name for name in progress.rollouts_of(newest.content) if name not in content.rollouts]
        text = newest.content
        for name in gone:
            text = progress.write(text, name, None)
        if not gone:
            return
        reason = f"the document has no rollout {', '.join(repr(name) for name in gone)} any more"
        try:
            self._control.propose(text, after=newest.number, author=AUTHOR, reason=reason, at=now)
        except control.StoreConflictError:
            return  # the next pass sees whatever was written instead
        logger.info("%s: its progress is forgotten", reason)


def _in_force(spec: traffic.RolloutSpec, phase: str) -> progress.Progress:
    """The progress that the document in force carries, as a struct."""
    carried = spec.progress
    if carried is None or carried.phase != phase:
        return progress.Progress(phase=phase)
    return progress.Progress(**carried.model_dump())
