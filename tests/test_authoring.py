"""What the root gives to authors, and that a pipeline is still the function it was."""

import asyncio
import subprocess
import sys
from dataclasses import dataclass
from typing import Any

import turnout
from turnout import Match, Model, Query, authoring


@dataclass
class Number:
    value: float


@turnout.pipeline
async def doubled(number: Number, *, model: Model[float, float], factor: float = 2.0) -> Number:
    """Twice what the model says."""
    return Number(await model(number.value) * factor)


class Echo:
    async def __call__(self, item: float) -> float:
        return item

    async def many(self, items: Any) -> list[float]:
        return list(items)

    def stream(self, item: float) -> Any:
        raise NotImplementedError


def test_root_exports_exactly_what_authoring_does() -> None:
    assert sorted(turnout.__all__) == sorted(authoring.__all__)
    for name in turnout.__all__:
        assert getattr(turnout, name) is getattr(authoring, name)


def test_pipeline_is_called_like_the_function_so_that_tests_need_no_server() -> None:
    assert asyncio.run(doubled(Number(3), model=Echo())) == Number(6)
    assert asyncio.run(doubled(Number(3), model=Echo(), factor=3)) == Number(9)


def test_pipeline_keeps_name_and_docstring() -> None:
    assert doubled.name == "doubled"
    assert doubled.__doc__ == "Twice what the model says."
    assert repr(doubled) == f"<pipeline {__name__}:doubled>"


def test_match_and_query_are_plain_values() -> None:
    assert Query([1.0]).count == 10
    assert Match(1, 0.5, {"text": "a"}) == Match(1, 0.5, {"text": "a"})


def test_importing_the_root_loads_no_heavy_library() -> None:
    heavy = "{'numpy', 'pydantic', 'onnxruntime', 'sqlalchemy', 'scipy', 'click'}"
    code = f"import turnout, sys; print(sorted({heavy} & set(sys.modules)))"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


def test_importing_the_runner_and_the_codecs_loads_no_pydantic_and_no_numpy() -> None:
    code = "import turnout.pipelines.runner, sys; print(sorted({'numpy', 'pydantic'} & set(sys.modules)))"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
