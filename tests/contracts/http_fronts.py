"""The HTTP fronts under contract, each really listening on a socket, and a client that sends what it is told.

`Front.run` starts one front with a handler, runs a case against its port and shuts it down.
`Wire` writes raw bytes and reads answers strictly, so that no client library repairs anything.
"""

import asyncio
import contextlib
import logging
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from types import TracebackType

import uvicorn

from turnout import telemetry
from turnout.transport import asgi, http, loop, server

PATIENCE_S = 10.0
"""After which a test that waits has failed."""

Case = Callable[[int], Awaitable[None]]


class Answer:
    """One answer as it stood on the wire."""

    def __init__(self, status: int, headers: list[tuple[bytes, bytes]], body: bytes, *, whole: bool = True) -> None:
        self.status = status
        self.headers = headers
        self.body = body
        self.whole = whole

    def get(self, name: bytes) -> bytes | None:
        found = [value for key, value in self.headers if key == name]
        assert len(found) <= 1, f"{name!r} is there {len(found)} times"
        return found[0] if found else None


class Wire:
    """One raw connection."""

    def __init__(self, port: int) -> None:
        self._port = port

    async def __aenter__(self) -> "Wire":
        self.reader, self.writer = await asyncio.open_connection("127.0.0.1", self._port, limit=2**20)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.writer.transport.abort()
        with contextlib.suppress(ConnectionError):
            await self.writer.wait_closed()

    async def send(self, *pieces: bytes) -> None:
        for piece in pieces:
            self.writer.write(piece)
            with contextlib.suppress(ConnectionError):
                await self.writer.drain()
            await asyncio.sleep(0)

    async def answer(self, *, head_only: bool = False) -> Answer:
        """The next final answer; interim ones are passed over."""
        async with asyncio.timeout(PATIENCE_S):
            while True:
                status, headers = await self.head()
                if status >= 200:
                    break
            if head_only or status in (204, 304):
                return Answer(status, headers, b"")
            return await self._body(status, headers)

    async def head(self) -> tuple[int, list[tuple[bytes, bytes]]]:
        async with asyncio.timeout(PATIENCE_S):
            lines = (await self.reader.readuntil(b"\r\n\r\n"))[:-4].split(b"\r\n")
        version, status = lines[0].split(b" ")[:2]
        assert version == b"HTTP/1.1"
        headers = []
        for line in lines[1:]:
            name, _, value = line.partition(b":")
            headers.append((name.lower(), value.strip()))
        return int(status), headers

    async def _body(self, status: int, headers: list[tuple[bytes, bytes]]) -> Answer:
        names = dict(headers)
        if b"content-length" in names:
            return Answer(status, headers, await self.reader.readexactly(int(names[b"content-length"])))
        if names.get(b"transfer-encoding") == b"chunked":
            return await self._chunks(status, headers)
        return Answer(status, headers, await self.reader.read())

    async def _chunks(self, status: int, headers: list[tuple[bytes, bytes]]) -> Answer:
        body = bytearray()
        try:
            while size := int((await self.reader.readuntil(b"\r\n"))[:-2], 16):
                body += await self.reader.readexactly(size)
                assert await self.reader.readexactly(2) == b"\r\n"
            assert await self.reader.readexactly(2) == b"\r\n"
        except (asyncio.IncompleteReadError, ConnectionError):
            return Answer(status, headers, bytes(body), whole=False)
        return Answer(status, headers, bytes(body))

    async def rest(self) -> bytes:
        """Everything until the other side closes."""
        async with asyncio.timeout(PATIENCE_S):
            received = b""
            with contextlib.suppress(ConnectionError):
                while piece := await self.reader.read(65_536):
                    received += piece
            return received


class Front:
    """One way of serving a handler.

    Attributes:
        name: For test ids.
        ours: Our own server parses; under uvicorn some refusals are uvicorn's.
    """

    name = "server"
    ours = True

    def __init__(self) -> None:
        self.registry = telemetry.Registry()

    def loop_factory(self) -> asyncio.AbstractEventLoop:
        return loop.factory()()

    def run(self, handler: http.Handler, case: Case, *, limits: http.Limits | None = None) -> None:
        """Serve `handler` while `case` runs against the port."""
        with asyncio.Runner(loop_factory=self.loop_factory) as runner:
            runner.run(self._run(handler, case, limits or http.Limits()))

    async def _run(self, handler: http.Handler, case: Case, limits: http.Limits) -> None:
        async with self.serving(handler, limits) as port, asyncio.timeout(3 * PATIENCE_S):
            await case(port)

    @contextlib.asynccontextmanager
    async def serving(self, handler: http.Handler, limits: http.Limits) -> AsyncIterator[int]:
        front = server.Server(handler, limits=limits, registry=self.registry)
        listening = listen()
        await front.start(listening)
        try:
            yield listening.getsockname()[1]
        finally:
            await front.drain(0.0, timeout_s=0.0)
            assert front.connections == 0
            assert front.in_flight == 0


class AsyncioFront(Front):
    """Our server on asyncio's own loop, as on Windows."""

    name = "server-on-asyncio"

    def loop_factory(self) -> asyncio.AbstractEventLoop:
        return asyncio.new_event_loop()


class H11Front(Front):
    """The ASGI application under uvicorn with h11."""

    name = "asgi-uvicorn-h11"
    ours = False
    protocol = "h11"

    @contextlib.asynccontextmanager
    async def serving(self, handler: http.Handler, limits: http.Limits) -> AsyncIterator[int]:
        app = asgi.AsgiApp(handler, limits=limits, registry=self.registry)
        config = uvicorn.Config(
            app,
            http=self.protocol,
            lifespan="on",
            log_config=None,
            access_log=False,
            timeout_graceful_shutdown=2,
        )
        logging.getLogger("uvicorn").setLevel(logging.CRITICAL)
        front = uvicorn.Server(config)
        listening = listen()
        serving = asyncio.create_task(front.serve(sockets=[listening]))
        async with asyncio.timeout(PATIENCE_S):
            while not front.started:
                await asyncio.sleep(0.005)
        try:
            yield listening.getsockname()[1]
        finally:
            front.should_exit = True
            await serving


class HttptoolsFront(H11Front):
    """The ASGI application under uvicorn with httptools."""

    name = "asgi-uvicorn-httptools"
    protocol = "httptools"


FRONTS: tuple[type[Front], ...] = (Front, AsyncioFront, H11Front, HttptoolsFront)


def listen() -> socket.socket:
    listening = socket.socket()
    listening.bind(("127.0.0.1", 0))
    listening.listen()
    return listening


async def eventually(reached: Callable[[], bool]) -> None:
    """Wait until something is so; fail when it does not happen."""
    async with asyncio.timeout(PATIENCE_S):
        while not reached():
            await asyncio.sleep(0.005)


async def echo(request: http.Request) -> http.Response:
    """Answers what it got: "METHOD path?query body"."""
    line = f"{request.method} {request.path}?{request.query} ".encode()
    return http.Response(200, line + request.body, b"text/plain")


def get(path: str = "/", *lines: str) -> bytes:
    """A plain request."""
    return "\r\n".join([f"GET {path} HTTP/1.1", "Host: a", *lines, "", ""]).encode("latin-1")


def post(body: bytes, *lines: str, path: str = "/") -> bytes:
    """A request with a body of declared length."""
    head = [f"POST {path} HTTP/1.1", "Host: a", f"Content-Length: {len(body)}", *lines, "", ""]
    return "\r\n".join(head).encode("latin-1") + body
