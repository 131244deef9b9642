"""A report as text: the verdict first, then tables for a terminal; the same columns when piped."""

from collections.abc import Iterator

from rich import console, text

from turnout.cli import screen
from turnout.reports import tables, wording
from turnout.spec import units

STYLES = {"alarm": "bold red", "warning": "yellow", "info": "cyan"}
ADVICE_STYLES = {
    "ship": "bold white on green",
    "stop": "bold white on red",
    "keep going": "bold black on yellow",
    "broken": "bold white on magenta",
}
READINGS = {
    "higher": "higher than control",
    "lower": "lower than control",
    "unclear": "not decided yet",
    "too-early": "too early to say",
    "hidden": "hidden",
}
SPARKS = "▁▂▃▄▅▆▇█"
SPARK_WIDTH = 40


def show(out: console.Console, report: tables.Report) -> None:
    """Print one report."""
    out.print(f"{report.experiment}", style="bold", end="")
    out.print(f" on endpoint {report.endpoint}, {report.state}{f' ({report.winner})' if report.winner else ''}")
    if report.description:
        out.print(report.description)
    _verdict(out, report)
    _notes(out, report)
    other = "" if report.current else " (not the one of the document)"
    period = f"{screen.when(report.first_ts)} to {screen.when(report.last_ts)}"
    out.print(f"phase {report.phase}{other}, revision {report.revision}, {period}", style="dim")
    _variants(out, report)
    for metric in report.metrics:
        _metric(out, report, metric)
    _guardrails(out, report)
    _sample_ratio(out, report)
    others = ", ".join(f"{other.phase} ({other.units} units)" for other in report.other_phases[:5])
    if others:
        out.print(f"other phases, never pooled with this one: {others}", style="dim")
    out.print()


def _verdict(out: console.Console, report: tables.Report) -> None:
    verdict = report.verdict
    if verdict is None:
        return
    badge = text.Text(f" {verdict.advice.upper()} ", style=ADVICE_STYLES[verdict.advice])
    out.print(badge, text.Text(verdict.headline, style="bold"))
    failed = {check.text for check in verdict.checks}
    for reason in verdict.reasons:
        if reason not in failed:
            out.print(f"  {reason}")
    for words in verdict.needed.words:
        out.print(text.Text(f"  next: {words}", style="cyan"))


def _notes(out: console.Console, report: tables.Report) -> None:
    for note in report.notes:
        out.print(text.Text(f"{note.level}: {note.text}", style=STYLES[note.level]))


