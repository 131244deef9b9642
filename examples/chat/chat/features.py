"""What the reranker looks at: how near a candidate is to what the person typed.

A candidate is held against the text it is known by: the stored question that retrieval
found it under, or the generated reply itself. Training and serving call the same
functions, so the numbers cannot drift apart.
"""

import math
import re
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np

NAMES = (
    "similarity",
    "behind_best",
    "log_length",
    "log_length_ratio",
    "trigrams_common",
    "trigrams_of_typed",
    "trigrams_of_known",
    "pairs_common",
    "words_common",
    "words_of_typed",
)
"""The columns, in the order of the model's input; the first four need no letters."""

_WORD = re.compile(r"\w+")


@lru_cache(maxsize=16_384)
def _parts(text: str) -> tuple[frozenset[str], frozenset[str], frozenset[str]]:
    words = _WORD.findall(text.lower())
    spaced, joined = f" {' '.join(words)} ", "".join(words)
    trigrams = frozenset(spaced[i : i + 3] for i in range(len(spaced) - 2))
    pairs = frozenset(joined[i : i + 2] for i in range(len(joined) - 1))
    return trigrams, pairs, frozenset(words)


def _share(part: int, whole: int) -> float:
    return part / whole if whole else 0.0


def rows(typed: str, known: Sequence[str], similarities: Sequence[float]) -> list[Any]:
    """One row for each candidate, float32 of shape [10], columns as in `NAMES`.

    Args:
        typed: What the person typed.
        known: For each candidate the text it is known by.
        similarities: For each candidate the cosine of its vector and the typed text's.
    """
    trigrams, pairs, words = _parts(typed)
    best = max(similarities, default=0.0)
    table = []
    for text, similarity in zip(known, similarities, strict=True):
        known_trigrams, known_pairs, known_words = _parts(text)
        common = len(trigrams & known_trigrams)
        table.append(
            (
                similarity,
                best - similarity,
                math.log1p(len(typed)),
                math.log((1 + len(typed)) / (1 + len(text))),
                _share(common, len(trigrams | known_trigrams)),
                _share(common, len(trigrams)),
                _share(common, len(known_trigrams)),
                _share(len(pairs & known_pairs), len(pairs | known_pairs)),
                _share(len(words & known_words), len(words | known_words)),
                _share(len(words & known_words), len(words)),
            )
        )
    return list(np.asarray(table, dtype=np.float32))
