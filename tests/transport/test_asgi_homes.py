"""The ASGI adapter in its homes: with and without lifespan, mounted, and called directly."""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import fastapi
import httpx
import pytest
from starlette import applications, routing

from turnout.transport import asgi, http

Run = Callable[[Any], None]


class Life:
    """Counts starts and stops; fails as often as told."""

    def __init__(self, failures: int = 0) -> None:
        self.started = 0
        self.stopped = 0
        self._failures = failures

    async def start(self) -> None:
        await asyncio.sleep(0)
        if self._failures:
            self._failures -= 1
            raise RuntimeError("no model")
        self.started += 1

    async def stop(self) -> None:
        self.stopped += 1


async def path_of(request: http.Request) -> http.Response:
    return http.Response(200, request.path.encode(), b"text/plain")


def make(handler: http.Handler = path_of, life: Life | None = None, limits: http.Limits | None = None) -> asgi.AsgiApp:
    life = life or Life()
    return asgi.AsgiApp(handler, limits=limits, startup=life.start, shutdown=life.stop)


def calling(app: Any, root_path: str = "") -> httpx.AsyncClient:
    transport = httpx.ASGITransport(app=app, root_path=root_path)
    return httpx.AsyncClient(transport=transport, base_url="http://a")


class Exchange:
    """A direct ASGI call: what `receive` gives, and what was sent."""

    def __init__(self, *events: dict[str, Any], **scope: Any) -> None:
        self.scope = {
            "type": "http", "http_version": "1.1", "method": "POST", "path": "/", "raw_path": b"/", "query_string": b"",
            "headers": [(b"host", b"a")], "client": ("127.0.0.1", 1), "root_path": "", **scope,
        }  # fmt: skip
        self._events = list(events)
        self.more = asyncio.Event()
        self.sent: list[Any] = []

    def push(self, event: dict[str, Any]) -> None:
        self._events.append(event)
        self.more.set()

    async def receive(self) -> Any:
        while not self._events:
            self.more.clear()
            await self.more.wait()
        return self._events.pop(0)

    async def send(self, event: Any) -> None:
        self.sent.append(event)

    async def call(self, app: asgi.AsgiApp) -> None:
        async with asyncio.timeout(10.0):
            await app(self.scope, self.receive, self.send)


BODY = {"type": "http.request", "body": b"", "more_body": False}
GONE = {"type": "http.disconnect"}


def test_an_application_without_lifespan_starts_once_on_its_first_requests(run: Run) -> None:
    async def main() -> None:
        life = Life()
        async with calling(make(life=life)) as caller:
            answers = await asyncio.gather(*[caller.get(f"/{n}") for n in range(5)])
        assert [answer.text for answer in answers] == [f"/{n}" for n in range(5)]
        assert (life.started, life.stopped) == (1, 0)

    run(main())


def test_async_with_starts_and_stops(run: Run) -> None:
    async def main() -> None:
        life = Life()
        app = make(life=life)
        async with app:
            assert life.started == 1
            async with calling(app) as caller:
                assert (await caller.get("/x")).text == "/x"
        assert (life.started, life.stopped) == (1, 1)

    run(main())


