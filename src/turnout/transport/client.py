"""A small keep-alive HTTP/1.1 client, for hops between our own processes and for the command line.

Callers hold one `Client` and `await client.request(...)`; every call has a deadline. No
redirects, cookies, proxies or TLS: it speaks to servers we know.

Invariants: connections per host are bounded, further calls wait in line under their
deadline; a request is sent a second time only if it went over a kept connection that closed
before any byte of an answer and its method is idempotent; a connection goes back to the pool
only after a complete answer with nothing behind it.
"""

import asyncio
import collections
import contextlib
import re
import time
import urllib.parse
from collections.abc import AsyncIterator, Sequence
from types import TracebackType
from typing import Final, cast

import httptools
from msgspec import Struct

from turnout.errors import DeadlineError, OverloadError, UnavailableError
from turnout.transport import http

IDEMPOTENT: Final = frozenset({"GET", "HEAD", "PUT", "DELETE", "OPTIONS"})
HEADER_BYTES: Final = 65_536
"""Status line and headers of one answer."""
PIECES_BYTES: Final = 262_144
"""Bytes of a streamed answer held for a reader who is slower than the server."""
HOSTS: Final = 256
"""Different hosts one client talks to."""

_TARGET = re.compile(r"/[\x21-\x7e]*")
_METHOD = re.compile(r"[A-Z]+")


class ClientLimits(Struct, frozen=True, kw_only=True):
    """Bounds of one client."""

    connections: int = 64
    """Open connections to one host; further calls wait."""

    body_bytes: int = 64 * 2**20
    """Largest answer read whole; a streamed one may be longer."""

    idle_s: float = 30.0
    """A kept connection unused for longer is not used again; below the idle limit of our server (75 s)."""


class ClientResponse(Struct, frozen=True):
    """A complete answer."""

    status: int
    headers: http.Headers
    body: bytes


class _Address(Struct, frozen=True):
    host: str
    port: int
    unix: str = ""

    @property
    def authority(self) -> str:
        if self.unix:
            return "localhost"
        name = f"[{self.host}]" if ":" in self.host else self.host
        return name if self.port == 80 else f"{name}:{self.port}"

    def __str__(self) -> str:
        return self.unix or self.authority


class _LostError(UnavailableError):
    """The connection ended before the answer was complete."""


class _Exchange:
    """One request's answer as it arrives."""

    __slots__ = (
        "begun",
        "done",
        "head",
        "head_only",
        "headers",
        "limit",
        "pieces",
        "size",
        "status",
        "streamed",
        "waiter",
    )

    def __init__(self, loop: asyncio.AbstractEventLoop, *, head_only: bool, limit: int, streamed: bool) -> None:
        self.head_only = head_only
        self.limit = limit
        self.streamed = streamed
        self.begun = False
        self.status = 0
        self.headers = http.Headers()
        self.pieces: collections.deque[bytes] = collections.deque()
        self.size = 0
        self.head: asyncio.Future[None] = loop.create_future()
        self.done: asyncio.Future[None] = loop.create_future()
        self.waiter: asyncio.Future[None] | None = None

    def finish(self, error: Exception | None = None) -> None:
        for future in (self.head, self.done):
            if not future.done():
                future.set_result(None) if error is None else future.set_exception(error)
                if error is not None:
                    future.exception()  # seen: whoever waits gets it, nobody has to
        self.wake()

    def wake(self) -> None:
        if self.waiter is not None and not self.waiter.done():
            self.waiter.set_result(None)


