"""The keep-alive client against our server, and against servers that misbehave byte by byte."""

import asyncio
import contextlib
import logging
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from turnout.errors import DeadlineError, OverloadError, UnavailableError
from turnout.transport import client, http, server

Run = Callable[[Any], None]
Script = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@contextlib.asynccontextmanager
async def serving(handler: http.Handler, **limits: Any) -> AsyncIterator[tuple[client.Client, server.Server]]:
    listening = socket.socket()
    listening.bind(("127.0.0.1", 0))
    front = server.Server(handler)
    await front.start(listening)
    base = f"http://127.0.0.1:{listening.getsockname()[1]}"
    async with client.Client(base, limits=client.ClientLimits(**limits)) as caller:
        yield caller, front
    await front.drain(0.0)


@contextlib.asynccontextmanager
async def scripted(script: Script, **limits: Any) -> AsyncIterator[tuple[client.Client, list[int]]]:
    """A server that does what the script says with each connection; the list counts them."""
    connections: list[int] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connections.append(1)
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            await script(reader, writer)
        writer.close()

    listening = await asyncio.start_server(serve, "127.0.0.1", 0)
    base = f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}"
    async with client.Client(base, limits=client.ClientLimits(**limits)) as caller:
        yield caller, connections
    listening.close()
    await listening.wait_closed()


def saying(*answers: bytes) -> Script:
    """Reads a head, says the next answer, and closes after the last one."""

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for answer in answers:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(answer)
            await writer.drain()

    return script


OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


async def echo(request: http.Request) -> http.Response:
    return http.Response(200, f"{request.method} {request.path}?{request.query} ".encode() + request.body)


def test_requests_are_answered_over_one_kept_connection(run: Run) -> None:
    async def main() -> None:
        async with serving(echo) as (caller, front):
            for method in ("GET", "POST", "PUT", "DELETE", "HEAD"):
                answer = await caller.request(method, "/a?b=c", body=b"x" if method == "POST" else b"", deadline_s=5.0)
                assert answer.status == 200
                expected = b"" if method == "HEAD" else f"{method} /a?b=c ".encode()
                assert answer.body == expected + (b"x" if method == "POST" else b"")
                assert answer.headers.get(b"content-type") == b"application/json"
            assert front.connections == 1

    run(main())


def test_connections_to_one_host_are_bounded(run: Run) -> None:
    most = 0

    async def main() -> None:
        async def handler(request: http.Request) -> http.Response:
            nonlocal most
            most = max(most, front.connections)
            await asyncio.sleep(0)
            return http.Response(200, request.body)

        async with serving(handler, connections=3) as (caller, front):
            bodies = [b"%d" % n for n in range(100)]
            answers = await asyncio.gather(*[caller.request("POST", "/", body=b, deadline_s=10.0) for b in bodies])
            assert [answer.body for answer in answers] == bodies
            assert most == 3

    run(main())


def test_a_whole_url_and_headers_are_sent(run: Run) -> None:
    async def handler(request: http.Request) -> http.Response:
        return http.Response(200, (request.headers.get(b"x-key") or b"") + (request.headers.get(b"host") or b""))

    async def main() -> None:
        async with serving(handler) as (caller, _), client.Client() as other:
            url = caller._base + "/x"
            answer = await other.request("GET", url, headers=[(b"x-key", b"k")], deadline_s=5.0)
            assert answer.body == b"k" + url.removeprefix("http://").removesuffix("/x").encode()

    run(main())


def test_a_unix_socket_is_spoken_to(run: Run, tmp_path: Path) -> None:
    async def main() -> None:
        listening = socket.socket(socket.AF_UNIX)
        listening.bind(str(tmp_path / "s"))
        front = server.Server(echo)
        await front.start(listening)
        async with client.Client(f"unix:{tmp_path / 's'}") as caller:
            for _ in range(2):
                assert (await caller.request("GET", "/x", deadline_s=5.0)).body == b"GET /x? "
            assert front.connections == 1
        await front.drain(0.0)

    run(main())


