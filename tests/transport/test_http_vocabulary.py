"""Request targets, response heads and failures at the border, piece by piece."""

import asyncio
import json
import logging
import socket
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from turnout import telemetry
from turnout.transport import borders, http, loop, server

Run = Callable[[Any], None]


@pytest.mark.parametrize(
    ("raw", "path", "query"),
    [
        (b"/", "/", ""),
        (b"/a%20b?x=%20", "/a b", "x=%20"),
        (b"/%C3%A9", "/é", ""),
        (b"//double", "//double", ""),
        (b"*", "*", ""),
        (b"http://host/x?y", "/x", "y"),
        (b"HTTPS://host:1/x", "/x", ""),
        (b"http://host", "/", ""),
        (b"http://host?y", "/", "y"),
        (b"/?a?b", "/", "a?b"),
    ],
)
def test_a_target_is_split_into_path_and_query(raw: bytes, path: str, query: str) -> None:
    assert http.target(raw) == (path, query)


@pytest.mark.parametrize("raw", [b"ftp://host/", b"host:80", b"a", b"/#x", b"/%ff"])
def test_a_target_that_is_none_is_refused(raw: bytes) -> None:
    with pytest.raises(http.Refusal) as caught:
        http.target(raw)
    assert caught.value.status == 400


def test_heads_follow_the_clock_and_hold_a_bounded_number_of_shapes() -> None:
    heads = http.Heads()
    heads.refresh(0.0)
    assert heads.start(200, b"a/b") == (
        b"HTTP/1.1 200 OK\r\ndate: Thu, 01 Jan 1970 00:00:00 GMT\r\ncontent-type: a/b\r\n"
    )
    heads.refresh(61.0)
    assert b"00:01:01" in heads.start(200, b"a/b")
    for n in range(2 * http.Heads.SHAPES):
        assert b"x/%d\r\n" % n in heads.start(299, b"x/%d" % n)
    assert heads.start(299, b"").startswith(b"HTTP/1.1 299 Unknown\r\n")


@pytest.mark.parametrize("status", [99, 100, 199, 600])
def test_a_status_that_is_no_answer_is_refused(status: int) -> None:
    with pytest.raises(ValueError, match="expected 200 to 599"):
        http.Heads().start(status, b"")


@pytest.mark.parametrize("line", [(b"a\r\nb", b"c"), (b"a", b"b\nc"), (b"a", b"b\rc"), (b"a", b"b\0c")])
def test_a_header_with_a_line_break_is_refused(line: tuple[bytes, bytes]) -> None:
    with pytest.raises(ValueError, match="line break"):
        http.header_lines([line])


def test_a_refusal_is_a_problem_document_that_says_when_to_come_back() -> None:
    answer = http.refuse(http.shutting_down())
    assert isinstance(answer.body, bytes)
    problem = json.loads(answer.body)
    assert (problem["type"], problem["title"]) == ("urn:turnout:problem:unavailable", "Service Unavailable")
    assert (problem["status"], problem["code"]) == (answer.status, "unavailable") == (503, "unavailable")
    assert (answer.content_type, list(answer.headers)) == (b"application/problem+json", [(b"retry-after", b"1")])
    assert b"retry-after" not in dict(http.refuse(http.malformed("a line without an end")).headers)


def test_requests_and_responses_say_what_they_are() -> None:
    assert repr(http.Request("GET", "/x", body=b"abc")) == "<Request GET /x 3 bytes>".replace("/x", "'/x'")
    assert repr(http.Response(404, b"ab")) == "<Response 404 2 bytes>"


def test_a_failing_on_close_or_stream_harms_nobody(run: Run, caplog: pytest.LogCaptureFixture) -> None:
    def on_close() -> None:
        raise RuntimeError("on_close")

    class Stream:
        def __aiter__(self) -> AsyncIterator[bytes]:
            return self

        async def __anext__(self) -> bytes:
            raise StopAsyncIteration

        async def aclose(self) -> None:
            raise RuntimeError("aclose")

    registry = telemetry.Registry()
    border = borders.Border(registry)
    with caplog.at_level(logging.CRITICAL, "turnout"):
        border.tell(on_close)
        run(border.finish(Stream()))
    (failures,) = [f for f in registry.snapshot() if f.name == telemetry.HANDLER_FAILURES]
    assert failures.samples[0].value == 2


def test_a_server_that_was_not_started_drains_at_once_and_starts_only_once(run: Run) -> None:
    async def handler(_: http.Request) -> http.Response:
        return http.Response()

    async def main() -> None:
        one = server.Server(handler)
        await one.drain(10.0)
        assert (one.connections, one.in_flight) == (0, 0)
        listening = socket.socket()
        listening.bind(("127.0.0.1", 0))
        await one.start(listening)
        with pytest.raises(RuntimeError, match="was started before"):
            await one.start(listening)
        await one.drain(0.0)

    run(main())


def test_programs_run_on_the_fastest_loop_there_is() -> None:
    async def name() -> str:
        return type(asyncio.get_running_loop()).__module__

    assert loop.run(name()).startswith("uvloop")
