"""One client's connection to the server: bytes in, requests to the handler, answers out in order.

`server.Server` makes one per accepted socket and sweeps over them for whatever takes too
long; no request starts a timer. Strictness beyond llhttp's stands in `http.examine` and in the
parser callbacks below.

Invariants: at most one handler task runs per connection, pipelined requests wait in a
bounded queue and are answered in the order they came; after the first refusal nothing more
is parsed, so that bytes of a doubtful request never become a second request; when the client
leaves, its handler task is cancelled.
"""

import asyncio
import collections
import logging
import math
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Final, cast

import httptools

from turnout import telemetry
from turnout.transport import http

log = logging.getLogger(__name__)

SLICE_BYTES: Final = 16_384
"""Parsed at once, so that one large read cannot put thousands of pipelined requests into the queue."""

LARGE_BYTES: Final = 65_536
"""A body above it is not copied behind its head but handed over beside it."""

NEW: Final = 0
IDLE: Final = 1
RECEIVING: Final = 2
RUNNING: Final = 3
LINGERING: Final = 4
CLOSED: Final = 5

_CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"
_NEVER: Final = math.inf
_BODILESS: Final = (204, 304)


class Shared:
    """What all connections of one server have in common.

    Attributes:
        now: `clock()` at the last sweep; exact enough for limits of seconds.
        draining: Every answer closes its connection.
        orphans: Handler tasks whose client has left and that are still winding up.
        buffered_bytes: Body bytes of all requests that are not complete yet.
    """

    def __init__(
        self,
        handler: http.Handler,
        *,
        limits: http.Limits,
        refuse: http.Refuse,
        registry: telemetry.Registry,
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        self.handler = handler
        self.limits = limits
        self.refuse = refuse
        self.loop = loop
        self.clock = time.monotonic
        self.now = self.clock()
        self.heads = http.Heads()
        self.heads.refresh(time.time())
        self.connections: set[Connection] = set()
        self.orphans: set[asyncio.Task[None]] = set()
        self.draining = False
        self.buffered_bytes = 0
        self._refusals = registry.counter(
            telemetry.REFUSALS, "Requests the transport refused or handlers failed on, by code.", ("code",)
        )
        self._failures = registry.counter(
            telemetry.HANDLER_FAILURES, "Handlers that raised instead of answering."
        ).labels()

    def refused(self, refusal: http.Refusal) -> http.Response:
        """Count a refusal and render it."""
        self._refusals.labels(refusal.code).inc()
        try:
            return self.refuse(refusal)
        except Exception:
            log.exception("rendering a refusal failed")
            return http.refuse(refusal)

    def failed(self) -> http.Response:
        """Count a handler that raised and render the answer."""
        self._failures.inc()
        return self.refused(http.internal())

    def cut(self, request: http.Request, error: BaseException) -> None:
        """Count and log a stream that broke off after its head was sent."""
        self._failures.inc()
        log.error("stream broke off: %s %s", request.method, request.path, exc_info=error)

    def tell(self, on_close: Callable[[], object]) -> None:
        """Call a response's `on_close`; what it raises is its author's fault, not the client's."""
        try:
            on_close()
        except Exception:
            self._failures.inc()
            log.exception("on_close of a response failed")

    async def finish(self, source: AsyncIterator[bytes]) -> None:
        """Close a stream's generator, so that its `finally` runs now and not at garbage collection."""
        aclose: Callable[[], Awaitable[None]] | None = getattr(source, "aclose", None)
        if aclose is not None:
            try:
                await aclose()
            except Exception:
                self._failures.inc()
                log.exception("a stream failed while it was closed")


class Connection(asyncio.Protocol):
    """The protocol of one accepted socket. See the module for its invariants."""

    __slots__ = (
        "_begun",
        "_blocked",
        "_client",
        "_continue",
        "_deaf",
        "_due",
        "_head_bytes",
        "_headers",
        "_in_body",
        "_keep",
        "_method",
        "_parser",
        "_partial",
        "_parts",
        "_paused",
        "_queue",
        "_raw_bytes",
        "_shared",
        "_size",
        "_state",
        "_task",
        "_transport",
        "_unparsed",
        "_unsent",
        "_upgrading",
        "_url",
        "_version",
        "_writable",
    )  # fmt: skip

    def __init__(self, shared: Shared) -> None:
        self._shared = shared
        self._parser = httptools.HttpRequestParser(self)
        self._transport: asyncio.Transport = cast("asyncio.Transport", None)  # until connection_made
        self._client = ""
        self._state = NEW
        self._due = shared.clock() + shared.limits.first_byte_s
        # the request being parsed
        self._partial = False
        self._begun = False
        self._in_body = False
        self._raw_bytes = 0
        self._head_bytes = 0
        self._url = b""
        self._headers = http.Headers()
        self._parts: list[bytes] = []
        self._size = 0
        self._method = ""
        self._version = "1.1"
        self._keep = True
        self._upgrading = False
        self._continue = False
        # requests waiting, and the one being answered
        self._queue: collections.deque[http.Request | http.Refusal] = collections.deque()
        self._task: asyncio.Task[None] | None = None
        self._deaf = False
        self._paused = False
        self._unparsed = b""
        # the way out
        self._writable: asyncio.Future[None] | None = None
        self._blocked = _NEVER
        self._unsent = 0

    # ---- what the event loop calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        peer = transport.get_extra_info("peername")
        if isinstance(peer, tuple) and len(peer) >= 2:
            self._client = f"{peer[0]}:{peer[1]}"
        shared = self._shared
        limit = shared.limits.connections
        shared.connections.add(self)
        if len(shared.connections) > limit + limit // 4 + 1:
            self._transport.abort()
        elif len(shared.connections) > limit:
            text = f"the server has {limit} connections open, which is its limit"
            hint = "Keep connections alive and use fewer of them, or come back later."
            self._deaf = True
            self._answer_refusal(http.Refusal(503, "overloaded", text, hint, retry_after_s=1))

    def connection_lost(self, exc: Exception | None) -> None:
        shared = self._shared
        self._state = CLOSED
        self._deaf = True
        self._queue.clear()
        self._unparsed = b""
        self._forget_body()
        shared.connections.discard(self)
        task = self._task
        if task is not None:
            task.cancel()
            shared.orphans.add(task)
            task.add_done_callback(shared.orphans.discard)
        self._wake_writer()

    def data_received(self, data: bytes) -> None:
        if self._deaf:
            return
        if self._paused:
            self._unparsed += data
        elif len(data) > SLICE_BYTES:
            self._unparsed = data
            self._feed_slices()
        else:
            self._feed(data)

    def pause_writing(self) -> None:
        self._writable = self._shared.loop.create_future()

    def resume_writing(self) -> None:
        self._wake_writer()

    def sweep(self, now: float) -> None:
        """Act on what took too long. Called by the server several times per shortest limit."""
        unsent = self._transport.get_write_buffer_size()
        if self._due <= now and not (unsent and self._state == LINGERING):
            self._overdue()
        if not unsent:
            self._blocked = _NEVER
        elif unsent < self._unsent or self._blocked == _NEVER:
            self._blocked = now
        elif now - self._blocked >= self._shared.limits.write_s:
            self._transport.abort()
        self._unsent = unsent

    def _overdue(self) -> None:
        if self._state == RECEIVING:
            self._stop(http.too_slow(self._shared.limits))
        elif self._state == LINGERING:
            self._transport.abort()
        else:
            self._due = _NEVER
            self._transport.close()

    # ---- what the server calls

    @property
    def deaf(self) -> bool:
        """Whether nothing more is parsed on this connection."""
        return self._deaf

    @property
    def running(self) -> bool:
        """Whether a handler works for this connection or an answer is still on its way out."""
        return self._task is not None or bool(self._queue)

    def close_idle(self) -> None:
        """Close unless a request is being received or answered."""
        if not self.running and not self._partial and self._state != CLOSED:
            self._transport.close()

    def cancel(self) -> None:
        """Stop the handler; the client is told 503."""
        if self._task is not None:
            self._task.cancel()

    def abort(self) -> None:
        self._transport.abort()

    # ---- parsing

    def _feed_slices(self) -> None:
        data = self._unparsed
        at = 0
        while at < len(data) and not self._paused and not self._deaf:
            self._feed(data[at : at + SLICE_BYTES])
            at += SLICE_BYTES
        self._unparsed = b"" if self._deaf else data[at:]

    def _feed(self, data: bytes) -> None:
        try:
            try:
                self._parser.feed_data(data)
            except httptools.HttpParserUpgrade as stop:
                rest: bytes | None = data[stop.args[0] :]
                while rest is not None:
                    rest = self._ignore_upgrade(rest)
        except httptools.HttpParserError as error:
            self._parse_failed(error, data)
        if self._partial and not self._deaf:
            self._received_part(len(data))

    def _received_part(self, size: int) -> None:
        """A request is not complete yet: bound its bytes and its time."""
        if self._state <= IDLE:
            self._state = RECEIVING
            self._due = self._shared.clock() + self._shared.limits.receive_s
        if self._begun:  # the earlier bytes of this read may belong to the request before
            self._begun = False
            return
        self._raw_bytes += size
        limits = self._shared.limits
        if not self._in_body:
            if self._raw_bytes > limits.header_bytes:
                self._stop(http.headers_too_large(limits))
        elif self._raw_bytes > 2 * limits.body_bytes + limits.header_bytes:
            self._stop(http.body_too_large("the chunked body takes more than twice its limit on the wire", limits))

    def _parse_failed(self, error: httptools.HttpParserError, data: bytes) -> None:
        if self._deaf:  # bytes behind a request that closes the connection
            return
        cause = error.__context__
        if isinstance(cause, http.Refusal):
            self._stop(cause)
        elif isinstance(error, httptools.HttpParserCallbackError) and cause is not None:
            raise cause  # a fault in the callbacks here
        else:
            hint = "This port speaks plain HTTP; use http:// instead of https://." if data[:2] == b"\x16\x03" else ""
            self._stop(http.malformed(f"the request is not valid HTTP/1.1: {error}", hint))

    def _stop(self, refusal: http.Refusal) -> None:
        """Parse nothing more; answer the refusal when its turn comes."""
        self._deaf = True
        self._partial = False
        self._forget_body()
        if self._task is None:
            self._answer_refusal(refusal)
        else:
            self._queue.append(refusal)

    def _forget_body(self) -> None:
        self._shared.buffered_bytes -= self._size
        self._size = 0
        self._parts = []

    def _ignore_upgrade(self, rest: bytes) -> bytes | None:
        """Go on in HTTP/1.1 behind a head that asked for another protocol (Java's client asks for h2c each time).

        llhttp stops behind such a head and takes no body. A fresh parser is told the framing again in a head of our
        own, then reads the body and whatever follows. Returns what stands behind the next such head, else None.
        """
        self._upgrading = False
        framing = b"content-length: " + (self._headers.get(b"content-length") or b"0")
        if self._headers.get(b"transfer-encoding") is not None:
            framing = b"transfer-encoding: chunked"
        self._parser = httptools.HttpRequestParser(_BehindUpgrade(self))
        self._parser.feed_data(b"POST / HTTP/1.1\r\n" + framing + b"\r\n\r\n")
        try:
            self._parser.feed_data(rest)
        except httptools.HttpParserUpgrade as stop:
            return rest[stop.args[0] :]
        return None

    def on_message_begin(self) -> None:
        self._partial = True
        self._begun = True
        self._in_body = False
        self._raw_bytes = 0
        self._head_bytes = 0
        self._url = b""
        self._headers = http.Headers()

    def on_url(self, url: bytes) -> None:
        self._url += url
        if len(self._url) > self._shared.limits.header_bytes:
            text = f"the request line has more than {self._shared.limits.header_bytes} bytes"
            raise http.Refusal(414, "target-too-long", text, "Put data into the body.")

    def on_header(self, name: bytes, value: bytes) -> None:
        self._head_bytes += len(name) + len(value) + 4
        if self._head_bytes + len(self._url) > self._shared.limits.header_bytes:
            raise http.headers_too_large(self._shared.limits)
        if not self._in_body:  # else a trailer: read, bounded, thrown away
            self._headers.append((name.lower(), value.strip()))

    def on_headers_complete(self) -> None:
        parser = self._parser
        self._in_body = True
        self._keep = parser.should_keep_alive()
        method = http.METHODS.get(parser.get_method())
        if method is None:
            raise http.method_refusal()
        self._method = method
        seen = http.examine(self._headers, self._shared.limits)
        # a connection that stays open without being asked to is HTTP/1.1
        self._version = "1.1" if self._keep and not seen & http.CONNECTION else parser.get_http_version()
        if self._version != "1.1":
            self._examine_old(seen)
        elif not seen & http.HOST:
            raise http.malformed("the header host is missing, HTTP/1.1 requires it")
        if seen & http.UPGRADE:
            self._upgrading = parser.should_upgrade()
        if seen & http.EXPECT and seen & http.FRAMING:
            self._expects_continue()

    def _examine_old(self, seen: int) -> None:
        if self._version != "1.0":
            raise http.version_refusal(self._version)
        if seen & http.TRANSFER_ENCODING:
            raise http.malformed("transfer-encoding is there in HTTP/1.0, which has none")

    def _expects_continue(self) -> None:
        if self._version != "1.1":
            return
        if self._task is None:
            self._transport.write(_CONTINUE)
        else:
            self._continue = True

    def on_body(self, body: bytes) -> None:
        shared = self._shared
        self._parts.append(body)
        self._size += len(body)
        shared.buffered_bytes += len(body)
        if self._size > shared.limits.body_bytes:
            raise http.body_too_large("the chunked body is larger than allowed", shared.limits)
        if shared.buffered_bytes > shared.limits.buffered_bytes:
            text = f"the server is receiving {shared.limits.buffered_bytes} bytes of bodies, which is its limit"
            raise http.Refusal(503, "overloaded", text, "Come back later.", retry_after_s=1)

    def on_message_complete(self) -> None:
        if self._upgrading:
            return
        shared = self._shared
        parts = self._parts
        if parts:
            body = parts[0] if len(parts) == 1 else b"".join(parts)
            self._forget_body()
        else:
            body = b""
        path, query = http.target(self._url)
        self._partial = False
        self._continue = False
        keep = self._keep
        if not keep:
            self._deaf = True
        request = http.Request(
            self._method, path, query, self._headers, body, self._client, shared.clock(), keep, self._version
        )
        if self._task is None:
            self._run(request)
        else:
            self._wait_in_line(request)

    def _wait_in_line(self, request: http.Request) -> None:
        self._queue.append(request)
        full = len(self._queue) >= self._shared.limits.pipelined or len(request.body) > SLICE_BYTES
        if full and not self._paused:
            self._paused = True
            self._transport.pause_reading()

    # ---- answering

    def _run(self, request: http.Request) -> None:
        self._state = RUNNING
        self._due = _NEVER
        self._task = self._shared.loop.create_task(self._serve(request))

    async def _serve(self, request: http.Request) -> None:
        shared = self._shared
        response: http.Response | None = None
        keep = request.keep_alive
        try:
            response = await shared.handler(request)
            keep = keep and not response.close and not (shared.draining and not self._queue)
            if response.body.__class__ is bytes:
                self._send(request, response, keep)
            else:
                keep = await self._stream(request, response, keep)
        except asyncio.CancelledError:
            if self._state == CLOSED:
                raise
            keep = False
            self._send(request, shared.refused(http.shutting_down()), keep)
        except Exception:  # the border between the transport and everything above it
            log.exception("handler failed: %s %s", request.method, request.path)
            keep = keep and not shared.draining
            self._send(request, shared.failed(), keep)
        finally:
            if response is not None and response.on_close is not None:
                shared.tell(response.on_close)
        self._answered(keep, request.keep_alive)

    def _send(self, request: http.Request, response: http.Response, keep: bool) -> None:
        """Write one whole answer."""
        if self._state == CLOSED:
            return
        body = cast("bytes", response.body)
        head = self._head(request, response, b"content-length: %d\r\n" % len(body), keep)
        if not body or request.method == "HEAD" or response.status in _BODILESS:
            self._transport.write(head)
        elif len(body) > LARGE_BYTES:
            self._transport.writelines((head, body))
        else:
            self._transport.write(head + body)

    def _head(self, request: http.Request, response: http.Response, framing: bytes, keep: bool) -> bytes:
        status = response.status
        start = self._shared.heads.start(status, response.content_type)
        if response.headers:
            framing += http.header_lines(response.headers)
        if not keep:
            return b"%b%bconnection: close\r\n\r\n" % (start, b"" if status in _BODILESS else framing)
        if status in _BODILESS:
            framing = http.header_lines(response.headers)
        if request.version == "1.0":
            framing += b"connection: keep-alive\r\n"
        return b"%b%b\r\n" % (start, framing)

    async def _stream(self, request: http.Request, response: http.Response, keep: bool) -> bool:
        """Write an answer piece by piece; say whether the connection can go on."""
        source = cast("AsyncIterator[bytes]", response.body)
        chunked = request.version == "1.1"
        keep = keep and chunked
        head = self._head(request, response, b"transfer-encoding: chunked\r\n" if chunked else b"", keep)
        waiting = head  # goes out with the first piece: until then a failure can still be answered
        try:
            if request.method != "HEAD" and response.status not in _BODILESS:
                async for piece in source:
                    if piece:
                        self._transport.write(waiting + (b"%x\r\n%b\r\n" % (len(piece), piece) if chunked else piece))
                        waiting = b""
                        if self._writable is not None:
                            await self._writable
                waiting += b"0\r\n\r\n" if chunked else b""
            self._transport.write(waiting)
            return keep
        except (asyncio.CancelledError, Exception) as error:
            if waiting or self._state == CLOSED:
                raise
            self._shared.cut(request, error)
            if not chunked:
                self._transport.abort()  # a plain close would look like the end of the answer
            return False
        finally:
            await self._shared.finish(source)

    def _answered(self, keep: bool, client_keeps: bool) -> None:
        """An answer is out: go on with the next request, wait for one, or close."""
        self._task = None
        if self._state == CLOSED:
            return
        if not keep:
            self._deaf = True
            self._partial = False
            self._queue.clear()
            self._forget_body()
            if client_keeps:
                self._linger()
            else:
                self._due = _NEVER
                self._transport.close()
            return
        if self._queue:
            following = self._queue.popleft()
            if isinstance(following, http.Refusal):
                self._answer_refusal(following)
            else:
                self._run(following)
        else:
            self._rest()
        if self._paused and len(self._queue) <= self._shared.limits.pipelined // 2:
            self._resume()

    def _rest(self) -> None:
        """Nothing to answer: wait for the next request, or for the rest of one."""
        shared = self._shared
        if not self._partial:
            self._state = IDLE
            self._due = shared.now + shared.limits.idle_s
            return
        self._state = RECEIVING
        self._due = shared.clock() + shared.limits.receive_s
        if self._continue:
            self._continue = False
            self._transport.write(_CONTINUE)

    def _resume(self) -> None:
        self._paused = False
        if not self._transport.is_closing():
            self._transport.resume_reading()
        self._feed_slices()

    def _answer_refusal(self, refusal: http.Refusal) -> None:
        method = self._method if self._in_body else "GET"
        self._send(http.Request(method, "/"), self._shared.refused(refusal), keep=False)
        self._linger()

    def _linger(self) -> None:
        """Say that no more is coming, and read on for a while: closing with bytes unread would destroy the answer."""
        self._state = LINGERING
        self._deaf = True
        self._due = self._shared.clock() + self._shared.limits.linger_s
        self._unparsed = b""
        transport = self._transport
        if transport.is_closing():
            return
        if self._paused:
            self._paused = False
            transport.resume_reading()
        if transport.can_write_eof():
            transport.write_eof()
        else:
            transport.close()

    def _wake_writer(self) -> None:
        self._blocked = _NEVER
        if self._writable is not None and not self._writable.done():
            self._writable.set_result(None)
        self._writable = None


class _BehindUpgrade:
    """Parser callbacks that pass over the head `Connection._ignore_upgrade` made up."""

    __slots__ = ("_connection", "_passed", "on_body", "on_message_complete")

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._passed = False
        self.on_body = connection.on_body
        self.on_message_complete = connection.on_message_complete

    def on_message_begin(self) -> None:
        if not self._passed:
            return
        if self._connection.deaf:
            raise http.malformed("bytes behind a request that closes the connection")
        self._connection.on_message_begin()

    def on_url(self, url: bytes) -> None:
        if self._passed:
            self._connection.on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._passed:
            self._connection.on_header(name, value)

    def on_headers_complete(self) -> None:
        if self._passed:
            self._connection.on_headers_complete()
        self._passed = True