def test_an_answer_in_chunks_and_one_that_ends_with_the_connection_are_read(run: Run) -> None:
    chunks = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\nX: y\r\n\r\n"

    async def main() -> None:
        async with scripted(saying(chunks, b"HTTP/1.1 200 OK\r\n\r\nuntil the end")) as (caller, connections):
            first = await caller.request("GET", "/", deadline_s=5.0)
            assert first.body == b"abcde"
            assert first.headers.get(b"x") is None
            assert (await caller.request("GET", "/", deadline_s=5.0)).body == b"until the end"
            assert len(connections) == 1

    run(main())


def test_interim_answers_are_passed_over(run: Run) -> None:
    async def main() -> None:
        interim = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n"
        async with scripted(saying(interim + OK)) as (caller, _):
            answer = await caller.request("GET", "/", deadline_s=5.0)
            assert (answer.status, answer.body, answer.headers.get(b"link")) == (200, b"ok", None)

    run(main())


@pytest.mark.parametrize("step", [1, 3])
def test_an_answer_may_come_in_any_pieces(run: Run, step: int) -> None:
    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        for at in range(0, len(OK), step):
            writer.write(OK[at : at + step])
            await writer.drain()
            await asyncio.sleep(0)

    async def main() -> None:
        async with scripted(script) as (caller, _):
            assert (await caller.request("GET", "/", deadline_s=5.0)).body == b"ok"

    run(main())


def closing_after(served: int) -> tuple[Script, list[bytes]]:
    """Answers so many requests on each connection, reads one more, and closes without a word."""
    heads: list[bytes] = []

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for _ in range(served):
            heads.append(await reader.readuntil(b"\r\n\r\n"))
            writer.write(OK)
        heads.append(await reader.readuntil(b"\r\n\r\n"))

    return script, heads


def test_an_idempotent_request_is_sent_once_more_when_a_kept_connection_closed(run: Run) -> None:
    async def main() -> None:
        script, heads = closing_after(1)
        async with scripted(script) as (caller, connections):
            for _ in range(3):
                assert (await caller.request("GET", "/", deadline_s=5.0)).body == b"ok"
            assert len(connections) == 3
            assert len(heads) == 5

    run(main())


def test_a_post_is_never_sent_twice(run: Run) -> None:
    async def main() -> None:
        script, heads = closing_after(1)
        async with scripted(script) as (caller, _):
            await caller.request("POST", "/", deadline_s=5.0)
            with pytest.raises(UnavailableError, match="ended before the answer was complete"):
                await caller.request("POST", "/", deadline_s=5.0)
            assert len(heads) == 2

    run(main())


def test_a_new_connection_that_closes_is_not_tried_again(run: Run) -> None:
    async def main() -> None:
        script, heads = closing_after(0)
        async with scripted(script) as (caller, _):
            with pytest.raises(UnavailableError):
                await caller.request("GET", "/", deadline_s=5.0)
            assert len(heads) == 1

    run(main())


def test_a_kept_connection_that_the_server_closed_is_not_used(run: Run) -> None:
    async def main() -> None:
        async with serving(echo) as (caller, front):
            await caller.request("POST", "/", deadline_s=5.0)
            (kept,) = front._shared.connections  # type: ignore[union-attr]
            kept.close_idle()
            async with asyncio.timeout(5.0):
                while next(iter(caller._pools.values())).idle[0].usable:
                    await asyncio.sleep(0.005)
            assert (await caller.request("POST", "/", deadline_s=5.0)).status == 200

    run(main())


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nshort",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nabc",
        b"HTTP/1.1 200 OK\r\nContent-Le",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"nonsense\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n",
    ],
)
def test_a_broken_answer_is_an_error_and_its_connection_is_not_kept(run: Run, answer: bytes) -> None:
    async def main() -> None:
        async with scripted(saying(answer)) as (caller, connections):
            for _ in range(2):
                with pytest.raises(UnavailableError):
                    await caller.request("GET", "/", deadline_s=5.0)
            assert len(connections) == 2

    run(main())


