"""HTTP in, HTTP out: paths to actions, answers to responses. The only file of the gateway that knows both.

Hot path: `Routes.__call__` → `_predict`; everything else is looked up after it.
"""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Sequence
from importlib import resources
from typing import Any
from urllib.parse import parse_qs

import msgspec

from turnout import telemetry
from turnout.assembly import reading, visit
from turnout.errors import InputError, NotFoundError, TurnoutError, UnavailableError
from turnout.gateway import home, ofrep, openapi, problems
from turnout.spec import units
from turnout.transport import http

logger = logging.getLogger("turnout.gateway")

JSON = b"application/json"
ENDPOINTS = "/v1/endpoints/"
ORIGINS = 1_000
"""Combinations of revision, experiment and variant whose headers are kept; a long life sees many revisions."""

Also = tuple[tuple[str, str, str], ...]
Fetch = Callable[[], Awaitable[bytes]]


class Routes:
    """The handler of the data plane.

    Args:
        served: The process's Home.
        overview: Fetches the merged status of all workers as JSON; None when this process is alone.
        metrics: Fetches the merged metrics as Prometheus text; None when this process is alone.
        explain: Whether callers may ask for the trace with `?explain`.
    """

    def __init__(
        self, served: home.Home, *, overview: Fetch | None = None, metrics: Fetch | None = None, explain: bool = False
    ) -> None:
        self._home = served
        self._overview = overview
        self._metrics = metrics
        self._explain = explain
        self._flags = ofrep.Flags()
        self._headers: dict[tuple[str, str, str, Also], tuple[tuple[bytes, bytes], ...]] = {}
        self._table: dict[str, tuple[str, Callable[[http.Request], Awaitable[http.Response]]]] = {
            "/v1/outcomes": ("POST", self._outcomes),
            "/healthz": ("GET", self._healthz),
            "/readyz": ("GET", self._readyz),
            "/status": ("GET", self._status),
            "/metrics": ("GET", self._metrics_text),
            "/openapi.json": ("GET", self._openapi),
            "/docs": ("GET", self._docs),
            "/": ("GET", self._root),
        }

    def __call__(self, request: http.Request) -> Coroutine[Any, Any, http.Response]:
        """Answer one HTTP request; never raises but for cancellation."""
        path = request.path
        if path.startswith(ENDPOINTS) and request.method == "POST":
            return self._predict(request, path[len(ENDPOINTS) :])
        return self._other_or_problem(request, path)

    async def _other_or_problem(self, request: http.Request, path: str) -> http.Response:
        try:
            return await self._other(request, path)
        except TurnoutError as error:
            return problems.response(error)
        except Exception as error:
            logger.exception("%s %s failed", request.method, path)
            return problems.response(error)

    async def _predict(self, request: http.Request, name: str) -> http.Response:
        request_id = self._home.new_id()
        try:
            incoming = reading.Incoming(
                name,
                request.body,
                request_id,
                request.received,
                time.time(),
                request.headers.get,
                self._deadline(request),
            )
            answer = await self._home.dispatch(incoming)
        except TurnoutError as error:
            if problems.status_of(error) == 500:
                logger.error("request %s: %s", request_id, error, exc_info=error.__cause__ or error)
            return problems.response(error, request_id=request_id)
        except Exception as error:
            logger.exception("request %s failed", request_id)
            return problems.response(error, request_id=request_id)
        headers = ((b"turnout-request-id", request_id.encode()), *self._origin(answer.visit))
        if isinstance(answer.body, bytes):
            body = self._explained(answer) if request.query and self._wants_explanation(request) else answer.body
            return http.Response(200, body, JSON, headers)
        return _stream(answer.body, request, headers)

    def _deadline(self, request: http.Request) -> float | None:
        text = request.headers.get(b"turnout-deadline")
        if text is None:
            return None
        try:
            return units.duration(text.decode("latin-1"))
        except TurnoutError as error:
            told = f"header Turnout-Deadline: {error.message}"
            raise InputError(told, path="header:Turnout-Deadline", hint=error.hint) from error

    def _origin(self, guest: visit.Visit) -> tuple[tuple[bytes, bytes], ...]:
        """Revision, experiment, served variant and what other experiments laid over it, built once per combination."""
        split = guest.choice.route.split
        key = (guest.assembly.revision, split.name if split else "", guest.served.variant, guest.served.also)
        found = self._headers.get(key)
        if found is None:
            if len(self._headers) > ORIGINS:
                self._headers.clear()
            revision, experiment, variant, also = key
            found = ((b"turnout-revision", revision.encode()),)
            if experiment:
                found += ((b"turnout-experiment", experiment.encode()), (b"turnout-variant", variant.encode()))
            if also:
                told = ", ".join(f"{other}={chosen}" for other, _, chosen in also)
                found += ((b"turnout-also", told.encode()),)
            self._headers[key] = found
        return found

    def _wants_explanation(self, request: http.Request) -> bool:
        if "explain" not in parse_qs(request.query, keep_blank_values=True):
            return False
        if not self._explain:
            logger.warning("?explain was asked for and is not allowed; start with --allow-explain")
        return self._explain

    def _explained(self, answer: visit.Answer) -> bytes:
        guest = answer.visit
        trace = {
            "request_id": guest.request.id,
            "revision": guest.assembly.revision,
            "build": guest.assembly.build,
            "experiment": guest.choice.route.split.name if guest.choice.route.split else "",
            "assignment": guest.choice.assigned,
            "attributes": guest.choice.attributes,
            "also": {split.name: assigned for split, assigned in guest.choice.also},
            "served": guest.served.variant,
            "fallback": guest.fallback_cause,
            "pipeline": guest.served.pipeline.name,
            "steps": [msgspec.structs.asdict(step) for step in guest.call.steps] if guest.call else [],
        }
        assert isinstance(answer.body, bytes)
        return msgspec.json.encode({"reply": msgspec.Raw(answer.body), "explain": trace})

    async def _other(self, request: http.Request, path: str) -> http.Response:
        if path.startswith(ENDPOINTS):
            return _wrong_method(request, "POST")
        if path == ofrep.FLAGS or path.startswith(f"{ofrep.FLAGS}/"):
            return self._evaluate(request)
        found = self._table.get(path)
        if found is None:
            known = ", ".join([f"{ENDPOINTS}{{name}}", ofrep.FLAGS, *(route for route in self._table if route != "/")])
            raise NotFoundError(f"there is no path {path[:200]!r}.", hint=f"Paths are: {known}.")
        method, action = found
        if request.method != method and not (method == "GET" and request.method == "HEAD"):
            return _wrong_method(request, method)
        return await action(request)

    async def _outcomes(self, request: http.Request) -> http.Response:
        posted = await self._home.record_outcomes(request.body)
        known = self._home.outcome_names()
        unread = sorted({item.name for item in posted} - known)
        reply: dict[str, Any] = {"accepted": len(posted), "event_ids": [item.event_id for item in posted]}
        if unread:
            reply["warnings"] = [
                f"no metric of the document reads {', '.join(map(repr, unread[:10]))}; "
                f"it reads {', '.join(sorted(known)) or 'none'}."
            ]
        return _json(reply, status=202)

    def _evaluate(self, request: http.Request) -> http.Response:
        if request.method != "POST":
            return _wrong_method(request, "POST")
        current = self._home.current
        if current is None:
            raise UnavailableError("no document is in force yet.", hint="Ask /readyz, then retry.", retry_after_s=1.0)
        return self._flags.answer(current, request, now=time.time())

    async def _healthz(self, request: http.Request) -> http.Response:
        return _json({"alive": True})

    async def _readyz(self, request: http.Request) -> http.Response:
        reasons = self._home.not_ready()
        return _json({"ready": not reasons, "reasons": reasons}, status=503 if reasons else 200)

    async def _status(self, request: http.Request) -> http.Response:
        if self._overview is not None:
            return http.Response(200, await self._overview(), content_type=JSON)
        return _json(self._home.status())

    async def _metrics_text(self, request: http.Request) -> http.Response:
        if self._metrics is not None:
            text = await self._metrics()
        else:
            text = telemetry.render(self._home.registry.snapshot())
        return http.Response(200, text, content_type=b"text/plain; version=0.0.4; charset=utf-8")

    async def _openapi(self, request: http.Request) -> http.Response:
        current = self._home.current
        return _json(
            openapi.document(
                current.endpoints.values() if current else (), revision=current.revision if current else ""
            )
        )

    async def _docs(self, request: http.Request) -> http.Response:
        page = await asyncio.to_thread(resources.files("turnout.gateway").joinpath("docs.html").read_bytes)
        return http.Response(200, page, content_type=b"text/html; charset=utf-8", headers=DOCS_HEADERS)

    async def _root(self, request: http.Request) -> http.Response:
        return http.Response(307, b"", content_type=b"text/plain", headers=((b"location", b"/docs"),))


