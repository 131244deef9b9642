"""Errors as RFC 9457 problem documents: the one place that knows which error has which HTTP status.

Called by `routes`. What the transport refuses before there is a request, it renders itself: `transport/http.refuse`.
"""

from collections.abc import Sequence
from typing import Any

import msgspec

from turnout import errors
from turnout.transport import http

CONTENT_TYPE = http.PROBLEM

STATUS: dict[type[errors.TurnoutError], int] = {
    errors.InputError: 422,
    errors.NotFoundError: 404,
    errors.ConflictError: 409,
    errors.OverloadError: 503,
    errors.UnavailableError: 503,
    errors.DeadlineError: 504,
    errors.StepError: 500,
    errors.ModelError: 500,
    errors.StoreError: 503,
    errors.SpecError: 500,
    errors.TurnoutError: 500,
}
"""Error class to status; a subclass without a line of its own has its parent's. A body that is not JSON is 400."""

TITLES = {
    400: "The body is not valid JSON",
    404: "Not found",
    405: "Method not allowed",
    409: "Conflict",
    413: "The body is too large",
    422: "The request does not fit the contract",
    500: "The pipeline failed",
    503: "Not available now",
    504: "The deadline passed",
}

RETRY_AFTER_S = 1.0
"""Seconds a caller is told to wait after a 503 that names no time of its own."""


def status_of(error: errors.TurnoutError) -> int:
    """HTTP status of an error, by its class."""
    if isinstance(error, errors.InputError) and error.kind == "syntax":
        return 400
    return next(STATUS[kind] for kind in type(error).__mro__ if kind in STATUS)


def fields(error: BaseException) -> dict[str, Any]:
    """The members of the problem document for one error. What is not ours is told as "internal", without its text."""
    if not isinstance(error, errors.TurnoutError):
        return {
            "type": f"{http.PROBLEM_TYPE}internal",
            "title": TITLES[500],
            "status": 500,
            "code": "internal",
            "detail": "something failed that Turnout does not know; the server's log has it under this request id.",
        }
    status = status_of(error)
    problem: dict[str, Any] = {
        "type": f"{http.PROBLEM_TYPE}{error.code}",
        "title": TITLES.get(status, TITLES[500]),
        "status": status,
        "code": error.code,
        "detail": error.message,
    }
    extra = {
        name: getattr(error, name, "") for name in ("hint", "path", "pipeline", "step", "model", "version", "stage")
    }
    problem.update({name: value for name, value in extra.items() if value})
    return problem


def response(
    error: BaseException, *, request_id: str = "", headers: Sequence[tuple[bytes, bytes]] = ()
) -> http.Response:
    """The HTTP response for an error."""
    problem = fields(error)
    sent = list(headers)
    if request_id:
        problem["request_id"] = request_id
        sent.append((b"turnout-request-id", request_id.encode()))
    if problem["status"] == 503:
        wait_s = getattr(error, "retry_after_s", None) or RETRY_AFTER_S
        sent.append((b"retry-after", b"%d" % max(1, round(wait_s))))
    return http.Response(problem["status"], msgspec.json.encode(problem), content_type=CONTENT_TYPE, headers=sent)
