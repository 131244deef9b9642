"""A model and a pipeline: how likely is a text spam, and what follows from it."""

import math
from dataclasses import dataclass

from turnout import Model, pipeline


class SpamScore:
    """A logistic regression over a few words. Replace it by your own: predict takes a list and returns one."""

    def load(self) -> None:
        self.weights = {"free": 1.4, "winner": 1.9, "click": 1.2, "money": 0.9, "meeting": -1.1, "thanks": -1.3}
        self.bias = -1.0

    def predict(self, texts: list[str]) -> list[float]:
        return [self.score(text) for text in texts]

    def score(self, text: str) -> float:
        found = sum(self.weights.get(word.strip(".,!?"), 0.0) for word in text.lower().split())
        return 1.0 / (1.0 + math.exp(-(self.bias + found)))

    def example(self) -> str:
        return "click to get free money"


@dataclass
class Mail:
    text: str


@dataclass
class Judgement:
    spam: bool
    score: float


@pipeline
async def judge(mail: Mail, *, score: Model[str, float], threshold: float = 0.5) -> Judgement:
    value = await score(mail.text)
    return Judgement(spam=value >= threshold, score=round(value, 4))
