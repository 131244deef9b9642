"""Several questions asked of one experiment: what each answer is worth then. Pure, standard library only.

Called by reports and rollouts. One primary metric needs no correction. Several variants against
one control share alpha inside their sequences, and their fixed-horizon p-values go through
`holm`; secondary metrics through `benjamini_hochberg`, as explorations; guardrails share alpha.
"""

from collections.abc import Sequence


def share_of_variants(alpha: float, variants: int) -> float:
    """Alpha of each of the `variants` − 1 comparisons with control.

    >>> round(share_of_variants(0.05, 3), 6)
    0.025
    """
    return alpha / max(1, variants - 1)


def share_of_guardrails(alpha: float, guardrails: int) -> float:
    """Alpha of each of the guardrails; with one, all of it."""
    return alpha / max(1, guardrails)


def holm(p_values: Sequence[float]) -> tuple[float, ...]:
    """Adjusted so that one compared with alpha errs in any of them with probability alpha at most.

    Args:
        p_values: In any order; the answer keeps it.

    Source: Holm 1979.

    >>> [round(p, 6) for p in holm([0.01, 0.04, 0.03])]
    [0.03, 0.06, 0.06]
    """
    adjusted, largest = [0.0] * len(p_values), 0.0
    for rank, index in enumerate(_ascending(p_values)):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[index]))
        adjusted[index] = largest
    return tuple(adjusted)


def benjamini_hochberg(p_values: Sequence[float]) -> tuple[float, ...]:
    """Adjusted so that of those below q at most the share q is false, on average.

    Args:
        p_values: In any order; the answer keeps it. Independent, or positively dependent.

    Source: Benjamini & Hochberg 1995.

    >>> [round(p, 6) for p in benjamini_hochberg([0.01, 0.04, 0.03])]
    [0.03, 0.04, 0.04]
    """
    adjusted, smallest = [0.0] * len(p_values), 1.0
    for rank, index in reversed(list(enumerate(_ascending(p_values), start=1))):
        smallest = min(smallest, p_values[index] * len(p_values) / rank)
        adjusted[index] = smallest
    return tuple(adjusted)


def _ascending(p_values: Sequence[float]) -> list[int]:
    return sorted(range(len(p_values)), key=p_values.__getitem__)
