"""The worker program: `python -m turnout.gateway.app SETTINGS_JSON`, started by the supervisor.

Starts empty, gets its document over the control channel, serves the inherited socket,
drains when told, when the channel closes, or on SIGTERM.
"""

import asyncio
import gc
import logging
import os
import signal
import socket
import sys
import time
from typing import Any

import msgspec

from turnout import telemetry
from turnout.assembly import describing
from turnout.errors import DocumentError, UnavailableError
from turnout.gateway import home, routes
from turnout.transport import control, http, loop, server

logger = logging.getLogger("turnout.gateway")

OVERVIEW_TIMEOUT_S = 5.0
"""How long /status and /metrics wait for the supervisor, which itself waits 2 s for a silent worker."""

LAST_WORD_S = 0.1
"""Between being drained and leaving: `Drained` has to get out first."""

SWITCH_INTERVAL_S = 0.0003
"""How long one thread of a worker may hold the interpreter while another waits for it; Python's default is 5 ms.

Source: a model that computes 10 ms in its thread waited up to 5 ms for a busy event loop after every batch. With
0.3 ms a compute-bound model answered 1.4 times as many rows at 64 connections and 1.3 times at 256.
"""

HEALTH_EVERY_S = 1.0
"""How often a worker looks whether one of its models hung more often than it may be replaced."""


