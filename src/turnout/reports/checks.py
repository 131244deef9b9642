"""Whether a comparison can be trusted at all: every condition, looked at one by one. Pure; called by `verdict`.

"broken" makes the comparison invalid: what the two sides consist of is no longer the split of the
document. "warning" weakens it or makes it smaller than the truth. "open" waits for time to pass.
"""

import math
from collections.abc import Callable, Iterator, Mapping
from typing import Final

from turnout.experiments import assignment, ratio_checks
from turnout.reports import tables, wording

MAX_NO_UNIT_RATIO: Final = 0.01
MAX_FALLBACK_RATIO: Final = 0.01
MOSTLY: Final = 0.99
FULL_WEEK_S: Final = 7 * wording.DAY_S
"""Weekdays differ: an effect seen on some of them only may not hold on the others."""

Look = Callable[[tables.Report], Iterator[tables.Check]]
ORDER: Final = ("broken", "warning", "open", "unknown", "fine")


def look(made: tables.Report) -> tuple[tables.Check, ...]:
    """Every check, the failed ones first."""
    found = [check for one in CHECKS for check in one(made)]
    return tuple(sorted(found, key=lambda check: ORDER.index(check.state)))


def _check(code: str, state: tables.CheckState, text: str) -> tables.Check:
    return tables.Check(code=code, state=state, text=text)


def _sample_ratio(made: tables.Report) -> Iterator[tables.Check]:
    ratio = made.sample_ratio
    if ratio is None:
        reason = "another system assigns, whose weights are unknown" if made.units else "no unit was split yet"
        reason = reason if made.current else "the weights of this phase are no longer in the document"
        yield _check("sample-ratio", "unknown", f"The sample ratio was not checked: {reason}.")
        return
    counts = ", ".join(
        f"{row.name} {row.units} (expected {row.expected_units:.0f})"
        for row in made.variants
        if row.expected_units is not None
    )
    test = f"{wording.p_is(ratio.p_value)} at one look, {wording.p_value(ratio.sequential_p)} at any"
    if ratio.verdict == "mismatch":
        text = f"Sample ratio mismatch ({test}): {counts}. Units are missing on one side, so the effect cannot be read."
        hint = "Look for a variant that crashes, drops events, or loses its callers before they are counted."
        yield _check("sample-ratio", "broken", f"{text} {hint}")
    elif ratio.verdict == "suspect":
        text = f"The sample ratio looks wrong ({test}): {counts}. Look again with more units."
        yield _check("sample-ratio", "warning", text)
    else:
        yield _check("sample-ratio", "fine", f"The units came as the weights say ({test}).")


def _crossed(made: tables.Report) -> Iterator[tables.Check]:
    if not made.crossed:
        yield _check("crossed", "fine", "No unit was seen in two variants.")
        return
    found = ratio_checks.crossovers(made.crossed, made.units, began_in=made.crossed_from, weights=_weights(made))
    text = f"{made.crossed} units ({wording.percent(found.ratio)}) were seen in more than one variant and are left out."
    if found.ratio > ratio_checks.CROSSED_RATIO:
        text = f"{text} Above 1 % the comparison is not to be trusted: is one unit several people?"
        yield _check("crossed", "broken", text)
    elif found.verdict == "mismatch":
        sides = ", ".join(f"{count} first in {name}" for name, count in sorted(made.crossed_from.items()))
        yield _check("crossed", "broken", f"{text} They differ by variant ({sides}), which biases the rest.")
    else:
        yield _check("crossed", "fine", text)


def _dropped(made: tables.Report) -> Iterator[tables.Check]:
    lost = {name: count for name, count in made.dropped.items() if count}
    if not lost:
        yield _check("dropped", "fine", "No event is known to be lost.")
        return
    text = ", ".join(f"{name} {count}" for name, count in sorted(lost.items()))
    names = {row.name for row in made.variants}
    sides = {name: sum(count for key, count in lost.items() if key.split()[-1] == name) for name in names}
    uneven = _uneven(sides, _weights(made)) if sum(sides.values()) and _all_split(made) else None
    if uneven is not None and uneven < ratio_checks.P:
        text = f"Events were lost before they were logged, not equally for each variant: {text}."
        yield _check("dropped", "broken", f"{text} What is left is no longer the split.")
    else:
        yield _check("dropped", "warning", f"Events were lost before they were logged: {text}.")


def _all_split(made: tables.Report) -> bool:
    """Whether nearly nobody is outside of the split: those have control, too, so control's share is no weight."""
    total = sum(made.reasons.values())
    return sum(made.reasons.get(reason, 0) for reason in assignment.ANALYSED) >= MOSTLY * total


def _weights(made: tables.Report) -> Mapping[str, float]:
    return {row.name: row.weight for row in made.variants if row.weight}


def _uneven(counts: Mapping[str, int], weights: Mapping[str, float]) -> float | None:
    found = ratio_checks.check(counts, weights)
    return found.p_value if found is not None else None


def _no_unit(made: tables.Report) -> Iterator[tables.Check]:
    total = sum(made.reasons.values())
    without = made.reasons.get(assignment.Reason.NO_UNIT, 0)
    if without and without / total > MAX_NO_UNIT_RATIO:
        text = f"{without} requests ({wording.percent(without / total)} of what was exposed) had no"
        text = f"{text} {made.unit or 'unit'} and got {made.control}. Send it, or set on_missing_unit."
        yield _check("no-unit", "warning", text)
    else:
        yield _check("no-unit", "fine", "At most 1 % of the requests had no unit.")


