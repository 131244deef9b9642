"""The data plane's HTTP/1.1 server: one listening socket, many connections, one handler.

A worker makes one `Server` and calls `start` with a socket it was given, and `drain` before
it leaves. Everything about one client stands in `connection`; here stand accepting, the one
sweeping timer for all limits of time, and leaving without dropping a request.
"""

import asyncio
import socket
import time
from collections.abc import Callable

from turnout import telemetry
from turnout.transport import borders, connection, http

BACKLOG = 2_048
"""Connections the kernel holds until they are accepted; the kernel's own limit (somaxconn) may be lower."""

SWEEP_MAX_S = 1.0
"""Also the age of the Date header at most."""

SWEEP_MIN_S = 0.01

DRAIN_POLL_S = 0.01


class Server:
    """Answers HTTP/1.1 on one socket with one handler.

    Attributes:
        limits: As given.
    """

    def __init__(
        self,
        handler: http.Handler,
        *,
        limits: http.Limits | None = None,
        registry: telemetry.Registry | None = None,
    ) -> None:
        """Prepare a server; nothing is opened.

        Args:
            handler: Called for each complete request, in a task of its own. Cancelled when the client leaves.
            limits: What clients may ask for.
            registry: Where connections, refusals and failures are counted.
        """
        self.limits = limits or http.Limits()
        self._handler = handler
        self._registry = registry or telemetry.Registry()
        self._border = borders.Border(self._registry)
        self._shared: connection.Shared | None = None
        self._server: asyncio.AbstractServer | None = None
        self._timer: asyncio.TimerHandle | None = None

    @property
    def connections(self) -> int:
        """Open connections, idle ones too."""
        return len(self._shared.connections) if self._shared else 0

    @property
    def in_flight(self) -> int:
        """Requests being answered, and handlers whose client has left but that have not ended."""
        if self._shared is None:
            return 0
        return sum(c.running for c in self._shared.connections) + len(self._shared.orphans)

    async def start(self, sock: socket.socket) -> None:
        """Serve on a bound socket, which belongs to the server from now on.

        Raises:
            RuntimeError: Started before.
        """
        if self._shared is not None:
            raise RuntimeError("this server was started before; make a new one")
        loop = asyncio.get_running_loop()
        shared = connection.Shared(self._handler, limits=self.limits, border=self._border, loop=loop)
        self._shared = shared
        self._measure()
        if sock.family == getattr(socket, "AF_UNIX", None):
            self._server = await loop.create_unix_server(
                lambda: connection.Connection(shared), sock=sock, backlog=BACKLOG
            )
        else:
            self._server = await loop.create_server(lambda: connection.Connection(shared), sock=sock, backlog=BACKLOG)
        self._sweep()

    async def drain(self, linger_s: float, timeout_s: float = 60.0) -> None:
        """Leave without dropping a request.

        Accepting stops at once. Requests in flight finish; every answer from now on closes its connection. Idle
        connections stay open for `linger_s`, so that a request already on its way is still answered.

        Args:
            linger_s: How long idle connections are kept.
            timeout_s: After which handlers that still run are cancelled; their clients are told 503.
        """
        shared = self._shared
        if shared is None:
            return
        shared.draining = True
        if self._server is not None:
            self._server.close()
        began = shared.clock()
        await self._until(lambda: not shared.connections, began + linger_s)
        for one in list(shared.connections):
            one.close_idle()
        await self._until(lambda: not self._busy(shared), began + timeout_s)
        for one in list(shared.connections):
            one.cancel()
        await self._until(lambda: not shared.connections and not shared.orphans, shared.clock() + self.limits.linger_s)
        for one in list(shared.connections):
            one.abort()
        await self._until(lambda: not shared.connections, shared.clock() + self.limits.linger_s)
        if self._timer is not None:
            self._timer.cancel()

    @staticmethod
    def _busy(shared: connection.Shared) -> bool:
        return bool(shared.orphans) or any(one.busy for one in shared.connections)

    async def _until(self, reached: Callable[[], bool], end: float) -> None:
        assert self._shared is not None
        while not reached() and self._shared.clock() < end:  # noqa: ASYNC110  # no event on the hot path for it
            await asyncio.sleep(DRAIN_POLL_S)

    def _measure(self) -> None:
        self._registry.gauge(telemetry.CONNECTIONS, "Open HTTP connections.").labels().follow(lambda: self.connections)
        in_flight = self._registry.gauge(telemetry.REQUESTS_IN_FLIGHT, "Requests being answered.")
        in_flight.labels().follow(lambda: self.in_flight)

    def _sweep(self) -> None:
        shared = self._shared
        assert shared is not None
        shared.now = now = shared.clock()
        shared.heads.refresh(time.time())
        for one in list(shared.connections):
            one.sweep(now)
        self._timer = shared.loop.call_later(self._interval_s(), self._sweep)

    def _interval_s(self) -> float:
        limits = self.limits
        shortest = min(limits.first_byte_s, limits.receive_s, limits.idle_s, limits.write_s, limits.linger_s)
        return min(SWEEP_MAX_S, max(SWEEP_MIN_S, shortest / 4))
