"""The process tree of one server: workers, recorder, the watched document, and the words spoken about them.

Called by `app`. Owns the order of things: claim the state folder, bind, start, put the first document
in force, keep everything alive, and take it down without losing an accepted request or a written event.
"""

import asyncio
import contextlib
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
from turnout.supervisor import backoff, child, codewatch, fleet, lastgood, listening, overview, statefolder
from turnout.supervisor.settings import Settings
from turnout.transport import control

logger = logging.getLogger(__name__)

WORKER = (sys.executable, "-m", "turnout.gateway.app")
RECORDER = (sys.executable, "-m", "turnout.recorder.app")
STATUS_S = 2.0
"""How long a status or metrics request waits for one worker; a silent one is reported as such."""


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
    """The programs of the children; tests put small ones in their place. An empty recorder means none."""

    worker: tuple[str, ...] = WORKER
    recorder: tuple[str, ...] = RECORDER


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
        self.recorder: child.Child | None = None
        self._source = source
        self._commands = commands or Commands()
        self._on_ready = on_ready
        self._claim = statefolder.Claim(Path(settings.state))
        self._last_good = Path(settings.last_good) if settings.last_good else Path(settings.state) / "last-good"
        self._stopping = asyncio.Event()
        self._hurry = asyncio.Event()
        self._tasks: set[asyncio.Task[Any]] = set()
        self._reload_wanted = asyncio.Event()
        self._reload_state = "idle"
        self._recorder_restarts = 0
        self._asking: asyncio.Task[dict[str, Any]] | None = None

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
            on_accept=self._store,
        )

    async def _begin(self, workers: fleet.Fleet) -> None:
        _, files = await asyncio.gather(workers.start(), self._read(), return_exceptions=False)
        await self._first(workers, files)
        await workers.ready()
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
            self._on_ready(await self.status())
        for slot in workers.slots:
            self._spawn_task(workers.keep(slot))
            if self.settings.silent_s:
                self._spawn_task(workers.watch(slot))
        self._spawn_task(self._watch(workers))
        self._spawn_task(self._reload_when_asked(workers))
        if self.settings.reload:
            self._spawn_task(self._watch_code())
        if self._commands.recorder:
            self._spawn_task(self._keep_recorder())

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
            if refusal is None:
                return
            errors = refusal.errors
        stored = lastgood.load(self._last_good, self.settings.stage) if self.settings.last_good else None
        if stored is None:
            raise Refused(errors)
        logger.error("the document is refused; starting with the last good one, revision %s", stored.revision[:12])
        refusal = await workers.change(stored.files, seen_at=time.time())
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
        drain = asyncio.create_task(workers.drain())
        await self._or_hurry(drain)
        if not drain.done():
            logger.warning("stopping at once")
            await _cancel(drain)
            await workers.kill()
        if self.recorder is not None:
            await self._end_recorder(self.recorder)

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
        while True:
            await self._reload_wanted.wait()
            self._reload_wanted.clear()
            self._reload_state = "running"
            done = await workers.replace()
            self._reload_state = "done" if done else "failed"

    async def _keep_recorder(self) -> None:
        pause = backoff.Backoff()
        while True:
            started = time.monotonic()
            try:
                self.recorder = await child.spawn(
                    self._commands.recorder, self._recorder_arguments, name="recorder", answer=self._answer
                )
            except OSError as exc:
                logger.error("the recorder cannot be started: %s", exc)
            else:
                await asyncio.wait((self.recorder.exited,))
                logger.error("%s ended: %s; events wait in segments", self.recorder, self.recorder.obituary)
            self._recorder_restarts += 1
            await asyncio.sleep(max(backoff.FIRST_S, pause.after(lived_s=time.monotonic() - started)))

    def _store(self, accepted: lastgood.Accepted) -> None:
        try:
            lastgood.store(self._last_good, accepted)
        except OSError as exc:
            logger.error("the last good document could not be stored in %s: %s", self._last_good, exc)

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
        return [*arguments, "--store", self.settings.store] if self.settings.store else arguments

    # -- status and metrics ---------------------------------------------------------------------

    async def _answer(self, message: control.Message) -> control.Message | None:
        match message:
            case control.Overview():
                return control.OverviewReply(payload=msgspec.json.encode(await self.status()))
            case control.Metrics():
                return control.MetricsReply(families=await self.metrics())
            case _:
                raise UnavailableError(f"the supervisor has no answer to {type(message).__name__}")

    async def metrics(self) -> list[telemetry.FamilySnapshot]:
        """The metrics of all workers and of the supervisor, merged."""
        assert self.fleet is not None
        replies = await self._ask_all(control.MetricsRequest())
        families = [reply.families for reply in replies if isinstance(reply, control.MetricsReply)]
        return telemetry.merge([*families, self._own_metrics(self.fleet)])

    def _own_metrics(self, workers: fleet.Fleet) -> list[telemetry.FamilySnapshot]:
        registry = telemetry.Registry()
        restarts = registry.counter(telemetry.WORKER_RESTARTS, "Workers started after one had died.")
        restarts.labels().inc(sum(slot.restarts for slot in workers.slots))
        missing = sum(slot.worker is None or slot.worker.exited.done() for slot in workers.slots)
        levels = (
            (telemetry.WORKERS_MISSING, "Worker slots without a worker.", missing),
            (telemetry.DOCUMENT_REFUSED, "1 while the document on disk is not in force.", workers.refused is not None),
            (telemetry.RELOAD_FAILED, "1 while the last reload has failed.", workers.reload_failed is not None),
        )
        for name, text, level in levels:
            registry.gauge(name, text).labels().set(float(level))
        return registry.snapshot()

    async def status(self) -> dict[str, Any]:
        """The `/status` of the server. Concurrent callers share one round of questions."""
        if self._asking is None or self._asking.done():
            self._asking = asyncio.create_task(self._status())
        return await asyncio.shield(self._asking)

    async def _status(self) -> dict[str, Any]:
        workers = self.fleet
        assert workers is not None
        replies = await self._ask_all(control.Status())
        parts = [msgspec.json.decode(reply.payload) for reply in replies if isinstance(reply, control.StatusReply)]
        rows = [_worker_row(slot, parts) for slot in workers.slots]
        leaving = [part for part in parts if all(part.get("worker") != row.get("worker") for row in rows)]
        accepted = workers.accepted
        revision = accepted.revision if accepted else None
        recorder = self._recorder_row()
        return {
            "revision": revision,
            "build": workers.build,
            "since": accepted.at if accepted else None,
            "stage": self.settings.stage,
            "document": self.settings.document,
            "url": self.url,
            "state_folder": self.settings.state,
            "converged": all(row.get("revision") == revision and row["state"] == "ready" for row in rows),
            "workers": [*rows, *leaving],
            **overview.merge(parts),
            "warnings": [*next((part["warnings"] for part in parts if part.get("warnings")), []), *_warned(recorder)],
            "refused": _refused(workers.refused),
            "swap": _swap(workers.swapped),
            "reload": {"state": self._reload_state, "failed": _refused(workers.reload_failed)},
            "recorder": recorder,
        }

    def _recorder_words(self, pid: int) -> dict[str, Any]:
        """What the recorder says about itself: what waits, and why, if the store takes nothing."""
        try:
            said = msgspec.json.decode((Path(self.settings.state) / "recorder.json").read_bytes(), type=dict[str, Any])
        except (OSError, msgspec.DecodeError):
            return {}
        told = ("shipped", "left_bytes", "put_aside", "error")
        return {name: said[name] for name in told if name in said} if said.get("pid") == pid else {}

    def _recorder_row(self) -> dict[str, Any] | None:
        if not self._commands.recorder:
            return None
        if self.recorder is None:
            return {"pid": None, "state": "starting", "restarts": 0}
        gone = self.recorder.exited.done()
        row = {"pid": None if gone else self.recorder.pid, "state": "restarting" if gone else "running"}
        return row | {"restarts": self._recorder_restarts} | self._recorder_words(self.recorder.pid)

    async def _ask_all(self, message: control.Message) -> list[control.Message | None]:
        assert self.fleet is not None

        async def ask(one: child.Child) -> control.Message | None:
            with contextlib.suppress(UnavailableError):
                return await one.ask(message, STATUS_S)
            return None

        return await asyncio.gather(*(ask(one) for one in self.fleet.serving))