def test_a_start_that_fails_answers_503_and_is_tried_again(run: Run, caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        life = Life(failures=1)
        async with calling(make(life=life)) as caller:
            answer = await caller.get("/")
            assert answer.status_code == 503
            assert answer.json()["detail"] == "the application did not start: no model"
            assert answer.headers["retry-after"] == "1"
            assert (await caller.get("/")).status_code == 200

    with caplog.at_level(logging.CRITICAL, "turnout"):
        run(main())


def test_lifespan_starts_and_stops(run: Run) -> None:
    async def main() -> None:
        life = Life()
        exchange = Exchange({"type": "lifespan.startup"}, {"type": "lifespan.shutdown"}, type="lifespan")
        await exchange.call(make(life=life))
        assert [event["type"] for event in exchange.sent] == ["lifespan.startup.complete", "lifespan.shutdown.complete"]
        assert (life.started, life.stopped) == (1, 1)

    run(main())


def test_a_lifespan_that_fails_says_why(run: Run, caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        exchange = Exchange({"type": "lifespan.startup"}, type="lifespan")
        await exchange.call(make(life=Life(failures=1)))
        assert exchange.sent == [{"type": "lifespan.startup.failed", "message": "RuntimeError: no model"}]

    with caplog.at_level(logging.CRITICAL, "turnout"):
        run(main())


def test_a_shutdown_that_fails_says_why(run: Run, caplog: pytest.LogCaptureFixture) -> None:
    async def fail() -> None:
        raise RuntimeError("full disk")

    async def main() -> None:
        exchange = Exchange({"type": "lifespan.startup"}, {"type": "lifespan.shutdown"}, type="lifespan")
        await exchange.call(asgi.AsgiApp(path_of, shutdown=fail))
        assert exchange.sent[-1] == {"type": "lifespan.shutdown.failed", "message": "RuntimeError: full disk"}

    with caplog.at_level(logging.CRITICAL, "turnout"):
        run(main())


def test_a_websocket_is_turned_away(run: Run) -> None:
    async def main() -> None:
        exchange = Exchange({"type": "websocket.connect"}, type="websocket")
        await exchange.call(make())
        assert exchange.sent == [{"type": "websocket.close", "code": 1000}]
        with pytest.raises(ValueError, match="'telegraph' is not known"):
            await Exchange(type="telegraph").call(make())

    run(main())


@pytest.mark.parametrize("prefix", ["/models", "/a/b"])
def test_a_mounted_application_sees_the_path_below_its_mount(run: Run, prefix: str) -> None:
    async def main() -> None:
        mounted = make()

        @contextlib.asynccontextmanager
        async def lifespan(_: Any) -> AsyncIterator[None]:
            async with mounted:
                yield

        in_fastapi = fastapi.FastAPI(lifespan=lifespan)
        in_fastapi.mount(prefix, mounted)
        in_fastapi.get("/own")(_own)
        in_starlette = applications.Starlette(routes=[routing.Mount(prefix, app=mounted)])
        for outer in (in_fastapi, in_starlette):
            for root_path in ("", "/proxy"):
                async with calling(outer, root_path) as caller:
                    assert (await caller.get(f"{prefix}/v1/endpoints/x?y=1")).text == "/v1/endpoints/x"
                    assert (await caller.get(f"{prefix}/")).text == "/"
        async with calling(in_fastapi) as caller:
            assert (await caller.get("/own")).json() == "own"

    run(main())


async def _own() -> str:
    return "own"


@pytest.mark.parametrize(
    ("root_path", "path", "below"),
    [
        ("", "/a", "/a"),
        ("/m", "/m/a", "/a"),
        ("/m", "/m", "/"),
        ("/m/", "/m/a", "/a"),
        ("/m", "/a", "/a"),  # servers before ASGI 2.4 left the prefix out of the path
        ("/m", "/machine", "/machine"),
        ("", "", "/"),
    ],
)
def test_the_prefix_is_removed_only_where_it_is_one(root_path: str, path: str, below: str) -> None:
    assert asgi.below_mount({"path": path, "root_path": root_path}) == below


def test_a_client_that_leaves_while_it_sends_runs_nothing(run: Run) -> None:
    async def never(_: http.Request) -> http.Response:
        raise AssertionError

    async def main() -> None:
        exchange = Exchange({"type": "http.request", "body": b"half", "more_body": True}, GONE)
        await exchange.call(make(never))
        assert exchange.sent == []

    run(main())


def test_a_client_that_leaves_cancels_its_handler(run: Run) -> None:
    seen: list[str] = []

    async def handler(_: http.Request) -> http.Response:
        seen.append("begun")
        try:
            await asyncio.Event().wait()
        finally:
            seen.append("ended")
        return http.Response()

    async def main() -> None:
        exchange = Exchange(BODY)
        calling = asyncio.create_task(exchange.call(make(handler)))
        while not seen:
            await asyncio.sleep(0)
        exchange.push(GONE)
        await calling
        assert seen == ["begun", "ended"]
        assert exchange.sent == []

    run(main())


def test_a_server_that_cancels_the_call_cancels_the_handler(run: Run) -> None:
    seen: list[str] = []

    async def handler(_: http.Request) -> http.Response:
        seen.append("begun")
        try:
            await asyncio.Event().wait()
        finally:
            seen.append("ended")
        return http.Response()

    async def main() -> None:
        calling = asyncio.create_task(Exchange(BODY).call(make(handler)))
        while not seen:
            await asyncio.sleep(0)
        calling.cancel()
        with pytest.raises(asyncio.CancelledError):
            await calling
        assert seen == ["begun", "ended"]

    run(main())


def test_a_body_beyond_its_limit_is_refused_before_more_is_read(run: Run) -> None:
    async def main() -> None:
        part = {"type": "http.request", "body": bytes(60), "more_body": True}
        exchange = Exchange(part, part, part, BODY)
        await exchange.call(make(limits=http.Limits(body_bytes=100)))
        assert exchange.sent[0]["status"] == 413
        assert len(exchange._events) == 2
        declared = Exchange(headers=[(b"host", b"a"), (b"content-length", b"101")])
        await declared.call(make(limits=http.Limits(body_bytes=100)))
        assert declared.sent[0]["status"] == 413

    run(main())


@pytest.mark.parametrize(
    ("scope", "status"),
    [
        ({"method": "BREW"}, 501),
        ({"http_version": "4"}, 505),
        ({"headers": []}, 400),
        ({"headers": [(b"host", b"a"), (b"host", b"b")]}, 400),
        ({"headers": [(b"host", b"a"), (b"Transfer-Encoding", b"gzip, chunked")]}, 501),
        ({"headers": [(b"host", b"a"), (b"content-length", b"1"), (b"transfer-encoding", b"chunked")]}, 400),
        ({"headers": [(b"host", b"a"), (b"x", b"y" * 40_000)]}, 431),
        ({"raw_path": b"/%ff"}, 400),
        ({"http_version": "2", "headers": [], "client": None, "raw_path": None}, 200),
    ],
)
def test_what_a_lenient_server_lets_through_is_examined_again(run: Run, scope: dict[str, Any], status: int) -> None:
    async def main() -> None:
        exchange = Exchange(BODY, **scope)
        await exchange.call(make())
        assert exchange.sent[0]["status"] == status

    run(main())


def test_a_stream_that_breaks_off_is_raised_to_the_server(run: Run, caplog: pytest.LogCaptureFixture) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        yield b"begun"
        raise RuntimeError("no")

    async def handler(_: http.Request) -> http.Response:
        return http.Response(200, pieces())

    async def main() -> None:
        exchange = Exchange(BODY)
        with pytest.raises(RuntimeError, match="no"):
            await exchange.call(make(handler))
        assert exchange.sent[-1] == {"type": "http.response.body", "body": b"begun", "more_body": True}

    with caplog.at_level(logging.CRITICAL, "turnout"):
        run(main())


def test_a_server_whose_send_waits_makes_the_stream_wait(run: Run) -> None:
    made = 0

    async def pieces() -> AsyncIterator[bytes]:
        nonlocal made
        for _ in range(10):
            made += 1
            yield b"x"

    async def handler(_: http.Request) -> http.Response:
        return http.Response(200, pieces())

    async def main() -> None:
        gate = asyncio.Event()
        exchange = Exchange(BODY)
        send: Callable[[Any], Awaitable[None]] = exchange.send

        async def slow(event: Any) -> None:
            await send(event)
            if event.get("body"):
                await gate.wait()

        exchange.send = slow  # type: ignore[method-assign]
        calling = asyncio.create_task(exchange.call(make(handler)))
        for _ in range(50):
            await asyncio.sleep(0)
        assert made == 1
        gate.set()
        await calling
        assert made == 10

    run(main())
