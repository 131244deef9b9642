"""What every HTTP front does with well-formed requests."""

import asyncio
import logging
from collections.abc import AsyncIterator

import pytest
from tests.contracts import http_fronts
from tests.contracts.http_fronts import Front, Wire, get, post

from turnout.transport import http


def test_a_request_is_answered_with_its_path_query_and_body(front: Front) -> None:
    async def case(port: int) -> None:
        async with Wire(port) as wire:
            await wire.send(post(b"hello", path="/a%20b/c?x=1&y=%20"))
            answer = await wire.answer()
            assert answer.status == 200
            assert answer.body == b"POST /a b/c?x=1&y=%20 hello"
            assert answer.get(b"content-type") == b"text/plain"
            assert answer.get(b"date")

    front.run(http_fronts.echo, case)


def test_header_names_arrive_in_lower_case_and_values_without_blanks(front: Front) -> None:
    async def handler(request: http.Request) -> http.Response:
        assert request.headers.get(b"missing") is None
        assert request.client.startswith("127.0.0.1:")
        return http.Response(200, request.headers.get(b"x-thing") or b"")

    async def case(port: int) -> None:
        async with Wire(port) as wire:
            await wire.send(get("/", "X-THING:  one two \t"))
            assert (await wire.answer()).body == b"one two"

    front.run(handler, case)


def test_a_connection_is_used_again(front: Front) -> None:
    async def case(port: int) -> None:
        async with Wire(port) as wire:
            for number in range(5):
                await wire.send(get(f"/{number}"))
                answer = await wire.answer()
                assert answer.body == b"GET /%d? " % number
                assert answer.get(b"connection") is None

    front.run(http_fronts.echo, case)


def test_connection_close_is_honoured(front: Front) -> None:
    async def case(port: int) -> None:
        async with Wire(port) as wire:
            await wire.send(get("/", "Connection: close"))
            answer = await wire.answer()
            assert answer.body == b"GET /? "
            assert answer.get(b"connection") == b"close"
            assert await wire.rest() == b""

    front.run(http_fronts.echo, case)


def test_a_handler_can_close_the_connection(front: Front) -> None:
    async def handler(_: http.Request) -> http.Response:
        return http.Response(200, b"bye", close=True)

    async def case(port: int) -> None:
        async with Wire(port) as wire:
            await wire.send(get())
            assert (await wire.answer()).get(b"connection") == b"close"
            assert await wire.rest() == b""

    front.run(handler, case)


