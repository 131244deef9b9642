"""What only code and models can tell about a document, all of it at once, with file and line."""

import asyncio
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from turnout.assembly import admission

CODE = """
from dataclasses import dataclass
from turnout import Model, pipeline

@dataclass
class Order:
    user_id: str
    amount: float

@dataclass
class Verdict:
    score: float

@dataclass
class Other:
    points: int

class Double:
    def predict(self, items: list[float]) -> list[float]:
        return [item * 2 for item in items]

class Unloadable:
    def load(self) -> None:
        raise OSError("the weights are gone")
    def predict(self, items: list[float]) -> list[float]:
        return items

@pipeline
async def judge(order: Order, *, price: Model[float, float], top_k: int = 3) -> Verdict:
    return Verdict(await price(order.amount))

@pipeline
async def other(order: Order, *, price: Model[float, float]) -> Other:
    return Other(1)

@pipeline
def blocking(order: Order) -> Verdict:
    return Verdict(0.0)
"""

GOOD = """
models: {price: {code: "MODULE:Double"}}
pipelines: {judge: {code: "MODULE:judge", models: {price: price}, params: {top_k: 5}}}
endpoints: {order: {pipeline: judge, unit: user_id}}
"""


@pytest.fixture
def module(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[str]:
    """A module of user code under a name of its own, importable for one test."""
    name = f"user_{abs(hash(request.node.nodeid))}"
    (tmp_path / f"{name}.py").write_text(CODE)
    sys.path.insert(0, str(tmp_path))
    yield name
    sys.path.remove(str(tmp_path))


def check(text: str, module: str, directory: Path, **more: str) -> list[admission.Verdict]:
    files: Mapping[str, str] = {"turnout.yaml": text.replace("MODULE", module), **more}
    return asyncio.run(admission.check(files, directory=str(directory), environment={}))


def test_a_good_document_is_accepted_with_its_endpoints(module: str, tmp_path: Path) -> None:
    (verdict,) = check(GOOD, module, tmp_path)
    assert verdict.errors == ()
    assert verdict.endpoints == ("order",)
    assert len(verdict.revision) == 64


@pytest.mark.parametrize(
    ("change", "path", "words"),
    [
        (("MODULE:judge", "MODULE:jugde"), "pipelines.judge.code", ["jugde", "Did you mean 'judge'"]),
        (("MODULE:judge", "nowhere_at_all:judge"), "pipelines.judge.code", ["nowhere_at_all", "import path"]),
        (("MODULE:judge", "MODULE:Double"), "pipelines.judge.code", ["@pipeline"]),
        (("MODULE:judge", "MODULE:blocking"), "pipelines.judge.code", ["async def"]),
        (("MODULE:Double", "MODULE:Unloadable"), "models.price", ["weights are gone"]),
        (("{price: price}", "{prise: price}"), "pipelines.judge.models", ["prise", "price"]),
        (("top_k: 5", "top_k: many"), "pipelines.judge.params.top_k", ["many", "int"]),
        (("top_k: 5", "topk: 5"), "pipelines.judge.params.topk", ["Did you mean 'top_k'"]),
    ],
    ids=["name", "module", "no-pipeline", "not-async", "model-load", "port", "param-type", "param-name"],
)
def test_each_error_names_its_key_the_cause_and_the_remedy(
    module: str, tmp_path: Path, change: tuple[str, str], path: str, words: list[str]
) -> None:
    (verdict,) = check(GOOD.replace(*change), module, tmp_path)
    texts = [str(error) for error in verdict.errors]
    found = [error for error in verdict.errors if error.path.startswith(path)]
    assert found, texts
    assert found[0].file == "turnout.yaml"
    assert found[0].line > 0
    assert all(word in "\n".join(texts) for word in words), texts


def test_all_errors_come_together(module: str, tmp_path: Path) -> None:
    text = GOOD.replace("MODULE:Double", "MODULE:Unloadable").replace("MODULE:judge", "MODULE:jugde")
    (verdict,) = check(text, module, tmp_path)
    assert {error.path for error in verdict.errors} >= {"models.price", "pipelines.judge.code"}


def test_a_variant_with_another_contract_is_refused_with_both_sides(module: str, tmp_path: Path) -> None:
    text = """
models: {price: {code: "MODULE:Double"}}
pipelines:
  judge: {code: "MODULE:judge", models: {price: price}}
  other: {code: "MODULE:other", models: {price: price}}
endpoints: {order: {pipeline: judge, unit: user_id}}
experiments:
  test:
    endpoint: order
    variants: {a: {weight: 1, control: true}, b: {weight: 1, pipeline: other}}
"""
    (verdict,) = check(text, module, tmp_path)
    assert [error.path for error in verdict.errors] == ["experiments.test.variants.b"]
    assert "points" in str(verdict.errors[0])
    assert "score" in str(verdict.errors[0])


def test_every_stage_is_checked(module: str, tmp_path: Path) -> None:
    stage = "pipelines: {judge: {params: {top_k: none}}}"
    verdicts = {each.stage: each for each in check(GOOD, module, tmp_path, **{"turnout.prod.yaml": stage})}
    assert verdicts[""].errors == ()
    assert [(error.file, error.path) for error in verdicts["prod"].errors] == [
        ("turnout.prod.yaml", "pipelines.judge.params.top_k")
    ]


def test_what_a_reference_gave_is_not_printed(module: str, tmp_path: Path) -> None:
    text = GOOD.replace("MODULE", module).replace("top_k: 5", 'top_k: "secret:token"')
    (verdict,) = asyncio.run(
        admission.check(
            {"turnout.yaml": text}, directory=str(tmp_path), environment={}, read_secret=lambda name: "hunter2"
        )
    )
    (error,) = verdict.errors
    assert error.path == "pipelines.judge.params.top_k"
    assert "hunter2" not in f"{error.message} {error.hint}"
    assert "top_k: int = 3" in error.message
