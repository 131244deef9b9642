"""A tree over small workers, in the test's own process and event loop."""

import asyncio
import contextlib
import json
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

import turnout
from turnout.errors import TurnoutError
from turnout.supervisor import tree
from turnout.supervisor.settings import Settings

SMALL_WORKER = (sys.executable, str(Path(__file__).with_name("small_worker.py")))
DEADLINE_S = 20.0


class FakeSource:
    """A document in memory; `save` is what an editor does."""

    def __init__(self, text: str | TurnoutError) -> None:
        self.now = self._as_files(text)
        self._queue: asyncio.Queue[dict[str, str] | TurnoutError] = asyncio.Queue()

    async def read(self) -> dict[str, str]:
        if isinstance(self.now, TurnoutError):
            raise self.now
        return self.now

    async def changes(self) -> AsyncIterator[dict[str, str] | TurnoutError]:
        while True:
            yield await self._queue.get()

    def save(self, text: str | TurnoutError) -> None:
        self._queue.put_nowait(self._as_files(text))

    def _as_files(self, text: str | TurnoutError) -> dict[str, str] | TurnoutError:
        return text if isinstance(text, TurnoutError) else {"turnout.yaml": text}


class RunningTree:
    """A tree that runs, and how tests look at it."""

    def __init__(self, server: tree.Tree, source: FakeSource) -> None:
        self.server = server
        self.source = source
        self.task = asyncio.create_task(server.run())

    async def ask(self, path: str = "/") -> dict[str, Any]:
        """One request on a connection of its own."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.server.settings.listen_port)
        try:
            writer.write(f"GET {path} HTTP/1.1\r\nhost: x\r\n\r\n".encode())
            answer = await reader.read()
        finally:
            writer.close()
        head, _, body = answer.partition(b"\r\n\r\n")
        if not head.startswith(b"HTTP/1.1 200"):
            raise ConnectionError(f"no answer: {answer[:100]!r}")
        return dict(json.loads(body))

    async def until(self, condition: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        """Poll the status until the condition holds."""
        deadline = time.monotonic() + DEADLINE_S
        while True:
            if self.task.done():
                await self.task
            status = await self.server.status() if self.server.telling else {}
            if status and condition(status):
                return status
            assert time.monotonic() < deadline, f"not reached; status is {json.dumps(status, indent=1)}"
            await asyncio.sleep(0.02)

    async def ready(self) -> dict[str, Any]:
        return await self.until(lambda status: bool(status["converged"]) and bool(self.server.url))

    def kill(self, status: dict[str, Any], index: int) -> None:
        os.kill(status["workers"][index]["pid"], signal.SIGKILL)


@pytest.fixture(autouse=True)
def importable(monkeypatch: pytest.MonkeyPatch) -> None:
    """Children import the same Turnout as the tests, installed or not."""
    monkeypatch.setenv("PYTHONPATH", str(Path(turnout.__file__).parent.parent))


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(
        document=str(tmp_path / "turnout.yaml"),
        directory=str(tmp_path),
        state=str(tmp_path / "state"),
        listen_port=0,
        linger_s=0.0,
        drain_s=5.0,
        prepare_s=5.0,
        hello_s=10.0,
    )


@pytest.fixture
def serve() -> Callable[..., contextlib.AbstractAsyncContextManager[RunningTree]]:
    """Run a tree around a block; at the block's end it is stopped and must have ended well."""

    @contextlib.asynccontextmanager
    async def run(
        settings: Settings,
        text: str | TurnoutError = "first",
        *,
        worker: tuple[str, ...] = SMALL_WORKER,
        recorder: tuple[str, ...] = (),
        control_plane: tuple[str, ...] = (),
    ) -> AsyncIterator[RunningTree]:
        source = FakeSource(text)
        commands = tree.Commands(worker=worker, recorder=recorder, control_plane=control_plane)
        server = tree.Tree(settings, source, commands=commands)
        running = RunningTree(server, source)
        try:
            yield running
        finally:
            server.stop()
            with contextlib.suppress(tree.Refused, TurnoutError):
                await asyncio.wait_for(running.task, DEADLINE_S)

    return run


@pytest.fixture
def flood() -> Callable[..., Coroutine[Any, Any, tuple[int, list[str]]]]:
    """Ask without pause until told to stop; returns how many answers came and every failure."""

    async def run(running: RunningTree, stop: asyncio.Event, *, callers: int = 8) -> tuple[int, list[str]]:
        answered = 0
        failures: list[str] = []

        async def caller() -> None:
            nonlocal answered
            while not stop.is_set():
                try:
                    await running.ask()
                    answered += 1
                except (OSError, ValueError) as error:
                    failures.append(repr(error))

        await asyncio.gather(*(caller() for _ in range(callers)))
        return answered, failures

    return run
