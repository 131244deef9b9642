"""Ship, stop, keep going, or broken: the answer of a finished report. Pure; called by `experiment` alone.

The first that matches, per variant against control:

    INVALID      a condition of trust is broken (`checks`)
    HARMFUL      a guardrail is surely beyond its margin
    BETTER       the primary's interval lies on the better side of 0, every guardrail is surely
                 within its margin, and the shortest planned duration has passed
    WORSE        the interval lies on the worse side of 0
    EQUIVALENT   the plan is complete and the interval lies inside the smallest effect that matters
    UNDECIDED    else

Source: docs/experiments.md, "The verdict".
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from msgspec import Struct

from turnout.reports import checks, needs, tables, wording

ADVICE: Final[Mapping[tables.Outcome, tables.Advice]] = {
    "INVALID": "broken",
    "HARMFUL": "stop",
    "BETTER": "ship",
    "WORSE": "stop",
    "EQUIVALENT": "stop",
    "UNDECIDED": "keep going",
}


MENDING: Final = (
    "Find the cause and mend it, then begin again under a new seed: what was logged under a broken split stays broken."
)


class Facts(Struct, frozen=True, kw_only=True):
    """What decides about one variant.

    Attributes:
        broken: A condition of trust is broken.
        harmful: A guardrail is surely beyond its margin. safe: all of them are surely within.
        better: Side of 0 on which the deciding interval lies; None when it holds 0 or must not be read.
        ripe: The shortest planned duration has passed.
        complete: Planned units are in, windows closed, duration passed.
        small: The interval at the planned end lies inside the smallest effect that matters.
    """

    broken: bool
    harmful: bool
    safe: bool
    better: bool | None
    ripe: bool
    complete: bool
    small: bool


def kind_of(facts: Facts) -> tables.Outcome:
    """The first outcome that matches.

    >>> kind_of(Facts(broken=False, harmful=False, safe=True, better=True, ripe=True, complete=False, small=False))
    'BETTER'
    """
    if facts.broken:
        return "INVALID"
    if facts.harmful:
        return "HARMFUL"
    if facts.better is True and facts.safe and facts.ripe:
        return "BETTER"
    if facts.better is False:
        return "WORSE"
    if facts.complete and facts.small:
        return "EQUIVALENT"
    return "UNDECIDED"


def of_all(found: Iterable[tables.Outcome]) -> tables.Outcome:
    """One outcome for several variants: a better one ships whatever the others are; all bad ones stop.

    >>> of_all(["HARMFUL", "BETTER"]), of_all(["HARMFUL", "UNDECIDED"]), of_all(["WORSE", "UNDECIDED"])
    ('BETTER', 'HARMFUL', 'UNDECIDED')
    """
    kinds = set(found)
    for kind in ("INVALID", "BETTER", "HARMFUL"):
        if kind in kinds:
            return kind
    if not kinds or "UNDECIDED" in kinds:
        return "UNDECIDED"
    return "EQUIVALENT" if "EQUIVALENT" in kinds else "WORSE"


def decide(made: tables.Report) -> tables.Verdict:
    """The verdict on a report whose tables are complete."""
    found = checks.look(made)
    broken = [check for check in found if check.state == "broken"]
    treatments = [row.name for row in made.variants if not row.control and row.weight != 0]
    by_variant = {name: kind_of(_facts(made, name, bool(broken))) for name in treatments}
    kind: tables.Outcome = "INVALID" if broken else of_all(by_variant.values())
    variant = _named(made, kind, by_variant)
    needed = tables.Needed()
    if kind == "UNDECIDED":
        needed = needs.look(made, variant)
    elif kind == "INVALID":
        needed = tables.Needed(words=(MENDING,))
    return tables.Verdict(
        kind=kind,
        advice=ADVICE[kind],
        variant=variant,
        headline=_headline(made, kind, variant),
        reasons=tuple(_reasons(made, kind, variant, found)),
        by_variant=by_variant,
        checks=found,
        needed=needed,
    )


def _facts(made: tables.Report, name: str, broken: bool) -> Facts:
    primary = _against(made.primary, name)
    harms = [each.harm for each in _guarded(made, name) if each.harm is not None]
    fixed = primary.fixed.interval if primary is not None and primary.fixed is not None else None
    effect = made.primary.effect if made.primary is not None else None
    return Facts(
        broken=broken,
        harmful=any(harm.state == "harmful" for harm in harms),
        safe=all(harm.state == "safe" for harm in harms),
        better=primary.better if primary is not None else None,
        ripe=not made.plan.left_s,
        complete=made.plan.complete is True,
        small=fixed is not None and effect is not None and -effect < fixed.low and fixed.high < effect,
    )


def _against(metric: tables.MetricTable | None, name: str) -> tables.Comparison | None:
    return next((each for each in metric.comparisons if each.variant == name), None) if metric is not None else None


def _guarded(made: tables.Report, name: str) -> list[tables.Comparison]:
    found = (_against(metric, name) for metric in made.guardrails)
    return [each for each in found if each is not None]


def _named(made: tables.Report, kind: tables.Outcome, by_variant: Mapping[str, tables.Outcome]) -> str:
    """The variant a verdict is about: of several better ones that with the largest effect."""
    names = [name for name, its in by_variant.items() if its == kind]
    if kind != "BETTER":
        return names[0] if len(names) == 1 else ""
    sign = -1.0 if made.primary is not None and made.primary.direction == "down" else 1.0

    def effect(name: str) -> float:
        found = _against(made.primary, name)
        return sign * found.estimate if found is not None and found.estimate is not None else 0.0

    return max(names, key=effect)


def _headline(made: tables.Report, kind: tables.Outcome, variant: str) -> str:
    label = made.primary.label if made.primary is not None else ""
    who = variant or "every variant"
    words = {
        "INVALID": "Something is broken: the comparison cannot be trusted.",
        "HARMFUL": f"{who} does harm: a guardrail is surely beyond its margin.",
        "BETTER": f"{who} is better than {made.control} on {label}.",
        "WORSE": f"{who} is worse than {made.control} on {label}.",
        "EQUIVALENT": f"No difference that matters on {label}: keep what is simpler.",
        "UNDECIDED": "Not decided yet.",
    }
    return words[kind]


def _reasons(made: tables.Report, kind: tables.Outcome, variant: str, found: Sequence[tables.Check]) -> Iterable[str]:
    if kind == "INVALID":
        yield from (check.text for check in found if check.state == "broken")
        return
    names = [variant] if variant else [row.name for row in made.variants if not row.control and row.weight != 0]
    for name in names:
        yield from _about(made, name)
    yield from (check.text for check in found if check.state in ("warning", "open"))


def _about(made: tables.Report, name: str) -> Iterable[str]:
    harms = [(metric, each.harm) for metric in made.guardrails if (each := _against(metric, name)) is not None]
    judged = [(metric, harm) for metric, harm in harms if harm is not None]
    yield from (_harm(name, metric, harm) for metric, harm in judged if harm.state == "harmful")
    yield from needs.primary_words(made, name)
    yield from (_harm(name, metric, harm) for metric, harm in judged if harm.state == "inconclusive")
    safe = [metric.label for metric, harm in judged if harm.state == "safe"]
    if safe:
        yield f"{name}, {', '.join(safe)}: surely within {'their margins' if len(safe) > 1 else 'the margin'}."


def _harm(name: str, metric: tables.MetricTable, harm: tables.Harm) -> str:
    margin, low, high = (wording.change(each, metric.scale, sign=False) for each in (harm.margin, harm.low, harm.high))
    if harm.state == "harmful":
        return f"{name}, {metric.label}: worse by {low} at least, beyond the margin of {margin}."
    most = "nothing is known yet" if harm.high is None else f"worse by up to {high}"
    return f"{name}, {metric.label}: {most}, not surely within the margin of {margin}."
