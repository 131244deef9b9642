"""One answering process: the assembly in force, how it is replaced, and what it says of itself.

The worker program, the ASGI app and the in-process door each hold one Home. A document
goes through `prepare` (parse, check, load, warm; nothing changes yet) and `commit`
(one reference is swapped, at once or at an instant that all workers of a host share) or `abort`.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Coroutine, Mapping
from pathlib import Path
from typing import Any

from msgspec import Struct

from turnout import dispatch, telemetry
from turnout.assembly import assembly, building, code, describing, pool, reading, visit
from turnout.errors import DocumentError, SpecError, UnavailableError
from turnout.eventlog import ids, log, memory
from turnout.events import Outcome
from turnout.gateway import outcomes
from turnout.sources import artifacts, secrets
from turnout.spec import snapshot
from turnout.transport import control

logger = logging.getLogger("turnout.gateway")

DRAIN_MARGIN_S = 1.0
"""Seconds beyond the longest deadline that a retired assembly is given before its models go."""


class Identity(Struct, frozen=True):
    """Who this process is and where its things lie.

    Attributes:
        worker: Name in events and status, such as "w0".
        directory: The document's folder: relative sources and user code start here.
        state: Folder for segments and other state.
        stage: Name of the stage overlay; "" for none.
        environment: What `${NAME}` may read.
        secrets: Folder whose files `secret:NAME` reads; "" for none.
        spool_bytes: Most bytes of unshipped events kept on disk.
    """

    worker: str
    directory: str
    state: str
    stage: str = ""
    environment: Mapping[str, str] = {}
    secrets: str = ""
    spool_bytes: int = 1 << 30


class Due(Struct, frozen=True):
    """A prepared document that is to serve what is received at or after `at` (CLOCK_MONOTONIC).

    Attributes:
        late_s: Seconds after `at` when this process heard of it; 0 as it should be.
    """

    generation: int
    at: float
    late_s: float = 0.0


class Home:
    """See the module's docstring.

    Attributes:
        since: Epoch seconds when the assembly in force came into force; 0.0 before.
        refused: The last refused document's errors, None when the last one was accepted.
        refused_revision: Its revision, "" unless its text itself was valid.
        draining: No new requests are wanted; health says so.
    """

    def __init__(self, identity: Identity, registry: telemetry.Registry) -> None:
        self.identity = identity
        self.registry = registry
        self.since = 0.0
        self.refused: list[SpecError] | None = None
        self.refused_revision = ""
        self.draining = False
        self.new_id: Callable[[], str] = ids.generator()
        self.events = log.EventLog(
            Path(identity.state) / "segments",
            identity.worker,
            registry=registry,
            settings=log.Settings(limit_bytes=identity.spool_bytes),
        )
        self.journal = visit.Journal(self.events, memory.ExposureMemory(), worker=identity.worker, new_id=self.new_id)
        self._code = code.Code()
        self._pool = pool.Pool()
        self._current: assembly.Assembly | None = None
        self._due: Due | None = None
        self._turned: Due | None = None
        self._prepared: dict[int, assembly.Assembly] = {}
        self._retiring: set[asyncio.Task[None]] = set()
        self._rejected = registry.counter(telemetry.SNAPSHOT_REJECTED, "Refused documents.").labels()
        self._outcomes = registry.counter(telemetry.OUTCOMES, "Accepted outcomes.", ("outcome",))
        self._applied = registry.gauge(
            telemetry.SNAPSHOT_APPLIED, "When the document in force was applied.", merge="min"
        ).labels()

    async def open(self) -> None:
        """Start the event log."""
        self.events.start()

    async def close(self) -> None:
        """Stop for good: flush events, unload models. Requests in flight should be drained before."""
        self.draining = True
        for task in list(self._retiring):
            task.cancel()
        await asyncio.gather(*self._retiring, return_exceptions=True)
        if self.current is not None:
            await self.current.stop_shadows()
        await self.events.close()
        await self._pool.close()

    @property
    def current(self) -> assembly.Assembly | None:
        """The assembly in force; None before the first document. Reading it turns to the next one when that is due,
        so that no request received at or after the instant is answered by the old one, whatever timers do."""
        if self._due is not None and time.monotonic() >= self._due.at:
            self.commit(self._due.generation)
        return self._current

    @property
    def ready(self) -> bool:
        return not self.not_ready()

    def not_ready(self) -> list[str]:
        """Why this process should get no traffic; empty when it is ready."""
        reasons = ["draining"] if self.draining else []
        current = self.current
        if current is None:
            return [*reasons, "no document is in force yet"]
        return reasons + [f"model {alias!r} is not ready" for alias, host in current.hosts.items() if not host.ready]

    async def prepare(self, generation: int, files: Mapping[str, str]) -> assembly.Assembly:
        """Build and warm what a document asks for, without putting it in force.

        Raises:
            DocumentError: With every error found; the assembly in force is untouched.
        """
        revision = ""
        try:
            admitted = await asyncio.to_thread(self._admit, files)
            revision = admitted.short
            built = await building.build(admitted, user_code=self._code, loaded=self._pool, registry=self.registry)
        except DocumentError as error:
            self.refused, self.refused_revision = list(error.errors), revision
            self._rejected.inc()
            raise
        await self.abort(generation)
        self._prepared[generation] = built
        return built

    def _admit(self, files: Mapping[str, str]) -> snapshot.Snapshot:
        admitted = snapshot.admit(
            files,
            stage=self.identity.stage,
            environment=self.identity.environment,
            read_secret=secrets.secrets_under(self.identity.secrets),
            digests=artifacts.digest_under(self.identity.directory),
            directory=self.identity.directory,
        )
        current = self._current
        if not admitted.document.endpoints and current is not None and current.endpoints:
            gone = ", ".join(sorted(current.endpoints)[:10])
            raise DocumentError(
                [
                    SpecError(
                        f"the new document drops every endpoint ({gone}).",
                        hint="Keep at least one, or stop the server.",
                    )
                ]
            )
        return admitted

    def commit(self, generation: int) -> assembly.Assembly:
        """Put a prepared document in force: one reference is swapped, the old assembly drains in the background.

        Raises:
            UnavailableError: Nothing was prepared under this generation.
        """
        built = self._prepared.pop(generation, None)
        if built is None:
            raise UnavailableError(f"no document was prepared as generation {generation}.")
        previous, self._current = self._current, built
        self._turned, self._due = self._due, None
        self.since = time.time()
        self._applied.set(self.since)
        self.refused, self.refused_revision = None, ""
        if previous is not None:
            self._retire(previous)
        logger.info("revision %s in force, build %s", built.revision, built.build or "-")
        return built

    def arm(self, generation: int, at: float) -> Due:
        """Let a prepared document serve what is received at or after `at`; said again, the last word counts.

        Raises:
            UnavailableError: Nothing was prepared under this generation.
        """
        if self._turned is not None and self._turned.generation == generation:
            return self._turned
        if generation not in self._prepared:
            raise UnavailableError(f"no document was prepared as generation {generation}.")
        if self._due is None or (self._due.generation, self._due.at) != (generation, at):
            self._due = Due(generation, at, max(0.0, time.monotonic() - at))
        return self._due

    async def turned(self, due: Due) -> None:
        """Wait until that document is in force, or another word was said about it."""
        while self._due == due:
            await asyncio.sleep(due.at - time.monotonic())
            _ = self.current  # turns, unless the clock is a little behind

    async def abort(self, generation: int) -> None:
        """Drop a prepared document that another worker refused."""
        if self._due is not None and self._due.generation == generation:
            self._due = None
        built = self._prepared.pop(generation, None)
        if built is not None:
            await building.release(built, self._pool)

    def _retire(self, previous: assembly.Assembly) -> None:
        async def retire() -> None:
            if not await previous.drained(previous.longest_deadline_s + DRAIN_MARGIN_S):
                logger.warning(
                    "revision %s still has %d requests after its longest deadline",
                    previous.revision,
                    previous.in_flight,
                )
            await building.release(previous, self._pool)

        task = asyncio.get_running_loop().create_task(retire())
        self._retiring.add(task)
        task.add_done_callback(self._retiring.discard)

    def dispatch(self, request: reading.Incoming) -> Coroutine[Any, Any, visit.Answer]:
        """Answer one request on the assembly in force; see `dispatch.dispatch` for what it raises."""
        current = self.current
        if current is None:
            raise UnavailableError("no document is in force yet.", hint="Ask /readyz, then retry.", retry_after_s=1.0)
        return dispatch.dispatch(current, request, self.journal)

    async def record_outcomes(self, body: bytes) -> list[Outcome]:
        """Check and log outcomes; returns when they are written to the segment file.

        Raises:
            InputError: One of them is wrong; none was taken.
            UnavailableError: The disk takes no events now, so nothing is promised.
        """
        posted = outcomes.read(body, now=time.time(), new_id=self.new_id)
        if not self.events.takes:
            raise outcomes.refused()
        known = self.outcome_names()
        for item in posted:
            self._outcomes.labels(item.name if item.name in known else "other").inc()
            self.events.append(item)
        if not await self.events.flush():
            raise outcomes.refused()
        return posted

    def outcome_names(self) -> frozenset[str]:
        """Outcomes that the metrics of the document in force read."""
        current = self.current
        return frozenset() if current is None else current.outcome_names

    def status(self) -> dict[str, Any]:
        """What this process says of itself; the supervisor merges the workers' words."""
        current = self.current
        base: dict[str, Any] = {
            "worker": self.identity.worker,
            "state": "draining" if self.draining else ("ready" if self.ready else "starting"),
            "not_ready": self.not_ready(),
            "revision": current.revision if current else None,
            "build": current.build if current else None,
            "since": self.since or None,
            "in_flight": current.in_flight if current else 0,
            "refused": control.problems(*self.refused) if self.refused else None,
            "refused_revision": self.refused_revision if self.refused else "",
        }
        if current is not None:
            base["models"] = {alias: host.stats() for alias, host in sorted(current.hosts.items())}
            base["endpoints"] = {name: describing.describe(each) for name, each in sorted(current.endpoints.items())}
            base["warnings"] = control.problems(*current.warnings)
        return base
