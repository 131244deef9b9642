"""The control channel between the supervisor and the processes it starts, and what is said on it.

Frames over a socketpair: a length of four bytes (little-endian), then msgpack of
[kind, number, message]. Either side asks, either side answers, answers may come in any
order. Imports only the standard library and msgspec, because the supervisor stays small.

Invariants: nothing but the messages below is decoded; a frame beyond `FRAME_BYTES` closes
the channel; every request has a timeout; when the channel closes, all waiting requests
fail at once and `on_close` is called exactly once.
"""

import asyncio
import logging
import socket
import struct
from collections.abc import Awaitable, Callable
from typing import Any, cast

import msgspec
from msgspec import Struct

from turnout import telemetry
from turnout.errors import DeadlineError, DocumentError, OverloadError, SpecError, TurnoutError, UnavailableError

logger = logging.getLogger(__name__)

FRAME_BYTES = 64 * 2**20
"""Largest frame: a document directory or a metrics snapshot is far below it."""

WAITING = 1_024
"""Requests of one side that may wait for an answer, and of the other side that may be worked on."""

Files = dict[str, str]
"""File name as shown to people -> text."""


class Hello(Struct, tag=True, frozen=True, kw_only=True):
    """Child -> supervisor: the process runs and listens on this channel."""

    worker: str
    pid: int


class Ready(Struct, tag=True, frozen=True, kw_only=True):
    """Worker -> supervisor: the first assembly is in force and the socket is served."""

    worker: str


class Problem(Struct, frozen=True, kw_only=True):
    """One error of a document as it travels to the supervisor, `/status` and `--json`; see `errors.SpecError`."""

    message: str
    file: str = ""
    line: int = 0
    path: str = ""
    hint: str = ""

    def __str__(self) -> str:
        """One line: place, key path, what, remedy."""
        return str(SpecError(self.message, path=self.path, file=self.file, line=self.line, hint=self.hint))


def problems(*errors: TurnoutError) -> list[Problem]:
    """The errors as problems, in their order; a DocumentError gives one for each of its errors."""
    found = []
    for error in errors:
        if isinstance(error, DocumentError):
            found += problems(*error.errors)
        elif isinstance(error, SpecError):
            found.append(
                Problem(message=error.message, file=error.file, line=error.line, path=error.path, hint=error.hint)
            )
        else:
            found.append(Problem(message=error.message, hint=error.hint))
    return found


class Prepare(Struct, tag=True, frozen=True, kw_only=True):
    """Supervisor -> worker: validate these files, build and warm what is new, do not serve it yet."""

    generation: int
    files: Files


class Prepared(Struct, tag=True, frozen=True, kw_only=True):
    """The new assembly is warm and waits for `Commit`."""

    generation: int
    revision: str
    build: str
    built_s: float
    summary: dict[str, Any] = {}


class Refused(Struct, tag=True, frozen=True, kw_only=True):
    """The files are no valid document; nothing has changed. `revision` is "" unless the text itself was valid."""

    generation: int
    errors: list[Problem]
    revision: str = ""


class Arm(Struct, tag=True, frozen=True, kw_only=True):
    """Supervisor -> worker: the prepared assembly of that generation serves what is received at or after `at`.

    Said again with a later `at` before the first has come, that one counts. `at` is CLOCK_MONOTONIC, which all
    processes of a host share.
    """

    generation: int
    at: float


class Commit(Struct, tag=True, frozen=True, kw_only=True):
    """Supervisor -> worker: as `Arm`, and answer when it serves; `at` 0 means at once."""

    generation: int
    at: float = 0.0


class Committed(Struct, tag=True, frozen=True, kw_only=True):
    """The generation is in force.

    Attributes:
        at: Since when, epoch seconds.
        late_s: Seconds after the instant agreed upon at which this worker heard of it; 0 as it should be.
    """

    generation: int
    revision: str
    at: float
    late_s: float = 0.0


class Abort(Struct, tag=True, frozen=True, kw_only=True):
    """Supervisor -> worker: throw the prepared assembly of that generation away."""

    generation: int


class Status(Struct, tag=True, frozen=True):
    """Supervisor -> worker: your own status."""


class StatusReply(Struct, tag=True, frozen=True, kw_only=True):
    """JSON."""

    payload: bytes


class MetricsRequest(Struct, tag=True, frozen=True):
    """Supervisor -> worker: your own metrics."""


class MetricsReply(Struct, tag=True, frozen=True, kw_only=True):
    """Answers `MetricsRequest` (one process) and `Metrics` (all of them, merged)."""

    families: list[telemetry.FamilySnapshot]


class Overview(Struct, tag=True, frozen=True):
    """Worker -> supervisor: the status of the whole tree."""


class OverviewReply(Struct, tag=True, frozen=True, kw_only=True):
    """JSON."""

    payload: bytes


class Metrics(Struct, tag=True, frozen=True):
    """Worker -> supervisor: the metrics of the whole tree."""


