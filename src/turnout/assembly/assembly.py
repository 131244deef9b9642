"""A Snapshot made runnable in one process. One reference to it is swapped; it never changes.

The previous assembly lives until no request names it: `enter` and `leave` count them.

Made by `building`, swapped by the gateway's Home, read by `dispatch`.
"""

import asyncio
from collections.abc import Iterable
from functools import cached_property

from turnout.assembly import endpoint
from turnout.errors import NotFoundError, SpecError, did_you_mean
from turnout.models import host
from turnout.spec import snapshot


class Assembly:
    """Endpoints and models of one revision.

    Attributes:
        snapshot: What it was built from.
        revision: The snapshot's revision, short form, as in the `Turnout-Revision` header.
        build: Digest of the user code of this process.
        endpoints: By name.
        hosts: Loaded models by alias.
        identities: Identity of each loaded model by alias, for the pool.
        warnings: What is legal, but hardly meant: the snapshot's, and what only code can tell.
        in_flight: Requests that run on this assembly now.
    """

    def __init__(
        self,
        document: snapshot.Snapshot,
        *,
        build: str,
        endpoints: dict[str, endpoint.Endpoint],
        hosts: dict[str, host.Host],
        identities: dict[str, str],
        warnings: Iterable[SpecError] = (),
    ) -> None:
        self.snapshot = document
        self.revision = document.short
        self.build = build
        self.endpoints = endpoints
        self.hosts = hosts
        self.identities = identities
        self.warnings = tuple(warnings)
        self.in_flight = 0
        self._idle: asyncio.Event | None = None

    def endpoint(self, name: str) -> endpoint.Endpoint:
        """The endpoint of this name.

        Raises:
            NotFoundError: There is none; the nearest name is given.
        """
        found = self.endpoints.get(name)
        if found is None:
            known = ", ".join(sorted(self.endpoints)[:10])
            hint = did_you_mean(name, self.endpoints, f"This document has: {known}.")
            raise NotFoundError(f"there is no endpoint {name[:80]!r}.", hint=hint)
        return found

    def enter(self) -> None:
        """A request starts on this assembly."""
        self.in_flight += 1

    def leave(self) -> None:
        """That request is answered."""
        self.in_flight -= 1
        if self._idle is not None and self.in_flight == 0:
            self._idle.set()

    async def drained(self, timeout_s: float) -> bool:
        """Wait until no request names this assembly; False when time ran out first."""
        if self.in_flight == 0:
            return True
        self._idle = asyncio.Event()
        try:
            await asyncio.wait_for(self._idle.wait(), timeout_s)
        except TimeoutError:
            return False
        return True

    async def stop_shadows(self) -> None:
        """End the shadows' work; nobody waits for it."""
        for each in self.endpoints.values():
            for shadow in each.shadows:
                await shadow.stop()

    @cached_property
    def outcome_names(self) -> frozenset[str]:
        """Outcomes that some metric of the document reads."""
        content = self.snapshot.document
        parts = [spec.metrics for spec in content.experiments.values()]
        read = [each for part in parts for each in (part.primary, *part.secondary.values(), *part.guardrails.values())]
        for rollout in content.rollouts.values():
            read += [*rollout.guardrails.values(), *rollout.outcomes.values()]
        names = (name for each in read if each is not None for name in (each.outcome, each.per))
        return frozenset(name for name in names if name)

    @property
    def longest_deadline_s(self) -> float:
        """Seconds after which every request of this assembly has been answered."""
        return max((each.deadline_s for each in self.endpoints.values()), default=0.0)
