"""Replies of any type: numpy anywhere, and nothing silently turned into null."""

import dataclasses
from typing import Any, TypedDict

import msgspec
import numpy as np
import pydantic
import pytest

from turnout.errors import InputError, StepError
from turnout.pipelines import codec


@dataclasses.dataclass
class DataReply:
    score: Any
    more: Any = None


class StructReply(msgspec.Struct):
    score: Any
    more: Any = None


class DictReply(TypedDict, total=False):
    score: Any
    more: Any


class ModelReply(pydantic.BaseModel):
    score: Any
    more: Any = None


KINDS: list[Any] = [DataReply, StructReply, DictReply, ModelReply]


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (np.float32(0.5), 0.5),
        (np.float64(0.1), 0.1),
        (np.int64(3), 3),
        (np.bool_(True), True),
        (np.array([0.5, 1.0], np.float32), [0.5, 1.0]),
        (np.array([[1, 2], [3, 4]]), [[1, 2], [3, 4]]),
        (np.arange(4).reshape(2, 2).T, [[0, 2], [1, 3]]),
        ([np.float32(1), {"a": np.array([2])}], [1.0, {"a": [2]}]),
        (np.array(["a"], object), ["a"]),
        (None, None),
        ({"a": None}, {"a": None}),
    ],
    ids=str,
)
def test_numpy_is_encoded_anywhere(kind: Any, value: Any, expected: Any) -> None:
    body = codec.of(kind).encode(kind(score=value, more=1))
    assert msgspec.json.decode(body) == {"score": expected, "more": 1}


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
@pytest.mark.parametrize(
    ("value", "path"),
    [
        (float("nan"), "score"),
        (float("-inf"), "score"),
        (np.float32("nan"), "score"),
        (np.array([1, np.inf]), "score"),
        ([1.0, {"deep": [0.0, float("nan")]}], "score[1].deep[1]"),
        (object(), "score"),
        ([1, object()], "score[1]"),
    ],
    ids=["nan", "-inf", "float32 nan", "array with inf", "nan deep inside", "an object", "a list with an object"],
)
def test_what_json_cannot_say_is_refused_naming_the_field(kind: Any, value: Any, path: str) -> None:
    with pytest.raises(StepError) as caught:
        codec.of(kind, pipeline="p").encode(kind(score=value, more=None))
    assert f" {path}: " in str(caught.value)
    assert (caught.value.pipeline, caught.value.step) == ("p", "code")


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_reply_that_contains_itself_is_refused(kind: Any) -> None:
    circle: list[Any] = []
    circle.append(circle)
    with pytest.raises(StepError):
        codec.of(kind).encode(kind(score=circle))


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_reply_of_another_class_is_refused(kind: Any) -> None:
    with pytest.raises(StepError, match=r"returned str, but declares"):
        codec.of(kind, pipeline="p").encode("text")


class Vectors(msgspec.Struct):
    plain: np.ndarray[Any, Any]
    small: "np.ndarray[Any, np.dtype[np.float32]]"


def test_array_in_a_request_type_becomes_an_array_of_its_dtype() -> None:
    found = codec.of(Vectors).decode(b'{"plain": [[1, 2], [3, 4]], "small": [0.5]}')
    assert found.plain.tolist() == [[1, 2], [3, 4]]
    assert found.small.dtype == np.float32


@pytest.mark.parametrize("value", [b'"text"', b"[[1], [2, 3]]", b'["a"]', b"[1e39]", b'{"a": 1}'])
def test_array_in_a_request_type_refuses_what_is_no_array(value: bytes) -> None:
    with pytest.raises(InputError, match="small"):
        codec.of(Vectors).decode(b'{"plain": [1], "small": ' + value + b"}")
