"""What would change an open verdict, in units, days and words. Pure; called by `verdict`."""

import math
from collections.abc import Iterator
from typing import Final

from msgspec import structs

from turnout.experiments import sequences, statistics
from turnout.reports import tables, wording

FARTHEST: Final = 50.0
"""Times the present units up to which it is worth saying how many more would decide."""

RECENT_BUCKETS: Final = 7


def look(made: tables.Report, variant: str) -> tables.Needed:
    """Units still needed and when they will be there, if units go on coming as they did lately.

    Args:
        variant: Whose effect to extrapolate; "" for the largest.
    """
    rate = flow_per_s(made)
    left = None if made.plan.units is None else max(0, made.plan.units - made.units)
    ends_ts = _end(made, left, rate)
    at_effect = _units_at_effect(made, variant)
    in_days = at_effect / rate / wording.DAY_S if at_effect is not None and rate else None
    needed = tables.Needed(
        units_left=left,
        ends_ts=ends_ts,
        days_left=None if ends_ts is None else max(0.0, ends_ts - made.as_of) / wording.DAY_S,
        units_at_effect=at_effect,
        days_at_effect=in_days,
    )
    return structs.replace(needed, words=tuple(_words(made, needed)))


def flow_per_s(made: tables.Report) -> float:
    """New units per second over the last full periods; over the whole time when there is no full one yet."""
    if not made.units or made.first_ts is None:
        return 0.0
    full = [each for each in made.flow if made.first_ts <= each.start and each.start + made.bucket_s <= made.as_of]
    recent = full[-RECENT_BUCKETS:]
    units = sum(sum(each.units.values()) for each in recent)
    if units:
        return units / (recent[-1].start + made.bucket_s - recent[0].start)
    return made.units / max(1.0, made.as_of - made.first_ts)


def _end(made: tables.Report, left: int | None, rate: float) -> float | None:
    if left is None or made.first_ts is None or made.last_ts is None or (left and not rate):
        return None
    full = made.as_of + left / rate if left else made.plan.filled_ts or made.last_ts
    window_s = max((metric.window_s for metric in made.metrics), default=0.0)
    return max(full + window_s, made.first_ts + (made.plan.min_duration_s or 0.0))


def _units_at_effect(made: tables.Report, variant: str) -> int | None:
    primary = made.primary
    if primary is None or made.hidden or not made.units:
        return None
    closed = {each.variant: each.closed for each in primary.estimates}
    found = [
        _more(compared, closed.get(compared.variant, 0) + closed.get(made.control, 0), made.plan, primary.alpha)
        for compared in primary.comparisons
        if variant in ("", compared.variant)
    ]
    known = [each for each in found if each is not None]
    if not known:
        return None
    pair = closed.get(made.control, 0) + max(closed.get(each.variant, 0) for each in primary.comparisons)
    return math.ceil(min(known) * sum(closed.values()) / pair) if pair else None


def _more(compared: tables.Comparison, n: int, plan: tables.Plan, alpha: float) -> int | None:
    """Further units of this pair until the always-valid interval excludes 0, at the present effect and variance."""
    always = compared.always_valid
    if always is None or not n or compared.reading != "unclear" or not compared.estimate:
        return None
    se = (
        (always.interval.high - always.interval.low) / 2 / sequences.width(n, tightest_at=plan.tightest_at, alpha=alpha)
    )
    effect, spread = abs(compared.estimate), se * math.sqrt(n)

    def decided(units: float) -> bool:
        return effect > sequences.width(units, tightest_at=plan.tightest_at, alpha=alpha) * spread / math.sqrt(units)

    low, high = float(n), n * FARTHEST
    if not decided(high):
        return None
    while high - low > max(1.0, 0.001 * low):
        middle = math.sqrt(low * high)
        low, high = (low, middle) if decided(middle) else (middle, high)
    return max(0, math.ceil(high) - n)


def _words(made: tables.Report, needed: tables.Needed) -> Iterator[str]:
    rate = flow_per_s(made) * wording.DAY_S
    if made.primary is None:
        yield "Name a primary metric in the document: without one nothing decides."
        return
    if needed.units_left:
        when = f" at {wording.count(rate)} new units a day" if rate >= 1 else ""
        end = f", about {wording.moment(needed.ends_ts)}" if needed.ends_ts is not None else ""
        yield f"{needed.units_left:,} of {made.plan.units:,} planned units are still to come{when}{end}."
    elif needed.ends_ts is not None and needed.ends_ts > made.as_of:
        yield f"The planned units are there; the plan is complete {wording.moment(needed.ends_ts)}."
    if needed.units_at_effect:
        days = needed.days_at_effect
        lasting = "" if days is None else f" ({wording.duration(days * wording.DAY_S)} at the present flow)"
        text = f"If the effect stays as it is now, {needed.units_at_effect:,} more units{lasting} would decide"
        yield f"{text} at any time of looking."
    if made.plan.left_s:
        yield f"The shortest planned duration ends in {wording.duration(made.plan.left_s)}."
    for metric in made.guardrails:
        for compared in metric.comparisons:
            if compared.harm is not None and compared.harm.state == "inconclusive":
                yield f"{compared.variant}, {metric.label}: more units narrow the bounds until they fit the margin."
    if made.plan.units is None:
        yield "Set plan.units in the document: then there is an end at which nothing found means nothing there."
    elif made.primary.effect is None and made.plan.complete:
        yield "Set the primary metric's effect: only then can the report say that there is no difference that matters."


def primary_words(made: tables.Report, name: str) -> Iterator[str]:
    """What the primary metric says of one variant."""
    primary = made.primary
    if primary is None:
        yield "The document names no primary metric."
        return
    if made.hidden:
        yield made.hidden
        return
    compared = next((each for each in primary.comparisons if each.variant == name), None)
    if compared is None or compared.estimate is None or compared.reading == "too-early":
        few = min((each.closed for each in primary.estimates), default=0)
        text = f"Too early for {primary.label}: {wording.several(few, 'unit')} with a closed window in the smallest"
        yield f"{text} variant, {sequences.MIN_UNITS} are needed."
        return
    values = {each.variant: each.value for each in primary.estimates}
    ours, theirs = (wording.value(values.get(each), primary.scale) for each in (name, made.control))
    text = (
        f"{primary.label}: {name} {ours}, {made.control} {theirs}, {wording.change(compared.estimate, primary.scale)}"
    )
    interval = compared.always_valid.interval if compared.always_valid is not None else None
    kind = "always-valid"
    if made.plan.horizon == "fixed" and compared.fixed is not None and compared.fixed.interval is not None:
        interval, kind = compared.fixed.interval, "planned-end"
    if interval is None:
        yield f"{text}."
        return
    span = wording.between(interval.low, interval.high, primary.scale)
    side = {"higher": "lies above 0", "lower": "lies below 0"}.get(compared.reading, "holds 0")
    yield f"{text}; the {100 * (1 - primary.alpha):.4g} % {kind} interval, {span}, {side}."
    if kind == "always-valid" and compared.reading == "unclear" and _excludes_zero(compared.fixed):
        yield "The fixed-horizon interval of the planned end excludes 0; it was not chosen to decide (plan.horizon)."


def _excludes_zero(fixed: statistics.Difference | None) -> bool:
    return fixed is not None and fixed.interval is not None and (fixed.interval.low > 0 or fixed.interval.high < 0)
