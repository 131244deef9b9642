"""However the network cuts a byte stream, the answers are the same."""

import asyncio
import itertools
import re
from collections.abc import Callable
from typing import Any, cast

from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from turnout import telemetry
from turnout.transport import borders, connection, http

Run = Callable[[Any], None]


class Recorder(asyncio.Transport):
    """A transport that keeps what is written."""

    def __init__(self) -> None:
        super().__init__()
        self.written = bytearray()
        self.closed = False
        self.paused = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        assert not self.closed
        self.written += data

    def get_write_buffer_size(self) -> int:
        return 0

    def pause_reading(self) -> None:
        self.paused = True

    def resume_reading(self) -> None:
        self.paused = False

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        self.closed = True

    def close(self) -> None:
        self.closed = True

    def is_closing(self) -> bool:
        return self.closed


def plain(path: str) -> bytes:
    return f"GET {path} HTTP/1.1\r\nHost: a\r\nX-Some: {path * 3}\r\n\r\n".encode()


def sized(body: bytes) -> bytes:
    return b"POST /p HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)


def chunked(pieces: list[bytes]) -> bytes:
    body = b"".join(b"%x;e=1\r\n%b\r\n" % (len(piece), piece) for piece in pieces if piece)
    return b"POST /c HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n" + body + b"0\r\nT: 1\r\n\r\n"


def upgrading(body: bytes) -> bytes:
    head = b"POST /u HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: h2c\r\nContent-Length: %d\r\n\r\n"
    return head % len(body) + body


BODIES = st.binary(max_size=60)
GOOD = st.one_of(
    st.sampled_from(["/", "/abc", "/x/y?z=1"]).map(plain),
    BODIES.map(sized),
    st.lists(BODIES, max_size=4).map(chunked),
    BODIES.map(upgrading),
    st.just(b"HEAD /h HTTP/1.1\r\nHost: a\r\n\r\n"),
    st.just(b"\r\n"),
)
LAST = st.sampled_from(
    [
        b"",
        b"GET /close HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\nGET /never HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET /old HTTP/1.0\r\n\r\n",
        b"GET / HTTP/1.1\r\n\r\nGET /never HTTP/1.1\r\nHost: a\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n",
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999999\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nX : y\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nbig: " + b"v" * 1_500 + b"\r\n\r\n",
        b"nonsense\r\n\r\n",
    ]
)


async def answers(pieces: list[bytes], turns: int) -> tuple[bytes, bool, list[tuple[str, str, str, bytes]]]:
    """Feed the pieces as reads of one connection, letting the loop turn in between."""
    seen = []

    async def handler(request: http.Request) -> http.Response:
        seen.append((request.method, request.path, request.query, request.body))
        if request.path == "/abc":
            await asyncio.sleep(0)
        return http.Response(200, request.path.encode() + b" " + request.body)

    shared = connection.Shared(
        handler,
        limits=http.Limits(header_bytes=1_000, pipelined=3),
        border=borders.Border(telemetry.Registry()),
        loop=asyncio.get_running_loop(),
    )
    one = connection.Connection(shared)
    wire = Recorder()
    one.connection_made(wire)
    for piece in pieces:
        one.data_received(piece)
        for _ in range(turns):
            await asyncio.sleep(0)
    for _ in range(400):
        await asyncio.sleep(0)
    assert not one.running
    assert not wire.paused
    assert shared.buffered_bytes == 0 or one.busy
    one.connection_lost(None)
    assert shared.buffered_bytes == 0
    return re.sub(rb"date: [^\r]+\r\n", b"", bytes(wire.written)), wire.closed, cast("Any", seen)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@example(requests=[upgrading(b"")], last=b"GET / HTTP/1.1\r\n\r\n", cuts=[], turns=0)
@given(requests=st.lists(GOOD, max_size=8), last=LAST, cuts=st.lists(st.integers(0, 3_000)), turns=st.integers(0, 3))
def test_any_split_of_a_byte_stream_gives_the_same_answers(
    run: Run, requests: list[bytes], last: bytes, cuts: list[int], turns: int
) -> None:
    stream = b"".join(requests) + last

    async def compare() -> None:
        whole = await answers([stream], 0)
        places = [0, *sorted({cut for cut in cuts if 0 < cut < len(stream)}), len(stream)]
        split = [stream[a:b] for a, b in itertools.pairwise(places)]
        assert await answers(split, turns) == whole
        assert await answers([stream[at : at + 1] for at in range(len(stream))], turns) == whole

    run(compare())


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(noise=st.lists(st.one_of(st.binary(max_size=80), GOOD, LAST), max_size=6))
def test_no_bytes_break_a_connection(run: Run, noise: list[bytes]) -> None:
    async def feed() -> None:
        await answers(noise, 1)

    run(feed())
