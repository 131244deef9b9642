"""The built-in pipelines, called directly as their authors' tests would, and bound as the document binds them."""

import asyncio
import time
from typing import Any

import numpy as np
import pytest

from turnout import wire
from turnout.authoring import Inputs, Match, Query
from turnout.errors import DocumentError, StepError
from turnout.pipelines import binding, builtin, catalog, definition, runner


def run(function: Any, request: Any, models: dict[str, Any], **params: Any) -> Any:
    made = binding.bind("p", definition.define(function), models, params=params, signatures={})
    return asyncio.run(runner.run(made, request, wire.Call("0" * 32, "p", time.monotonic() + 30)))


def test_catalog_names_what_is_there() -> None:
    for name, place in catalog.PIPELINES.items():
        module, _, attribute = place.partition(":")
        assert module == builtin.__name__
        assert definition.define(getattr(builtin, attribute)).name == name


def test_predict_gives_what_the_model_gives(fake: Any) -> None:
    model = fake("model", lambda item: {"y": item["x"]})
    assert run(builtin.predict, {"x": [1]}, {"model": model}) == {"y": [1]}


STORED = ["rain tomorrow", "sun today", "snow at night", "wind"]


def search(query: Query) -> list[Match]:
    return [
        Match(id=number, score=1 - number / 10, payload={"text": text, "title": text.upper()})
        for number, text in enumerate(STORED)
    ][: query.count]


def embedded(text: str) -> list[float]:
    return [float(len(text))]


def by_length(pair: builtin.Pair) -> float:
    return -abs(len(pair["candidate"]) - len(pair["query"]))


def test_retrieval_embeds_finds_and_reranks(fake: Any) -> None:
    models = {
        name: fake(name, answer) for name, answer in (("embed", embedded), ("index", search), ("rerank", by_length))
    }
    reply = run(builtin.retrieval, builtin.Question("sun?"), models, top_k=4, answers=2)
    assert [answer.text for answer in reply.answers] == ["wind", "sun today"]
    assert reply.text == "wind"
    assert models["index"].items == [Query([4.0], 4)]
    assert models["rerank"].items[0] == {"query": "sun?", "candidate": "rain tomorrow"}


def test_retrieval_without_a_reranker_keeps_the_indexs_order(fake: Any) -> None:
    models = {"embed": fake("embed", embedded), "index": fake("index", search)}
    reply = run(builtin.retrieval, builtin.Question("x"), models, field="title")
    assert [answer.text for answer in reply.answers] == ["RAIN TOMORROW", "SUN TODAY", "SNOW AT NIGHT"]
    assert reply.answers[0].score == 1.0


def test_retrieval_that_finds_nothing_says_so(fake: Any) -> None:
    models = {name: fake(name, answer) for name, answer in (("embed", embedded), ("rerank", by_length))}
    models["index"] = fake("index", lambda query: [])
    assert run(builtin.retrieval, builtin.Question("x"), models) == builtin.Answers("", [])


def test_retrieval_names_the_payload_field_that_is_not_there(fake: Any) -> None:
    models = {"embed": fake("embed", embedded), "index": fake("index", search)}
    with pytest.raises(StepError, match="body"):
        run(builtin.retrieval, builtin.Question("x"), models, field="body")


def test_generation_scores_each_different_candidate_once(fake: Any) -> None:
    written = ["a", "bbb", "a", " "]
    models = {"generate": fake("generate", lambda prompt: written[prompt["seed"]]), "rerank": fake("rerank", by_length)}
    reply = run(builtin.generation, builtin.Question("xyz"), models, candidates=4)
    assert [answer.text for answer in reply.answers] == ["bbb", "a"]
    assert [item["candidate"] for item in models["rerank"].items] == ["a", "bbb"]
    assert models["generate"].items == [{"text": "xyz", "seed": seed} for seed in range(4)]


@pytest.mark.parametrize("params", [{"candidates": 0}, {"candidates": 1_001}, {"answers": -1}])
def test_counts_out_of_range_are_errors_of_the_document(fake: Any, params: dict[str, int]) -> None:
    models = {"generate": fake("generate", str), "rerank": fake("rerank", by_length)}
    with pytest.raises(DocumentError, match=next(iter(params))):
        run(builtin.generation, builtin.Question("x"), models, **params)


@pytest.mark.parametrize(
    "score", [0.5, np.float32(0.5), np.array([0.5]), np.array([[0.5]]), {"score": np.array([0.5]), "x": 1}, {"y": 0.5}]
)
def test_score_is_read_from_any_form(score: Any) -> None:
    assert builtin.number(score) == 0.5


def member(label: Any, probabilities: list[float]) -> dict[str, Any]:
    return {"label": np.array(label), "probabilities": np.array(probabilities, np.float32)}


MEMBERS = [member(0, [0.9, 0.1]), member(1, [0.4, 0.6]), member(1, [0.25, 0.75])]


@pytest.mark.parametrize(
    ("method", "probabilities"),
    [("mean", [0.51667, 0.48333]), ("max", [0.9, 0.75]), ("vote", [0.33333, 0.66667])],
)
def test_ensemble_joins_floats_by_its_method_and_labels_by_majority(
    fake: Any, method: str, probabilities: list[float]
) -> None:
    models = {name: fake(name, lambda item, answer=answer: answer) for name, answer in zip("abc", MEMBERS, strict=True)}
    reply = run(builtin.ensemble, Inputs(x=[1]), models, method=method)
    assert reply["label"] == 1
    assert reply["probabilities"].dtype == np.float32
    np.testing.assert_allclose(reply["probabilities"], probabilities, rtol=1e-4)


@pytest.mark.parametrize(
    ("values", "joined"),
    [
        ([np.float32(0.7), np.float32(0.6), np.float32(0.1)], 2 / 3),
        ([np.array(["b"], object), np.array(["a"], object), np.array(["a"], object)], ["a"]),
        ([np.array([True]), np.array([False])], [True]),
    ],
    ids=["one number votes for yes", "text", "the first of equals"],
)
def test_votes(values: list[Any], joined: Any) -> None:
    found = builtin.joined(values, "vote")
    assert found.tolist() == pytest.approx(joined)


def test_pipelines_compare_behind_one_endpoint() -> None:
    first, second = definition.define(builtin.retrieval), definition.define(builtin.generation)
    assert (first.request, first.reply) == (second.request, second.reply)
