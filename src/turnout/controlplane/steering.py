"""Steers the fleet's rollouts from this server, if it holds the lease; and tells of hard failures of its workers.

A duty, called by `duties.keep`. The document in force is read from the store's history, as it was written: what
`${NAME}` and `secret:NAME` stand for does not matter to a rollout. What is decided is in `turnout.rollouts`; here
are the stores, each behind its own thread, and the question which revision serves everywhere.
"""

import asyncio
import dataclasses
import os
from collections.abc import Callable, Coroutine, Mapping
from typing import Any, Final, TypeVar

import msgspec

from turnout.controlplane import duties
from turnout.errors import DocumentError, StoreError
from turnout.experiments import phases
from turnout.rollouts import controller, failures, states
from turnout.spec import references, snapshot
from turnout.stores import base, control
from turnout.transport import control as channel

T = TypeVar("T")

REACH_S: Final = 60.0
"""How long a look waits for a store, which other duties use too."""

SHORTEST_S: Final = 0.2
LONGEST_S: Final = 1.0
"""Between two rounds: hard failures and new documents are seen so soon, though no look is due."""


class Steering:
    """The duty; see the module's docstring.

    A look is made in the first round after it is due, so rounds are as far apart as that allows.
    """

    name = "rollouts"

    def __init__(self, context: duties.Context) -> None:
        self.interval_s = LONGEST_S
        self.wake = asyncio.Event()
        self._context = context
        self._content: snapshot.Snapshot | None = None
        self._controller: controller.Controller | None = None
        self._told: set[tuple[str, str]] = set()

    async def run(self) -> None:
        """Tell of this server's failures; make the looks that are due."""
        reply = await self._context.ask(channel.Presence())
        assert isinstance(reply, channel.PresenceReply)
        own = msgspec.json.decode(reply.payload, type=control.Replica)
        content = await self._in_force(own.revision)
        if content is None:
            return
        await self._tell_failures(content, own)
        if self._controller is None:
            loop = asyncio.get_running_loop()
            stores = _Events(self._context, loop), _Control(self._context, loop)
            self._controller = controller.Controller(*stores, holder=own.id, clock=self._context.clock)
        await asyncio.to_thread(self._controller.act, content, self._everywhere(own))
        self.interval_s = min(max(self._controller.wait_s(), SHORTEST_S), LONGEST_S)

    async def close(self) -> None:
        """Nothing is left to do."""

    async def _in_force(self, revision: str) -> snapshot.Snapshot | None:
        """This server's document in force, with its overlay; None before the history knows it."""
        if not revision:
            return None
        if self._content is None or self._content.revision != revision:
            found = await self._context.control.call(lambda store: store.revision(revision))
            if not found:
                return None
            self._content = admitted(found[0])
            self._told.clear()
        return self._content

    def _everywhere(self, own: control.Replica) -> str:
        """The revision that all workers of all servers of the fleet serve; "" while they differ."""
        now = self._context.clock()
        others = (one for one in self._context.replicas if one.id != own.id and one.seen >= now - control.GONE_S)
        fleet = [own, *others]
        same = all(one.revision == own.revision and one.workers_current == one.workers > 0 for one in fleet)
        return own.revision if same else ""

    async def _tell_failures(self, content: snapshot.Snapshot, own: control.Replica) -> None:
        """Write down circuits that are open on this server, once per revision."""
        running = [name for name, spec in content.document.rollouts.items() if _runs(spec.progress)]
        if not running:
            return
        reply = await self._context.ask(channel.Overview())
        assert isinstance(reply, channel.OverviewReply)
        for name, reason in open_circuits(msgspec.json.decode(reply.payload)).items():
            if name not in running or (content.revision, name) in self._told:
                continue
            phase = phases.of_rollout(name, content.document, written=content.written, digests=content.digests)
            await self._context.control.call(
                lambda store, name=name, phase=phase, reason=reason: failures.write(  # type: ignore[misc]
                    store,
                    rollout=name,
                    phase=phase,
                    revision=content.revision,
                    reason=reason,
                    host=own.host,
                    now=self._context.clock(),
                )
            )
            self._told.add((content.revision, name))


def open_circuits(status: Mapping[str, Any]) -> dict[str, str]:
    """Rollout (or experiment) to why its circuit is open, from a server's `/status`."""
    return {
        name: str(told.get("cause") or "its circuit is open")
        for endpoint in (status.get("endpoints") or {}).values()
        for name, told in (endpoint.get("circuits") or {}).items()
        if told.get("open")
    }


def admitted(record: control.RevisionRecord) -> snapshot.Snapshot:
    """The document of a revision, as far as a rollout needs it: references may stand for anything.

    Raises:
        DocumentError: It cannot be read even so.
    """
    refused: DocumentError | None = None
    for environment, read_secret in references.stand_ins(os.environ):
        try:
            found = snapshot.admit(
                record.document, environment=environment, stage=record.stage, read_secret=read_secret
            )
        except DocumentError as error:
            refused = error
            continue
        return dataclasses.replace(found, revision=record.revision, digests=record.digests)
    assert refused is not None
    raise refused


def _runs(carried: Any) -> bool:
    return carried is not None and carried.state not in states.ENDED


class _Reached:
    """A store behind its own thread, reached from the thread that looks."""

    def __init__(self, context: duties.Context, loop: asyncio.AbstractEventLoop) -> None:
        self._context = context
        self._loop = loop

    def _wait(self, call: Coroutine[Any, Any, T]) -> T:
        try:
            return asyncio.run_coroutine_threadsafe(call, self._loop).result(REACH_S)
        except TimeoutError:
            raise StoreError(f"the store gave no answer for {REACH_S:g} s.") from None


class _Events(_Reached):
    """See `rollouts.sight.Events`."""

    def _ask(self, do: Callable[[base.EventStore], T]) -> T:
        return self._wait(self._context.events.call(do))

    def signal_sums(self, query: base.SignalQuery) -> list[base.SignalSums]:
        return self._ask(lambda store: store.signal_sums(query))

    def unit_sums(self, query: base.UnitQuery) -> list[base.UnitSums]:
        return self._ask(lambda store: store.unit_sums(query))

    def exposure_days(self, experiment: str, phase: str, bucket_s: float) -> list[base.ExposureDay]:
        return self._ask(lambda store: store.exposure_days(experiment, phase, bucket_s))

    def answered(self, experiment: str, phase: str, since: float) -> dict[str, base.Answered]:
        return self._ask(lambda store: store.answered(experiment, phase, since))


class _Control(_Reached):
    """See `rollouts.commands.Control`."""

    def _ask(self, do: Callable[[control.ControlStore], T]) -> T:
        return self._wait(self._context.control.call(do))

    def overlay(self) -> control.Overlay | None:
        return self._ask(lambda store: store.overlay())

    def overlays(self, limit: int) -> list[control.Overlay]:
        return self._ask(lambda store: store.overlays(limit))

    def propose(self, content: str, *, after: int, author: str, reason: str, at: float) -> control.Overlay:
        return self._ask(lambda store: store.propose(content, after=after, author=author, reason=reason, at=at))

    def lease(self, name: str, holder: str, until: float, now: float) -> bool:
        return self._ask(lambda store: store.lease(name, holder, until, now))

    def looks(self, rollout: str, phase: str, limit: int = 10_000) -> list[control.Look]:
        return self._ask(lambda store: store.looks(rollout, phase, limit))

    def add_look(self, look: control.Look) -> None:
        return self._ask(lambda store: store.add_look(look))
