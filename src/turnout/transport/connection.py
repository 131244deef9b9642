"""One client's connection to the server: requests to the handler, answers out in order.

`server.Server` makes one per accepted socket and sweeps over them for whatever takes too
long; no request starts a timer. Parsing stands in `intake`.

Invariants: at most one handler task runs per connection, pipelined requests wait in a
bounded queue and are answered in the order they came; when the client leaves, its handler
task is cancelled; an answer that breaks off never looks complete.
"""

import asyncio
import collections
import math
import time
from collections.abc import AsyncIterator
from typing import Final, cast

from turnout.transport import borders, http, intake

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
        border: borders.Border,
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        self.handler = handler
        self.limits = limits
        self.border = border
        self.loop = loop
        self.clock = time.monotonic
        self.now = self.clock()
        self.heads = http.Heads()
        self.heads.refresh(time.time())
        self.connections: set[Connection] = set()
        self.orphans: set[asyncio.Task[None]] = set()
        self.draining = False
        self.buffered_bytes = 0


class Connection(asyncio.Protocol):
    """The protocol of one accepted socket. See the module for its invariants."""

    __slots__ = (
        "_blocked", "_due", "_expecting", "_intake", "_paused", "_queue", "_shared", "_state", "_task", "_transport",
        "_unparsed", "_unsent", "_writable",
    )  # fmt: skip

    def __init__(self, shared: Shared) -> None:
        self._shared = shared
        self._intake = intake.Intake(self, shared.limits, shared)
        self._transport: asyncio.Transport = cast("asyncio.Transport", None)  # until connection_made
        self._state = NEW
        self._due = shared.clock() + shared.limits.first_byte_s
        self._queue: collections.deque[http.Request | http.Refusal] = collections.deque()
        self._task: asyncio.Task[None] | None = None
        self._expecting = False
        self._paused = False
        self._unparsed = b""
        self._writable: asyncio.Future[None] | None = None
        self._blocked = _NEVER
        self._unsent = 0

    # ---- what the event loop calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        peer = transport.get_extra_info("peername")
        if isinstance(peer, tuple) and len(peer) >= 2:
            self._intake.client = f"{peer[0]}:{peer[1]}"
        shared = self._shared
        limit = shared.limits.connections
        shared.connections.add(self)
        if len(shared.connections) > limit + limit // 4 + 1:
            self._transport.abort()
        elif len(shared.connections) > limit:
            text = f"the server has {limit} connections open, which is its limit"
            hint = "Keep connections alive and use fewer of them, or come back later."
            self._answer_refusal(http.Refusal(503, "overloaded", text, hint, retry_after_s=1))

    def connection_lost(self, exc: Exception | None) -> None:
        shared = self._shared
        self._state = CLOSED
        self._intake.close()
        self._queue.clear()
        self._unparsed = b""
        shared.connections.discard(self)
        task = self._task
        if task is not None:
            task.cancel()
            shared.orphans.add(task)
            task.add_done_callback(shared.orphans.discard)
        self._wake_writer()

    def data_received(self, data: bytes) -> None:
        if self._intake.deaf:
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
            self._intake.close()
            self._answer_refusal(http.too_slow(self._shared.limits))
        elif self._state == LINGERING:
            self._transport.abort()
        else:
            self._due = _NEVER
            self._transport.close()

    # ---- what the server calls

    @property
    def running(self) -> bool:
        """Whether a handler works for this connection or requests wait for it."""
        return self._task is not None or bool(self._queue)

    @property
    def busy(self) -> bool:
        """Whether a request is being received or answered."""
        return self.running or self._intake.partial

    def close_idle(self) -> None:
        """Close unless a request is being received or answered, or the client still reads its last answer."""
        if self._state <= IDLE and not self.busy:
            self._transport.close()

    def cancel(self) -> None:
        """Stop the handler; the client is told 503."""
        if self._task is not None:
            self._task.cancel()

    def abort(self) -> None:
        self._transport.abort()

    # ---- what the intake tells

    def take(self, request: http.Request) -> None:
        self._expecting = False
        if self._task is None:
            self._run(request)
            return
        self._queue.append(request)
        full = len(self._queue) >= self._shared.limits.pipelined or len(request.body) > SLICE_BYTES
        if full and not self._paused:
            self._paused = True
            self._transport.pause_reading()

    def take_refusal(self, refusal: http.Refusal) -> None:
        if self._task is None:
            self._answer_refusal(refusal)
        else:
            self._queue.append(refusal)

    def take_expectation(self) -> None:
        if self._task is None:
            self._transport.write(_CONTINUE)
        else:
            self._expecting = True

    def _feed(self, data: bytes) -> None:
        self._intake.feed(data)
        if self._state <= IDLE and self._intake.partial:
            self._state = RECEIVING
            self._due = self._shared.clock() + self._shared.limits.receive_s

    def _feed_slices(self) -> None:
        data = self._unparsed
        at = 0
        while at < len(data) and not self._paused and not self._intake.deaf:
            self._feed(data[at : at + SLICE_BYTES])
            at += SLICE_BYTES
        self._unparsed = b"" if self._intake.deaf else data[at:]

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
            self._send(request, shared.border.refused(http.shutting_down()), keep)
        except (Exception, GeneratorExit) as error:  # noqa: BLE001  # the border to everything above; counted and logged
            keep = keep and not shared.draining
            self._send(request, shared.border.failed(request, error), keep)
        finally:
            if response is not None and response.on_close is not None:
                shared.border.tell(response.on_close)
        self._answered(keep, request.keep_alive)

    def _send(self, request: http.Request, response: http.Response, keep: bool) -> None:
        """Write one whole answer."""
        if self._state == CLOSED:
            return
        body = cast("bytes", response.body)
        head = self._head(request, response, b"content-length: %d\r\n" % len(body), keep)
        if not body or request.method == "HEAD" or response.status in http.BODILESS:
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
            return b"%b%bconnection: close\r\n\r\n" % (start, b"" if status in http.BODILESS else framing)
        if status in http.BODILESS:
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
            if request.method != "HEAD" and response.status not in http.BODILESS:
                async for piece in source:
                    if piece:
                        self._transport.write(waiting + (b"%x\r\n%b\r\n" % (len(piece), piece) if chunked else piece))
                        waiting = b""
                        if self._writable is not None:
                            await self._writable
                        else:  # a source that never waits would leave no turn to deadlines, other clients and goodbyes
                            await asyncio.sleep(0)
                waiting += b"0\r\n\r\n" if chunked else b""
            self._transport.write(waiting)
            return keep
        except (asyncio.CancelledError, Exception) as error:
            if waiting or self._state == CLOSED:
                raise
            self._shared.border.cut(request, error)
            if not chunked:
                self._transport.abort()  # a plain close would look like the end of the answer
            return False
        finally:
            await self._shared.border.finish(source)

    def _answered(self, keep: bool, client_keeps: bool) -> None:
        """An answer is out: go on with the next request, wait for one, or close."""
        self._task = None
        if self._state == CLOSED:
            return
        if not keep:
            self._intake.close()
            self._queue.clear()
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
        if not self._intake.partial:
            self._state = IDLE
            self._due = shared.now + shared.limits.idle_s
            return
        self._state = RECEIVING
        self._due = shared.clock() + shared.limits.receive_s
        if self._expecting:
            self._expecting = False
            self._transport.write(_CONTINUE)

    def _resume(self) -> None:
        self._paused = False
        if not self._transport.is_closing():
            self._transport.resume_reading()
        self._feed_slices()

    def _answer_refusal(self, refusal: http.Refusal) -> None:
        self._send(http.Request(self._intake.method, "/"), self._shared.border.refused(refusal), keep=False)
        self._linger()

    def _linger(self) -> None:
        """Say that no more is coming, and read on for a while: closing with bytes unread would destroy the answer."""
        self._state = LINGERING
        self._intake.close()
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
