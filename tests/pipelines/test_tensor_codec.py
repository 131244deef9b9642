"""Inputs and Outputs against a model's signature: shape, dtype and range are checked at the edge."""

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from turnout.errors import InputError, SpecError, StepError
from turnout.pipelines import tensors
from turnout.wire import TensorSpec


def codec_of(*specs: tuple[str, str, tuple[int, ...]], extra: str = "") -> tensors.TensorCodec:
    names = frozenset({extra} if extra else ())
    return tensors.TensorCodec(tuple(TensorSpec(*spec) for spec in specs), extra_names=names, pipeline="hello")


def as_json(value: Any) -> bytes:
    return json.dumps(value).encode()


VECTOR = ("x", "FP32", (3,))


def test_vector_becomes_an_array_of_the_signatures_dtype_and_the_unit_is_dropped() -> None:
    found = codec_of(VECTOR, extra="user_id").decode(b'{"user_id": "u", "x": [1, 2.5, -3]}')
    assert list(found) == ["x"]
    assert found["x"].dtype == np.float32
    assert found["x"].tolist() == [1, 2.5, -3]


@pytest.mark.parametrize("extra_first", [True, False])
def test_unit_that_is_an_input_too_is_kept(extra_first: bool) -> None:
    made = codec_of(("user_id", "INT64", (1,)), VECTOR, extra="user_id")
    assert made.decode(b'{"user_id": 7, "x": [1, 2, 3]}')["user_id"].tolist() == [7]


@pytest.mark.parametrize(
    ("dtype", "values"),
    [
        ("BOOL", [True, False]),
        ("INT8", [-128, 127]),
        ("INT16", [-(2**15), 2**15 - 1]),
        ("INT32", [-(2**31), 2**31 - 1]),
        ("INT64", [-(2**63), 2**63 - 1]),
        ("UINT8", [0, 255]),
        ("UINT16", [0, 2**16 - 1]),
        ("UINT32", [0, 2**32 - 1]),
        ("UINT64", [0, 2**64 - 1]),
        ("FP16", [0.5, 65504.0]),
        ("FP32", [0.5, 3.0e38]),
        ("FP64", [0.1, 1.7e308]),
        ("BYTES", ["a", "é"]),
    ],
)
def test_every_dtype_reads_its_extremes(dtype: str, values: list[Any]) -> None:
    made = codec_of(("x", dtype, (2,)))
    found = made.decode(as_json({"x": values}))["x"]
    assert found.dtype == tensors.KINDS[dtype].numpy
    assert found.tolist() == np.array(values, found.dtype).tolist()


@pytest.mark.parametrize(
    ("dtype", "value"),
    [
        ("INT8", 128),
        ("UINT8", -1),
        ("INT64", 2**63),
        ("UINT64", 2**64),
        ("INT32", 10**400),
        ("FP16", 65520.0),
        ("FP32", 1e39),
        ("FP32", -3.5e38),
    ],
)
@pytest.mark.parametrize("shape", [(2,), (-1,), (2, 2), (1,)])
def test_number_out_of_the_dtypes_range_is_refused_with_its_position(
    dtype: str, value: Any, shape: tuple[int, ...]
) -> None:
    body, path = {
        (2,): ({"x": [0, value]}, "x[1]"),
        (-1,): ({"x": [0, value]}, "x[1]"),
        (2, 2): ({"x": [[0, 0], [0, value]]}, "x[1][1]"),
        (1,): ({"x": value}, "x"),
    }[shape]
    with pytest.raises(InputError, match=dtype) as caught:
        codec_of(("x", dtype, shape)).decode(as_json(body))
    assert caught.value.path == path


@pytest.mark.parametrize(
    ("body", "path", "words"),
    [
        (b'{"x": [1, 2]}', "x", ["an array of 2", "an array of 3", "The model takes x FP32[3]"]),
        (b'{"x": [1, 2, 3, 4]}', "x", ["an array of 4", "an array of 3"]),
        (b'{"x": []}', "x", ["an array of 0", "an array of 3"]),
        (b'{"x": 1}', "x", ["the number 1", "array"]),
        (b'{"x": [[1, 2, 3]]}', "x[0]", ["an array of 3", "number"]),
        (b'{"x": [1, "2", 3]}', "x[1]", ['"2"', "number"]),
        (b'{"x": [1, null, 3]}', "x[1]", ["null", "number"]),
        (b'{"x": [1, true, 3]}', "x[1]", ["true", "number"]),
        (b'{"x": [1, NaN, 3]}', "", ["NaN"]),
        (b'{"x": [1, 1e400, 3]}', "x[1]", ["out of range"]),
        (b"{}", "x", ["missing"]),
        (b'{"y": [1, 2, 3]}', "y", ["unknown field", "The model takes"]),
        (b'{"x": [1, 2, 3], "user_di": "u"}', "user_di", ["Did you mean 'user_id'?"]),
        (b"[[1, 2, 3]]", "", ["object"]),
        (b"", "", ["empty"]),
    ],
)
def test_body_that_does_not_fit_the_signature_is_refused(body: bytes, path: str, words: list[str]) -> None:
    with pytest.raises(InputError) as caught:
        codec_of(VECTOR, extra="user_id").decode(body)
    assert caught.value.path == path
    for word in words:
        assert word in str(caught.value)