class _Wire(asyncio.Protocol):
    """One connection; carries one exchange at a time."""

    def __init__(self) -> None:
        self._transport: asyncio.Transport = cast("asyncio.Transport", None)
        self._parser = httptools.HttpResponseParser(self)
        self._exchange: _Exchange | None = None
        self._head_bytes = 0
        self._keep = False
        self._paused = False
        self._until_close = False
        self.reused = False
        self.idle_since = 0.0

    @property
    def usable(self) -> bool:
        """Whether a further request can be sent."""
        return self._keep and self._exchange is None and not self._transport.is_closing()

    def send(self, exchange: _Exchange, data: bytes) -> None:
        self._exchange = exchange
        self._head_bytes = 0
        self._until_close = False
        self._transport.write(data)

    def release(self) -> None:
        self._exchange = None
        if self._paused:
            self._keep = False

    def abort(self) -> None:
        self._exchange = None
        self._transport.abort()

    def resume(self) -> None:
        if self._paused and not self._transport.is_closing():
            self._paused = False
            self._transport.resume_reading()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._keep = True

    def connection_lost(self, exc: Exception | None) -> None:
        self._keep = False
        exchange = self._exchange
        if exchange is not None and not exchange.done.done():
            if self._until_close and exc is None:
                exchange.finish()
            else:
                text = f"the connection ended before the answer was complete: {exc or 'closed by the server'}"
                exchange.finish(_LostError(text, retry_after_s=1))

    def data_received(self, data: bytes) -> None:
        exchange = self._exchange
        if exchange is None or exchange.done.done():  # nobody asked
            self._keep = False
            self._transport.abort()
            return
        exchange.begun = True
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            self._keep = False
            if not exchange.done.done():
                cause = error.__context__
                known = isinstance(cause, OverloadError | UnavailableError)
                text = f"the answer is not valid HTTP/1.1: {error}"
                exchange.finish(cast("Exception", cause) if known else UnavailableError(text))
            self._transport.abort()

    def on_message_begin(self) -> None:
        if self._exchange is None or self._exchange.done.done():
            self._keep = False
            raise UnavailableError("bytes behind a complete answer")
        self._head_bytes = 0
        self._exchange.headers = http.Headers()

    def on_header(self, name: bytes, value: bytes) -> None:
        exchange = self._exchange
        assert exchange is not None
        self._head_bytes += len(name) + len(value) + 4
        if self._head_bytes > HEADER_BYTES:
            raise OverloadError(f"the answer's headers have more than {HEADER_BYTES} bytes")
        if not exchange.head.done():  # else a trailer
            exchange.headers.append((name.lower(), value.strip()))

    def on_headers_complete(self) -> None:
        exchange = self._exchange
        assert exchange is not None
        exchange.status = self._parser.get_status_code()
        if exchange.status < 200:
            return
        headers = exchange.headers
        length = headers.get(b"content-length")
        self._until_close = length is None and headers.get(b"transfer-encoding") is None
        self._keep = self._parser.should_keep_alive()
        if exchange.head_only:  # llhttp expects a body that a HEAD answer does not have
            self._parser = httptools.HttpResponseParser(self)
            exchange.finish()
            return
        if not exchange.streamed and length is not None and int(length) > exchange.limit:
            raise self._too_large(exchange)
        if not exchange.head.done():
            exchange.head.set_result(None)

    def on_body(self, body: bytes) -> None:
        exchange = self._exchange
        assert exchange is not None
        if exchange.head_only:
            return
        exchange.size += len(body)
        exchange.pieces.append(body)
        if exchange.streamed:
            exchange.wake()
            if exchange.size > PIECES_BYTES and not self._paused:
                self._paused = True
                self._transport.pause_reading()
        elif exchange.size > exchange.limit:
            raise self._too_large(exchange)

    def on_message_complete(self) -> None:
        exchange = self._exchange
        assert exchange is not None
        if exchange.status >= 200 and not exchange.done.done():
            self._keep = self._keep and self._parser.should_keep_alive()
            exchange.finish()

    @staticmethod
    def _too_large(exchange: _Exchange) -> OverloadError:
        text = f"the answer is larger than {exchange.limit} bytes"
        return OverloadError(text, hint="Ask for less, stream it, or raise the client's body_bytes.")


