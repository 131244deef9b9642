"""The models that are measured: small and compute-bound MLPs in ONNX, with fixed random weights.

Random weights are right here: only time is measured, and time does not depend on them.
"""

import itertools
from pathlib import Path

import numpy as np
from onnx import TensorProto, checker, helper, numpy_helper, save

SIZES = {"small": (32, 64, 64, 2), "mlp": (512, 2048, 2048, 256)}


def write(path: Path, sizes: tuple[int, ...]) -> None:
    """A fully connected ReLU network, input `x` FP32[-1, first], output `y` FP32[-1, last]."""
    rng = np.random.default_rng(7)
    nodes, weights, name = [], [], "x"
    for layer, (rows, columns) in enumerate(itertools.pairwise(sizes)):
        last = layer == len(sizes) - 2
        scale = np.sqrt(2.0 / rows)
        weights.append(
            numpy_helper.from_array((rng.standard_normal((rows, columns)) * scale).astype(np.float32), f"w{layer}")
        )
        weights.append(numpy_helper.from_array(np.zeros(columns, np.float32), f"b{layer}"))
        out = "y" if last else f"h{layer}"
        nodes.append(helper.make_node("Gemm", [name, f"w{layer}", f"b{layer}"], [out if last else f"g{layer}"]))
        if not last:
            nodes.append(helper.make_node("Relu", [f"g{layer}"], [out]))
        name = out
    graph = helper.make_graph(
        nodes,
        "mlp",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", sizes[0]])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", sizes[-1]])],
        weights,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    checker.check_model(model)
    save(model, str(path))


def write_all(folder: Path) -> None:
    """All models, once."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, sizes in SIZES.items():
        path = folder / f"{name}.onnx"
        if not path.exists():
            write(path, sizes)