def test_http_1_0_closes_unless_asked_to_stay(own_front: Front) -> None:
    async def case(port: int) -> None:
        async with Wire(port) as wire:
            await wire.send(b"GET /a HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
            answer = await wire.answer()
            assert answer.get(b"connection") == b"keep-alive"
            await wire.send(b"GET /b HTTP/1.0\r\n\r\n")
            assert (await wire.answer()).body == b"GET /b? "
            assert await wire.rest() == b""

    own_front.run(http_fronts.echo, case)


def test_pipelined_requests_are_answered_in_order(front: Front) -> None:
    async def handler(request: http.Request) -> http.Response:
        await asyncio.sleep(0.002 if request.path.endswith("0") else 0)
        return http.Response(200, request.path.encode() + request.body)

    async def case(port: int) -> None:
        async with Wire(port) as wire:
            await wire.send(b"".join(get(f"/{n}") if n % 3 else post(b"!", path=f"/{n}") for n in range(200)))
            for n in range(200):
                assert (await wire.answer()).body == (b"/%d" % n if n % 3 else b"/%d!" % n)

    front.run(handler, case)


def test_a_pipelined_close_ends_the_line(front: Front) -> None:
    async def case(port: int) -> None:
        async with Wire(port) as wire:
            await wire.send(get("/1") + get("/2", "Connection: close") + get("/3"))
            assert (await wire.answer()).body == b"GET /1? "
            assert (await wire.answer()).body == b"GET /2? "
            assert await wire.rest() == b""

    front.run(http_fronts.echo, case)


@pytest.mark.parametrize("size", [0, 1, 70_000, 1_000_000])
def test_a_chunked_body_arrives_whole(front: Front, size: int) -> None:
    body = bytes(range(256)) * (size // 256) + b"x" * (size % 256)

    async def handler(request: http.Request) -> http.Response:
        return http.Response(200, request.body)

    async def case(port: int) -> None:
        async with Wire(port) as wire:
            await wire.send(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: Chunked\r\n\r\n")
            step = 30_011
            for at in range(0, len(body), step):
                piece = body[at : at + step]
                await wire.send(b"%x;note=1\r\n" % len(piece), piece, b"\r\n")
            await wire.send(b"0\r\nX-Trailer: 1\r\n\r\n" + get("/next"))
            assert (await wire.answer()).body == body
            assert (await wire.answer()).status == 200

    front.run(handler, case)


def test_trailers_are_not_headers(front: Front) -> None:
    if isinstance(front, http_fronts.HttptoolsFront):
        pytest.skip("uvicorn puts trailers among the headers when it parses with httptools")

    async def handler(request: http.Request) -> http.Response:
        return http.Response(200, b"seen" if request.headers.get(b"x-admin") else b"unseen")

    async def case(port: int) -> None:
        async with Wire(port) as wire:
            chunked = (
                b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\nX-Admin: 1\r\n\r\n"
            )
            await wire.send(chunked)
            assert (await wire.answer()).body == b"unseen"

    front.run(handler, case)


def test_head_gets_the_head_of_the_answer_only(front: Front) -> None:
    async def case(port: int) -> None:
        async with Wire(port) as wire:
            await wire.send(b"HEAD /x HTTP/1.1\r\nHost: a\r\n\r\n" + get("/y"))
            answer = await wire.answer(head_only=True)
            assert answer.get(b"content-length") == b"9"
            assert (await wire.answer()).body == b"GET /y? "

    front.run(http_fronts.echo, case)


@pytest.mark.parametrize("status", [204, 304])
def test_an_answer_without_content_has_no_body(front: Front, status: int) -> None:
    async def handler(request: http.Request) -> http.Response:
        return http.Response(status, b"never sent") if request.path == "/none" else http.Response(200, b"next")

    async def case(port: int) -> None:
        async with Wire(port) as wire:
            await wire.send(get("/none"))
            answer = await wire.answer()
            assert answer.status == status
            assert answer.get(b"content-length") is None
            await wire.send(get("/"))
            assert (await wire.answer()).body == b"next"

    front.run(handler, case)


def test_a_client_that_asks_first_is_told_to_continue(front: Front) -> None:
    async def case(port: int) -> None:
        async with Wire(port) as wire:
            await wire.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\n")
            status, _ = await wire.head()
            assert status == 100
            await wire.send(b"abc")
            assert (await wire.answer()).body == b"POST /? abc"

    front.run(http_fronts.echo, case)


def test_a_large_answer_arrives_whole(front: Front) -> None:
    body = bytes(range(256)) * 20_000

    async def handler(_: http.Request) -> http.Response:
        return http.Response(200, body, headers=((b"x-one", b"1"), (b"x-two", b"2")))

    async def case(port: int) -> None:
        async with Wire(port) as wire:
            await wire.send(get())
            answer = await wire.answer()
            assert answer.body == body
            assert answer.get(b"x-two") == b"2"

    front.run(handler, case)


def test_a_handler_that_raises_is_answered_500_and_the_connection_lives(
    front: Front, caplog: pytest.LogCaptureFixture
) -> None:
    async def handler(request: http.Request) -> http.Response:
        if request.path == "/bad":
            raise RuntimeError("secret detail")
        if request.path == "/header":
            return http.Response(200, b"", headers=((b"x", b"a\r\nset-cookie: b"),))
        return http.Response(200, b"fine")

    async def case(port: int) -> None:
        async with Wire(port) as wire:
            for path in ("/bad", "/header"):
                await wire.send(get(path))
                answer = await wire.answer()
                assert answer.status == 500
                assert answer.get(b"content-type") == b"application/problem+json"
                assert b"internal" in answer.body
                assert b"secret" not in answer.body
                assert answer.get(b"set-cookie") is None
            await wire.send(get("/"))
            assert (await wire.answer()).body == b"fine"

    with caplog.at_level(logging.CRITICAL, "turnout"):
        front.run(handler, case)


def test_an_upgrade_is_ignored_and_the_body_still_read(front: Front) -> None:
    if isinstance(front, http_fronts.HttptoolsFront):
        pytest.skip("uvicorn loses the body of a request that asks for an upgrade when it parses with httptools")

    async def case(port: int) -> None:
        upgrade = ("Upgrade: h2c", "Connection: Upgrade, HTTP2-Settings", "HTTP2-Settings: AAMAAABkAAQAAP__")
        async with Wire(port) as wire:
            await wire.send(post(b"abc", *upgrade) + get("/2", *upgrade) + get("/3"))
            assert (await wire.answer()).body == b"POST /? abc"
            if front.ours:  # uvicorn with h11 stops reading behind an upgrade
                assert (await wire.answer()).body == b"GET /2? "
                assert (await wire.answer()).body == b"GET /3? "

    front.run(http_fronts.echo, case)


def test_a_stream_is_sent_piece_by_piece(front: Front) -> None:
    sent = asyncio.Event()

    async def pieces() -> AsyncIterator[bytes]:
        yield b"one,"
        yield b""
        await sent.wait()
        yield b"two"

    async def handler(_: http.Request) -> http.Response:
        return http.Response(200, pieces(), b"text/event-stream")

    async def case(port: int) -> None:
        async with Wire(port) as wire:
            await wire.send(get("/") + get("/"))
            status, headers = await wire.head()
            assert (status, dict(headers)[b"transfer-encoding"]) == (200, b"chunked")
            assert await wire.reader.readuntil(b"one,\r\n") == b"4\r\none,\r\n"
            sent.set()
            assert await wire.reader.readuntil(b"0\r\n\r\n") == b"3\r\ntwo\r\n0\r\n\r\n"
            assert (await wire.answer()).body == b"one,two"

    front.run(handler, case)


def test_a_stream_to_http_1_0_ends_with_the_connection(own_front: Front) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        yield b"one,"
        yield b"two"

    async def handler(_: http.Request) -> http.Response:
        return http.Response(200, pieces())

    async def case(port: int) -> None:
        async with Wire(port) as wire:
            await wire.send(b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
            answer = await wire.answer()
            assert answer.body == b"one,two"
            assert answer.get(b"connection") == b"close"

    own_front.run(handler, case)


def test_head_of_a_stream_runs_no_stream(front: Front) -> None:
    started = []

    async def pieces() -> AsyncIterator[bytes]:
        started.append(1)
        yield b"x"

    async def handler(_: http.Request) -> http.Response:
        return http.Response(200, pieces())

    async def case(port: int) -> None:
        async with Wire(port) as wire:
            await wire.send(b"HEAD / HTTP/1.1\r\nHost: a\r\n\r\n")
            assert (await wire.answer(head_only=True)).status == 200
            await wire.send(b"HEAD / HTTP/1.1\r\nHost: a\r\n\r\n")
            assert (await wire.answer(head_only=True)).status == 200

    front.run(handler, case)
    assert not started


def test_a_stream_that_fails_before_its_first_piece_is_answered_500(
    front: Front, caplog: pytest.LogCaptureFixture
) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        raise RuntimeError("no")
        yield b""

    async def handler(_: http.Request) -> http.Response:
        return http.Response(200, pieces())

    async def case(port: int) -> None:
        async with Wire(port) as wire:
            for _ in range(2):
                await wire.send(get())
                assert (await wire.answer()).status == 500

    with caplog.at_level(logging.CRITICAL, "turnout"):
        front.run(handler, case)


def test_a_stream_that_breaks_off_never_looks_complete(front: Front, caplog: pytest.LogCaptureFixture) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        yield b"begun"
        raise RuntimeError("no")

    async def handler(_: http.Request) -> http.Response:
        return http.Response(200, pieces())

    async def case(port: int) -> None:
        async with Wire(port) as wire:
            await wire.send(get() + get())
            answer = await wire.answer()
            assert not answer.whole
            assert await wire.rest() == b""

    with caplog.at_level(logging.CRITICAL):
        front.run(handler, case)


def test_on_close_is_called_once_for_every_answer(front: Front) -> None:
    closed: list[str] = []

    async def pieces() -> AsyncIterator[bytes]:
        yield b"x"

    async def handler(request: http.Request) -> http.Response:
        body = pieces() if request.path == "/stream" else b"x"
        return http.Response(200, body, on_close=lambda: closed.append(request.path))

    async def case(port: int) -> None:
        async with Wire(port) as wire:
            await wire.send(get("/stream") + get("/whole"))
            await wire.answer()
            await wire.answer()
            await http_fronts.eventually(lambda: len(closed) == 2)

    front.run(handler, case)
    assert closed == ["/stream", "/whole"]
