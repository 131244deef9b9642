"""Which error a caller meets as which HTTP status."""

import inspect
from typing import Any

import msgspec
import pytest

from turnout import errors
from turnout.gateway import problems


def classes(base: type[errors.TurnoutError]) -> list[type[errors.TurnoutError]]:
    return [base, *(found for child in base.__subclasses__() for found in classes(child))]


def body(error: BaseException, **options: Any) -> dict[str, Any]:
    answer = problems.response(error, **options)
    assert isinstance(answer.body, bytes)
    assert answer.content_type == b"application/problem+json"
    found: dict[str, Any] = msgspec.json.decode(answer.body)
    assert found["status"] == answer.status
    return found


def test_every_class_of_errors_has_a_status_and_a_title() -> None:
    for kind in set(classes(errors.TurnoutError)) - {errors.DocumentError}:
        parameters = inspect.signature(kind).parameters.values()
        needed: Any = {each.name: "x" for each in parameters if each.default is each.empty and each.name != "message"}
        told = problems.fields(kind("it happened.", hint="Do this.", **needed))
        assert told["title"] == problems.TITLES[told["status"]]
        assert told["type"] == f"urn:turnout:problem:{kind.code}"
        assert (told["detail"], told["hint"]) == ("it happened.", "Do this.")


def test_only_a_body_that_is_no_json_is_a_bad_request() -> None:
    assert body(errors.InputError("no JSON.", kind="syntax"))["status"] == 400
    told = body(errors.InputError("wrong.", path="items[3].price"), request_id="ab" * 16)
    assert (told["status"], told["path"], told["request_id"]) == (422, "items[3].price", "ab" * 16)


def test_what_is_not_ours_is_told_without_its_text() -> None:
    told = body(KeyError("password"), request_id="cd" * 16)
    assert (told["status"], told["code"]) == (500, "internal")
    assert "password" not in str(told)


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (errors.OverloadError("full."), b"1"),
        (errors.UnavailableError("loading.", retry_after_s=7.4), b"7"),
        (errors.UnavailableError("loading.", retry_after_s=0.2), b"1"),
        (errors.NotFoundError("none."), None),
        (errors.DeadlineError("late."), None),
    ],
    ids=["default", "own", "at least a second", "not found", "deadline"],
)
def test_a_caller_is_told_when_to_come_back_where_that_helps(
    error: errors.TurnoutError, expected: bytes | None
) -> None:
    assert dict(problems.response(error).headers).get(b"retry-after") == expected
