"""The process tree of one server: workers, recorder, control plane, the watched document.

Called by `app`. Owns the order of things: claim the state folder, bind, start, put the first document
in force, keep everything alive, and take it down without losing an accepted request or a written event.
"""

import asyncio
import dataclasses
import logging
import os
import socket
import sys
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from pathlib import Path
from typing import Any, Protocol

import msgspec

from turnout import telemetry
from turnout.errors import TurnoutError, UnavailableError
from turnout.spec.stages import OVERLAY
from turnout.stores.control import Overlay, RevisionRecord, View
from turnout.supervisor import attendant, child, chronicle, codewatch, fleet, lastgood, listening, statefolder, telling
from turnout.supervisor.settings import Settings
from turnout.transport import control

logger = logging.getLogger(__name__)

WORKER = (sys.executable, "-m", "turnout.gateway.app")
RECORDER = (sys.executable, "-m", "turnout.recorder.app")
CONTROL_PLANE = (sys.executable, "-m", "turnout.controlplane.app")

FAREWELL_S = 3.0
"""How long the control plane may take to say goodbye to the fleet."""

FIRST_OVERLAY_S = 5.0
"""How long a server that shares a store, and has never seen its overlay, waits for it before it serves."""


class Source(Protocol):
    """Where the document comes from; `sources.base.Source`."""

    async def read(self) -> dict[str, str]: ...

    def changes(self) -> AsyncIterator[dict[str, str] | TurnoutError]: ...


class Refused(Exception):
    """The server does not start, because its document is refused. Carries every error."""

    def __init__(self, errors: Sequence[control.Problem]) -> None:
        super().__init__(f"{len(errors)} errors")
        self.errors = tuple(errors)


@dataclasses.dataclass(frozen=True)
class Commands:
    """The programs of the children; tests put small ones in their place. An empty one means none."""

    worker: tuple[str, ...] = WORKER
    recorder: tuple[str, ...] = RECORDER
    control_plane: tuple[str, ...] = CONTROL_PLANE


