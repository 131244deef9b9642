"""Models as tests need them: a runtime that does what the test says, and small ONNX files."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import numpy
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from turnout import telemetry, wire
from turnout.models import batcher, host
from turnout.runtimes import base


class Scripted:
    """A runtime whose `predict` is a function of the test."""

    native: ClassVar[bool] = False

    def __init__(self, predict: Callable[[list[Any]], list[Any]], *, example: Any = None) -> None:
        self.artifact = base.Artifact(alias="scripted", version="0123456789ab")
        self.loaded = False
        self._predict = predict
        self._example = example

    def load(self) -> None:
        self.loaded = True

    def signature(self) -> wire.Signature | None:
        return None

    def predict(self, rows: list[Any]) -> list[Any]:
        return self._predict(rows)

    def example(self) -> Any | None:
        return self._example

    def unload(self) -> None:
        self.loaded = False


class NativeScripted(Scripted):
    native: ClassVar[bool] = True


@pytest.fixture
def scripted() -> type[Scripted]:
    return Scripted


@pytest.fixture
def native_scripted() -> type[NativeScripted]:
    return NativeScripted


@pytest.fixture
def make_host() -> Callable[..., host.Host]:
    def make(factory: Callable[[], Any], **options: Any) -> host.Host:
        options.setdefault("batching", batcher.Batching())
        options.setdefault("registry", telemetry.Registry())
        return host.Host(alias="rank", factory=factory, **options)

    return make


@pytest.fixture
def soon() -> Callable[[], float]:
    """A deadline that no test reaches."""
    return lambda: time.monotonic() + 30.0


@pytest.fixture(scope="session")
def doubling_onnx(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """x FP32[3] -> y FP32[3], twice x."""
    path = tmp_path_factory.mktemp("onnx") / "double.onnx"
    two = numpy_helper.from_array(numpy.array([2.0], dtype="float32"), "two")
    graph = helper.make_graph(
        [helper.make_node("Mul", ["x", "two"], ["y"])],
        "double",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 3])],
        [two],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), str(path))
    return path