class Worker:
    """One worker process: a Home behind a server, steered over the control channel."""

    def __init__(self, settings: control.WorkerSettings) -> None:
        self.settings = settings
        self.registry = telemetry.Registry()
        self.home = home.Home(
            home.Identity(
                worker=settings.worker,
                directory=settings.directory,
                state=settings.state,
                stage=settings.stage,
                environment=dict(os.environ),
                secrets=settings.secrets,
                spool_bytes=settings.segment_bytes,
            ),
            self.registry,
        )
        limits = http.Limits(
            body_bytes=settings.body_bytes,
            header_bytes=settings.header_bytes,
            connections=settings.connections,
            idle_s=settings.idle_s,
        )
        handler = routes.Routes(self.home, overview=self._overview, metrics=self._metrics, explain=settings.explain)
        self.server = server.Server(handler, limits=limits, registry=self.registry)
        self._channel: control.Channel | None = None
        self._serving = False
        self._swap = asyncio.Lock()
        self._draining: asyncio.Task[None] | None = None
        self._done = asyncio.Event()

    async def run(self) -> None:
        """Serve until drained."""
        await self.home.open()
        running = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            running.add_signal_handler(number, self._leave)
        sock = socket.socket(fileno=self.settings.control_fd)
        self._channel = await control.connect(sock, on_message=self._hear, on_close=self._leave)
        self._channel.send(control.Hello(worker=self.settings.worker, pid=os.getpid()))
        self._look_after_models()
        await self._done.wait()
        self._channel.close()

    def _look_after_models(self) -> None:
        """Leave when a model is beyond repair: the supervisor starts a successor on the same socket."""
        current = self.home.current
        ill = [alias for alias, host in current.hosts.items() if not host.healthy] if current else []
        if ill:
            logger.error("model %s cannot be repaired in this process; worker leaves", ", ".join(ill))
            self._leave()
        elif not self._done.is_set():
            asyncio.get_running_loop().call_later(HEALTH_EVERY_S, self._look_after_models)

    async def _hear(self, message: Any) -> Any:
        match message:
            case control.Prepare():
                return await self._prepare(message)
            case control.Arm():
                self.home.arm(message.generation, message.at)
            case control.Commit():
                return await self._commit(message)
            case control.Abort():
                await self.home.abort(message.generation)
            case control.Status():
                return control.StatusReply(payload=msgspec.json.encode(self._status()))
            case control.MetricsRequest():
                return control.MetricsReply(families=self.registry.snapshot())
            case control.Drain():
                self.home.draining = True
                await asyncio.sleep(message.notice_s)
                await self._drain(message.linger_s)
                return control.Drained(families=self.registry.snapshot())
            case _:
                raise UnavailableError(f"a worker has no answer to {type(message).__name__}")
        return None

    async def _prepare(self, message: control.Prepare) -> control.Prepared | control.Refused:
        started = time.monotonic()
        async with self._swap:
            try:
                built = await self.home.prepare(message.generation, message.files)
            except DocumentError as error:
                return control.Refused(
                    generation=message.generation,
                    errors=control.problems(error),
                    revision=self.home.refused_revision,
                )
        return control.Prepared(
            generation=message.generation,
            revision=built.revision,
            build=built.build,
            built_s=time.monotonic() - started,
            summary=describing.summary(built) | {"digests": dict(built.snapshot.digests)},
        )

    async def _commit(self, message: control.Commit) -> control.Committed:
        late_s = 0.0
        if message.at and self.home.current is not None:
            due = self.home.arm(message.generation, message.at)
            late_s = due.late_s
            await self.home.turned(due)
        else:
            self.home.commit(message.generation)
        built = self.home.current
        assert built is not None
        asyncio.get_running_loop().call_soon(_settle_garbage)
        if not self._serving:
            self._serving = True
            await self.server.start(socket.socket(fileno=self.settings.listen_fd))
            assert self._channel is not None
            self._channel.send(control.Ready(worker=self.settings.worker))
        return control.Committed(
            generation=message.generation, revision=built.revision, at=self.home.since, late_s=late_s
        )

    def _status(self) -> dict[str, Any]:
        return self.home.status() | {
            "pid": os.getpid(),
            "connections": self.server.connections,
            "events_waiting": self.home.events.waiting,
        }

    async def _overview(self) -> bytes:
        reply = await self._ask(control.Overview())
        assert isinstance(reply, control.OverviewReply)
        return reply.payload

    async def _metrics(self) -> bytes:
        reply = await self._ask(control.Metrics())
        assert isinstance(reply, control.MetricsReply)
        return telemetry.render(reply.families)

    async def _ask(self, message: control.Message) -> control.Message:
        if self._channel is None:
            raise UnavailableError("the supervisor is not connected yet.", retry_after_s=1.0)
        return await self._channel.request(message, OVERVIEW_TIMEOUT_S)

    def _leave(self) -> None:
        if self._draining is None:
            self._draining = asyncio.get_running_loop().create_task(self._leave_after_drain())

    async def _leave_after_drain(self) -> None:
        await self._drain(self.settings.linger_s)
        if self._channel is not None and self._channel.open:
            self._channel.send(control.Drained(families=self.registry.snapshot()))
        self._done.set()

    async def _drain(self, linger_s: float) -> None:
        """Finish what runs, write what happened, unload; then the process has nothing left to do."""
        self.home.draining = True
        try:
            async with asyncio.timeout(self.settings.drain_s + linger_s):
                await self.server.drain(linger_s)
        except TimeoutError:
            logger.warning("worker %s leaves with %d requests unanswered", self.settings.worker, self.server.in_flight)
        await self.home.close()
        asyncio.get_running_loop().call_later(LAST_WORD_S, self._done.set)


def _settle_garbage() -> None:
    """What a document built lives long: keep the collector from walking through it on every round.

    Source: on the request path of a small model the collector's default thresholds took a tenth of the time.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(10_000, 20, 50)


def main(arguments: list[str]) -> int:
    """Run one worker; returns the exit status."""
    settings = msgspec.json.decode(arguments[0], type=control.WorkerSettings)
    logging.basicConfig(
        level=logging.INFO,
        format=f"%(asctime)s {settings.worker} %(levelname)s %(name)s: %(message)s",
        stream=sys.stderr,
    )
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    if settings.directory not in sys.path:
        sys.path.insert(0, settings.directory)
    loop.run(_run(settings))
    return 0


async def _run(settings: control.WorkerSettings) -> None:
    await Worker(settings).run()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
