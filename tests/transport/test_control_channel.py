"""The control channel: requests and answers both ways, and every way it can fail."""

import asyncio
import logging
import socket
import struct
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest

from turnout import telemetry
from turnout.errors import DeadlineError, OverloadError, UnavailableError
from turnout.transport import control

Run = Callable[[Any], None]


async def deaf(message: control.Message) -> control.Message | None:
    raise AssertionError(f"nobody should say {message}")


async def pair(
    left: control.Receive = deaf, right: control.Receive = deaf, on_close: Callable[[], None] | None = None
) -> tuple[control.Channel, control.Channel]:
    a, b = socket.socketpair()
    return await control.connect(a, left), await control.connect(b, right, on_close)


def test_both_sides_ask_and_answer(run: Run) -> None:
    async def worker(message: control.Message) -> control.Message | None:
        if isinstance(message, control.Prepare):
            return control.Prepared(
                generation=message.generation,
                revision="r",
                build="b",
                built_s=0.1,
                summary={"models": len(message.files)},
            )
        problem = control.Problem(message="unknown key", file="t.yaml", line=3, path="models", hint="did you mean?")
        return control.Refused(generation=0, errors=[problem])

    async def supervisor(message: control.Message) -> control.Message | None:
        return control.OverviewReply(payload=b"{}") if isinstance(message, control.Overview) else None

    async def main() -> None:
        parent, child = await pair(supervisor, worker)
        prepared, refused, overview, nothing = await asyncio.gather(
            parent.request(control.Prepare(generation=4, files={"a": "b"}), 5.0),
            parent.request(control.Commit(generation=4), 5.0),
            child.request(control.Overview(), 5.0),
            child.request(control.Hello(worker="0", pid=1), 5.0),
        )
        assert isinstance(prepared, control.Prepared)
        assert (prepared.generation, prepared.summary) == (4, {"models": 1})
        assert isinstance(refused, control.Refused)
        assert refused.errors[0].line == 3
        assert overview == control.OverviewReply(payload=b"{}")
        assert nothing == control.Done()
        parent.close()
        await child.wait_closed()

    run(main())


def test_answers_find_their_requests_in_any_order(run: Run) -> None:
    async def worker(message: control.Message) -> control.Message | None:
        assert isinstance(message, control.Commit)
        for _ in range(50 - message.generation):
            await asyncio.sleep(0)
        return control.Committed(generation=message.generation, revision="", at=0.0)

    async def main() -> None:
        parent, _ = await pair(deaf, worker)
        replies = await asyncio.gather(*[parent.request(control.Commit(generation=n), 5.0) for n in range(50)])
        assert [reply.generation for reply in replies if isinstance(reply, control.Committed)] == list(range(50))
        parent.close()

    run(main())


def test_metrics_travel(run: Run) -> None:
    registry = telemetry.Registry()
    registry.histogram("h", "H.", ("a",)).labels("b").observe(0.5)

    async def worker(_: control.Message) -> control.Message | None:
        return control.MetricsReply(families=registry.snapshot())

    async def main() -> None:
        parent, _ = await pair(deaf, worker)
        reply = await parent.request(control.MetricsRequest(), 5.0)
        assert reply == control.MetricsReply(families=registry.snapshot())
        parent.close()

    run(main())


def test_a_large_message_arrives_whole(run: Run) -> None:
    files = {f"{n}.yaml": "x" * 100_000 for n in range(50)}

    async def worker(message: control.Message) -> control.Message | None:
        assert message == control.Prepare(generation=1, files=files)
        return control.Drained()

    async def main() -> None:
        parent, _ = await pair(deaf, worker)
        assert await parent.request(control.Prepare(generation=1, files=files), 5.0) == control.Drained()
        parent.close()

    run(main())


def test_a_note_needs_no_answer(run: Run) -> None:
    async def main() -> None:
        heard: asyncio.Future[control.Message] = asyncio.get_running_loop().create_future()

        async def supervisor(message: control.Message) -> None:
            heard.set_result(message)

        parent, child = await pair(supervisor)
        child.send(control.Ready(worker="0"))
        async with asyncio.timeout(5.0):
            assert await heard == control.Ready(worker="0")
        parent.close()

    run(main())


