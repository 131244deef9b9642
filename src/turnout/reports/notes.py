"""What a reader must know beside the numbers, in plain words. Called by `experiment.py` alone; pure.

Each rule looks at the finished tables and yields at most a few notes. A rule that finds
nothing says nothing: no note is a good sign.
"""

import math
from collections.abc import Callable, Iterator
from typing import Final

from turnout.errors import did_you_mean
from turnout.experiments import assignment
from turnout.reports import tables

FEW_UNITS: Final = 100
"""Units per variant below which the always-valid interval, which is asymptotic, is not shown."""

MAX_CROSSED_RATIO: Final = 0.01
MAX_NO_UNIT_RATIO: Final = 0.01
MAX_ERROR_RATIO: Final = 0.01
SHOWN_NAMES: Final = 10
HOUR_S: Final = 3_600.0

Rule = Callable[[tables.Report], Iterator[tables.Note]]


def write(made: tables.Report) -> tuple[tables.Note, ...]:
    """All notes, alarms first."""
    order = ("alarm", "warning", "info")
    found = [note for rule in RULES for note in rule(made)]
    return tuple(sorted(found, key=lambda note: order.index(note.level)))


def _alarm(code: str, text: str) -> tables.Note:
    return tables.Note(code=code, level="alarm", text=text)


def _warning(code: str, text: str) -> tables.Note:
    return tables.Note(code=code, level="warning", text=text)


def _info(code: str, text: str) -> tables.Note:
    return tables.Note(code=code, level="info", text=text)


def _percent(ratio: float) -> str:
    return f"{100 * ratio:.1f} %"


def _state(made: tables.Report) -> Iterator[tables.Note]:
    if made.state == "winner":
        yield _info("winner", f"The document names the winner {made.winner}: everybody gets it, nothing is split now.")
    if made.state == "disabled":
        yield _info("disabled", f"The experiment is switched off: everybody gets {made.control}.")
    if made.state == "running" and made.ramp_ratio < 1:
        yield _info("ramp", f"{_percent(made.ramp_ratio)} of the units take part; the others get {made.control}.")


def _nothing_yet(made: tables.Report) -> Iterator[tables.Note]:
    if made.units or made.state != "running":
        return
    text = f"No unit has been split yet in this phase. Send requests to the endpoint {made.endpoint}"
    yield _info("no-exposures", f"{text} with {made.unit} set." if made.unit else f"{text}.")


def _other_phases(made: tables.Report) -> Iterator[tables.Note]:
    if not made.current:
        text = "This phase is not the document's own: weights, params or models have changed since."
        yield _warning("old-phase", f"{text} Its weights are unknown, so the sample ratio is not checked.")
    if made.other_phases:
        count, last = len(made.other_phases), made.other_phases[0]
        text = f"Phases in the log beside this one: {count}, the last {last.phase} with {last.units} units"
        yield _info("other-phases", f"{text}. Phases are never pooled.")


def _sample_ratio(made: tables.Report) -> Iterator[tables.Note]:
    ratio = made.sample_ratio
    if ratio is None or ratio.verdict == "fine":
        return
    counts = ", ".join(
        f"{row.name} {row.units} (expected {row.expected_units:.0f})"
        for row in made.variants
        if row.expected_units is not None
    )
    if ratio.verdict == "suspect":
        text = f"The sample ratio looks wrong (p = {ratio.p_value:.2g}): {counts}. Look again with more units."
        yield _warning("sample-ratio", text)
        return
    text = f"Sample ratio mismatch: {counts}. Units are missing on one side, so the effect cannot be read."
    hint = "Look for a variant that crashes, drops events, or loses its callers before they are counted."
    yield _alarm("sample-ratio", f"{text} {hint}")


def _crossed(made: tables.Report) -> Iterator[tables.Note]:
    if not made.crossed:
        return
    ratio = made.crossed / (made.units + made.crossed)
    text = f"{made.crossed} units ({_percent(ratio)}) were seen in more than one variant and are left out."
    if ratio > MAX_CROSSED_RATIO:
        yield _alarm("crossed", f"{text} Above 1 % the comparison is not to be trusted: is one unit several people?")
    else:
        yield _info("crossed", text)


def _missing_units(made: tables.Report) -> Iterator[tables.Note]:
    total = sum(made.reasons.values())
    without = made.reasons.get(assignment.Reason.NO_UNIT, 0)
    if without and without / total > MAX_NO_UNIT_RATIO:
        text = f"{without} requests ({_percent(without / total)} of what was exposed) had no {made.unit or 'unit'}"
        yield _warning("no-unit", f"{text} and got {made.control}. Send it, or set on_missing_unit.")
    errors = made.reasons.get(assignment.Reason.ERROR, 0)
    if errors:
        text = f"{errors} assignments failed and were answered by {made.control}"
        yield _warning("assignment-error", f"{text}: the unit was neither text nor a whole number.")