class Drain(Struct, tag=True, frozen=True, kw_only=True):
    """Supervisor -> child: accept nothing new, finish what runs, flush, then say `Drained`.

    Attributes:
        linger_s: How long idle connections are kept.
        notice_s: How long to go on serving before, not ready any more, so that load balancers look elsewhere.
    """

    linger_s: float
    notice_s: float = 0.0


class Drained(Struct, tag=True, frozen=True, kw_only=True):
    """The process has nothing left to do and exits; `families` are its last counts."""

    families: list[telemetry.FamilySnapshot] = []


class OverlayText(Struct, tag=True, frozen=True, kw_only=True):
    """Control plane -> supervisor: the overlay of that number is the newest one; `stores.control.Overlay`."""

    number: int
    content: str
    author: str = ""
    reason: str = ""
    at: float = 0.0


class OverlayReply(Struct, tag=True, frozen=True, kw_only=True):
    """What became of it.

    Attributes:
        errors: Why it is refused; empty when it is in force.
        lost: A worker went away meanwhile, which need not be the overlay's fault: say it again.
        document: Digest of the document it was laid over; another one may take what this one refused.
    """

    number: int
    errors: list[Problem] = []
    lost: bool = False
    document: str = ""


class Presence(Struct, tag=True, frozen=True):
    """Control plane -> supervisor: what shall be announced of this server?"""


class PresenceReply(Struct, tag=True, frozen=True, kw_only=True):
    """JSON of a `stores.control.Replica`."""

    payload: bytes


class Chapters(Struct, tag=True, frozen=True, kw_only=True):
    """Control plane -> supervisor: revisions that came into force after the one of this server's number `after`."""

    after: int


class ChaptersReply(Struct, tag=True, frozen=True, kw_only=True):
    """JSON of pairs of this server's number and a `stores.control.RevisionRecord`, ascending."""

    payload: bytes


class Changed(Struct, tag=True, frozen=True):
    """Supervisor -> control plane: something worth announcing has changed."""


class FleetView(Struct, tag=True, frozen=True, kw_only=True):
    """Control plane -> supervisor: JSON of `supervisor.convergence.View`."""

    payload: bytes


class Done(Struct, tag=True, frozen=True):
    """The answer to a request that has nothing to say but that it was heard."""


class Failed(Struct, tag=True, frozen=True, kw_only=True):
    """The other side could not answer; `error` says why."""

    error: str


Message = (
    Hello | Ready | Prepare | Prepared | Refused | Arm | Commit | Committed | Abort | Status | StatusReply
    | MetricsRequest | MetricsReply | Overview | OverviewReply | Metrics | Drain | Drained | OverlayText | OverlayReply
    | Presence | PresenceReply | Chapters | ChaptersReply | Changed | FleetView | Done | Failed
)  # fmt: skip

Receive = Callable[[Message], Awaitable[Message | None]]

_LENGTH = struct.Struct("<I")
_NOTE, _REQUEST, _REPLY = 0, 1, 2
_encoder = msgspec.msgpack.Encoder()
_decoder: msgspec.msgpack.Decoder[tuple[int, int, Message]] = msgspec.msgpack.Decoder(tuple[int, int, Message])


