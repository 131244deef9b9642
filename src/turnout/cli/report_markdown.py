"""A report as Markdown, short enough for a comment on a pull request."""

import re
from collections.abc import Iterator, Sequence

from turnout.cli import report_text
from turnout.reports import tables, wording

SIGNS = {"ship": "🟢", "stop": "🔴", "keep going": "🟡", "broken": "🟣"}
STATES = {"safe": "✅ safe", "harmful": "❌ harmful", "inconclusive": "❔ inconclusive"}
SPECIAL = re.compile(r"([\\`*_\[\]<>#!|~&@])")


def text(report: tables.Report) -> str:
    """One report."""
    return "\n".join(_lines(report)) + "\n"


def escaped(words: str) -> str:
    """Text that Markdown and the HTML in it leave as it is; nobody is mentioned by it.

    >>> print(escaped("<b>*a*|b"))
    \\<b\\>\\*a\\*\\|b
    """
    return SPECIAL.sub(r"\\\1", " ".join(words.split()))


def _lines(report: tables.Report) -> Iterator[str]:
    verdict = report.verdict
    if verdict is not None:
        yield f"### {SIGNS[verdict.advice]} {escaped(report.experiment)}: {verdict.advice}"
        yield ""
        yield f"**{escaped(verdict.headline)}**"
        yield ""
        failed = {check.text for check in verdict.checks}
        yield from (f"- {escaped(reason)}" for reason in verdict.reasons if reason not in failed)
        yield from (f"- Next: {escaped(words)}" for words in verdict.needed.words)
    yield from (f"- **{note.level}**: {escaped(note.text)}" for note in report.notes)
    yield ""
    secondary = [metric for metric in report.metrics if metric.role == "secondary"]
    for metric in report.metrics:
        if metric.role == "primary":
            yield from _metric(report, metric)
    yield from _guardrails(report)
    if secondary:
        yield f"<details><summary>{wording.several(len(secondary), 'secondary metric')}, exploratory</summary>"
        yield ""
        for metric in secondary:
            yield from _metric(report, metric)
        yield "</details>"
        yield ""
    yield from _variants(report)
    yield f"<sub>{escaped(footer(report))}</sub>"


def footer(report: tables.Report) -> str:
    """What the report is about, exactly."""
    seen = f"{wording.moment(report.first_ts)} to {wording.moment(report.last_ts)}"
    return f"revision {report.revision}, phase {report.phase}, exposures {seen}, as of {wording.moment(report.as_of)}"


def _table(heads: Sequence[str], rows: Sequence[Sequence[str | None]]) -> Iterator[str]:
    yield "| " + " | ".join(heads) + " |"
    yield "|" + "|".join(["---"] + ["--:"] * (len(heads) - 1)) + "|"
    for row in rows:
        yield "| " + " | ".join(escaped(cell or "-") for cell in row) + " |"
    yield ""


def _metric(report: tables.Report, metric: tables.MetricTable) -> Iterator[str]:
    found = {each.variant: each for each in metric.comparisons}
    rows = []
    for estimate in metric.estimates:
        compared = found.get(estimate.variant)
        rows.append(
            [
                estimate.variant + (" (control)" if estimate.variant == report.control else ""),
                f"{estimate.closed:,}",
                wording.value(estimate.value if estimate.value is not None else estimate.mean, metric.scale),
                wording.change(compared.estimate, metric.scale) if compared else None,
                wording.lift(compared.lift) if compared else None,
                report_text.always(compared, metric),
                report_text.fixed(compared, metric),
            ]
        )
    level = f"{100 * (1 - metric.alpha):.4g} %"
    yield f"**{escaped(report_text.title(metric))}**"
    yield ""
    heads = ["variant", "units", "value", "difference", "lift", f"{level}, any time", f"{level}, planned end"]
    complete = any(row[-1] for row in rows)
    yield from _table(heads if complete else heads[:-1], rows if complete else [row[:-1] for row in rows])


def _guardrails(report: tables.Report) -> Iterator[str]:
    rows = [
        [
            f"{metric.name}: {metric.label}",
            compared.variant,
            wording.change(compared.harm.estimate, metric.scale),
            wording.between(compared.harm.low, compared.harm.high, metric.scale),
            wording.change(metric.margin, metric.scale, sign=False),
            STATES[compared.harm.state],
        ]
        for metric in report.guardrails
        for compared in metric.comparisons
        if compared.harm is not None
    ]
    if rows:
        yield from _table(["guardrail", "variant", "worse by", "bounds", "margin", "state"], rows)


def _variants(report: tables.Report) -> Iterator[str]:
    rows = [
        [
            row.name + (" (control)" if row.control else ""),
            "-" if row.weight is None else f"{row.weight:g}",
            f"{row.units:,}",
            "-" if row.expected_units is None else f"{row.expected_units:,.0f}",
            f"{row.serving.requests:,}",
            f"{row.serving.errors:,}",
            wording.value(row.serving.p95_s, "seconds"),
        ]
        for row in report.variants
    ]
    ratio = report.sample_ratio
    told = f", sample ratio {ratio.verdict} ({wording.p_is(ratio.p_value)})" if ratio is not None else ""
    yield f"<details><summary>{report.units:,} units{told}</summary>"
    yield ""
    yield from _table(["variant", "weight", "units", "expected", "requests", "errors", "p95"], rows)
    yield "</details>"
    yield ""
