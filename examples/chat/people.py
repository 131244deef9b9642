"""Simulated people. What they ask is real; how they type and whether they stay is simulated, and said so.

A person takes a real question from the half of the corpus that trained nothing, types it
carelessly (words left out, letters swapped, no accents), and knows every right answer that
the corpus has for it. Whether they keep talking depends on one thing only: was the
reply one of these answers?
"""

import random
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

STAYS_IF_RIGHT, STAYS_IF_WRONG = 0.95, 0.10
WORDS_LEFT_OUT, WORDS_MISTYPED = 0.20, 0.45
_KEYS = "qwertyuiop asdfghjkl zxcvbnm"


@dataclass(frozen=True)
class Person:
    """One user with one question.

    Attributes:
        user_id: The unit of both experiments.
        question: As it stands in the corpus.
        typed: As this person types it.
        answers: Every reply that is right.
        patience: Between 0 and 1, drawn before anything is asked: the smaller, the longer they stay.
    """

    user_id: str
    question: str
    typed: str
    answers: tuple[str, ...]
    patience: float

    def keeps_talking(self, reply: str) -> bool:
        """Does this person go on after this reply?"""
        return self.patience < (STAYS_IF_RIGHT if reply in self.answers else STAYS_IF_WRONG)


def person(user_id: str, questions: Sequence[tuple[str, tuple[str, ...]]]) -> Person:
    """The person behind a user id: the same one every time, whichever variant answers."""
    dice = random.Random(user_id)
    question, answers = dice.choice(questions)
    return Person(user_id, question, careless(question, dice), answers, dice.random())


def careless(question: str, dice: random.Random) -> str:
    """The question as somebody types it on a phone."""
    words = question.lower().rstrip("?.! ").split()
    kept = [word for word in words if dice.random() > WORDS_LEFT_OUT] or words
    typed = " ".join(_mistyped(word, dice) if dice.random() < WORDS_MISTYPED else word for word in kept) or question
    if dice.random() < 0.5:
        typed = "".join(letter for letter in unicodedata.normalize("NFD", typed) if not unicodedata.combining(letter))
    return typed


def _mistyped(word: str, dice: random.Random) -> str:
    if len(word) < 4:
        return word
    at = dice.randrange(1, len(word) - 1)
    neighbour = _KEYS[max(0, _KEYS.find(word[at]) - 1)].strip() or word[at]
    middle = dice.choice((word[at + 1] + word[at], word[at + 1], word[at] * 2 + word[at + 1], neighbour + word[at + 1]))
    return word[:at] + middle + word[at + 2 :]
