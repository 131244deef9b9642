"""The same handlers as an ASGI application, to be served by uvicorn or mounted beside other routes.

An ASGI server parses; what it lets through is examined here with the same rules and limits
as `intake` has (`http.examine`). What an ASGI server refuses itself never arrives.

Invariants: a body beyond its limit is refused before more of it is read; a client that
leaves cancels its handler; `startup` runs exactly once, whether lifespan, the first request
or `async with` comes first, and every request waits for it.
"""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, MutableMapping
from types import TracebackType
from typing import Any

from turnout import telemetry
from turnout.transport import borders, http

logger = logging.getLogger(__name__)

Scope = MutableMapping[str, Any]
Event = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Event]]
Send = Callable[[Event], Awaitable[None]]


_VERSIONS = ("1.0", "1.1", "2", "3")


async def _nothing() -> None:
    return None


class _ClientLeft(Exception):  # a signal between two functions here
    """The ASGI server told us so."""


class AsgiApp:
    """An ASGI 3 application over one handler.

    Lifespan is used where the server offers it. A mounted application gets none: it starts
    on its first request, and is shut down by `async with app:` in the lifespan of the
    application it is mounted in.
    """

    def __init__(
        self,
        handler: http.Handler,
        *,
        limits: http.Limits | None = None,
        startup: Callable[[], Awaitable[None]] = _nothing,
        shutdown: Callable[[], Awaitable[None]] = _nothing,
        registry: telemetry.Registry | None = None,
    ) -> None:
        self.limits = limits or http.Limits()
        self._handler = handler
        self._startup = startup
        self._shutdown = shutdown
        self._starting: asyncio.Task[None] | None = None
        self._border = borders.Border(registry or telemetry.Registry())

    async def __aenter__(self) -> "AsgiApp":
        await self._start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stop()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one connection of the ASGI server.

        Raises:
            ValueError: A scope type other than "http", "websocket" and "lifespan".
        """
        kind = scope["type"]
        if kind == "lifespan":
            await self._lifespan(receive, send)
        elif kind == "websocket":
            await receive()
            await send({"type": "websocket.close", "code": 1000})
        elif kind == "http":
            await self._answer(scope, receive, send)
        else:
            raise ValueError(f"ASGI scope type {kind!r} is not known, expected 'http' or 'lifespan'")

    async def _start(self) -> None:
        """Run `startup` once; all who come meanwhile wait for the same run. One that failed is tried again."""
        if self._starting is None or (self._starting.done() and self._starting.exception() is not None):
            self._starting = asyncio.ensure_future(_run(self._startup))
        await asyncio.shield(self._starting)

    async def _stop(self) -> None:
        starting, self._starting = self._starting, None
        if starting is not None:
            await asyncio.wait([starting])
            if starting.exception() is None:
                await self._shutdown()

    async def _lifespan(self, receive: Receive, send: Send) -> None:
        await receive()
        try:
            await self._start()
        except Exception as error:
            logger.exception("start-up failed")
            await send({"type": "lifespan.startup.failed", "message": f"{type(error).__name__}: {error}"})
            return
        await send({"type": "lifespan.startup.complete"})
        await receive()
        try:
            await self._stop()
        except Exception as error:
            logger.exception("shut-down failed")
            await send({"type": "lifespan.shutdown.failed", "message": f"{type(error).__name__}: {error}"})
            return
        await send({"type": "lifespan.shutdown.complete"})

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        exchange = _Exchange(scope["method"], receive, send, self._border)
        try:
            request = await self._read(scope, exchange)
        except http.Refusal as refusal:
            await self._send(exchange, self._border.refused(refusal), close=True)
            return
        except _ClientLeft:
            return
        work = asyncio.ensure_future(self._work(request, exchange))
        gone = asyncio.ensure_future(exchange.wait_gone())
        try:
            await asyncio.wait((work, gone), return_when=asyncio.FIRST_COMPLETED)
        finally:
            work.cancel() if not work.done() else None
            gone.cancel()
            await asyncio.wait((work, gone))
        if not work.cancelled():
            work.result()

    async def _read(self, scope: Scope, exchange: "_Exchange") -> http.Request:
        if scope["method"] not in http.METHODS.values():
            raise http.method_refusal()
        headers = http.Headers((name.lower(), value.strip()) for name, value in scope["headers"])
        seen = http.examine(headers, self.limits)
        version: str = scope.get("http_version", "1.1")
        if version not in _VERSIONS:
            raise http.version_refusal(version)
        if version == "1.1" and not seen & http.HOST:
            raise http.malformed("the header host is missing, HTTP/1.1 requires it")
        if version == "1.0" and seen & http.TRANSFER_ENCODING:
            raise http.malformed("transfer-encoding is there in HTTP/1.0, which has none")
        if scope.get("raw_path"):
            http.target(scope["raw_path"])
        size = sum(len(name) + len(value) + 4 for name, value in headers)
        if size + len(scope.get("raw_path") or b"") + len(scope["query_string"]) > self.limits.header_bytes:
            raise http.headers_too_large(self.limits)
        await self._ready()
        try:
            async with asyncio.timeout(self.limits.receive_s):
                body = await exchange.read_body(self.limits)
        except TimeoutError:
            raise http.too_slow(self.limits) from None
        query = scope["query_string"].decode("latin-1")
        client = scope.get("client")
        address = f"{client[0]}:{client[1]}" if client else ""
        path = below_mount(scope)
        return http.Request(scope["method"], path, query, headers, body, address, time.monotonic(), True, version)

    async def _ready(self) -> None:
        try:
            await self._start()
        except Exception as error:
            logger.exception("start-up failed")
            text = f"the application did not start: {error}"
            raise http.Refusal(503, "unavailable", text, "Look into the server's log.", retry_after_s=1) from error

    async def _work(self, request: http.Request, exchange: "_Exchange") -> None:
        response: http.Response | None = None
        try:
            response = await self._handler(request)
            await self._send(exchange, response, close=response.close)
        except Exception as error:  # the border to everything above; counted and logged there
            if exchange.started:
                self._border.cut(request, error)
                raise  # only then does the ASGI server cut the connection, so that the answer does not look complete
            await self._send(exchange, self._border.failed(request, error), close=False)
        finally:
            if response is not None and response.on_close is not None:
                self._border.tell(response.on_close)

    async def _send(self, exchange: "_Exchange", response: http.Response, *, close: bool) -> None:
        lines = list(response.headers)
        http.header_lines(lines)  # refuses line breaks
        if response.content_type and response.status not in http.BODILESS:
            lines.append((b"content-type", response.content_type))
        if close:
            lines.append((b"connection", b"close"))
        if isinstance(response.body, bytes):
            await exchange.send_whole(response.status, lines, response.body)
        else:
            await exchange.send_stream(response.status, lines, response.body)


class _Exchange:
    """One request's `receive` and `send`, and how far the answer is."""

    __slots__ = ("_border", "_head_only", "_receive", "_send", "started")

    def __init__(self, method: str, receive: Receive, send: Send, border: borders.Border) -> None:
        self._border = border
        self._head_only = method == "HEAD"
        self._receive = receive
        self._send = send
        self.started = False

    async def read_body(self, limits: http.Limits) -> bytes:
        parts: list[bytes] = []
        size = 0
        while True:
            event = await self._receive()
            if event["type"] == "http.disconnect":
                raise _ClientLeft
            part: bytes = event.get("body", b"")
            size += len(part)
            if size > limits.body_bytes:
                raise http.body_too_large("the chunked body is larger than allowed", limits)
            if part:
                parts.append(part)
            if not event.get("more_body", False):
                return parts[0] if len(parts) == 1 else b"".join(parts)

    async def wait_gone(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass

    async def send_whole(self, status: int, lines: Iterable[http.HeaderLine], body: bytes) -> None:
        if status in http.BODILESS:
            body = b""
        else:
            lines = [*lines, (b"content-length", b"%d" % len(body))]
        await self._begin(status, lines)
        await self._send({"type": "http.response.body", "body": b"" if self._head_only else body})

    async def send_stream(self, status: int, lines: Iterable[http.HeaderLine], source: AsyncIterator[bytes]) -> None:
        """Send piece by piece; the server's `send` waits while the client does not read."""
        try:
            if not self._head_only and status not in http.BODILESS:
                async for piece in source:
                    if piece:
                        if not self.started:
                            await self._begin(status, lines)
                        await self._send({"type": "http.response.body", "body": bytes(piece), "more_body": True})
                        await asyncio.sleep(0)  # neither a source nor a server has to wait; all others need a turn
            if not self.started:
                await self._begin(status, lines)
            await self._send({"type": "http.response.body", "body": b""})
        finally:
            await self._border.finish(source)

    async def _begin(self, status: int, lines: Iterable[http.HeaderLine]) -> None:
        self.started = True
        await self._send({"type": "http.response.start", "status": status, "headers": list(lines)})


async def _run(startup: Callable[[], Awaitable[None]]) -> None:
    await startup()


def below_mount(scope: Scope) -> str:
    """The path without the prefix under which the application is mounted.

    Servers and frameworks put the prefix into `root_path`; since ASGI 2.4 `path` holds it too, before that it did not.
    """
    path: str = scope["path"]
    root: str = scope.get("root_path", "").rstrip("/")
    outer: str = scope.get("app_root_path", "").rstrip("/")  # Starlette's: the prefix a proxy has taken off already
    for prefix in (root, root.removeprefix(outer) if outer else ""):
        if prefix and path.startswith(prefix) and path[len(prefix) : len(prefix) + 1] in ("", "/"):
            return path[len(prefix) :] or "/"
    return path or "/"