DOCS_HEADERS = (
    (b"content-security-policy", b"default-src 'self'; style-src 'unsafe-inline'; script-src 'unsafe-inline'"),
    (b"x-content-type-options", b"nosniff"),
)


def _json(value: Any, status: int = 200) -> http.Response:
    return http.Response(status, msgspec.json.encode(value), content_type=JSON)


def _wrong_method(request: http.Request, allowed: str) -> http.Response:
    refused = http.Refusal(405, "method", f"{request.path[:200]} takes {allowed}, not {request.method}.")
    response = http.refuse(refused)
    response.headers = ((b"allow", allowed.encode()),)
    return response


def _stream(
    chunks: AsyncIterator[bytes], request: http.Request, headers: Sequence[tuple[bytes, bytes]]
) -> http.Response:
    """Server-sent events, or JSON lines for callers that ask for them."""
    accept = request.headers.get(b"accept") or b""
    lines = b"application/x-ndjson" in accept
    content_type = b"application/x-ndjson" if lines else b"text/event-stream"
    framed = _framed(chunks, b"%s\n" if lines else b"data: %s\n\n", b"%s\n" if lines else b"event: error\ndata: %s\n\n")
    return http.Response(200, framed, content_type=content_type, headers=(*headers, (b"cache-control", b"no-store")))


async def _framed(chunks: AsyncIterator[bytes], frame: bytes, error_frame: bytes) -> AsyncIterator[bytes]:
    """After the first byte the status is sent, so a failure becomes a last event with the problem in it."""
    try:
        async for chunk in chunks:
            yield frame % chunk
    except Exception as error:
        if not isinstance(error, TurnoutError):
            logger.exception("a stream failed")
        yield error_frame % msgspec.json.encode(problems.fields(error))