def test_bytes_behind_an_answer_never_become_the_next_one(run: Run) -> None:
    async def main() -> None:
        async with scripted(saying(OK + OK.replace(b"ok", b"no"), OK)) as (caller, connections):
            for _ in range(2):
                assert (await caller.request("GET", "/", deadline_s=5.0)).body == b"ok"
            assert len(connections) == 2

    run(main())


@pytest.mark.parametrize("head", [b"Content-Length: 2000", b"Transfer-Encoding: chunked"])
def test_an_answer_beyond_the_limit_is_refused(run: Run, head: bytes) -> None:
    body = bytes(2_000) if b"Length" in head else b"7d0\r\n" + bytes(2_000) + b"\r\n0\r\n\r\n"

    async def main() -> None:
        async with scripted(saying(b"HTTP/1.1 200 OK\r\n" + head + b"\r\n\r\n" + body), body_bytes=1_000) as (
            caller,
            _,
        ):
            with pytest.raises(OverloadError, match="larger than 1000 bytes"):
                await caller.request("GET", "/", deadline_s=5.0)

    run(main())


def test_endless_headers_are_refused(run: Run) -> None:
    async def main() -> None:
        async with scripted(saying(b"HTTP/1.1 200 OK\r\n" + b"x: yyyyyyyyyyyyyyyy\r\n" * 10_000)) as (caller, _):
            with pytest.raises(OverloadError, match="headers have more than"):
                await caller.request("GET", "/", deadline_s=5.0)

    run(main())


def test_no_answer_in_time_is_a_deadline_error_and_the_server_sees_the_client_leave(run: Run) -> None:
    left = asyncio.Event()

    async def handler(_: http.Request) -> http.Response:
        try:
            await asyncio.Event().wait()
        finally:
            left.set()
        return http.Response()

    async def main() -> None:
        async with serving(handler) as (caller, _):
            with pytest.raises(DeadlineError, match=r"within 0\.05 s"):
                await caller.request("GET", "/", deadline_s=0.05)
            async with asyncio.timeout(5.0):
                await left.wait()

    run(main())


def test_waiting_for_a_connection_counts_against_the_deadline(run: Run) -> None:
    async def handler(_: http.Request) -> http.Response:
        await asyncio.Event().wait()
        return http.Response()

    async def main() -> None:
        async with serving(handler, connections=1) as (caller, _):
            calls = [caller.request("GET", "/", deadline_s=0.05) for _ in range(3)]
            results = await asyncio.gather(*calls, return_exceptions=True)
            assert all(isinstance(result, DeadlineError) for result in results)

    run(main())


def test_no_server_is_an_error_that_teaches(run: Run) -> None:
    async def main() -> None:
        listening = socket.socket()
        listening.bind(("127.0.0.1", 0))  # bound, not listening
        async with client.Client(f"http://127.0.0.1:{listening.getsockname()[1]}") as caller:
            with pytest.raises(UnavailableError, match=r"no connection to 127\.0\.0\.1:.* Is the server running"):
                await caller.request("GET", "/", deadline_s=5.0)
        listening.close()

    run(main())


@pytest.mark.parametrize(
    ("method", "url"),
    [("GET", "/a b"), ("GET", "/a\r\nx: y"), ("get", "/"), ("GET /x", "/"), ("GET", "ftp://a/"), ("GET", "https://a/")],
)
def test_what_would_break_a_request_apart_is_refused(run: Run, method: str, url: str) -> None:
    async def main() -> None:
        async with client.Client("http://127.0.0.1:1") as caller:
            with pytest.raises(ValueError, match="expected"):
                await caller.request(method, url, deadline_s=1.0)
            with pytest.raises(ValueError, match="line break"):
                await caller.request("GET", "/", headers=[(b"x", b"a\r\nb: c")], deadline_s=1.0)

    run(main())


