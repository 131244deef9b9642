"""The same request through other doors: mounted in FastAPI, and in process without HTTP."""

import asyncio
import shutil
from collections.abc import Callable
from pathlib import Path

import fastapi
import httpx
import pytest

from turnout.errors import DocumentError, InputError, NotFoundError
from turnout.gateway import asgi, embedded

HERE = Path(__file__).parent
TEXT = """
models: {price: {code: "shop:Moody"}}
pipelines: {judge: {code: "shop:judge", models: {price: price}}}
endpoints: {order: {pipeline: judge, unit: user_id}}
"""


@pytest.fixture
def document(tmp_path: Path) -> Path:
    shutil.copytree(HERE / "project", tmp_path / "project")
    path = tmp_path / "project" / "turnout.yaml"
    path.write_text(TEXT)
    return path


def test_mounted_in_fastapi_beside_own_routes_it_starts_on_the_first_request(document: Path) -> None:
    async def scenario() -> None:
        served = asgi.create_app(document)
        app = fastapi.FastAPI()

        @app.get("/own")
        async def own() -> dict[str, str]:
            return {"by": "fastapi"}

        app.mount("/models", served)
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://app") as client, served:
            answer = await client.post("/models/v1/endpoints/order", json={"user_id": "u", "amount": 2.0})
            assert (answer.status_code, answer.json()["score"]) == (200, 4.0)
            assert (await client.get("/own")).json() == {"by": "fastapi"}
            assert (await client.get("/models/readyz")).json()["ready"] is True

    asyncio.run(scenario())


def test_in_process_the_same_path_without_http(document: Path) -> None:
    async def scenario() -> None:
        async with embedded.Embedded(document) as turnout:
            reply = await turnout.call("order", {"user_id": "u", "amount": 3.0})
            assert reply["score"] == 6.0
            with pytest.raises(InputError, match="amount"):
                await turnout.call("order", {"user_id": "u"})
            with pytest.raises(NotFoundError, match="'ordr'"):
                await turnout.call("ordr", {})
            assert len(await turnout.outcome("paid", unit="u")) == 32

    asyncio.run(scenario())


def test_a_wrong_document_does_not_start(document: Path) -> None:
    document.write_text(TEXT.replace("shop:judge", "shop:jugde"))

    async def scenario() -> None:
        with pytest.raises(DocumentError, match="Did you mean 'judge'"):
            await embedded.Embedded(document).start()

    asyncio.run(scenario())


def test_the_embedded_document_follows_its_file_and_keeps_the_old_one_on_errors(document: Path) -> None:
    async def scenario() -> None:
        async with embedded.Embedded(document) as turnout:
            assert turnout.home.current is not None
            first = turnout.home.current.revision
            document.write_text(TEXT.replace("unit: user_id", "unit: user_id, deadline: 2s"))
            await until(lambda: turnout.home.current is not None and turnout.home.current.revision != first)
            second = turnout.home.current.revision
            document.write_text(TEXT.replace("pipeline: judge", "pipeline: nobody"))
            await until(lambda: turnout.home.refused is not None)
            assert turnout.home.current.revision == second
            assert (await turnout.call("order", {"user_id": "u", "amount": 1.0}))["score"] == 2.0

    async def until(reached: Callable[[], bool]) -> None:
        async with asyncio.timeout(5):
            while not reached():
                await asyncio.sleep(0.02)

    asyncio.run(scenario())