class _Pool:
    """Connections to one host."""

    def __init__(self, limit: int) -> None:
        self.slots = asyncio.Semaphore(limit)
        self.idle: list[_Wire] = []


class StreamedResponse:
    """An answer whose body is read piece by piece: `async for piece in response`.

    Reading slower than the server sends makes the server wait.
    """

    def __init__(self, exchange: _Exchange, wire: _Wire) -> None:
        self.status = exchange.status
        self.headers = exchange.headers
        self._exchange = exchange
        self._wire = wire

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        exchange = self._exchange
        while not exchange.pieces:
            if exchange.done.done():
                exchange.done.result()
                raise StopAsyncIteration
            exchange.waiter = asyncio.get_running_loop().create_future()
            await exchange.waiter
        piece = exchange.pieces.popleft()
        exchange.size -= len(piece)
        if exchange.size <= PIECES_BYTES // 4:
            self._wire.resume()
        return piece


class Client:
    """Keeps connections to the hosts it talks to. Use it in one event loop; close it at the end."""

    def __init__(self, base: str = "", *, limits: ClientLimits | None = None) -> None:
        """Prepare a client; nothing is opened.

        Args:
            base: Where paths go: "http://host:port", or "unix:/path/to/socket". "" when all calls give whole URLs.
            limits: Bounds.

        Raises:
            ValueError: `base` is neither.
        """
        self.limits = limits or ClientLimits()
        self._base = base.rstrip("/")
        if base:
            self._locate("/")
        self._pools: dict[_Address, _Pool] = {}

    async def __aenter__(self) -> "Client":
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close all kept connections; calls under way go on to their end."""
        for pool in self._pools.values():
            for wire in pool.idle:
                wire.abort()
            pool.idle.clear()
        await asyncio.sleep(0)

    async def request(
        self,
        method: str,
        url: str,
        *,
        deadline_s: float,
        body: bytes = b"",
        headers: Sequence[http.HeaderLine] = (),
    ) -> ClientResponse:
        """Send one request and read the whole answer, whatever its status.

        Args:
            method: Upper case.
            url: A path when the client has a base, else "http://host:port/path".
            deadline_s: For everything: waiting in line, connecting, sending, reading.
            body: Sent with a content-length.
            headers: Further lines, names in lower case.

        Raises:
            DeadlineError: No complete answer in time; the connection is cut.
            UnavailableError: No connection, or it ended early, or the answer is malformed.
            OverloadError: The answer is larger than allowed.
            ValueError: A method, URL or header that would break the request apart.
        """
        address, target = self._locate(url)
        data = _render(method, target, address, body, headers)
        pool = self._pool(address)
        timeout = asyncio.timeout(deadline_s)
        try:
            async with timeout, pool.slots:
                wire, exchange = await self._ask(pool, address, data, method, streamed=False)
                self._give_back(pool, wire, exchange)
        except TimeoutError:
            raise _expired(method, address, deadline_s) from None
        return ClientResponse(exchange.status, exchange.headers, b"".join(exchange.pieces))

    @contextlib.asynccontextmanager
    async def stream(
        self,
        method: str,
        url: str,
        *,
        deadline_s: float,
        body: bytes = b"",
        headers: Sequence[http.HeaderLine] = (),
    ) -> AsyncIterator[StreamedResponse]:
        """Send one request and read the answer's body while it comes.

        The deadline holds until the end of the `async with`. Leaving it early closes the connection.

        Raises: as `request`; while iterating, too.
        """
        address, target = self._locate(url)
        data = _render(method, target, address, body, headers)
        pool = self._pool(address)
        timeout = asyncio.timeout(deadline_s)
        try:
            async with timeout, pool.slots:
                wire, exchange = await self._ask(pool, address, data, method, streamed=True)
                try:
                    yield StreamedResponse(exchange, wire)
                finally:
                    self._give_back(pool, wire, exchange)
        except TimeoutError:
            if not timeout.expired():  # the caller's own, from inside the `async with`
                raise
            raise _expired(method, address, deadline_s) from None

    async def _ask(
        self, pool: _Pool, address: _Address, data: bytes, method: str, *, streamed: bool
    ) -> tuple[_Wire, _Exchange]:
        """Send a request; return when its answer is complete, or its head when streamed."""
        wire = await self._wire(pool, address, fresh=False)
        exchange = self._send(wire, data, method, streamed)
        try:
            try:
                await (exchange.head if streamed else exchange.done)
            except _LostError:
                if not wire.reused or exchange.begun or method not in IDEMPOTENT:
                    raise
                wire = await self._wire(pool, address, fresh=True)
                exchange = self._send(wire, data, method, streamed)
                await (exchange.head if streamed else exchange.done)
        except BaseException:
            wire.abort()
            raise
        return wire, exchange

    def _send(self, wire: _Wire, data: bytes, method: str, streamed: bool) -> _Exchange:
        loop = asyncio.get_running_loop()
        limit = self.limits.body_bytes
        exchange = _Exchange(loop, head_only=method == "HEAD", limit=limit, streamed=streamed)
        wire.send(exchange, data)
        return exchange

    def _give_back(self, pool: _Pool, wire: _Wire, exchange: _Exchange) -> None:
        complete = exchange.done.done() and not exchange.done.cancelled() and exchange.done.exception() is None
        if not complete:
            wire.abort()
            return
        wire.release()
        if wire.usable:
            wire.reused = True
            wire.idle_since = time.monotonic()
            pool.idle.append(wire)
        else:
            wire.abort()

    async def _wire(self, pool: _Pool, address: _Address, *, fresh: bool) -> _Wire:
        """A kept connection, or a new one."""
        oldest = time.monotonic() - self.limits.idle_s
        while pool.idle:
            wire = pool.idle.pop()
            if wire.usable and wire.idle_since >= oldest and not fresh:
                return wire
            wire.abort()
        loop = asyncio.get_running_loop()
        try:
            if address.unix:
                _, wire = await loop.create_unix_connection(_Wire, address.unix)
            else:
                _, wire = await loop.create_connection(_Wire, address.host, address.port)
        except OSError as error:
            hint = "Is the server running, and is this its address?"
            raise UnavailableError(f"no connection to {address}: {error}", hint=hint, retry_after_s=1) from error
        return wire

    def _pool(self, address: _Address) -> _Pool:
        pool = self._pools.get(address)
        if pool is None:
            if len(self._pools) >= HOSTS:
                raise OverloadError(f"this client talks to {HOSTS} hosts already, {address} is one too many")
            pool = self._pools[address] = _Pool(self.limits.connections)
        return pool

    def _locate(self, url: str) -> tuple[_Address, str]:
        if url.startswith("/") and self._base.startswith("unix:"):
            return _Address("", 0, self._base[5:]), url
        whole = self._base + url if url.startswith("/") else url
        parts = urllib.parse.urlsplit(whole)
        if parts.scheme != "http" or not parts.hostname:
            raise ValueError(f"{whole!r} is no URL this client knows, expected http://host:port/path")
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        return _Address(parts.hostname, parts.port or 80), target


def _render(method: str, target: str, address: _Address, body: bytes, headers: Sequence[http.HeaderLine]) -> bytes:
    if _METHOD.fullmatch(method) is None or _TARGET.fullmatch(target) is None:
        raise ValueError(f"{method!r} {target!r}: expected an upper-case method and a percent-encoded path")
    head = f"{method} {target} HTTP/1.1\r\nhost: {address.authority}\r\n".encode("ascii")
    if body or method in ("POST", "PUT", "PATCH"):
        head += b"content-length: %d\r\n" % len(body)
    return head + http.header_lines(headers) + b"\r\n" + body


def _expired(method: str, address: _Address, deadline_s: float) -> DeadlineError:
    return DeadlineError(f"{method} {address}: no complete answer within {deadline_s:g} s", stage="answer")
