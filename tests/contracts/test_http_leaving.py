"""Clients that leave or do not read, and servers that leave while clients still send."""

import asyncio
import logging
from collections.abc import AsyncIterator

import pytest
from tests.contracts import http_fronts
from tests.contracts.http_fronts import Front, Wire, eventually, get, post

from turnout.errors import UnavailableError
from turnout.transport import client, http, server


def test_a_client_that_leaves_cancels_its_handler(front: Front) -> None:
    seen: list[str] = []

    async def handler(_: http.Request) -> http.Response:
        seen.append("begun")
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            seen.append("cancelled")
            raise
        return http.Response()

    async def case(port: int) -> None:
        async with Wire(port) as wire:
            pipelined = get("/second") if front.ours else b""  # uvicorn with httptools stops reading then
            await wire.send(post(b"x") + pipelined)
            await eventually(lambda: "begun" in seen)
        await eventually(lambda: "cancelled" in seen)

    front.run(handler, case)
    assert seen == ["begun", "cancelled"]


def test_a_client_that_leaves_a_stream_closes_its_generator(front: Front) -> None:
    seen: list[str] = []

    async def pieces() -> AsyncIterator[bytes]:
        try:
            yield b"first"
            await asyncio.Event().wait()
        finally:
            seen.append("closed")

    async def handler(_: http.Request) -> http.Response:
        return http.Response(200, pieces(), on_close=lambda: seen.append("on_close"))

    async def case(port: int) -> None:
        async with Wire(port) as wire:
            await wire.send(get())
            await wire.reader.readuntil(b"first")
        await eventually(lambda: len(seen) == 2)

    front.run(handler, case)
    assert seen == ["closed", "on_close"]


def test_a_stream_that_never_waits_leaves_a_turn_to_everybody_else(front: Front) -> None:
    turns: list[int] = []

    async def pieces() -> AsyncIterator[bytes]:
        asyncio.get_running_loop().call_soon(turns.append, 1)
        for _ in range(10):
            yield b"piece"
        yield b"%d" % len(turns)

    async def handler(_: http.Request) -> http.Response:
        return http.Response(200, pieces())

    async def case(port: int) -> None:
        async with Wire(port) as wire:
            await wire.send(get())
            assert (await wire.answer()).body.endswith(b"1")

    front.run(handler, case)


def test_a_handler_that_raises_generator_exit_is_answered(own_front: Front) -> None:
    async def handler(_: http.Request) -> http.Response:
        raise GeneratorExit

    async def case(port: int) -> None:
        async with Wire(port) as wire:
            await wire.send(get())
            assert (await wire.answer()).status == 500

    own_front.run(handler, case)


def test_a_stream_waits_for_a_client_that_reads_slowly(front: Front) -> None:
    made = 0
    total = 512
    piece = bytes(65_536)

    async def pieces() -> AsyncIterator[bytes]:
        nonlocal made
        for _ in range(total):
            made += 1
            yield piece

    async def handler(_: http.Request) -> http.Response:
        return http.Response(200, pieces())

    async def case(port: int) -> None:
        nonlocal made
        async with Wire(port) as wire:
            wire.writer.transport.pause_reading()  # type: ignore[attr-defined]
            await wire.send(get())
            await eventually(lambda: made > 0)
            before = -1
            while before != made:  # until it makes no more
                before = made
                for _ in range(20):
                    await asyncio.sleep(0.005)
            assert made < total
            wire.writer.transport.resume_reading()  # type: ignore[attr-defined]
            answer = await wire.answer()
            assert answer.whole
            assert len(answer.body) == total * len(piece)

    front.run(handler, case)


@pytest.mark.parametrize("streamed", [False, True])
def test_a_client_that_does_not_read_is_cut_off(own_front: Front, streamed: bool) -> None:
    seen: list[str] = []

    async def pieces() -> AsyncIterator[bytes]:
        for _ in range(1_000):
            yield bytes(65_536)

    async def handler(_: http.Request) -> http.Response:
        body = pieces() if streamed else bytes(64 * 2**20)
        return http.Response(200, body, on_close=lambda: seen.append("closed"))

    async def case(port: int) -> None:
        async with Wire(port) as wire:
            wire.writer.transport.pause_reading()  # type: ignore[attr-defined]
            await wire.send(get())
            await eventually(lambda: seen == ["closed"])
            async with Wire(port) as other:
                await other.send(b"nonsense\r\n\r\n")
                assert (await other.answer()).status == 400
            await eventually(lambda: connections(own_front) <= 1)

    own_front.run(handler, case, limits=http.Limits(write_s=0.2, linger_s=0.2))


def connections(front: Front) -> float:
    (gauge,) = [family for family in front.registry.snapshot() if family.name == "turnout_connections"]
    return gauge.samples[0].value


