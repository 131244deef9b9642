"""Two models, and two pipelines that answer the same question with them in different ways."""

import asyncio
import math
from dataclasses import dataclass

from turnout import Model, pipeline


class WordScore:
    """A logistic regression over a few words. Loaded once, shared by both pipelines."""

    def load(self) -> None:
        self.weights = {"free": 1.4, "winner": 1.9, "click": 1.2, "money": 0.9, "meeting": -1.1, "thanks": -1.3}

    def predict(self, texts: list[str]) -> list[float]:
        return [1.0 / (1.0 + math.exp(1.0 - self.found(text))) for text in texts]

    def found(self, text: str) -> float:
        return sum(self.weights.get(word.strip(".,!?"), 0.0) for word in text.lower().split())


class ShapeScore:
    """How loud a text is: capitals and exclamation marks."""

    def predict(self, texts: list[str]) -> list[float]:
        return [min(1.0, 3.0 * sum(c.isupper() or c == "!" for c in text) / max(1, len(text))) for text in texts]


@dataclass
class Mail:
    user_id: str
    text: str


@dataclass
class Judgement:
    spam: bool
    score: float


@pipeline
async def by_words(mail: Mail, *, words: Model[str, float], threshold: float = 0.5) -> Judgement:
    score = await words(mail.text)
    return Judgement(spam=score >= threshold, score=round(score, 4))


@pipeline
async def by_both(
    mail: Mail, *, words: Model[str, float], shape: Model[str, float], threshold: float = 0.5
) -> Judgement:
    said, looks = await asyncio.gather(words(mail.text), shape(mail.text))
    score = 1.0 - (1.0 - said) * (1.0 - 0.5 * looks)
    return Judgement(spam=score >= threshold, score=round(score, 4))
