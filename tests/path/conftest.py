"""One request through HTTP on a real socket, into a Home in this process."""

import contextlib
import shutil
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest

from turnout.eventlog import segments
from turnout.events import Event, Exposure, Outcome, Prediction
from turnout.gateway import embedded, routes
from turnout.transport import http, server

HERE = Path(__file__).parent
FLOWER = HERE.parents[1] / "examples" / "hello" / "flower.onnx"

DOCUMENT = """
models:
  flower: {source: flower.onnx}
  price: {code: "shop:Moody", timeout: 1s}
pipelines:
  classify: {code: predict, models: {model: flower}}
  judge: {code: "shop:judge", models: {price: price}}
  broken: {code: "shop:broken", models: {price: price}}
  slow: {code: "shop:slow", models: {price: price}}
  as-dict: {code: "shop:judge_dict", models: {price: price}}
  as-struct: {code: "shop:judge_struct", models: {price: price}}
  as-pydantic: {code: "shop:judge_pydantic", models: {price: price}}
  count: {code: "shop:count", models: {price: price}}
endpoints:
  flower: {pipeline: classify, unit: user_id}
  order: {pipeline: judge, unit: user_id, deadline: 3s}
  risky: {pipeline: judge, unit: user_id}
  slow: {pipeline: slow, unit: user_id, deadline: 200ms}
  as-dict: {pipeline: as-dict, unit: user_id}
  as-struct: {pipeline: as-struct, unit: user_id}
  as-pydantic: {pipeline: as-pydantic, unit: user_id}
  count: {pipeline: count, unit: user_id}
  plain: {pipeline: judge}
experiments:
  words:
    endpoint: order
    variants:
      old: {weight: 50, control: true, params: {by: old}}
      new: {weight: 50, params: {by: new}, overrides: [tester]}
    metrics: {primary: {outcome: paid, kind: conversion, window: 1d}}
  rescue:
    endpoint: risky
    fallback: control
    variants:
      works: {weight: 50, control: true}
      breaks: {weight: 50, pipeline: broken}
"""


class Client:
    """HTTP client of one served document, with the events it caused."""

    def __init__(self, http_client: httpx.AsyncClient, served: embedded.Embedded, document: Path) -> None:
        self.http = http_client
        self.served = served
        self.document = document

    async def ask(self, endpoint: str, body: Any, **options: Any) -> httpx.Response:
        content = body if isinstance(body, bytes) else msgspec.json.encode(body)
        return await self.http.post(f"/v1/endpoints/{endpoint}", content=content, **options)

    async def events(self) -> list[Event]:
        """Everything in the segment files so far."""
        await self.served.home.events.flush()
        folder = Path(self.served.home.identity.state) / "segments"
        found: list[Event] = []
        decoder = msgspec.msgpack.Decoder(list[Event])
        for segment in sorted(folder.iterdir()):
            found += read_segment(segment, decoder)
        return found

    async def predictions(self) -> list[Prediction]:
        return [event for event in await self.events() if isinstance(event, Prediction)]

    async def exposures(self) -> list[Exposure]:
        return [event for event in await self.events() if isinstance(event, Exposure)]

    async def outcomes(self) -> list[Outcome]:
        return [event for event in await self.events() if isinstance(event, Outcome)]


def read_segment(path: Path, decoder: "msgspec.msgpack.Decoder[list[Event]]") -> list[Event]:
    data = path.read_bytes()
    pieces = segments.scan(data[len(segments.HEADER) :], len(segments.HEADER))
    return [event for piece in pieces for event in decoder.decode(piece.payload or b"")]


Serve = Callable[..., AbstractAsyncContextManager[Client]]


@pytest.fixture
def serve(tmp_path: Path) -> Serve:
    """Serves a document text: `async with serve() as client`."""

    @contextlib.asynccontextmanager
    async def start(text: str = DOCUMENT, **options: Any) -> AsyncIterator[Client]:
        project = tmp_path / "project"
        if not project.exists():
            shutil.copytree(HERE / "project", project)
            shutil.copy(FLOWER, project / "flower.onnx")
        document = project / "turnout.yaml"
        document.write_text(text)
        served = embedded.Embedded(document, state=tmp_path / "state")
        await served.start()
        limits = http.Limits(body_bytes=1 << 20)
        front = server.Server(routes.Routes(served.home, **options), limits=limits)
        sock = socket.create_server(("127.0.0.1", 0))
        port = sock.getsockname()[1]
        await front.start(sock)
        try:
            async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=20) as client:
                yield Client(client, served, document)
        finally:
            await front.drain(0.0)
            await served.stop()

    return start