def test_a_client_that_reads_steadily_is_not_cut_off(own_front: Front) -> None:
    size = 16 * 2**20

    async def handler(_: http.Request) -> http.Response:
        return http.Response(200, bytes(size))

    async def case(port: int) -> None:
        async with Wire(port) as wire:
            await wire.send(get())
            _, headers = await wire.head()
            assert dict(headers)[b"content-length"] == b"%d" % size
            received = 0
            while received < size:
                received += len(await wire.reader.read(size // 64))
                await asyncio.sleep(0.01)

    own_front.run(handler, case, limits=http.Limits(write_s=0.3))


def test_requests_pipelined_behind_a_slow_one_wait_in_a_bounded_line(own_front: Front) -> None:
    release = asyncio.Event()
    served = 0

    async def handler(_: http.Request) -> http.Response:
        nonlocal served
        await release.wait()
        served += 1
        return http.Response(200, b"x")

    async def case(port: int) -> None:
        async with Wire(port) as wire:
            flood = asyncio.create_task(wire.send(*[get("/" + "a" * 1000) * 1000] * 20))
            for _ in range(20):
                await asyncio.sleep(0.005)
            assert not flood.done()  # the server has stopped reading
            release.set()
            await flood
            await eventually(lambda: served == 20_000)

    own_front.run(handler, case)


async def start(handler: http.Handler) -> tuple[server.Server, int]:
    listening = http_fronts.listen()
    front = server.Server(handler)
    await front.start(listening)
    return front, listening.getsockname()[1]


def test_draining_finishes_what_runs_and_says_goodbye(own_front: Front) -> None:
    async def main() -> None:
        release = asyncio.Event()
        begun = asyncio.Event()

        async def handler(_: http.Request) -> http.Response:
            begun.set()
            await release.wait()
            return http.Response(200, b"done")

        front, port = await start(handler)
        async with Wire(port) as busy, Wire(port) as idle:
            await busy.send(get() + get())
            await begun.wait()
            draining = asyncio.create_task(front.drain(0.0))
            assert await idle.rest() == b""
            assert not draining.done()
            release.set()
            first, second = await busy.answer(), await busy.answer()
            assert (first.body, first.get(b"connection")) == (b"done", None)
            assert (second.body, second.get(b"connection")) == (b"done", b"close")
            assert await busy.rest() == b""
            with pytest.raises(OSError):
                await asyncio.open_connection("127.0.0.1", port)
        await draining
        assert (front.connections, front.in_flight) == (0, 0)

    with asyncio.Runner(loop_factory=own_front.loop_factory) as runner:
        runner.run(main())


def test_a_request_on_a_lingering_connection_is_still_answered(own_front: Front) -> None:
    async def main() -> None:
        front, port = await start(http_fronts.echo)
        async with Wire(port) as wire:
            await wire.send(get())
            await wire.answer()
            draining = asyncio.create_task(front.drain(5.0))
            await asyncio.sleep(0)
            await wire.send(get())
            answer = await wire.answer()
            assert (answer.status, answer.get(b"connection")) == (200, b"close")
            assert await wire.rest() == b""
        async with asyncio.timeout(2.0):  # nobody is left, so it does not linger to the end
            await draining

    with asyncio.Runner(loop_factory=own_front.loop_factory) as runner:
        runner.run(main())


def test_a_handler_that_never_ends_is_cancelled_and_its_client_told(own_front: Front) -> None:
    async def main() -> None:
        async def handler(_: http.Request) -> http.Response:
            await asyncio.Event().wait()
            return http.Response()

        front, port = await start(handler)
        async with Wire(port) as wire:
            await wire.send(get())
            await eventually(lambda: front.in_flight == 1)
            draining = asyncio.create_task(front.drain(0.0, timeout_s=0.1))
            answer = await wire.answer()
            assert answer.status == 503
            assert await wire.rest() == b""
        await draining
        assert front.in_flight == 0

    with asyncio.Runner(loop_factory=own_front.loop_factory) as runner:
        runner.run(main())


def test_no_request_is_dropped_when_a_server_drains_under_load(own_front: Front) -> None:
    """The successor serves the same socket; clients retry only what was never answered."""

    async def main() -> None:
        answered = failed = 0
        stop = asyncio.Event()

        async def handler(request: http.Request) -> http.Response:
            await asyncio.sleep(0)
            return http.Response(200, request.body)

        listening = http_fronts.listen()
        port = listening.getsockname()[1]
        front = server.Server(handler)
        await front.start(listening.dup())

        async def user(caller: client.Client) -> None:
            nonlocal answered, failed
            while not stop.is_set():
                try:
                    answer = await caller.request("POST", "/", body=b"x", deadline_s=5.0)
                    assert (answer.status, answer.body) == (200, b"x")
                    answered += 1
                except UnavailableError:
                    failed += 1

        async with client.Client(f"http://127.0.0.1:{port}") as caller:
            users = [asyncio.create_task(user(caller)) for _ in range(32)]
            for _ in range(5):
                goal = answered + 200
                await eventually(lambda: answered > goal)  # noqa: B023  # awaited within the turn
                successor = server.Server(handler)
                await successor.start(listening.dup())
                await front.drain(1.0)
                front = successor
            stop.set()
            await asyncio.gather(*users)
        await front.drain(0.0)
        listening.close()
        assert answered > 1_000
        assert failed == 0

    with asyncio.Runner(loop_factory=own_front.loop_factory) as runner:
        runner.run(main())


def test_a_handler_that_swallows_its_cancellation_is_waited_for(
    own_front: Front, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        release = asyncio.Event()
        begun = asyncio.Event()

        async def handler(_: http.Request) -> http.Response:
            begun.set()
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                await release.wait()
            return http.Response(200, b"too late")

        front, port = await start(handler)
        async with Wire(port) as wire:
            await wire.send(get())
            await begun.wait()
        await eventually(lambda: front.connections == 0)
        assert front.in_flight == 1
        draining = asyncio.create_task(front.drain(0.0))
        await asyncio.sleep(0.02)
        assert not draining.done()
        release.set()
        await draining
        assert front.in_flight == 0

    with caplog.at_level(logging.CRITICAL), asyncio.Runner(loop_factory=own_front.loop_factory) as runner:
        runner.run(main())
