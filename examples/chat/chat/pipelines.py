"""Two ways to answer a message. They share the embedder and the reranker, and know nothing of experiments."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from chat import features
from chat.models import Prompt
from turnout import Match, Model, Query, pipeline

MAX_LETTERS = 400
"""A longer message is read up to here; people who type more are not asking one question."""


@dataclass
class Chat:
    """A message, and who wrote it."""

    text: str
    user_id: str = ""


@dataclass
class Reply:
    """The best answer and the reranker's score of it, 0 to 1."""

    text: str
    score: float


@pipeline
async def retrieve(
    chat: Chat,
    *,
    embed: Model[str, Any],
    index: Model[Query, list[Match]],
    rank: Model[Any, float],
    top_k: int = 20,
) -> Reply:
    """Find stored questions like this one, put them in order, give the best one's answer."""
    typed = chat.text[:MAX_LETTERS]
    found = await index(Query(await embed(typed), top_k))
    known = [str(match.payload["question"]) for match in found]
    scores = await rank.many(features.rows(typed, known, [match.score for match in found]))
    best = int(np.argmax(scores))
    return Reply(text=str(found[best].payload["answer"]), score=float(scores[best]))


@pipeline
async def hasty(chat: Chat, *, embed: Model[str, Any], index: Model[Query, list[Match]], top_k: int = 20) -> Reply:
    """As `retrieve`, but in the order of common words, without a reranker. Nobody tried it with an accent."""
    typed = chat.text[:MAX_LETTERS]
    found = await index(Query(await embed(typed), top_k))
    asked = set(typed.lower().encode("ascii").split())
    common = [len(asked & set(str(match.payload["question"]).lower().encode().split())) for match in found]
    best = int(np.argmax(common))
    return Reply(text=str(found[best].payload["answer"]), score=common[best] / max(1, len(asked)))


@pipeline
async def generate(
    chat: Chat,
    *,
    speak: Model[Prompt, list[str]],
    embed: Model[str, Any],
    rank: Model[Any, float],
    candidates: int = 4,
) -> Reply:
    """Write some answers, keep the one that is nearest to what was asked."""
    typed = chat.text[:MAX_LETTERS]
    written = await speak(Prompt(typed, candidates))
    question, *vectors = await embed.many([typed, *written])
    scores = await rank.many(features.rows(typed, written, [float(vector @ question) for vector in vectors]))
    best = int(np.argmax(scores))
    return Reply(text=written[best], score=float(scores[best]))