def _warned(recorder: dict[str, Any] | None) -> list[str]:
    error = recorder.get("error") if recorder else ""
    return [f"events wait in segments and are tried again: {error}"] if error else []


def _worker_row(slot: fleet.Slot, parts: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """One line of the workers' table: what the worker says, and what only its parent knows."""
    known = {"slot": slot.index, "restarts": slot.restarts, "trouble": slot.trouble}
    one = slot.worker
    if one is None or one.exited.done():
        return {
            "worker": f"w{slot.index}",
            "pid": None,
            "state": "crash-loop" if slot.pause.looping else "restarting",
        } | known
    said = next((part for part in parts if part.get("worker") == one.name), None)
    if said is None:
        return {"worker": one.name, "pid": one.pid, "state": "silent" if one.state == "ready" else one.state} | known
    shown = {key: value for key, value in said.items() if key not in ("models", "endpoints", "experiments", "warnings")}
    return shown | {"pid": one.pid} | known


def _refused(refused: fleet.Refused | None) -> dict[str, Any] | None:
    if refused is None:
        return None
    return {"at": refused.at, "errors": [msgspec.to_builtins(error) for error in refused.errors]}


def _swap(swapped: fleet.Swapped | None) -> dict[str, float] | None:
    if swapped is None:
        return None
    took_s = swapped.in_force_at - swapped.seen_at
    return {"seen_at": swapped.seen_at, "in_force_at": swapped.in_force_at, "took_s": round(took_s, 4)}


def base_url(host: str, port: int) -> str:
    """Where this machine reaches the server."""
    near = {"0.0.0.0": "127.0.0.1", "::": "[::1]", "": "127.0.0.1"}.get(host, f"[{host}]" if ":" in host else host)  # noqa: S104
    return f"http://{near}:{port}"


async def _cancel(*tasks: "asyncio.Task[Any]") -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