class Channel(asyncio.Protocol):
    """One end of a control channel. Open it with `connect`.

    Attributes:
        open: False once either side closed it.
    """

    def __init__(self, on_message: Receive, on_close: Callable[[], None] | None = None) -> None:
        """Prepare an end; `connect` makes it live.

        Args:
            on_message: Called for every note and request of the other side, each in a task of its own; what it
                returns answers a request (None answers `Done`).
            on_close: Called once when the channel has closed, whoever closed it.
        """
        self._on_message = on_message
        self._on_close = on_close
        self._transport: asyncio.WriteTransport | None = None
        self._received = bytearray()
        self._waiting: dict[int, asyncio.Future[Message]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._number = 0
        self._closed = asyncio.Event()

    @property
    def open(self) -> bool:
        return self._transport is not None and not self._transport.is_closing()

    async def request(self, message: Message, timeout_s: float) -> Message:
        """Ask the other side and wait for its answer.

        Raises:
            DeadlineError: No answer within `timeout_s`; a late one is dropped.
            UnavailableError: The channel is or was closed, or the other side failed to answer.
            OverloadError: Too many requests wait already.
        """
        name = type(message).__name__
        if len(self._waiting) >= WAITING:
            raise OverloadError(f"control channel: {WAITING} requests wait already, '{name}' was not sent")
        self._number += 1
        number = self._number
        future: asyncio.Future[Message] = asyncio.get_running_loop().create_future()
        self._waiting[number] = future
        try:
            self._write(_REQUEST, number, message)
            async with asyncio.timeout(timeout_s):
                reply = await future
        except TimeoutError:
            text = f"control channel: no answer to '{name}' within {timeout_s} s"
            raise DeadlineError(text, stage="control") from None
        finally:
            self._waiting.pop(number, None)
        if isinstance(reply, Failed):
            raise UnavailableError(f"control channel: the other side failed to answer '{name}': {reply.error}")
        return reply

    def send(self, message: Message) -> None:
        """Tell the other side without waiting for an answer.

        Raises:
            UnavailableError: The channel is closed.
        """
        self._write(_NOTE, 0, message)

    def close(self) -> None:
        """Send what is written, then close; waiting requests fail."""
        if self._transport is not None:
            self._transport.close()

    async def wait_closed(self) -> None:
        """Wait until either side closed the channel."""
        await self._closed.wait()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.WriteTransport, transport)  # uvloop's transports do not inherit from asyncio's

    def connection_lost(self, exc: Exception | None) -> None:
        for future in self._waiting.values():
            if not future.done():
                future.set_exception(UnavailableError("control channel: the other side closed it"))
        for task in self._tasks:
            task.cancel()
        self._closed.set()
        if self._on_close is not None:
            self._on_close()

    def data_received(self, data: bytes) -> None:
        received = self._received
        received += data
        start = 0
        while len(received) - start >= _LENGTH.size:
            (length,) = _LENGTH.unpack_from(received, start)
            if length > FRAME_BYTES:
                logger.error("control channel: a frame of %d bytes, the limit is %d; closing", length, FRAME_BYTES)
                self._abort()
                return
            end = start + _LENGTH.size + length
            if len(received) < end:
                break
            frame = bytes(received[start + _LENGTH.size : end])
            start = end
            if not self._accept(frame):
                return
        del received[:start]

    def _accept(self, frame: bytes) -> bool:
        try:
            kind, number, message = _decoder.decode(frame)
        except msgspec.MsgspecError as error:
            logger.error("control channel: a frame that is no known message (%s); closing", error)
            self._abort()
            return False
        if kind == _REPLY:
            future = self._waiting.get(number)
            if future is not None and not future.done():
                future.set_result(message)
        elif len(self._tasks) >= WAITING:
            self._reply(kind, number, Failed(error=f"{WAITING} messages are being worked on already"))
        else:
            task = asyncio.get_running_loop().create_task(self._work(kind, number, message))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        return True

    async def _work(self, kind: int, number: int, message: Message) -> None:
        try:
            reply = await self._on_message(message) or Done()
        except Exception as error:  # a border: the other side is told, the process lives on
            logger.exception("control channel: '%s' failed", type(message).__name__)
            reply = Failed(error=f"{type(error).__name__}: {error}")
        self._reply(kind, number, reply)

    def _reply(self, kind: int, number: int, message: Message) -> None:
        if kind == _REQUEST and self.open:
            self._write(_REPLY, number, message)

    def _write(self, kind: int, number: int, message: Message) -> None:
        if self._transport is None or self._transport.is_closing():
            raise UnavailableError(f"control channel: closed, '{type(message).__name__}' was not sent")
        frame = _encoder.encode((kind, number, message))
        if len(frame) > FRAME_BYTES:
            name = type(message).__name__
            raise OverloadError(f"control channel: '{name}' has {len(frame)} bytes, the limit is {FRAME_BYTES}")
        if self._transport.get_write_buffer_size() > FRAME_BYTES:
            raise OverloadError("control channel: the other side does not read, nothing more is sent")
        self._transport.write(_LENGTH.pack(len(frame)) + frame)

    def _abort(self) -> None:
        if self._transport is not None:
            self._transport.abort()


async def connect(sock: socket.socket, on_message: Receive, on_close: Callable[[], None] | None = None) -> Channel:
    """Make one end of a socketpair a live channel; the socket belongs to the channel from now on."""
    sock.setblocking(False)
    loop = asyncio.get_running_loop()
    channel = Channel(on_message, on_close)
    if sock.family == getattr(socket, "AF_UNIX", None):
        await loop.create_unix_connection(lambda: channel, sock=sock)
    else:
        await loop.create_connection(lambda: channel, sock=sock)
    return channel


class WorkerSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the supervisor tells a worker at its start, as JSON in its first argument.

    Attributes:
        worker: Name of this process, such as "w0.3"; never used twice by one supervisor.
        slot: Number of the worker slot, from 0; a successor takes over the slot and its socket.
        listen_fd: Listening socket of the slot, bound; the worker calls listen. Inherited.
        control_fd: The worker's end of the control channel. Inherited.
        directory: Where relative paths in the document start and user code is imported from.
        state: State folder: event segments go to `segments/` in it.
        stage: The stage to lay over the document, whose text comes with `Prepare`; "" for none.
        linger_s: How long idle connections are kept when the channel is gone; with `Drain` as that says.
        drain_s: Longest time for requests in flight to finish after `Drain`, or after the channel is gone.
        segment_bytes: Disk this worker may fill with segments that wait for the store.
        secrets: Folder whose files `secret:NAME` reads; "" for none.
        explain: Whether callers may ask for the trace with `?explain`.
    """

    worker: str
    slot: int
    listen_fd: int
    control_fd: int
    directory: str
    state: str
    stage: str = ""
    linger_s: float = 0.5
    drain_s: float = 30.0
    body_bytes: int = 16 * 2**20
    header_bytes: int = 32_768
    connections: int = 4096
    idle_s: float = 75.0
    segment_bytes: int = 512 * 2**20
    secrets: str = ""
    explain: bool = False