def test_no_answer_in_time_is_a_deadline_error(run: Run) -> None:
    async def worker(_: control.Message) -> control.Message | None:
        await asyncio.Event().wait()
        return None

    async def main() -> None:
        parent, _ = await pair(deaf, worker)
        with pytest.raises(DeadlineError, match=r"no answer to 'Status' within 0\.05 s"):
            await parent.request(control.Status(), 0.05)
        parent.close()

    run(main())


def test_a_failure_of_the_other_side_is_told(run: Run, caplog: pytest.LogCaptureFixture) -> None:
    async def worker(_: control.Message) -> control.Message | None:
        raise KeyError("models")

    async def main() -> None:
        parent, _ = await pair(deaf, worker)
        with pytest.raises(UnavailableError, match=r"failed to answer 'Status': KeyError: 'models'"):
            await parent.request(control.Status(), 5.0)
        parent.close()

    with caplog.at_level(logging.CRITICAL, "turnout"):
        run(main())


def test_closing_fails_who_waits_tells_both_sides_and_stops_work(run: Run) -> None:
    async def main() -> None:
        closed: list[str] = []
        cancelled = asyncio.Event()
        begun = asyncio.Event()

        async def worker(_: control.Message) -> control.Message | None:
            begun.set()
            try:
                await asyncio.Event().wait()
            finally:
                cancelled.set()
            return None

        parent, child = await pair(deaf, worker, lambda: closed.append("child"))
        waiting = asyncio.create_task(parent.request(control.Status(), 5.0))
        await begun.wait()
        child.close()
        with pytest.raises(UnavailableError, match="closed"):
            await waiting
        async with asyncio.timeout(5.0):
            await cancelled.wait()
            await parent.wait_closed()
        assert closed == ["child"]
        assert not parent.open
        for channel in (parent, child):
            with pytest.raises(UnavailableError, match="'Ready' was not sent"):
                channel.send(control.Ready(worker="0"))

    run(main())


@pytest.mark.parametrize(
    "frame",
    [
        struct.pack("<I", control.FRAME_BYTES + 1),
        struct.pack("<I", 3) + b"\xc1\xc1\xc1",
        struct.pack("<I", 1) + b"\x90",
    ],
    ids=["too large", "no msgpack", "no message"],
)
def test_a_frame_that_is_no_message_closes_the_channel(
    run: Run, frame: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        a, b = socket.socketpair()
        channel = await control.connect(a, deaf)
        b.send(frame)
        async with asyncio.timeout(5.0):
            await channel.wait_closed()
        b.close()

    with caplog.at_level(logging.CRITICAL, "turnout"):
        run(main())


def test_frames_may_come_in_any_pieces(run: Run) -> None:
    async def main() -> None:
        heard: list[control.Message] = []

        async def listen(message: control.Message) -> None:
            heard.append(message)

        a, b = socket.socketpair()
        out, inn = socket.socketpair()
        sender = await control.connect(out, deaf)
        for n in range(3):
            sender.send(control.Abort(generation=n))
        await asyncio.sleep(0)
        raw = inn.recv(65_536)
        channel = await control.connect(a, listen)
        for at in range(len(raw)):
            b.send(raw[at : at + 1])
            await asyncio.sleep(0)
        b.close()
        async with asyncio.timeout(5.0):
            await channel.wait_closed()
        assert heard == [control.Abort(generation=n) for n in range(3)]
        sender.close()
        inn.close()

    run(main())


def test_requests_that_wait_are_bounded(run: Run) -> None:
    async def worker(_: control.Message) -> control.Message | None:
        await asyncio.Event().wait()
        return None

    async def main() -> None:
        parent, _ = await pair(deaf, worker)
        waiting = [asyncio.create_task(parent.request(control.Status(), 30.0)) for _ in range(control.WAITING)]
        await asyncio.sleep(0)
        with pytest.raises(OverloadError, match="requests wait already"):
            await parent.request(control.Status(), 5.0)
        parent.close()
        results = await asyncio.gather(*waiting, return_exceptions=True)
        assert all(isinstance(result, UnavailableError) for result in results)

    run(main())


def test_the_channel_needs_no_more_than_msgspec() -> None:
    code = "import sys, turnout.transport.control; print(' '.join(sys.modules))"
    loaded = set(subprocess.check_output([sys.executable, "-c", code], text=True).split())
    assert not loaded & {"httptools", "uvloop", "numpy", "pydantic"}
