"""A report as text: tables for a terminal, the same columns when piped."""

from collections.abc import Iterable

from rich import console, text

from turnout.cli import screen
from turnout.experiments import samples
from turnout.reports import tables
from turnout.spec import units

STYLES = {"alarm": "bold red", "warning": "yellow", "info": "cyan"}
READINGS = {
    "higher": "higher than control",
    "lower": "lower than control",
    "unclear": "not decided yet",
    "too-early": "too early to say",
}


def show(out: console.Console, report: tables.Report) -> None:
    """Print one report."""
    out.print(f"{report.experiment}", style="bold", end="")
    out.print(f" on endpoint {report.endpoint}, {report.state}{f' ({report.winner})' if report.winner else ''}")
    if report.description:
        out.print(report.description)
    other = "" if report.current else " (not the one of the document)"
    period = f"{screen.when(report.first_ts)} to {screen.when(report.last_ts)}"
    out.print(f"phase {report.phase}{other}, revision {report.revision}, {period}")
    for note in report.notes:
        out.print(text.Text(f"{note.level}: {note.text}", style=STYLES[note.level]))
    _variants(out, report)
    for metric in report.metrics:
        _metric(out, report, metric)
    _sample_ratio(out, report)
    others = ", ".join(f"{other.phase} ({other.units} units)" for other in report.other_phases[:5])
    if others:
        out.print(f"other phases, never pooled with this one: {others}")
    out.print()


def _variants(out: console.Console, report: tables.Report) -> None:
    rows: list[tuple[object, ...]] = [
        (
            f"{row.name}{' (control)' if row.control else ''}",
            None if row.weight is None else f"{row.weight:g}",
            row.units,
            screen.percent(row.unit_ratio, 1),
            None if row.expected_units is None else f"{row.expected_units:.1f}",
            row.serving.requests,
            row.serving.errors,
            screen.milliseconds(row.serving.p50_s),
            screen.milliseconds(row.serving.p95_s),
            screen.milliseconds(row.serving.p99_s),
        )
        for row in report.variants
    ]
    heads = ("variant", ">weight", ">units", ">share", ">expected", ">requests", ">errors", ">p50", ">p95", ">p99")
    screen.show_table(out, "", heads, rows)


def _metric(out: console.Console, report: tables.Report, metric: tables.MetricTable) -> None:
    found = {each.variant: each for each in metric.comparisons}
    conversion = metric.kind == "conversion"
    rows: list[tuple[object, ...]] = []
    for estimate in metric.estimates:
        compared = found.get(estimate.variant)
        fixed = compared.fixed if compared else None
        always = compared.always_valid if compared else None
        rows.append(
            (
                f"{estimate.variant}{' (control)' if estimate.variant == report.control else ''}",
                estimate.units,
                f"{estimate.total:g}",
                value(estimate.mean, conversion),
                value(fixed.estimate, conversion, sign=True) if fixed else None,
                between(fixed.interval, conversion) if fixed else None,
                screen.percent(fixed.lift) if fixed else None,
                between(always.interval, conversion) if always else None,
                _reading(compared),
            )
        )
    level = f"{100 * (1 - report.plan.alpha):g} %"
    heads = (
        "variant",
        ">units",
        ">converted" if conversion else ">sum",
        ">rate" if conversion else ">mean",
        ">difference",
        f"{level}, one look",
        ">lift",
        f"{level}, any time",
        "reading",
    )
    window = units.duration_text(metric.window_s)
    screen.show_table(out, f"{metric.role}: {metric.outcome} ({metric.kind}, within {window})", heads, rows)


def _reading(compared: tables.Comparison | None) -> object:
    if compared is None:
        return None
    style = {"higher": "green", "lower": "red"}.get(compared.reading, "")
    return screen.styled(READINGS[compared.reading], style)


def _sample_ratio(out: console.Console, report: tables.Report) -> None:
    ratio = report.sample_ratio
    if ratio is None:
        return
    style = {"fine": "green", "suspect": "yellow", "mismatch": "bold red"}[ratio.verdict]
    out.print(text.Text(f"sample ratio: {ratio.verdict} (p = {ratio.p_value:.3g}, {report.units} units)", style=style))


def value(number: float | None, conversion: bool, *, sign: bool = False) -> str:
    """A rate in per cent, or a mean as it is.

    >>> value(0.1234, True), value(1.5, False, sign=True), value(None, True)
    ('12.34 %', '+1.5', '-')
    """
    if number is None:
        return "-"
    plus = "+" if sign else ""
    return f"{number * 100:{plus}.2f} %" if conversion else f"{number:{plus}.4g}"


def between(interval: samples.Interval | None, conversion: bool) -> str:
    """
    >>> between(samples.Interval(-0.01, 0.02), True)
    '-1.00 % to +2.00 %'
    """
    if interval is None:
        return "-"
    ends: Iterable[float] = (interval.low, interval.high)
    return " to ".join(value(end, conversion, sign=True) for end in ends)
