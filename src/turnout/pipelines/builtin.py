"""The pipelines that come with Turnout. They use the public API only, so they are also the examples to copy.

Named in a document by their short names (`catalog.py`):

    pipelines:
      hello:   {code: predict,    models: {model: net}}
      find:    {code: retrieval,  models: {embed: embed, index: answers, rerank: rank}, params: {top_k: 20}}
      write:   {code: generation, models: {generate: speak, rerank: rank}, params: {candidates: 4}}
      several: {code: ensemble,   models: {a: net-1, b: net-2}, params: {method: vote}}

`retrieval` and `generation` take the same request and give the same reply, so an experiment
can compare them. What their models are given and give:

    embed      a text                                       → a vector
    index      Query(vector, count)                         → list of Match, best first
    generate   {"text": the question, "seed": 0, 1, 2, ...} → a text
    rerank     {"query": a text, "candidate": a text}       → a score, higher is better

A score may be a number, an array of one number, or a dict of outputs with the name "score" or
with one output only; so a Python class and an ONNX file with two text inputs serve alike.
"""

import asyncio
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal, TypedDict

import numpy as np
from msgspec import Meta, Struct

from turnout.authoring import Inputs, Match, Model, Outputs, Query, Vector, pipeline

Count = Annotated[int, Meta(ge=1, le=1_000)]


class Question(Struct, frozen=True):
    """What retrieval and generation are asked.

    Attributes:
        text: In natural language.
    """

    text: str


class Answer(Struct, frozen=True):
    """One possible answer.

    Attributes:
        text: The answer.
        score: The reranker's, or the index's where there is none; comparable within one reply only.
    """

    text: str
    score: float


class Answers(Struct, frozen=True):
    """What retrieval and generation reply.

    Attributes:
        text: The best answer; "" when nothing was found.
        answers: The best ones, best first; the first is `text`.
    """

    text: str
    answers: list[Answer]


class Pair(TypedDict):
    """What a reranker scores."""

    query: str
    candidate: str


class Prompt(TypedDict):
    """What a generator is given; another seed asks for another answer."""

    text: str
    seed: int


@pipeline
async def predict(inputs: Inputs, *, model: Model[Inputs, Outputs]) -> Outputs:
    """Whatever one model answers: the endpoint takes the model's inputs and gives its outputs."""
    return await model(inputs)


@pipeline
async def retrieval(
    question: Question,
    *,
    embed: Model[str, Vector],
    index: Model[Query, list[Match]],
    rerank: Model[Pair, Any] | None = None,
    top_k: Count = 20,
    answers: Count = 3,
    field: str = "text",
) -> Answers:
    """Find the stored texts nearest to the question, and let a reranker choose among them.

    Args:
        question: The request.
        embed: Makes the vector the index was built with.
        index: Holds the texts.
        rerank: Scores question and text; without one the index's own order stands.
        top_k: How many texts to fetch from the index.
        answers: How many to reply.
        field: Name of the text in the index's payload.
    """
    vector = await embed(question.text)
    found = await index(Query(vector, top_k))
    texts = [str(match.payload[field]) for match in found]
    scores = [match.score for match in found] if rerank is None else await scored(rerank, question.text, texts)
    return best(texts, scores, answers)


@pipeline
async def generation(
    question: Question,
    *,
    generate: Model[Prompt, str],
    rerank: Model[Pair, Any],
    candidates: Count = 4,
    answers: Count = 3,
) -> Answers:
    """Let a generator write several answers, and a reranker choose among them.

    Args:
        question: The request.
        generate: Writes one answer for each seed.
        rerank: Scores question and answer.
        candidates: How many to write; equal ones are scored once.
        answers: How many to reply.
    """
    written = await generate.many([Prompt(text=question.text, seed=seed) for seed in range(candidates)])
    texts = [text for text in dict.fromkeys(written) if text.strip()]
    return best(texts, await scored(rerank, question.text, texts), answers)


@pipeline
async def ensemble(
    inputs: Inputs, *, method: Literal["mean", "max", "vote"] = "mean", **models: Model[Inputs, Outputs]
) -> Outputs:
    """Ask several models the same and join their answers, output by output.

    Outputs that are no floats (labels) are always decided by the most frequent value; the
    first of equally frequent ones wins, in the order of the document.

    Args:
        inputs: The request: what every one of the models takes.
        method: For float outputs: the mean, the largest, or the share of votes. A model votes
            for the largest entry of a vector, or for "yes" with a single number of at least 0.5.
        models: Two or more with one signature, under names of the document's choice.
    """
    replies = await asyncio.gather(*(model(inputs) for model in models.values()))
    return Outputs({name: joined([reply[name] for reply in replies], method) for name in replies[0]})


async def scored(rerank: Model[Pair, Any], query: str, texts: Sequence[str]) -> list[float]:
    """The reranker's score of each text."""
    if not texts:
        return []
    return [number(score) for score in await rerank.many([Pair(query=query, candidate=text) for text in texts])]


def number(score: Any) -> float:
    """A reranker's answer as one number."""
    if isinstance(score, Mapping):
        score = score["score"] if "score" in score else next(iter(score.values()))
    return float(np.asarray(score).reshape(()))


def best(texts: Sequence[str], scores: Sequence[float], count: int) -> Answers:
    """The reply: texts by falling score, the earlier of equal ones first."""
    order = sorted(range(len(texts)), key=lambda position: -scores[position])[:count]
    chosen = [Answer(texts[position], scores[position]) for position in order]
    return Answers(chosen[0].text if chosen else "", chosen)


def joined(values: Sequence[Any], method: str) -> Any:
    """One output of several models as one value of the same shape and dtype."""
    stack = np.stack([np.asarray(value) for value in values])
    if stack.dtype.kind != "f":
        texts = [each.tobytes() if each.dtype.kind != "O" else repr(each.tolist()) for each in stack]
        winner = Counter(texts).most_common(1)[0][0]
        return stack[texts.index(winner)]
    if method == "mean":
        return stack.mean(axis=0)
    if method == "max":
        return stack.max(axis=0)
    if stack[0].size == 1:
        return (stack >= 0.5).mean(axis=0, dtype=stack.dtype)
    flat = stack.reshape(len(stack), -1)
    votes = np.bincount(flat.argmax(axis=1), minlength=flat.shape[1])
    return (votes / len(stack)).astype(stack.dtype).reshape(stack[0].shape)
