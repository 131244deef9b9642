"""What every runtime does alike; a new one joins RUNTIMES and passes."""

import asyncio
import hashlib
import pickle
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from sklearn.linear_model import LinearRegression

from turnout import telemetry, wire
from turnout.authoring import Query
from turnout.errors import ModelError
from turnout.models import batcher, handle, host
from turnout.runtimes import base, catalog


@dataclass
class Case:
    """One runtime with an artifact: rows made from a number, and the number found again in the answer."""

    name: str
    artifact: base.Artifact
    row: Callable[[int], Any]
    read: Callable[[Any], int]
    bad: Any


class Doubler:
    def predict(self, items: list[int]) -> list[int]:
        if any(not isinstance(item, int) for item in items):
            raise TypeError("whole numbers only")
        return [2 * item for item in items]

    def example(self) -> int:
        return 1


def onnx_case(folder: Path) -> Case:
    graph = helper.make_graph(
        [helper.make_node("Mul", ["x", "two"], ["y"])],
        "double",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 2])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 2])],
        [numpy_helper.from_array(np.array([2.0], np.float32), "two")],
    )
    path = folder / "double.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), str(path))
    artifact = base.Artifact(alias="m", version="v" * 12, path=str(path))
    return Case("onnx", artifact, lambda i: {"x": [i, 1]}, lambda answer: round(answer["y"][0]) // 2, {"x": [1]})


def sklearn_case(folder: Path) -> Case:
    path = folder / "line.pkl"
    path.write_bytes(pickle.dumps(LinearRegression().fit([[0.0], [1.0]], [0.0, 2.0])))
    pinned = "sha256:" + hashlib.sha256(path.read_bytes()).hexdigest()
    artifact = base.Artifact(alias="m", version="v" * 12, path=str(path), pinned=pinned)
    return Case(
        "sklearn", artifact, lambda i: {"x": [i]}, lambda answer: round(answer["prediction"] / 2), {"x": [1, 2]}
    )


def python_case(folder: Path) -> Case:
    artifact = base.Artifact(alias="m", version="v" * 12, code=Doubler)
    return Case("python", artifact, lambda i: i, lambda answer: answer // 2, "three")


def index_case(folder: Path) -> Case:
    path = folder / "circle.npz"
    angles = np.arange(300) / 50
    np.savez(path, vectors=np.stack([np.cos(angles), np.sin(angles)], axis=1), number=np.arange(300))
    artifact = base.Artifact(alias="m", version="v" * 12, path=str(path))
    return Case(
        "index",
        artifact,
        lambda i: Query([np.cos(i / 50), np.sin(i / 50)], 1 + i % 3),
        lambda answer: int(answer[0].payload["number"]),
        Query([1.0], 1),
    )


RUNTIMES = {"onnx": onnx_case, "sklearn": sklearn_case, "python": python_case, "index": index_case}


@pytest.fixture(params=sorted(RUNTIMES))
def case(request: pytest.FixtureRequest, tmp_path: Path) -> Case:
    return RUNTIMES[request.param](tmp_path)


@pytest.fixture
def runtime(case: Case) -> base.Runtime:
    made = catalog.load(case.name)(case.artifact)
    made.load()
    return made


def test_the_suite_covers_every_runtime() -> None:
    assert set(RUNTIMES) == set(catalog.RUNTIMES)


@pytest.mark.parametrize("count", [1, 2, 64])
def test_answers_come_in_the_order_of_the_rows(case: Case, runtime: base.Runtime, count: int) -> None:
    numbers = np.random.default_rng(count).permutation(300)[:count].tolist()
    answers = runtime.predict([case.row(i) for i in numbers])
    assert type(answers) is list
    assert [case.read(answer) for answer in answers] == numbers


def test_a_bad_row_raises_what_names_the_fault(case: Case, runtime: base.Runtime) -> None:
    with pytest.raises((ValueError, TypeError)):
        runtime.predict([case.bad])
    assert case.read(runtime.predict([case.row(7)])[0]) == 7


def test_the_example_is_a_row(runtime: base.Runtime) -> None:
    example = runtime.example()
    assert example is not None
    assert len(runtime.predict([example] * 3)) == 3


def test_the_signature_names_every_input_of_the_example(runtime: base.Runtime) -> None:
    signature = runtime.signature()
    if signature is None:
        pytest.skip("its artifact does not say")
    assert signature.inputs
    assert signature.outputs
    assert isinstance(signature.inputs[0], wire.TensorSpec)


def test_the_artifact_and_the_kind_are_told(case: Case, runtime: base.Runtime) -> None:
    assert runtime.artifact is case.artifact
    assert isinstance(runtime.native, bool)


def test_two_copies_live_side_by_side(case: Case, runtime: base.Runtime) -> None:
    other = catalog.load(case.name)(case.artifact)
    other.load()
    runtime.unload()
    assert case.read(other.predict([case.row(5)])[0]) == 5
    other.unload()


def test_behind_a_host_a_bad_row_fails_alone(case: Case) -> None:
    async def run() -> None:
        loaded = host.Host(
            alias="m",
            factory=lambda: catalog.load(case.name)(case.artifact),
            batching=batcher.Batching(),
            registry=telemetry.Registry(),
        )
        await loaded.open()
        call = wire.Call("f" * 32, "p", time.monotonic() + 30.0)
        wire.current_call.set(call)
        model = handle.Handle("m", loaded)
        rows = [case.bad if i == 13 else case.row(i) for i in range(40)]
        answers = await asyncio.gather(*(model(row) for row in rows), return_exceptions=True)
        for i, answer in enumerate(answers):
            if i == 13:
                assert isinstance(answer, ModelError)
                assert answer.version == "v" * 12
            else:
                assert case.read(answer) == i
        assert len(call.steps) == 40
        await loaded.close(5.0)

    asyncio.run(run())