def test_one_number_may_come_bare() -> None:
    made = codec_of(("age", "INT64", (1,)), ("zero", "FP64", ()))
    for body in (b'{"age": 3, "zero": 0.5}', b'{"age": [3], "zero": 0.5}'):
        found = made.decode(body)
        assert found["age"].shape == (1,)
        assert found["zero"].shape == ()
        assert (found["age"][0], found["zero"][()]) == (3, 0.5)
    with pytest.raises(InputError):
        made.decode(b'{"age": [3, 4], "zero": 0.5}')
    with pytest.raises(InputError):
        made.decode(b'{"age": 3, "zero": [0.5]}')


def test_matrix_keeps_its_shape() -> None:
    found = codec_of(("x", "FP32", (2, 3))).decode(b'{"x": [[1, 2, 3], [4, 5, 6]]}')["x"]
    assert found.tolist() == [[1, 2, 3], [4, 5, 6]]


def test_dimension_of_any_length_takes_any_but_zero() -> None:
    made = codec_of(("x", "FP32", (-1, 2)), ("ids", "INT64", (-1,)))
    found = made.decode(b'{"x": [[1, 2], [3, 4], [5, 6]], "ids": [1]}')
    assert (found["x"].shape, found["ids"].shape) == ((3, 2), (1,))
    with pytest.raises(InputError, match="at least 1"):
        made.decode(b'{"x": [], "ids": [1]}')


def test_ragged_rows_are_refused() -> None:
    with pytest.raises(InputError, match="different lengths in dimension 1"):
        codec_of(("x", "FP32", (-1, -1))).decode(b'{"x": [[1, 2], [3]]}')


def test_arrays_are_read_only_because_requests_are() -> None:
    found = codec_of(VECTOR).decode(b'{"x": [1, 2, 3]}')["x"]
    assert not found.flags.writeable


def test_dtype_without_a_form_in_json_is_an_error_of_the_document() -> None:
    with pytest.raises(SpecError, match="BF16"):
        codec_of(("x", "BF16", (2,)))


def test_unknown_fields_pass_when_the_endpoint_ignores_them() -> None:
    made = tensors.TensorCodec((TensorSpec(*VECTOR),), extra_fields="ignore")
    assert list(made.decode(b'{"x": [1, 2, 3], "z": {}}')) == ["x"]


@pytest.mark.parametrize(
    ("value", "body"),
    [
        ({"x": np.array([0.1, 2, 3], np.float32)}, b'{"x":[0.1,2.0,3.0]}'),
        ({"x": [1, 2, 3]}, b'{"x":[1,2,3]}'),
        ({"x": np.float32(0.1)}, b'{"x":0.1}'),
        ({"x": np.arange(6.0).reshape(2, 3).T}, b'{"x":[[0.0,3.0],[1.0,4.0],[2.0,5.0]]}'),
        ({"x": np.array(["a", "b"], object)}, b'{"x":["a","b"]}'),
        ({"x": np.array([True])}, b'{"x":[true]}'),
    ],
)
def test_reply_encodes_whatever_holds_numbers(value: Any, body: bytes) -> None:
    assert codec_of(VECTOR).encode(value) == body


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ({"x": np.array([1, np.nan, 2])}, ["output 'x'", "NaN"]),
        ({"x": np.array([1, -np.inf], np.float32)}, ["output 'x'", "infinite"]),
        ({"x": float("nan")}, ["output 'x'"]),
        ({"x": [1.0, float("inf")]}, ["output 'x[1]'"]),
        ({"x": object()}, ["output 'x'", "object"]),
        ({"y": [1]}, ["'y'", "'x'"]),
        ({}, ["none", "'x'"]),
        ([1], ["list", "Outputs"]),
    ],
)
def test_reply_that_json_cannot_say_is_refused_naming_the_output(value: Any, words: list[str]) -> None:
    with pytest.raises(StepError) as caught:
        codec_of(VECTOR).encode(value)
    for word in ["'hello'", *words]:
        assert word in str(caught.value)


@pytest.mark.parametrize("shape", [(), (1,), (3,), (-1,), (2, 3), (-1, 4), (2, 2, 2)], ids=str)
@pytest.mark.parametrize("dtype", sorted(tensors.KINDS))
def test_example_decodes(dtype: str, shape: tuple[int, ...]) -> None:
    made = codec_of(("x", dtype, shape), extra="user_id")
    assert made.decode(as_json(made.example()))["x"].ndim == len(shape)


def test_schema_says_lengths_and_forbids_the_rest() -> None:
    schema = codec_of(VECTOR, ("ids", "UINT8", (-1, 2)), extra="user_id").json_schema()
    assert schema["additionalProperties"] is False
    assert schema["required"] == ["x", "ids"]
    assert schema["properties"]["x"] == {
        "type": "array",
        "items": {"type": "number"},
        "minItems": 3,
        "maxItems": 3,
        "description": "FP32[3]",
    }
    assert schema["properties"]["ids"]["items"]["items"] == {"type": "integer", "minimum": 0, "maximum": 255}
    assert "user_id" in schema["properties"]


@given(st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=1, max_size=40))
def test_fp32_survives_the_round_trip(values: list[float]) -> None:
    made = codec_of(("x", "FP32", (-1,)))
    array = np.array(values, np.float32)
    found = made.decode(made.encode({"x": array}))["x"]
    assert found.tobytes() == array.tobytes() or np.array_equal(found, array)
