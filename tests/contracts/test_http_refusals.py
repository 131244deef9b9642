"""What every HTTP front refuses: malformed, truncated, oversized requests and shapes made for smuggling.

Under uvicorn the ASGI application never sees what uvicorn refuses itself, in words of its own;
there only the outcome is asserted: refused, and nothing behind it reached the handler.
"""

import asyncio
import json

import pytest
from tests.contracts import http_fronts
from tests.contracts.http_fronts import Front, Wire, get, post

from turnout.transport import http

CHUNKED = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
SMUGGLED = b"GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n"

# name -> (bytes, status of our server)
MALFORMED: dict[str, tuple[bytes, int]] = {
    "garbage": (b"\x00\x01\x02\x03 garbage\r\n\r\n", 400),
    "tls hello": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"x" * 64, 400),
    "http/2 preface": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400),
    "http/0.9": (b"GET /\r\n\r\n", 505),
    "http/2.0": (b"GET / HTTP/2.0\r\nHost: a\r\n\r\n", 505),
    "http/1.2": (b"GET / HTTP/1.2\r\nHost: a\r\n\r\n", 400),
    "http/3.7": (b"GET / HTTP/3.7\r\nHost: a\r\n\r\n", 400),
    "no host": (b"GET / HTTP/1.1\r\n\r\n", 400),
    "two hosts": (b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400),
    "empty host": (b"GET / HTTP/1.1\r\nHost:\r\n\r\n", 400),
    "host with a path": (b"GET / HTTP/1.1\r\nHost: a/b\r\n\r\n", 400),
    "host list": (b"GET / HTTP/1.1\r\nHost: a, b\r\n\r\n", 400),
    "unknown method": (b"BREW / HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    "trace": (b"TRACE / HTTP/1.1\r\nHost: a\r\n\r\n", 501),
    "connect": (b"CONNECT a:1 HTTP/1.1\r\nHost: a\r\n\r\n", 501),
    "lower-case method": (b"get / HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    "nul in path": (b"GET /\x00 HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    "raw utf-8 in path": ("GET /é HTTP/1.1\r\nHost: a\r\n\r\n".encode(), 400),
    "fragment": (b"GET /#x HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    "escapes that are no utf-8": (b"GET /%ff%fe HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    "space in path": (b"GET /a b HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    "bare lf": (b"GET / HTTP/1.1\nHost: a\n\n", 400),
    "bare lf in a header": (b"GET / HTTP/1.1\r\nHost: a\r\nX: b\nY: c\r\n\r\n", 400),
    "bare cr in a header": (b"GET / HTTP/1.1\r\nHost: a\r\nX: b\rY: c\r\n\r\n", 400),
    "nul in a header": (b"GET / HTTP/1.1\r\nHost: a\r\nX: b\x00c\r\n\r\n", 400),
    "obs-fold": (b"GET / HTTP/1.1\r\nHost: a\r\nX: b\r\n c\r\n\r\n", 400),
    "blank before the first header": (b"GET / HTTP/1.1\r\n Host: a\r\n\r\n", 400),
    "space before colon": (b"GET / HTTP/1.1\r\nHost: a\r\nX : b\r\n\r\n", 400),
    "no colon": (b"GET / HTTP/1.1\r\nHost: a\r\nX\r\n\r\n", 400),
    "empty name": (b"GET / HTTP/1.1\r\nHost: a\r\n: b\r\n\r\n", 400),
    "name with utf-8": ("GET / HTTP/1.1\r\nHost: a\r\né: b\r\n\r\n".encode(), 400),
    "unknown expectation": (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nExpect: tea\r\n\r\nx", 417),
}

SMUGGLING: dict[str, tuple[bytes, int]] = {
    "length and chunked": (
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 6\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        400,
    ),
    "chunked and length": (
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nContent-Length: 6\r\n\r\n0\r\n\r\n",
        400,
    ),
    "two lengths that differ": (post(b"abc", "Content-Length: 4"), 400),
    "two lengths alike": (post(b"abc", "Content-Length: 3"), 400),
    "length list": (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3, 3\r\n\r\nabc", 400),
    "negative length": (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: -3\r\n\r\nabc", 400),
    "signed length": (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: +3\r\n\r\nabc", 400),
    "hexadecimal length": (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0x3\r\n\r\nabc", 400),
    "length with an underscore": (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1_0\r\n\r\nabc", 400),
    "empty length": (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length:\r\n\r\nabc", 400),
    "length beyond 64 bits": (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 18446744073709551617\r\n\r\nabc", 400),
    "chunked twice": (
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        400,
    ),
    "gzip, chunked": (b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", 501),
    "chunked, identity": (b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n", 400),
    "identity": (b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n", 501),
    "xchunked": (b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n", 501),
    "chunked behind a vertical tab": (
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n",
        400,
    ),
    "space before the colon of chunked": (
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding : chunked\r\n\r\n0\r\n\r\n",
        400,
    ),
    "chunked in http/1.0": (b"POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
    "chunk size with 0x": (CHUNKED + b"0x3\r\nabc\r\n0\r\n\r\n", 400),
    "negative chunk size": (CHUNKED + b"-3\r\nabc\r\n0\r\n\r\n", 400),
    "empty chunk size": (CHUNKED + b"\r\nabc\r\n0\r\n\r\n", 400),
    "chunk size beyond 64 bits": (CHUNKED + b"10000000000000003\r\nabc\r\n0\r\n\r\n", 400),
    "bare lf behind a chunk size": (CHUNKED + b"3\nabc\r\n0\r\n\r\n", 400),
    "bare lf in a chunk extension": (CHUNKED + b"3;a\nb\r\nabc\r\n0\r\n\r\n", 400),
    "chunk longer than its size": (CHUNKED + b"3\r\nabcd\r\n0\r\n\r\n", 400),
    "space behind a chunk size": (CHUNKED + b"3 \r\nabc\r\n0\r\n\r\n", 400),
    "length in the trailers": (CHUNKED + b"0\r\nContent-Length: 40\r\n\r\n", 400),
}

LET_THROUGH = {
    "asgi-uvicorn-h11": {
        "bare lf", "bare lf in a header", "obs-fold", "two lengths alike", "length list", "chunk size beyond 64 bits",
        "space behind a chunk size", "length in the trailers",
    },
    "asgi-uvicorn-httptools": {"fragment"},
}  # fmt: skip
"""What that server accepts or repairs in its own way before our code sees it."""


def refused(front: Front, name: str, raw: bytes, status: int) -> None:
    if name in LET_THROUGH.get(front.name, ()):
        pytest.skip(f"{front.name} accepts or repairs this before the application sees it")
    reached: list[str] = []

    async def handler(request: http.Request) -> http.Response:
        reached.append(request.path)
        return http.Response(200, b"ok")

    async def case(port: int) -> None:
        async with Wire(port) as wire:
            await wire.send(get("/before") + raw + SMUGGLED)
            before = await wire.answer()
            if front.ours or before.status == 200:
                assert before.body == b"ok"
                answer = await wire.answer()
            else:  # uvicorn refuses the bad request before it has answered the good one
                answer = before
            assert answer.get(b"connection") == b"close"
            assert await wire.rest() == b""
            if front.ours:
                assert answer.status == status
                problem = json.loads(answer.body)
                assert problem["status"] == status
                assert problem["code"]
                assert problem["detail"]
            else:
                assert answer.status in (400, 408, 413, 417, 431, 501, 505)

    front.run(handler, case)
    assert set(reached) <= {"/before"}


@pytest.mark.parametrize("name", MALFORMED)
def test_a_malformed_request_is_refused(front: Front, name: str) -> None:
    refused(front, name, *MALFORMED[name])


@pytest.mark.parametrize("name", SMUGGLING)
def test_a_smuggling_shape_is_refused_and_nothing_behind_it_runs(front: Front, name: str) -> None:
    refused(front, name, *SMUGGLING[name])


def never(request: http.Request) -> http.Response:
    raise AssertionError(f"the handler saw {request}")


async def handler_never(request: http.Request) -> http.Response:
    return never(request)


def test_a_declared_body_beyond_the_limit_is_refused_before_it_is_read(front: Front) -> None:
    async def case(port: int) -> None:
        async with Wire(port) as wire:
            await wire.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100000000\r\n\r\n")
            answer = await wire.answer()
            assert answer.status == 413
            problem = json.loads(answer.body)
            assert problem["code"] == "body-too-large"
            assert "100000000" in problem["detail"]
            assert "1000 bytes" in problem["detail"]

    front.run(handler_never, case, limits=http.Limits(body_bytes=1000))


def test_a_client_that_asks_first_is_refused_without_being_told_to_continue(front: Front) -> None:
    async def case(port: int) -> None:
        async with Wire(port) as wire:
            await wire.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100000000\r\nExpect: 100-continue\r\n\r\n")
            status, _ = await wire.head()
            assert status == 413

    front.run(handler_never, case, limits=http.Limits(body_bytes=1000))


def test_a_client_that_sends_100_megabytes_still_reads_its_refusal(own_front: Front) -> None:
    async def case(port: int) -> None:
        async with Wire(port) as wire:
            size = 100 * 2**20
            await wire.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % size)
            await wire.send(*[bytes(2**20)] * 100)
            assert (await wire.answer()).status == 413

    own_front.run(handler_never, case)


def test_a_chunked_body_beyond_the_limit_is_refused(front: Front) -> None:
    async def case(port: int) -> None:
        async with Wire(port) as wire:
            await wire.send(CHUNKED, *[b"190\r\n" + bytes(400) + b"\r\n"] * 3)
            answer = await wire.answer()
            assert answer.status == 413
            assert json.loads(answer.body)["code"] == "body-too-large"

    front.run(handler_never, case, limits=http.Limits(body_bytes=1000))


def test_chunk_framing_beyond_the_body_is_refused(own_front: Front) -> None:
    async def case(port: int) -> None:
        async with Wire(port) as wire:
            await wire.send(CHUNKED)
            for _ in range(100):
                await wire.send(b"1;" + b"x" * 1_000 + b"\r\na\r\n")
                await asyncio.sleep(0)
            assert (await wire.answer()).status == 413

    own_front.run(handler_never, case, limits=http.Limits(body_bytes=10_000, header_bytes=2_000))


def test_headers_beyond_the_limit_are_refused(front: Front) -> None:
    async def case(port: int) -> None:
        async with Wire(port) as wire:
            await wire.send(get("/", *[f"x-{n}: {'v' * 100}" for n in range(100)]))
            answer = await wire.answer()
            assert answer.status == 431
            assert json.loads(answer.body)["code"] == "headers-too-large"

    front.run(handler_never, case, limits=http.Limits(header_bytes=4_000))


@pytest.mark.parametrize("step", [1_000, 1_000_000])
def test_one_endless_header_is_refused(own_front: Front, step: int) -> None:
    async def case(port: int) -> None:
        async with Wire(port) as wire:
            await wire.send(b"GET / HTTP/1.1\r\nHost: a\r\nx: ")
            for _ in range(0, 2_000_000, step):
                await wire.send(b"v" * step)
            assert (await wire.answer()).status == 431

    own_front.run(handler_never, case, limits=http.Limits(header_bytes=4_000))


def test_an_endless_request_line_is_refused(own_front: Front) -> None:
    async def case(port: int) -> None:
        async with Wire(port) as wire:
            await wire.send(b"GET /" + b"a" * 10_000)
            answer = await wire.answer()
            assert answer.status == 414
            assert json.loads(answer.body)["code"] == "target-too-long"

    own_front.run(handler_never, case, limits=http.Limits(header_bytes=4_000))


def test_trailers_are_bounded(own_front: Front) -> None:
    async def case(port: int) -> None:
        async with Wire(port) as wire:
            await wire.send(CHUNKED + b"0\r\n" + b"x: y\r\n" * 10_000)
            assert (await wire.answer()).status == 431

    own_front.run(handler_never, case, limits=http.Limits(header_bytes=4_000))


def test_a_client_without_a_request_is_closed_without_a_word(own_front: Front) -> None:
    async def case(port: int) -> None:
        async with Wire(port) as wire:
            assert await wire.rest() == b""

    own_front.run(handler_never, case, limits=http.Limits(first_byte_s=0.05))


@pytest.mark.parametrize("begun", [b"G", b"GET / HT", b"GET / HTTP/1.1\r\nHost: a\r\n", CHUNKED + b"5\r\nab"])
def test_a_slow_request_is_told_so_and_closed(own_front: Front, begun: bytes) -> None:
    async def case(port: int) -> None:
        async with Wire(port) as wire:
            await wire.send(begun)
            answer = await wire.answer()
            assert answer.status == 408
            assert json.loads(answer.body)["code"] == "request-timeout"
            assert await wire.rest() == b""

    own_front.run(handler_never, case, limits=http.Limits(receive_s=0.1))


def test_a_client_that_drips_is_not_given_more_time(own_front: Front) -> None:
    async def case(port: int) -> None:
        async with Wire(port) as wire:
            await wire.send(CHUNKED)
            answering = asyncio.create_task(wire.answer())
            while not answering.done():
                await wire.send(b"1\r\na\r\n")
                await asyncio.sleep(0.01)
            assert (await answering).status == 408

    own_front.run(handler_never, case, limits=http.Limits(receive_s=0.2))


def test_a_slow_body_is_refused_under_asgi_too(front: Front) -> None:
    async def case(port: int) -> None:
        async with Wire(port) as wire:
            await wire.send(CHUNKED + b"5\r\nab")
            assert (await wire.answer()).status == 408

    front.run(handler_never, case, limits=http.Limits(receive_s=0.1))


def test_an_idle_connection_is_closed(own_front: Front) -> None:
    async def case(port: int) -> None:
        async with Wire(port) as wire:
            await wire.send(get())
            assert (await wire.answer()).status == 200
            assert await wire.rest() == b""

    own_front.run(http_fronts.echo, case, limits=http.Limits(idle_s=0.05))


@pytest.mark.parametrize("cut", [1, 10, 30, 60, 70])
def test_a_truncated_request_runs_nothing_and_harms_nobody(front: Front, cut: int) -> None:
    whole = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 20\r\n\r\n" + b"x" * 20

    async def case(port: int) -> None:
        async with Wire(port) as wire, Wire(port) as other:
            await wire.send(whole[: min(cut, len(whole) - 1)])
            wire.writer.write_eof()
            rest = await wire.rest()
            assert b"200 OK" not in rest
            await other.send(get())
            assert (await other.answer()).body == b"GET /? "

    front.run(http_fronts.echo, case)


def test_connections_beyond_the_limit_are_answered_503(own_front: Front) -> None:
    async def case(port: int) -> None:
        async with Wire(port) as one, Wire(port) as two:
            for wire in (one, two):
                await wire.send(get())
                assert (await wire.answer()).status == 200
            async with Wire(port) as three:
                answer = await three.answer()
                assert answer.status == 503
                assert answer.get(b"retry-after") == b"1"
                assert await three.rest() == b""
            await one.send(get())
            assert (await one.answer()).status == 200

    own_front.run(http_fronts.echo, case, limits=http.Limits(connections=2))


def test_bodies_of_many_clients_together_are_bounded(own_front: Front) -> None:
    async def case(port: int) -> None:
        async with Wire(port) as one, Wire(port) as two:
            await one.send(post(bytes(8_000))[:-1])
            await two.send(post(bytes(8_000))[:-1])
            answers = [asyncio.create_task(wire.answer()) for wire in (one, two)]
            done, _ = await asyncio.wait(answers, return_when=asyncio.FIRST_COMPLETED)
            refused = done.pop()
            assert refused.result().status == 503
            remaining = one if answers[0] is not refused else two
            await remaining.send(b"\0")
            assert (await answers[0 if remaining is one else 1]).status == 200

    own_front.run(http_fronts.echo, case, limits=http.Limits(buffered_bytes=12_000))


def test_refusals_are_counted_by_code(own_front: Front) -> None:
    async def case(port: int) -> None:
        async with Wire(port) as wire:
            await wire.send(b"nonsense\r\n\r\n")
            await wire.answer()

    own_front.run(handler_never, case)
    (family,) = [f for f in own_front.registry.snapshot() if f.name == "turnout_refusals_total"]
    assert [(sample.labels, sample.value) for sample in family.samples] == [(("malformed-request",), 1)]
