"""`turnout serve` as people start it: a real process tree, real sockets, a small driver that counts every failure."""

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import turnout

SOURCE = str(Path(turnout.__file__).parent.parent)
DEADLINE_S = 40.0

CODE = """
import time
from dataclasses import dataclass
from turnout import Model, pipeline

class Scale:
    def load(self, factor: float = 2.0) -> None:
        self.factor = factor

    def predict(self, items: list) -> list:
        time.sleep(0.001)
        return [item * self.factor for item in items]

@dataclass
class Number:
    user_id: str
    value: float

@dataclass
class Answer:
    value: float
    code: str

@pipeline
async def scale(number: Number, *, model: Model, offset: float = 0.0) -> Answer:
    if number.value < 0:
        time.sleep(0.02)  # blocks this worker's event loop: it hears late of everything
    return Answer(value=await model(number.value) + offset, code="{code}")
"""

DOCUMENT = """
models:
  scale: {{runtime: python, code: "numbers_app:Scale", params: {{factor: {factor}}}}}
pipelines:
  plain: {{code: "numbers_app:scale", models: {{model: scale}}}}
endpoints:
  scale: {{pipeline: plain, unit: user_id, deadline: 10s}}
experiments:
  offset:
    endpoint: scale
    variants:
      none: {{weight: {weight}, control: true}}
      some: {{weight: 50, params: {{offset: 1.0}}}}
    metrics: {{primary: {{outcome: liked, kind: conversion, window: 1d}}}}
"""


def document(*, factor: float = 2.0, weight: float = 50) -> str:
    return DOCUMENT.format(factor=factor, weight=weight)