def _assignment_error(made: tables.Report) -> Iterator[tables.Check]:
    errors = made.reasons.get(assignment.Reason.ERROR, 0)
    if errors:
        text = f"{errors} assignments failed and were answered by {made.control}"
        yield _check("assignment-error", "warning", f"{text}: the unit was neither text nor a whole number.")
    else:
        yield _check("assignment-error", "fine", "No assignment failed.")


def _fallback(made: tables.Report) -> Iterator[tables.Check]:
    much = [row for row in made.variants if (row.serving.fallback_ratio or 0.0) > MAX_FALLBACK_RATIO]
    for row in much:
        ratio = wording.percent(row.serving.fallback_ratio)
        text = f"{made.control} answered {ratio} of the requests of {row.name}, which failed"
        yield _check("fallback", "warning", f"{text}. They count for {row.name}: its effect is diluted.")
    if not much:
        yield _check("fallback", "fine", "At most 1 % of any variant's requests fell back.")


def _builds(made: tables.Report) -> Iterator[tables.Check]:
    if len(made.builds) > 1:
        text = f"{len(made.builds)} builds of the code served this phase ({', '.join(sorted(made.builds))})"
        yield _check("mixed-builds", "warning", f"{text}: the variants were not the same all the time.")
    else:
        yield _check("mixed-builds", "fine", "One build of the code served this phase.")


def _ramp(made: tables.Report) -> Iterator[tables.Check]:
    shares = [share for _, share in made.ramps]
    lowered = next((at for (at, share), before in zip(made.ramps[1:], shares, strict=False) if share < before), None)
    if lowered is not None:
        text = (
            f"The ramp was lowered {wording.moment(lowered)}: units that left it get {made.control} and still count as"
        )
        yield _check("ramp", "warning", f"{text} assigned, which dilutes the effect.")
    elif made.ramps:
        yield _check("ramp", "fine", "The ramp was never lowered.")


def _changed(made: tables.Report) -> Iterator[tables.Check]:
    if made.changed:
        text = f"Changed after the first unit came: {'; '.join(made.changed)}"
        yield _check("plan-changed", "warning", f"{text}. Only what was said before confirms; the rest explores.")


def _windows(made: tables.Report) -> Iterator[tables.Check]:
    primary = made.primary
    if primary is None or primary.closed_ratio is None or primary.signal:
        return
    if primary.closed_ratio < 1:
        text = f"{wording.percent(1 - primary.closed_ratio)} of the units are still inside their window"
        yield _check("open-windows", "open", f"{text} for {primary.label}; they are not compared yet.")
    else:
        yield _check("open-windows", "fine", "Every unit's window is over.")


def _duration(made: tables.Report) -> Iterator[tables.Check]:
    if made.first_ts is None:
        return
    if made.plan.left_s:
        yield _check("duration", "open", f"The shortest planned duration ends in {wording.duration(made.plan.left_s)}.")
    elif made.as_of - made.first_ts < FULL_WEEK_S:
        text = f"It runs for {wording.duration(made.as_of - made.first_ts)}: less than 7 full days"
        state: tables.CheckState = "warning" if made.plan.min_duration_s is None else "fine"
        said = ", so no day of the week is seen twice." if state == "warning" else ", as the document says is enough."
        yield _check("duration", state, f"{text}{said}")
    else:
        yield _check("duration", "fine", "It ran for 7 full days at least.")


def _plan(made: tables.Report) -> Iterator[tables.Check]:
    plan = made.plan
    if plan.units is None:
        yield _check("plan", "unknown", "The document plans no number of units (plan.units).")
    elif plan.complete:
        yield _check("plan", "fine", f"The plan is complete: {wording.several(made.units, 'unit')} of {plan.units:,}.")
    else:
        left = max(0, math.ceil(plan.units - made.units))
        text = f"{left:,} of {plan.units:,} planned units are still to come" if left else "Some windows are still open"
        if not left and plan.left_s:
            text = "The planned units are there, the shortest planned duration is not over"
        yield _check("plan", "open", f"{text}.")


def _unmatched(made: tables.Report) -> Iterator[tables.Check]:
    wanted = {metric.outcome for metric in (*made.metrics, *made.guardrails) if metric.outcome}
    for found in made.outcomes:
        if found.unmatched and found.name in wanted:
            text = f"{found.unmatched} of {found.count} outcomes named {found.name} belong to nobody that was seen"
            text = f"{text}. Do they carry the same {made.unit or 'unit'} as the requests?"
            yield _check("unmatched", "warning", text)


def _late(made: tables.Report) -> Iterator[tables.Check]:
    for name, late_s in sorted(made.late_s.items()):
        text = f"1 % of the outcomes named {name} arrive later than {wording.duration(late_s)}; windows wait for 2 days"
        yield _check(
            "late-outcomes",
            "warning",
            f"{text} at most. Unless they were imported, units of the last days count too little.",
        )


CHECKS: Final[tuple[Look, ...]] = (
    _sample_ratio,
    _crossed,
    _dropped,
    _no_unit,
    _assignment_error,
    _fallback,
    _builds,
    _ramp,
    _changed,
    _unmatched,
    _late,
    _windows,
    _duration,
    _plan,
)
