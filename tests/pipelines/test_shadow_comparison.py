"""Two replies side by side: equal as JSON or not, and how far their numbers are apart."""

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as some

from turnout.pipelines import shadow

NUMBERS = some.integers(-(2**53), 2**53) | some.floats(allow_nan=False, allow_infinity=False, width=32)
VALUES = some.recursive(
    some.none() | some.booleans() | NUMBERS | some.text(max_size=5),
    lambda inner: some.lists(inner, max_size=4) | some.dictionaries(some.text(max_size=3), inner, max_size=4),
    max_leaves=12,
)


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        ({"a": 1}, {"a": 1}, (True, 0.0)),
        ({"a": 1, "b": 2}, {"b": 2, "a": 1}, (True, 0.0)),
        ({"a": 1}, {"a": 1.0}, (True, 0.0)),
        ({"a": 1}, {"a": True}, (False, None)),
        ({"a": None}, {}, (False, None)),
        ([1, 2, 3], [1, 2], (False, 0.0)),
        ([1, 2, 3], [1, 5, 2], (False, 3.0)),
        ({"a": {"b": [0.5]}, "c": "x"}, {"a": {"b": [0.25]}, "c": "y"}, (False, 0.25)),
        ("x", "y", (False, None)),
        ("1", 1, (False, None)),
    ],
)
def test_known_pairs(one: Any, other: Any, expected: tuple[bool, float | None]) -> None:
    assert shadow.compared(json.dumps(one).encode(), json.dumps(other).encode()) == expected


@given(VALUES)
def test_a_reply_agrees_with_itself_however_it_is_written(value: Any) -> None:
    plain = msgspec.json.encode(value)
    spread = json.dumps(value, indent=2, sort_keys=True).encode()
    assert shadow.compared(plain, spread) == (True, 0.0)


@given(VALUES, VALUES)
def test_comparing_is_symmetric(one: Any, other: Any) -> None:
    left, right = msgspec.json.encode(one), msgspec.json.encode(other)
    assert shadow.compared(left, right) == shadow.compared(right, left)


def test_very_long_replies_are_compared_as_bytes() -> None:
    long = msgspec.json.encode([0.5] * 200_000)
    other = msgspec.json.encode([0.5] * 199_999 + [0.75])
    assert shadow.compared(long, other) == (False, None)
    assert shadow.compared(long, bytes(bytearray(long))) == (True, 0.0)