def _serving(made: tables.Report) -> Iterator[tables.Note]:
    control = next((row.serving.error_ratio for row in made.variants if row.control), None) or 0.0
    for row in made.variants:
        serving = row.serving
        if serving.error_ratio and (serving.error_ratio > MAX_ERROR_RATIO and serving.error_ratio > 2 * control):
            text = f"{row.name} answers {_percent(serving.error_ratio)} of its requests with an error"
            yield _warning("errors", f"{text}; {made.control}: {_percent(control)}." if not row.control else f"{text}.")
        if serving.stood_in:
            text = f"{row.name} answered {serving.stood_in} requests in place of a variant that failed"
            yield _warning("fallback", f"{text}. They count for the variant that was assigned.")


def _metrics(made: tables.Report) -> Iterator[tables.Note]:
    names = [found.name for found in made.outcomes]
    seen = f"names seen: {', '.join(names[:SHOWN_NAMES])}" if names else "no outcome of any name was posted"
    if not made.metrics:
        text = f"The document names no metric for {made.experiment} ({seen})."
        yield _info("no-metric", f"{text} Add metrics: {{primary: {{outcome: NAME}}}}.")
    for metric in made.metrics:
        if not metric.outcomes:
            hint = did_you_mean(metric.outcome, names)
            yield _warning("no-outcome", f"No outcome named {metric.outcome} yet; {seen}. {hint}".rstrip())
        elif metric.closed_ratio is not None and metric.closed_ratio < 1:
            text = f"{_percent(1 - metric.closed_ratio)} of the units are still inside their window"
            yield _info("open-windows", f"{text} for {metric.outcome}; their outcomes may still come.")


def _guardrails(made: tables.Report) -> Iterator[tables.Note]:
    if made.guardrails:
        text = f"Guardrails are not judged by this report: {', '.join(made.guardrails)}"
        yield _info("guardrails", f"{text}. Compare errors and latency per variant by eye.")


def _unmatched(made: tables.Report) -> Iterator[tables.Note]:
    wanted = {metric.outcome for metric in made.metrics}
    for found in made.outcomes:
        if found.unmatched and found.name in wanted:
            text = f"{found.unmatched} of {found.count} outcomes named {found.name} belong to nobody that was seen"
            yield _warning("unmatched", f"{text}. Do they carry the same {made.unit or 'unit'} as the requests?")


def _too_early(made: tables.Report) -> Iterator[tables.Note]:
    taking = [row for row in made.variants if row.weight is None or row.weight > 0]
    few = [f"{row.name} has {row.units}" for row in taking if row.units < FEW_UNITS]
    if few and made.units:
        yield _info("too-early", f"Too early: {', '.join(few)} units; at least {FEW_UNITS} a variant are needed.")


def _plan(made: tables.Report) -> Iterator[tables.Note]:
    plan = made.plan
    if not made.metrics or not made.units:
        return
    if plan.units is None:
        text = "No plan.units in the document: the fixed-horizon interval is right for one look only"
        yield _info("no-plan", f"{text}; the always-valid one for any number of looks.")
    elif not plan.complete:
        left = max(0, math.ceil(plan.units - made.units))
        text = f"{left} of {plan.units} planned units are still to come" if left else "Some windows are still open"
        if not left and plan.left_s:
            text = f"The shortest planned duration ends in {math.ceil(plan.left_s / HOUR_S)} hours"
        yield _info("plan-open", f"{text}: until then only the always-valid interval may be acted on.")


def _builds(made: tables.Report) -> Iterator[tables.Note]:
    if len(made.builds) > 1:
        text = f"{len(made.builds)} builds of the code served this phase ({', '.join(sorted(made.builds))})"
        yield _warning("mixed-builds", f"{text}: the variants were not the same all the time.")


def _dropped(made: tables.Report) -> Iterator[tables.Note]:
    lost = {name: count for name, count in made.dropped.items() if count}
    if lost:
        text = ", ".join(f"{name} {count}" for name, count in sorted(lost.items()))
        yield _warning("dropped", f"Events were lost before they were logged: {text}.")


RULES: Final[tuple[Rule, ...]] = (
    _sample_ratio,
    _crossed,
    _state,
    _nothing_yet,
    _too_early,
    _metrics,
    _guardrails,
    _unmatched,
    _missing_units,
    _serving,
    _builds,
    _dropped,
    _other_phases,
    _plan,
)
