"""ONNX files: rows, shapes, types, outputs, and what a wrong file or row says."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from skl2onnx import to_onnx
from sklearn.linear_model import LogisticRegression

from turnout import wire
from turnout.errors import SpecError

Graph = Callable[..., Path]
Opened = Callable[..., Any]

TWO = {"two": np.array(2, np.float32)}
DOUBLE = [("Mul", ["x", "two"], ["y"])]


def test_the_signature_is_the_artifacts(graph: Graph, opened: Opened) -> None:
    path = graph(
        [("Mul", ["x", "two"], ["y"]), ("Identity", ["n"], ["m"])],
        {"x": ("FLOAT", ["b", 3, "t"]), "n": ("INT64", ["b"])},
        {"y": ("FLOAT", ["b", 3, "t"]), "m": ("INT64", ["b"])},
        TWO,
    )
    assert opened("onnx", path).signature() == wire.Signature(
        (wire.TensorSpec("x", "FP32", (3, -1)), wire.TensorSpec("n", "INT64", ())),
        (wire.TensorSpec("y", "FP32", (3, -1)), wire.TensorSpec("m", "INT64", ())),
    )


@pytest.mark.parametrize(
    "rows",
    [
        [[1.0, 2.0], [3.0, 4.0]],
        [np.array([1, 2], np.float32), np.array([3, 4], np.float32)],
        [np.array([1, 2], np.float64), [3, 4]],
        [(1, 2), [3, 4]],
    ],
    ids=["lists", "arrays", "mixed", "whole numbers"],
)
def test_bare_rows_get_bare_answers(graph: Graph, opened: Opened, rows: list[Any]) -> None:
    runtime = opened("onnx", graph(DOUBLE, {"x": ("FLOAT", ["b", 2])}, {"y": ("FLOAT", ["b", 2])}, TWO))
    answers = runtime.predict(rows)
    assert [answer.tolist() for answer in answers] == [[2.0, 4.0], [6.0, 8.0]]
    assert answers[0].dtype == np.float32


def test_dict_and_bare_rows_may_share_a_batch(graph: Graph, opened: Opened) -> None:
    runtime = opened("onnx", graph(DOUBLE, {"x": ("FLOAT", ["b", 2])}, {"y": ("FLOAT", ["b", 2])}, TWO))
    first, second = runtime.predict([{"x": [1, 2]}, [3, 4]])
    assert {name: value.tolist() for name, value in first.items()} == {"y": [2.0, 4.0]}
    assert second.tolist() == [6.0, 8.0]


def test_several_inputs_and_outputs(graph: Graph, opened: Opened) -> None:
    path = graph(
        [("Add", ["a", "b"], ["sum"]), ("Sub", ["a", "b"], ["difference"])],
        {"a": ("FLOAT", ["n", 1]), "b": ("FLOAT", ["n", 1])},
        {"sum": ("FLOAT", ["n", 1]), "difference": ("FLOAT", ["n", 1])},
    )
    runtime = opened("onnx", path)
    answers = runtime.predict([{"a": [3], "b": [1]}, {"a": [5], "b": [6]}])
    assert [{k: v.tolist() for k, v in answer.items()} for answer in answers] == [
        {"sum": [4.0], "difference": [2.0]},
        {"sum": [11.0], "difference": [-1.0]},
    ]
    with pytest.raises(ValueError, match=r"input 'b' is missing; the model takes \['a', 'b'\], got \['a'\]"):
        runtime.predict([{"a": [1]}])
    with pytest.raises(TypeError, match=r"a row must be a dict with the inputs \['a', 'b'\], got list"):
        runtime.predict([[1]])


def test_a_column_of_one_takes_bare_numbers(graph: Graph, opened: Opened) -> None:
    runtime = opened("onnx", graph(DOUBLE, {"x": ("FLOAT", ["b", 1])}, {"y": ("FLOAT", ["b", 1])}, TWO))
    answers = runtime.predict([{"x": 3}, {"x": 4.5}])
    assert [answer["y"].tolist() for answer in answers] == [[6.0], [9.0]]


def test_rows_of_different_lengths_are_grouped(graph: Graph, opened: Opened) -> None:
    path = graph(
        [("ReduceSum", ["x", "axis"], ["y"], {"keepdims": 0})],
        {"x": ("INT64", ["b", "t"])},
        {"y": ("INT64", ["b"])},
        {"axis": np.array([1], np.int64)},
    )
    runtime = opened("onnx", path)
    rows = [[1], [1, 2], [3], [4, 5, 6], [1, 1]]
    assert [int(answer) for answer in runtime.predict(rows)] == [1, 3, 3, 15, 2]


@pytest.mark.parametrize("fixed", [1, 4])
def test_a_fixed_batch_is_honoured(graph: Graph, opened: Opened, fixed: int) -> None:
    runtime = opened("onnx", graph(DOUBLE, {"x": ("FLOAT", [fixed, 2])}, {"y": ("FLOAT", [fixed, 2])}, TWO))
    assert runtime.signature() == wire.Signature(
        (wire.TensorSpec("x", "FP32", (2,)),), (wire.TensorSpec("y", "FP32", (2,)),)
    )
    for count in (1, 3, 4, 9):
        answers = runtime.predict([[i, i + 1] for i in range(count)])
        assert [answer.tolist() for answer in answers] == [[2.0 * i, 2.0 * i + 2] for i in range(count)]


def test_an_output_without_batch_belongs_to_the_only_row(graph: Graph, opened: Opened) -> None:
    path = graph([("NonZero", ["x"], ["y"])], {"x": ("FLOAT", [1, 3])}, {"y": ("INT64", [2, "found"])})
    runtime = opened("onnx", path)
    answers = runtime.predict([[0, 5, 6], [7, 0, 0]])
    assert [answer.tolist() for answer in answers] == [[[0, 0], [1, 2]], [[0], [0]]]


def test_an_output_whose_first_dimension_is_not_the_batch_is_refused(graph: Graph, opened: Opened) -> None:
    path = graph([("NonZero", ["x"], ["y"])], {"x": ("FLOAT", ["b", 3])}, {"y": ("INT64", [2, "found"])})
    runtime = opened("onnx", path)
    with pytest.raises(ValueError, match=r"output 'y' has the shape \[2, \d\] for 3 rows; its first dimension must be"):
        runtime.predict([[0, 5, 6]] * 3)


def test_text_goes_in_and_out(graph: Graph, opened: Opened) -> None:
    path = graph([("Identity", ["t"], ["u"])], {"t": ("STRING", ["b", 2])}, {"u": ("STRING", ["b", 2])})
    runtime = opened("onnx", path)
    signature = runtime.signature()
    assert signature.inputs == (wire.TensorSpec("t", "BYTES", (2,)),)
    assert [answer.tolist() for answer in runtime.predict([["a", "b"], ["ü", ""]])] == [["a", "b"], ["ü", ""]]
    assert runtime.predict([runtime.example()])


def test_a_model_that_takes_no_zeros_has_no_example(graph: Graph, opened: Opened) -> None:
    path = graph(
        [("Reshape", ["x", "shape"], ["y"])],
        {"x": ("FLOAT", ["b", "t"])},
        {"y": ("FLOAT", ["b", 3])},
        {"shape": np.array([-1, 3], np.int64)},
    )
    runtime = opened("onnx", path)
    assert runtime.example() is None
    assert runtime.predict([[1, 2, 3]])[0].tolist() == [1.0, 2.0, 3.0]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ([1.0, 2.0], r"input 'x' takes FP32\[3\] a row, got \[2\]"),
        (1.0, r"input 'x' takes FP32\[3\] a row, got \[\]"),
        ([[1.0, 2.0, 3.0]], r"input 'x' takes FP32\[3\] a row, got \[1, 3\]"),
        (["a", "b", "c"], "could not convert string to float"),
        ([[1], [1, 2], []], "inhomogeneous"),
        (np.zeros(2, np.float32), r"input 'x' takes FP32\[3\] a row, got \[2\]"),
    ],
    ids=["short", "scalar", "deep", "text", "ragged", "short array"],
)
def test_a_row_that_does_not_fit_says_what_fits(graph: Graph, opened: Opened, row: Any, message: str) -> None:
    runtime = opened("onnx", graph(DOUBLE, {"x": ("FLOAT", ["b", 3])}, {"y": ("FLOAT", ["b", 3])}, TWO))
    with pytest.raises(ValueError, match=message):
        runtime.predict([row])


def test_fractions_are_not_cut_to_whole_numbers(graph: Graph, opened: Opened) -> None:
    path = graph([("Identity", ["x"], ["y"])], {"x": ("INT32", ["b", 1])}, {"y": ("INT32", ["b", 1])})
    runtime = opened("onnx", path)
    assert [answer.tolist() for answer in runtime.predict([[7], np.array([8])])] == [[7], [8]]
    with pytest.raises(ValueError, match=r"input 'x' takes INT32\[1\] a row, got values of type float64"):
        runtime.predict([[1.5]])
    with pytest.raises(ValueError, match="got values of type int64"):
        runtime.predict([[2**40]])


def test_the_probabilities_of_a_converted_classifier_are_an_array(tmp_path: Path, opened: Opened) -> None:
    features = np.random.default_rng(0).normal(size=(60, 3)).astype(np.float32)
    model = LogisticRegression().fit(features, features[:, 0] > 0)
    for zipmap in (True, False):
        path = tmp_path / f"zipmap-{zipmap}.onnx"
        path.write_bytes(to_onnx(model, features[:1], options={"zipmap": zipmap}, target_opset=17).SerializeToString())
        runtime = opened("onnx", path)
        answers = runtime.predict([{"X": row} for row in features[:5]])
        name = list(answers[0])[1]
        found = np.array([answer[name] for answer in answers])
        assert found == pytest.approx(model.predict_proba(features[:5]), abs=1e-5)
        assert np.array(runtime.predict(list(features[:5]))) == pytest.approx(found)
        assert runtime.signature().outputs[1].dtype == "FP32"


@pytest.mark.parametrize("content", [b"", b"not onnx", None], ids=["empty", "garbage", "absent"])
def test_a_file_that_is_no_model_is_the_documents_error(tmp_path: Path, opened: Opened, content: bytes | None) -> None:
    path = tmp_path / "model.onnx"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(SpecError, match="is not an ONNX file that onnxruntime"):
        opened("onnx", path)


def test_a_scalar_input_is_refused_with_the_remedy(graph: Graph, opened: Opened) -> None:
    path = graph(DOUBLE, {"x": ("FLOAT", [])}, {"y": ("FLOAT", [])}, TWO)
    with pytest.raises(SpecError, match="input 'x' is a scalar; its first dimension must be the batch"):
        opened("onnx", path)


def test_different_fixed_batches_are_refused(graph: Graph, opened: Opened) -> None:
    path = graph(
        [("Identity", ["a"], ["c"]), ("Identity", ["b"], ["d"])],
        {"a": ("FLOAT", [2, 1]), "b": ("FLOAT", [3, 1])},
        {"c": ("FLOAT", [2, 1]), "d": ("FLOAT", [3, 1])},
    )
    with pytest.raises(SpecError, match=r"different first dimensions \[2, 3\]"):
        opened("onnx", path)


def test_unknown_params_are_refused(graph: Graph, opened: Opened) -> None:
    path = graph(DOUBLE, {"x": ("FLOAT", ["b", 2])}, {"y": ("FLOAT", ["b", 2])}, TWO)
    with pytest.raises(SpecError, match="the onnx runtime has no option 'provider'"):
        opened("onnx", path, provider="CPU")
    with pytest.raises(SpecError, match="needs a source"):
        opened("onnx")
