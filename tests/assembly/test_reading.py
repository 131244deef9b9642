"""Unit and attributes of a request: by path, from body and headers, in one decode."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as some

from turnout.assembly import reading
from turnout.errors import InputError

SCALARS = some.none() | some.booleans() | some.integers(-(2**53), 2**53) | some.text(max_size=8)


def request(body: Any, **headers: str) -> reading.Incoming:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    lines = {key.replace("_", "-").encode(): value.encode() for key, value in headers.items()}
    return reading.Incoming("e", raw, id="0" * 32, received=0.0, ts=0.0, header=lines.get)


def test_unit_and_attributes_come_from_their_places() -> None:
    read = reading.SubjectReader("user.id", {"country": "user.country", "plan": "header:X-Plan", "class": "class"})
    unit, attributes = read(request({"user": {"id": 7, "country": "KR"}, "class": "a"}, x_plan="pro"))
    assert (unit, attributes) == ("7", {"country": "KR", "plan": "pro", "class": "a"})


def test_what_is_not_there_is_none() -> None:
    read = reading.SubjectReader("user_id", {"country": "user.country", "plan": "header:X-Plan"})
    assert read(request({})) == (None, {"country": None, "plan": None})
    assert read(request(b"{broken")) == (None, {"country": None, "plan": None})
    assert read(request([])) == (None, {"country": None, "plan": None})


def test_a_path_through_something_else_does_not_hide_the_others() -> None:
    read = reading.SubjectReader("user_id", {"country": "user.country", "age": "age"})
    assert read(request({"user_id": "u1", "user": "bob", "age": 3})) == ("u1", {"country": None, "age": 3})


def test_one_path_may_be_the_beginning_of_another() -> None:
    read = reading.SubjectReader("user.id", {"whole": "user", "deep": "user.address.city"})
    assert read(request({"user": {"id": "u1", "address": {"city": "Seoul"}}})) == (
        "u1",
        {"whole": None, "deep": "Seoul"},
    )


@pytest.mark.parametrize(
    ("value", "taken"),
    [
        ("x" * 4_096, True),
        ("x" * 4_097, False),
        ([1, "a", 2.5, True, None], True),
        (["a"] * 101, False),
        (["x" * 4_097], False),
        (["x" * 40] * 100, True),
        (["x" * 41] * 100, False),
        ([[1]], False),
        ({"a": 1}, False),
        (False, True),
        (1.5, True),
    ],
)
def test_what_is_too_much_for_a_condition_is_no_attribute(value: Any, taken: bool) -> None:
    read = reading.SubjectReader("user_id", {"a": "a"})
    assert read(request({"user_id": "u1", "a": value})) == ("u1", {"a": value if taken else None})


@pytest.mark.parametrize("unit", [True, 1.5, ["u"], {"id": "u"}, "x" * 2000])
def test_a_wrong_unit_is_the_callers_error_beside_attributes_too(unit: Any) -> None:
    with pytest.raises(InputError) as caught:
        reading.SubjectReader("user_id", {"age": "age"})(request({"user_id": unit, "age": 1}))
    assert caught.value.path == "user_id"


@given(some.dictionaries(some.sampled_from(["user_id", "a", "b-c", "class", "_x"]), SCALARS), some.text(max_size=5))
def test_both_readers_find_the_same_unit(body: dict[str, Any], plan: str) -> None:
    paths = {name: name for name in ("a", "b-c", "class", "_x")}
    asked = request(body, x_plan=plan)
    try:
        alone = reading.UnitReader("user_id")(asked)
    except InputError:
        with pytest.raises(InputError):
            reading.SubjectReader("user_id", paths)(asked)
        return
    unit, attributes = reading.SubjectReader("user_id", paths)(asked)
    assert unit == alone
    assert attributes == {name: body.get(name) for name in paths}
