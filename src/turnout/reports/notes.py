"""What a reader must know beside the numbers, in plain words. Called by `experiment` alone; pure.

The failed checks of the verdict come first; then each rule looks at the finished tables and yields
at most a few notes. A rule that finds nothing says nothing: no note is a good sign.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Final

from turnout.errors import did_you_mean
from turnout.experiments import sequences
from turnout.reports import tables, wording

MAX_ERROR_RATIO: Final = 0.01
FADING_P: Final = 0.01
SHOWN_NAMES: Final = 10

Rule = Callable[[tables.Report], Iterator[tables.Note]]

LEVELS: Final[Mapping[tables.CheckState, tables.Level]] = {"broken": "alarm", "warning": "warning", "open": "info"}


def write(made: tables.Report) -> tuple[tables.Note, ...]:
    """All notes, alarms first."""
    order = ("alarm", "warning", "info")
    found = [note for rule in RULES for note in rule(made)]
    return tuple(sorted(found, key=lambda note: order.index(note.level)))


def _warning(code: str, text: str) -> tables.Note:
    return tables.Note(code=code, level="warning", text=text)


def _info(code: str, text: str) -> tables.Note:
    return tables.Note(code=code, level="info", text=text)


def _failed_checks(made: tables.Report) -> Iterator[tables.Note]:
    if made.verdict is None or not made.units:
        return
    for check in made.verdict.checks:
        if check.state in LEVELS:
            yield tables.Note(code=check.code, level=LEVELS[check.state], text=check.text)


def _few_crossed(made: tables.Report) -> Iterator[tables.Note]:
    found = made.verdict.checks if made.verdict is not None else ()
    for check in found:
        if check.code == "crossed" and check.state == "fine" and made.crossed:
            yield _info("crossed", check.text)


def _state(made: tables.Report) -> Iterator[tables.Note]:
    if made.state == "winner":
        yield _info("winner", f"The document names the winner {made.winner}: everybody gets it, nothing is split now.")
    if made.state == "disabled":
        yield _info("disabled", f"The experiment is switched off: everybody gets {made.control}.")
    if made.state == "running" and made.ramp_ratio < 1:
        text = f"{wording.percent(made.ramp_ratio)} of the units take part; the others get {made.control}."
        yield _info("ramp-share", text)


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


def _serving(made: tables.Report) -> Iterator[tables.Note]:
    control = next((row.serving.error_ratio for row in made.variants if row.control), None) or 0.0
    for row in made.variants:
        serving = row.serving
        if serving.error_ratio and (serving.error_ratio > MAX_ERROR_RATIO and serving.error_ratio > 2 * control):
            text = f"{row.name} answers {wording.percent(serving.error_ratio)} of its requests with an error"
            also = "" if row.control else f"; {made.control}: {wording.percent(control)}"
            yield _warning("errors", f"{text}{also}.")


def _metrics(made: tables.Report) -> Iterator[tables.Note]:
    names = [found.name for found in made.outcomes]
    seen = f"names seen: {', '.join(names[:SHOWN_NAMES])}" if names else "no outcome of any name was posted"
    if not made.metrics:
        text = f"The document names no metric for {made.experiment} ({seen})."
        yield _info("no-metric", f"{text} Add metrics: {{primary: {{outcome: NAME}}}}.")
    for name in dict.fromkeys(metric.outcome for metric in (*made.metrics, *made.guardrails) if metric.outcome):
        if name not in names:
            hint = did_you_mean(name, names)
            yield _warning("no-outcome", f"No outcome named {name} yet; {seen}. {hint}".rstrip())


def _too_early(made: tables.Report) -> Iterator[tables.Note]:
    taking = [row for row in made.variants if row.weight is None or row.weight > 0]
    few = [f"{row.name} has {row.units}" for row in taking if row.units < sequences.MIN_UNITS]
    if few and made.units:
        text = f"Too early: {', '.join(few)} units; at least {sequences.MIN_UNITS} a variant are needed."
        yield _info("too-early", text)


def _novelty(made: tables.Report) -> Iterator[tables.Note]:
    primary = made.primary
    for compared in primary.comparisons if primary is not None else ():
        if compared.trend_p is not None and compared.trend_p < FADING_P:
            text = f"The effect of {compared.variant} differs by when units came ({wording.p_is(compared.trend_p)})"
            yield _warning("trend", f"{text}: a novelty that wears off, or something that changed on the way?")


def _no_plan(made: tables.Report) -> Iterator[tables.Note]:
    if made.metrics and made.units and made.plan.units is None:
        text = "No plan.units in the document, so there is no planned end"
        yield _info("no-plan", f"{text}: only the always-valid interval is shown, for any number of looks.")


RULES: Final[tuple[Rule, ...]] = (
    _failed_checks,
    _state,
    _nothing_yet,
    _too_early,
    _metrics,
    _few_crossed,
    _serving,
    _novelty,
    _other_phases,
    _no_plan,
)
