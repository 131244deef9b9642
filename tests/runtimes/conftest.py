"""ONNX graphs in a few lines, and pinned files."""

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from turnout.runtimes import base, catalog

Shape = list[int | str]


@pytest.fixture
def graph(tmp_path: Path) -> Callable[..., Path]:
    """Write an ONNX file: nodes as (op, inputs, outputs, attributes), tensors as name -> (dtype, shape)."""

    def write(
        nodes: list[tuple[Any, ...]],
        inputs: dict[str, tuple[str, Shape]],
        outputs: dict[str, tuple[str, Shape]],
        constants: dict[str, Any] | None = None,
    ) -> Path:
        def tensors(of: dict[str, tuple[str, Shape]]) -> list[Any]:
            return [
                helper.make_tensor_value_info(name, getattr(TensorProto, dtype), shape)
                for name, (dtype, shape) in of.items()
            ]

        made = [helper.make_node(op, ins, outs, **(rest[0] if rest else {})) for op, ins, outs, *rest in nodes]
        held = [numpy_helper.from_array(value, name) for name, value in (constants or {}).items()]
        model = helper.make_model(
            helper.make_graph(made, "g", tensors(inputs), tensors(outputs), held),
            opset_imports=[helper.make_opsetid("", 17)],
            ir_version=8,
        )
        path = tmp_path / "model.onnx"
        onnx.save(model, str(path))
        return path

    return write


@pytest.fixture
def opened() -> Callable[..., base.Runtime]:
    """A loaded runtime by its short name."""

    def load(name: str, path: Path | None = None, **options: Any) -> base.Runtime:
        pinned = options.pop("pinned", "")
        code = options.pop("code", None)
        artifact = base.Artifact(
            alias="rank", version="0" * 12, path=str(path) if path else None, pinned=pinned, code=code, options=options
        )
        runtime = catalog.load(name)(artifact)
        runtime.load()
        return runtime

    return load


@pytest.fixture
def pin() -> Callable[[Path], str]:
    return lambda path: "sha256:" + hashlib.sha256(path.read_bytes()).hexdigest()