class Tree:
    """One running server.

    Args:
        settings: With `state` and `directory` filled in.
        on_ready: Called once with the status, when every worker serves.
    """

    def __init__(
        self,
        settings: Settings,
        source: Source,
        *,
        commands: Commands | None = None,
        on_ready: Callable[[dict[str, Any]], None] | None = None,
    ) -> None:
        self.settings = settings
        self.url = ""
        self.fleet: fleet.Fleet | None = None
        self.telling: telling.Telling | None = None
        self.recorder: attendant.Attendant | None = None
        self.control_plane: attendant.Attendant | None = None
        self._source = source
        self._commands = commands or Commands()
        self._on_ready = on_ready
        self._claim = statefolder.Claim(Path(settings.state))
        self._last_good = Path(settings.last_good) if settings.last_good else Path(settings.state) / "last-good"
        self._stopping = asyncio.Event()
        self._hurry = asyncio.Event()
        self._tasks: set[asyncio.Task[Any]] = set()
        self._reload_wanted = asyncio.Event()
        self._chronicle = chronicle.Chronicle()
        self._told: lastgood.Accepted | None = None
        self._overlay_known = asyncio.Event()

    # -- orders from outside --------------------------------------------------------------------

    def stop(self) -> None:
        """Drain and leave; asked a second time, leave at once."""
        if self._stopping.is_set():
            self._hurry.set()
        self._stopping.set()

    def reload(self) -> None:
        """Replace the workers one by one; asked while one runs, run once more after it."""
        self._reload_wanted.set()

    # -- life -----------------------------------------------------------------------------------

    async def run(self) -> None:
        """Serve until `stop`.

        Raises:
            ConflictError: The port or the state folder is taken.
            UnavailableError: The workers do not come up.
            Refused: The document is bad and there is no last good one.
        """
        self._claim.take()
        try:
            settings = self.settings
            sockets = listening.reserve(settings.listen_host, settings.listen_port, settings.workers)
            self.fleet = self._make_fleet(sockets)
            self.telling = self._make_attendants(self.fleet)
            try:
                if await self._unless_stopped(self._begin(self.fleet)):
                    await self._stopping.wait()
            finally:
                await self._end(self.fleet)
        finally:
            self._claim.release()

    def _make_fleet(self, sockets: Sequence[socket.socket]) -> fleet.Fleet:
        port = sockets[0].getsockname()[1]
        self.settings = settings = dataclasses.replace(self.settings, listen_port=port)
        self.url = base_url(settings.listen_host, port)
        return fleet.Fleet(
            settings,
            sockets,
            command=self._commands.worker,
            make_settings=self._worker_settings,
            answer=self._answer,
            on_accept=self._accepted,
            on_news=self._news,
        )

    def _make_attendants(self, workers: fleet.Fleet) -> telling.Telling:
        commands, answer = self._commands, self._answer
        if commands.recorder:
            self.recorder = attendant.Attendant(
                "recorder",
                commands.recorder,
                arguments=self._recorder_arguments,
                answer=answer,
                meanwhile="events wait in segments",
            )
        if commands.control_plane:
            self.control_plane = attendant.Attendant(
                "control plane",
                commands.control_plane,
                arguments=self._control_plane_arguments,
                answer=answer,
                meanwhile="what is in force serves on",
            )
        return telling.Telling(
            self.settings, workers, url=self.url, recorder=self.recorder, control_plane=self.control_plane
        )

    async def _begin(self, workers: fleet.Fleet) -> None:
        workers.overlay = lastgood.load_overlay(Path(self.settings.state))
        joins = self.control_plane is not None and bool(self.settings.store) and workers.overlay is None
        if joins:
            self._keep(self.control_plane)
        else:
            self._overlay_known.set()
        _, files, _ = await asyncio.gather(workers.start(), self._read(), self._fleets_overlay())
        await self._first(workers, files)
        await workers.ready()
        status = await self.status()
        self._claim.note(
            statefolder.Running(
                pid=os.getpid(),
                host=self.settings.listen_host,
                port=self.settings.listen_port,
                url=self.url,
                started=time.time(),
                document=self.settings.document,
                stage=self.settings.stage,
            )
        )
        if self._on_ready is not None:
            self._on_ready(status)
        self._keep(self.recorder)
        if not joins:
            self._keep(self.control_plane)
        for slot in workers.slots:
            self._spawn_task(workers.keep(slot))
            if self.settings.silent_s:
                self._spawn_task(workers.watch(slot))
        self._spawn_task(self._watch(workers))
        self._spawn_task(self._reload_when_asked(workers))
        if self.settings.reload:
            self._spawn_task(self._watch_code())
        assert self.telling is not None
        self._spawn_task(self.telling.keep_counts())

    def _keep(self, beside: attendant.Attendant | None) -> None:
        if beside is not None:
            self._spawn_task(beside.keep())

    async def _fleets_overlay(self) -> None:
        """A server that joins a fleet begins with what the fleet has laid over the document, not one change later."""
        try:
            await asyncio.wait_for(self._overlay_known.wait(), FIRST_OVERLAY_S)
        except TimeoutError:
            logger.warning("the store did not tell the fleet's overlay within %g s; starting without", FIRST_OVERLAY_S)

    async def _read(self) -> dict[str, str] | TurnoutError:
        try:
            return await self._source.read()
        except TurnoutError as exc:
            return exc

    async def _first(self, workers: fleet.Fleet, files: dict[str, str] | TurnoutError) -> None:
        if isinstance(files, TurnoutError):
            errors = tuple(control.problems(files))
        else:
            refusal = await workers.change(files, seen_at=time.time())
            if refusal is not None and workers.overlay is not None and not refusal.lost:
                overlay, workers.overlay = workers.overlay, None
                without = await workers.change(files, seen_at=time.time())
                if without is None:  # it alone is to blame: better without it than not at all
                    workers.refuse_overlay(overlay, refusal)
                refusal = without
            if refusal is None:
                return
            errors = refusal.errors
        stored = lastgood.load(self._last_good, self.settings.stage) if self.settings.last_good else None
        if stored is None:
            raise Refused(errors)
        logger.error("the document is refused; starting with the last good one, revision %s", stored.revision[:12])
        refusal = await workers.change(_without_overlay(stored.files), seen_at=time.time())
        if refusal is not None:
            raise Refused((*errors, *refusal.errors))
        workers.refuse(errors)

    async def _unless_stopped(self, work: Coroutine[Any, Any, None]) -> bool:
        """Whether the work came to its end before somebody asked to stop."""
        task = asyncio.create_task(work)
        stop = asyncio.create_task(self._stopping.wait())
        try:
            await asyncio.wait((task, stop), return_when=asyncio.FIRST_COMPLETED)
            if task.done():
                await task
                return True
            return False
        finally:
            await _cancel(task, stop)

    async def _end(self, workers: fleet.Fleet) -> None:
        """Drain the workers, then let the recorder ship what they wrote; quicker on a second request.

        Our copies of the sockets are closed first: as long as they listened, the kernel would take
        connections that nobody accepts any more.
        """
        await _cancel(*self._tasks)
        workers.close()
        farewell = asyncio.create_task(self._end_control_plane())
        drain = asyncio.create_task(workers.drain())
        await self._or_hurry(drain)
        if not drain.done():
            logger.warning("stopping at once")
            await _cancel(drain)
            await workers.kill()
        await farewell
        if self.recorder is not None and self.recorder.running is not None:
            await self._end_recorder(self.recorder.running)

    async def _end_control_plane(self) -> None:
        running = self.control_plane.running if self.control_plane is not None else None
        if running is not None and not await running.terminate(FAREWELL_S):
            await running.kill()

    async def _end_recorder(self, recorder: child.Child) -> None:
        leave = asyncio.create_task(recorder.terminate(self.settings.ship_s))
        await self._or_hurry(leave)
        if not leave.done():
            await _cancel(leave)
            await recorder.kill(patience_s=2.0)
        elif not leave.result():
            logger.warning("the recorder did not finish; the rest is shipped at the next start")

    async def _or_hurry(self, task: "asyncio.Task[Any]") -> None:
        hurry = asyncio.create_task(self._hurry.wait())
        await asyncio.wait((task, hurry), return_when=asyncio.FIRST_COMPLETED)
        await _cancel(hurry)

    # -- what goes on meanwhile -----------------------------------------------------------------

    def _spawn_task(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._task_ended)

    def _task_ended(self, task: "asyncio.Task[None]") -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            logger.critical("the supervisor has a fault and stops", exc_info=error)
            self.stop()

    async def _watch(self, workers: fleet.Fleet) -> None:
        async for files in self._source.changes():
            if isinstance(files, TurnoutError):
                workers.refuse(control.problems(files))
            else:
                await workers.change(files, seen_at=time.time())
                if workers.reload_failed is not None and self.settings.reload:
                    self.reload()  # the new code may have been waiting for this document

    async def _watch_code(self) -> None:
        async for paths in codewatch.changes(Path(self.settings.directory)):
            logger.info("code changed: %s", ", ".join(paths[:5]))
            self.reload()

    async def _reload_when_asked(self, workers: fleet.Fleet) -> None:
        assert self.telling is not None
        while True:
            await self._reload_wanted.wait()
            self._reload_wanted.clear()
            self.telling.reload_state = "running"
            done = await workers.replace()
            self.telling.reload_state = "done" if done else "failed"

    def _accepted(self, accepted: lastgood.Accepted, digests: fleet.Digests) -> None:
        """A revision is in force: keep it as the last good one, and as a chapter of the history."""
        try:
            lastgood.store(self._last_good, accepted)
        except OSError as exc:
            logger.error("the last good document could not be stored in %s: %s", self._last_good, exc)
        before, self._told = self._told, accepted
        if before is None or before.revision != accepted.revision:
            self._chronicle.add(self._chapter(accepted, before, digests))
        self._news()

    def _chapter(
        self, accepted: lastgood.Accepted, before: lastgood.Accepted | None, digests: fleet.Digests
    ) -> RevisionRecord:
        assert self.fleet is not None
        laid_over = before is not None and _without_overlay(before.files) == _without_overlay(accepted.files)
        overlay = self.fleet.overlay if laid_over else None
        return RevisionRecord(
            revision=accepted.revision,
            at=accepted.at,
            author=overlay.author if overlay else "",
            reason=overlay.reason if overlay else "",
            source="start" if before is None else "overlay" if laid_over else "document",
            host=socket.gethostname(),
            document=accepted.files,
            stage=accepted.stage,
            digests=digests,
            build=self.fleet.build,
            replaced=before.revision if before else "",
        )

    def _news(self) -> None:
        """Something worth announcing to the fleet has changed."""
        if self.control_plane is not None:
            self.control_plane.tell(control.Changed())

    async def _lay_over(self, message: control.OverlayText) -> control.OverlayReply:
        """What the control plane read in the store; number 0 says that there is no overlay."""
        workers = self.fleet
        assert workers is not None
        overlay = Overlay(
            number=message.number,
            at=message.at,
            author=message.author,
            reason=message.reason,
            content=message.content,
        )
        if workers.accepted is None and not self._overlay_known.is_set():
            workers.overlay = overlay if overlay.number else None
            self._overlay_known.set()
            return control.OverlayReply(number=message.number)
        refusal = await workers.lay_over(overlay, seen_at=time.time()) if overlay.number else None
        errors = list(refusal.errors) if refusal else []
        document = workers.accepted.revision if workers.accepted else ""
        return control.OverlayReply(
            number=message.number, errors=errors, lost=bool(refusal and refusal.lost), document=document
        )

    def _worker_settings(self, name: str, slot: int, listen_fd: int, control_fd: int) -> control.WorkerSettings:
        s = self.settings
        return control.WorkerSettings(
            worker=name,
            slot=slot,
            listen_fd=listen_fd,
            control_fd=control_fd,
            directory=s.directory,
            state=s.state,
            stage=s.stage,
            linger_s=s.linger_s,
            drain_s=s.drain_s,
            body_bytes=s.body_bytes,
            header_bytes=s.header_bytes,
            connections=s.connections,
            idle_s=s.idle_s,
            segment_bytes=s.segment_bytes,
            secrets=s.secrets,
            explain=s.explain,
        )

    def _recorder_arguments(self, control_fd: int) -> list[str]:
        arguments = ["--state", self.settings.state, "--control", str(control_fd), "--parent", str(os.getpid())]
        given = {"--store": self.settings.store, "--parquet": self.settings.parquet}
        return [*arguments, *(word for name, value in given.items() if value for word in (name, value))]

    def _control_plane_arguments(self, control_fd: int) -> list[str]:
        s = self.settings
        arguments = ["--state", s.state, "--control", str(control_fd), "--document", s.document]
        given = {"--store": s.store, "--stage": s.stage, "--author": s.author}
        return [*arguments, *(word for name, value in given.items() if value for word in (name, value))]

    # -- what children ask ----------------------------------------------------------------------

    async def _answer(self, message: control.Message) -> control.Message | None:
        assert self.telling is not None
        match message:
            case control.Overview():
                return control.OverviewReply(payload=msgspec.json.encode(await self.status()))
            case control.Metrics():
                return control.MetricsReply(families=await self.metrics())
            case control.Presence():
                return control.PresenceReply(payload=msgspec.json.encode(self.telling.presence()))
            case control.Chapters():
                return control.ChaptersReply(payload=msgspec.json.encode(self._chronicle.after(message.after)))
            case control.OverlayText():
                return await self._lay_over(message)
            case control.FleetView():
                self.telling.view = msgspec.json.decode(message.payload, type=View)
                return None
            case _:
                raise UnavailableError(f"the supervisor has no answer to {type(message).__name__}")

    async def metrics(self) -> list[telemetry.FamilySnapshot]:
        """The metrics of the server; see `telling`."""
        assert self.telling is not None
        return await self.telling.metrics()

    async def status(self) -> dict[str, Any]:
        """The `/status` of the server; see `telling`."""
        assert self.telling is not None
        return await self.telling.status()


def _without_overlay(files: dict[str, str]) -> dict[str, str]:
    return {name: text for name, text in files.items() if name != OVERLAY}


def base_url(host: str, port: int) -> str:
    """Where this machine reaches the server."""
    near = {"0.0.0.0": "127.0.0.1", "::": "[::1]", "": "127.0.0.1"}.get(host, f"[{host}]" if ":" in host else host)  # noqa: S104
    return f"http://{near}:{port}"


async def _cancel(*tasks: "asyncio.Task[Any]") -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
