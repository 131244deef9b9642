"""Which units a change of weights moves, from the weights alone.

`turnout diff` shows it (`changes/journeys` calls it for algorithm v1), the tests hold assignment
to it, and docs/experiments.md takes its numbers from it. Pure, standard library only. Units move
between two variants only in the direction in which the ratio of their weights moves.

Source: R. Moulton, Y. Jiang, "Maximally Consistent Sampling and the Jaccard Index of
Probability Distributions", ICDM 2018, arXiv 1809.04052.
"""

import itertools
import math
from collections.abc import Mapping
from typing import Final

ROUNDING: Final = 1e-14
Weights = Mapping[str, float]


def moved(before: Weights, after: Weights) -> float:
    """Share of all units whose variant changes, in [0, 1].

    Args:
        before: Weight per variant, at least one above 0; a variant that is absent has weight 0.

    Raises:
        ValueError: A weight is negative or not finite, or all are 0.

    >>> round(moved({"a": 90, "b": 10}, {"a": 50, "b": 50}), 6)
    0.4
    """
    w, v = _shares(before), _shares(after)
    stay = 0.0
    for i in w:
        if i in v:
            stay += 1 / math.fsum(_larger(w, v, i, j) for j in w.keys() | v.keys())
    return max(0.0, 1 - stay)


def minimum(before: Weights, after: Weights) -> float:
    """Half the distance of the shares: no method can move fewer units than this."""
    w, v = _shares(before), _shares(after)
    return math.fsum(abs(w.get(name, 0.0) - v.get(name, 0.0)) for name in w.keys() | v.keys()) / 2


def flow(before: Weights, after: Weights, source: str, target: str) -> float:
    """Share of all units that move from `source` to `target`, in [0, 1].

    Complexity: quadratic in the number of variants; closed form, cut at the kinks of the integrand.

    >>> round(flow({"a": 90, "b": 10}, {"a": 50, "b": 50}, "a", "b"), 6)
    0.4
    """
    w, v = _shares(before), _shares(after)
    if source not in w or target not in v or source == target:
        return 0.0
    low = w.get(target, 0.0) / w[source]
    high = v[target] / v[source] if source in v else math.inf
    if high <= low:
        return 0.0
    # per other variant j the integrand's term is max(level, slope * t), with a kink at level / slope
    others = [
        (w.get(j, 0.0) / w[source], v.get(j, 0.0) / v[target]) for j in w.keys() | v.keys() if j not in (source, target)
    ]
    kinks = sorted({level / slope for level, slope in others if slope > 0 and low < level / slope < high})
    edges = [low, *kinks, high]
    return math.fsum(_piece(others, a, b) for a, b in itertools.pairwise(edges))


def flows(before: Weights, after: Weights) -> dict[tuple[str, str], float]:
    """Every flow above rounding (1e-14), by (from, to); the values sum to `moved`."""
    found = {(i, k): flow(before, after, i, k) for i in sorted(before) for k in sorted(after)}
    return {pair: share for pair, share in found.items() if share > ROUNDING}


def _shares(weights: Weights) -> dict[str, float]:
    values = {name: float(weight) for name, weight in weights.items()}
    if not all(math.isfinite(value) and value >= 0 for value in values.values()) or not any(values.values()):
        raise ValueError(f"weights must be finite, at least 0, and one of them above 0; found {values}")
    total = math.fsum(values.values())
    return {name: value / total for name, value in values.items() if value > 0}


def _larger(w: dict[str, float], v: dict[str, float], i: str, j: str) -> float:
    return 1.0 if i == j else max(w.get(j, 0.0) / w[i], v.get(j, 0.0) / v[i])


def _piece(others: list[tuple[float, float]], low: float, high: float) -> float:
    """Integrate (1 + t + Σ max(level, slope·t))^-2 over [low, high], where no term has its kink inside."""
    middle = low + 1 if math.isinf(high) else (low + high) / 2
    constant = 1 + math.fsum(level for level, slope in others if level > slope * middle)
    factor = 1 + math.fsum(slope for level, slope in others if level <= slope * middle)
    at_low = constant + factor * low
    if math.isinf(high):
        return 1 / (factor * at_low)
    return (high - low) / (at_low * (constant + factor * high))