def test_a_base_that_is_no_address_is_refused() -> None:
    with pytest.raises(ValueError, match="expected http://host:port/path"):
        client.Client("127.0.0.1:80")


def test_hosts_are_bounded(run: Run) -> None:
    async def main() -> None:
        async with client.Client() as caller:
            for n in range(client.HOSTS):
                caller._pool(caller._locate(f"http://127.0.0.1:{n + 1}/")[0])
            with pytest.raises(OverloadError, match="one too many"):
                await caller.request("GET", "http://127.0.0.2/", deadline_s=1.0)

    run(main())


def test_a_stream_is_read_while_it_comes(run: Run) -> None:
    step = asyncio.Event()

    async def pieces() -> AsyncIterator[bytes]:
        yield b"one"
        await step.wait()
        yield b"two"

    async def handler(request: http.Request) -> http.Response:
        return http.Response(200, pieces() if request.path == "/s" else b"whole")

    async def main() -> None:
        async with serving(handler) as (caller, front):
            async with caller.stream("GET", "/s", deadline_s=5.0) as response:
                assert response.status == 200
                assert await anext(response) == b"one"
                step.set()
                assert [piece async for piece in response] == [b"two"]
            async with caller.stream("GET", "/", deadline_s=5.0) as response:
                assert [piece async for piece in response] == [b"whole"]
            assert front.connections == 1

    run(main())


def test_a_stream_left_early_closes_its_connection(run: Run) -> None:
    closed = asyncio.Event()

    async def pieces() -> AsyncIterator[bytes]:
        try:
            yield b"one"
            await asyncio.Event().wait()
        finally:
            closed.set()

    async def handler(_: http.Request) -> http.Response:
        return http.Response(200, pieces())

    async def main() -> None:
        async with serving(handler) as (caller, _):
            async with caller.stream("GET", "/", deadline_s=5.0) as response:
                await anext(response)
            async with asyncio.timeout(5.0):
                await closed.wait()

    run(main())


def test_a_stream_that_breaks_off_or_takes_too_long_is_an_error(run: Run, caplog: pytest.LogCaptureFixture) -> None:
    async def pieces(path: str) -> AsyncIterator[bytes]:
        yield b"one"
        if path == "/broken":
            raise RuntimeError("no")
        await asyncio.Event().wait()

    async def handler(request: http.Request) -> http.Response:
        return http.Response(200, pieces(request.path))

    async def main() -> None:
        async with serving(handler) as (caller, _):
            with pytest.raises(UnavailableError, match="ended before"):
                async with caller.stream("GET", "/broken", deadline_s=5.0) as response:
                    assert [piece async for piece in response] == []
            with pytest.raises(DeadlineError):
                async with caller.stream("GET", "/slow", deadline_s=0.1) as response:
                    assert [piece async for piece in response] == []
            with pytest.raises(TimeoutError):
                async with caller.stream("GET", "/slow", deadline_s=5.0) as response:
                    raise TimeoutError("the caller's own")

    with caplog.at_level(logging.CRITICAL, "turnout"):
        run(main())


def test_a_slow_reader_makes_the_server_wait(run: Run) -> None:
    made = 0

    async def pieces() -> AsyncIterator[bytes]:
        nonlocal made
        for _ in range(512):
            made += 1
            yield bytes(65_536)

    async def handler(_: http.Request) -> http.Response:
        return http.Response(200, pieces())

    async def main() -> None:
        async with serving(handler) as (caller, _):
            async with caller.stream("GET", "/", deadline_s=30.0) as response:
                await anext(response)
                before = -1
                while before != made:
                    before = made
                    for _ in range(20):
                        await asyncio.sleep(0.005)
                assert made < 512
                rest = sum([len(piece) async for piece in response])
            assert rest > 500 * 65_536

    run(main())