class Project:
    """A folder with a document and code, and the server on it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = 0
        self.process: subprocess.Popen[bytes] | None = None
        self.write()
        self.write_code("old")

    def write(self, text: str | None = None) -> None:
        """Save the document as editors do: a new file, renamed over the old one."""
        draft = self.folder / ".draft"
        draft.write_text(document() if text is None else text)
        draft.replace(self.folder / "turnout.yaml")

    def write_code(self, code: str) -> None:
        (self.folder / "numbers_app.py").write_text(CODE.replace("{code}", code))

    def start(self, *options: str) -> None:
        environment = {**os.environ, "PYTHONPATH": SOURCE, "PYTHONDONTWRITEBYTECODE": "1"}
        arguments = ["serve", "--port", "0", "--linger", "200ms", *options]
        with (self.folder / "out.txt").open("wb") as out, (self.folder / "err.txt").open("wb") as err:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "turnout", *arguments],
                cwd=self.folder,
                env=environment,
                stdout=out,
                stderr=err,
                start_new_session=True,
            )
        own = self.process.pid
        self.wait_for(lambda: (self.note or {}).get("pid") == own, "the server to start")
        self.port = (self.note or {})["port"]

    def run(self, *arguments: str) -> "subprocess.CompletedProcess[str]":
        """A command of ours, run to its end."""
        environment = {**os.environ, "PYTHONPATH": SOURCE, "NO_COLOR": "1"}
        return subprocess.run(
            [sys.executable, "-m", "turnout", *arguments],
            cwd=self.folder,
            env=environment,
            capture_output=True,
            text=True,
            timeout=DEADLINE_S,
            check=False,
        )

    @property
    def note(self) -> dict[str, Any] | None:
        with contextlib.suppress(FileNotFoundError):
            return dict(json.loads((self.folder / ".turnout" / "supervisor.json").read_text()))
        return None

    @property
    def errors(self) -> str:
        return (self.folder / "err.txt").read_text()

    def wait_for(self, condition: Callable[[], bool], what: str) -> None:
        deadline = time.monotonic() + DEADLINE_S
        while not condition():
            if self.process is not None and self.process.poll() is not None:
                raise AssertionError(f"the server ended with {self.process.returncode}: {self.errors}")
            assert time.monotonic() < deadline, f"waited in vain for {what}: {self.errors}"
            time.sleep(0.02)

    def send(self, number: int) -> None:
        assert self.process is not None
        os.kill(self.process.pid, number)

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Signal the server and wait for its end; returns its exit status."""
        assert self.process is not None
        with contextlib.suppress(ProcessLookupError):
            self.send(number)
        return self.process.wait(DEADLINE_S)

    async def status(self) -> dict[str, Any]:
        _, _, body = await exchange(self.port, "GET", "/status")
        return dict(json.loads(body))

    async def unready(self) -> None:
        """Poll `/readyz` until it says no."""
        async with asyncio.timeout(DEADLINE_S):
            while (await exchange(self.port, "GET", "/readyz"))[0] != 503:
                await asyncio.sleep(0.01)

    async def metrics(self) -> str:
        _, _, body = await exchange(self.port, "GET", "/metrics")
        return body.decode()

    async def until(self, condition: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        """Poll `/status` until the condition holds."""
        deadline = time.monotonic() + DEADLINE_S
        while True:
            status = {}
            with contextlib.suppress(OSError, ValueError):
                status = await self.status()
                if condition(status):
                    return status
            assert time.monotonic() < deadline, f"not reached: {json.dumps(status, indent=1)}\n{self.errors}"
            await asyncio.sleep(0.05)


async def exchange(port: int, method: str, path: str, body: bytes = b"") -> tuple[int, dict[str, str], bytes]:
    """One request on a connection of its own."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        return await ask(reader, writer, method, path, body)
    finally:
        writer.close()


async def ask(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, method: str, path: str, body: bytes
) -> tuple[int, dict[str, str], bytes]:
    writer.write(
        b"%s %s HTTP/1.1\r\nhost: t\r\ncontent-length: %d\r\n\r\n%s" % (method.encode(), path.encode(), len(body), body)
    )
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:] if line)}
    return int(head[0].split()[1]), headers, await reader.readexactly(int(headers["content-length"]))


class Load:
    """Callers over keep-alive connections.

    A connection the server closes after saying so is no failure. A new connection that gets no answer was
    turned away: right while the server stops, a failure at any other time.
    """

    def __init__(self, port: int) -> None:
        self.port = port
        self.answered = 0
        self.request_ids: set[str] = set()
        self.statuses: Counter[int] = Counter()
        self.values: Counter[float] = Counter()
        self.codes: Counter[str] = Counter()
        self.revisions: Counter[str] = Counter()
        self.failures: list[str] = []
        self.turned_away: list[str] = []
        self._stop = asyncio.Event()

    async def caller(self, number: int) -> None:
        count = used = 0
        connection: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
        while not self._stop.is_set():
            count += 1
            body = json.dumps({"user_id": f"u{number}-{count}", "value": 1.0}).encode()
            try:
                if connection is None:
                    connection = await asyncio.open_connection("127.0.0.1", self.port)
                status, headers, reply = await ask(*connection, "POST", "/v1/endpoints/scale", body)
            except (OSError, asyncio.IncompleteReadError, ValueError) as error:
                if used:
                    self.failures.append(repr(error))
                else:
                    self.turned_away.append(repr(error))
                if connection is not None:
                    connection[1].close()
                connection, used = None, 0
                await asyncio.sleep(0.02)
                continue
            used += 1
            self.statuses[status] += 1
            if status == 200:
                self.answered += 1
                self.request_ids.add(headers["turnout-request-id"])
                self.revisions[headers["turnout-revision"]] += 1
                said = json.loads(reply)
                self.values[said["value"]] += 1
                self.codes[said["code"]] += 1
            else:
                self.failures.append(f"{status} {reply[:200]!r}")
            if headers.get("connection") == "close" and connection is not None:
                connection[1].close()
                connection, used = None, 0
        if connection is not None:
            connection[1].close()

    def stop(self) -> None:
        self._stop.set()


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Project]:
    made = Project(tmp_path)
    yield made
    if made.process is not None and made.process.poll() is None:
        made.stop(signal.SIGTERM)


@pytest.fixture
def load() -> Callable[..., contextlib.AbstractAsyncContextManager[Load]]:
    """Run callers around a block; afterwards their counts are complete."""

    @contextlib.asynccontextmanager
    async def run(project: Project, *, callers: int = 8) -> AsyncIterator[Load]:
        made = Load(project.port)
        tasks = [asyncio.create_task(made.caller(number)) for number in range(callers)]
        try:
            yield made
        finally:
            made.stop()
            await asyncio.wait_for(asyncio.gather(*tasks), DEADLINE_S)

    return run


@pytest.fixture
def write_document() -> Callable[..., str]:
    return document


@pytest.fixture(name="ask")
def ask_fixture() -> Callable[..., Any]:
    """One request on a connection that stays open."""
    return ask