def _variants(out: console.Console, report: tables.Report) -> None:
    fallbacks = any(row.serving.fallbacks for row in report.variants)
    rows: list[tuple[object, ...]] = []
    for row in report.variants:
        cells: tuple[object, ...] = (
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
        rows.append((*cells, row.serving.fallbacks) if fallbacks else cells)
    heads = ["variant", ">weight", ">units", ">share", ">expected", ">requests", ">errors", ">p50", ">p95", ">p99"]
    screen.show_table(out, "", [*heads, ">fallbacks"] if fallbacks else heads, rows)


def title(metric: tables.MetricTable) -> str:
    """What a metric is, in a line."""
    within = f", within {units.duration_text(metric.window_s)}" if metric.window_s else ""
    better = "" if metric.direction == ("down" if metric.signal else "up") else f", {metric.direction} is better"
    return f"{metric.role}: {metric.label} ({metric.kind}{within}{better})"


def _metric(out: console.Console, report: tables.Report, metric: tables.MetricTable) -> None:
    found = {each.variant: each for each in metric.comparisons}
    complete = any(each.fixed is not None and each.fixed.interval is not None for each in metric.comparisons)
    level = f"{100 * (1 - metric.alpha):.4g} %"
    heads = ["variant", ">units", _total_head(metric), f">{_value_head(metric)}", ">difference", ">lift"]
    heads += [f"{level}, any time"] + ([f"{level}, planned end"] if complete else []) + ["reading"]
    rows = []
    for estimate in metric.estimates:
        compared = found.get(estimate.variant)
        cells: list[object] = [
            f"{estimate.variant}{' (control)' if estimate.variant == report.control else ''}",
            _closed(estimate),
            f"{estimate.total:g}" if not report.hidden and metric.kind != "quantile" else None,
            wording.value(estimate.value if estimate.value is not None else estimate.mean, metric.scale),
            wording.change(compared.estimate, metric.scale) if compared else None,
            wording.lift(compared.lift) if compared else None,
            always(compared, metric),
        ]
        if complete:
            cells.append(fixed(compared, metric))
        rows.append([*cells, _reading(compared)])
    screen.show_table(out, title(metric), heads, rows)
    for compared in metric.comparisons:
        for line in _beside(metric, compared):
            out.print(f"  {line}", style="dim")


def _total_head(metric: tables.MetricTable) -> str:
    return ">converted" if metric.kind == "conversion" else ">sum"


def _value_head(metric: tables.MetricTable) -> str:
    return {"conversion": "rate", "ratio": "ratio", "share": "share", "share_over": "share"}.get(metric.kind, "mean")


def _closed(estimate: tables.Estimate) -> str:
    """Units compared, and all seen where some windows are open."""
    return f"{estimate.units}" if estimate.closed == estimate.units else f"{estimate.closed} of {estimate.units}"


def always(compared: tables.Comparison | None, metric: tables.MetricTable) -> str | None:
    """The always-valid interval as a cell."""
    if compared is None or compared.always_valid is None:
        return None
    return wording.between(compared.always_valid.interval.low, compared.always_valid.interval.high, metric.scale)


def fixed(compared: tables.Comparison | None, metric: tables.MetricTable) -> str | None:
    """The interval of the planned end as a cell."""
    if compared is None or compared.fixed is None or compared.fixed.interval is None:
        return None
    return wording.between(compared.fixed.interval.low, compared.fixed.interval.high, metric.scale)


def _beside(metric: tables.MetricTable, compared: tables.Comparison) -> Iterator[str]:
    if compared.adjustment is not None:
        made = compared.adjustment
        without = wording.change(made.estimate, metric.scale)
        text = f"{compared.variant}: with covariate (CUPED); without it {without}"
        if made.interval is not None:
            text = f"{text} ({wording.between(made.interval.low, made.interval.high, metric.scale)})"
        reduction, share = wording.percent(made.reduction), wording.percent(made.covariate_ratio)
        yield f"{text}; {reduction} less variance, {share} of the units have one"
    if metric.role == "secondary" and compared.adjusted_p is not None:
        p = wording.p_is(compared.adjusted_p)
        yield f"{compared.variant}: exploratory; {p}, adjusted over all secondary metrics"
    if metric.role == "primary" and len(compared.curve) > 1 and out_of(compared):
        yield f"{compared.variant}: effect over time {out_of(compared)}"


def out_of(compared: tables.Comparison) -> str:
    """The effect over time as a line of blocks, lowest to highest."""
    values = [point.estimate for point in compared.curve][-SPARK_WIDTH:]
    low, high = min(values), max(values)
    if high <= low:
        return ""
    return "".join(SPARKS[round((value - low) / (high - low) * (len(SPARKS) - 1))] for value in values)


def _reading(compared: tables.Comparison | None) -> object:
    if compared is None:
        return None
    style = {True: "green", False: "red", None: ""}[compared.better]
    return screen.styled(READINGS[compared.reading], style)


def _guardrails(out: console.Console, report: tables.Report) -> None:
    rows: list[list[object]] = []
    for metric in report.guardrails:
        values = {each.variant: each for each in metric.estimates}
        theirs = values.get(report.control)
        for compared in metric.comparisons:
            harm, ours = compared.harm, values.get(compared.variant)
            state = harm.state if harm is not None else "hidden"
            style = {"safe": "green", "harmful": "bold red"}.get(state, "yellow")
            rows.append(
                [
                    f"{metric.name}: {metric.label}",
                    compared.variant,
                    wording.value(ours.value, metric.scale) if ours else None,
                    wording.value(theirs.value, metric.scale) if theirs else None,
                    wording.change(harm.estimate, metric.scale) if harm else None,
                    wording.between(harm.low, harm.high, metric.scale) if harm else None,
                    wording.change(metric.margin, metric.scale, sign=False),
                    screen.styled(state, style),
                ]
            )
    heads = ["guardrail", "variant", ">value", f">{report.control}", ">worse by", "bounds", ">margin", "state"]
    screen.show_table(out, "guardrails", heads, rows)


def _sample_ratio(out: console.Console, report: tables.Report) -> None:
    ratio = report.sample_ratio
    if ratio is None:
        return
    style = {"fine": "green", "suspect": "yellow", "mismatch": "bold red"}[ratio.verdict]
    out.print(text.Text(f"sample ratio: {ratio.verdict} (p = {ratio.p_value:.3g}, {report.units} units)", style=style))
