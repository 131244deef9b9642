"""A report as one page that needs nothing else: no script, no network; light and dark, for a desk and for a phone."""

import importlib.resources
from collections.abc import Iterator, Mapping, Sequence
from typing import Final, NamedTuple

from turnout.cli import markup, report_markdown, report_plots, report_text
from turnout.cli.markup import element
from turnout.reports import tables, wording

POLICY: Final = "default-src 'none'; style-src 'unsafe-inline'"
"""What a browser may load for this page: nothing."""

COLORS: Final = 6
STATES: Final = {"safe": "good", "harmful": "bad", "inconclusive": "unsure", "hidden": "soft"}
CHECKS: Final = {"fine": "good", "broken": "odd", "warning": "unsure", "open": "soft", "unknown": "soft"}
READINGS: Final = {
    "higher": "higher",
    "lower": "lower",
    "unclear": "undecided",
    "too-early": "too early",
    "hidden": "hidden",
}
Colors = dict[str, int]


class Cell(NamedTuple):
    """One cell of a table: its content and classes."""

    content: markup.Markup | str | None
    style: str = ""


def page(made: Sequence[tables.Report]) -> str:
    """All reports on one page."""
    style = importlib.resources.files("turnout.cli").joinpath("report_page.css").read_text(encoding="utf-8")
    names = ", ".join(report.experiment for report in made)
    links = [element("a", report.experiment, href=f"#report-{at}") for at, report in enumerate(made)]
    head = element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("meta", http_equiv="Content-Security-Policy", content=POLICY),
        element("title", f"{names}: report"),
        element("style", markup.trusted(style)),
    )
    main = element(
        "main",
        element("nav", *links, aria_label="Experiments") if len(made) > 1 else None,
        *(article(report, at) for at, report in enumerate(made)),
    )
    return f"<!doctype html>\n{element('html', head, element('body', main), lang='en')}\n"


def article(report: tables.Report, number: int = 0) -> markup.Markup:
    """One report."""
    colors = _colors(report)
    top = element(
        "header",
        element("h1", report.experiment),
        element("p", f"on endpoint {report.endpoint}, {report.state}{_winner(report)}", class_="soft"),
        element("p", report.description) if report.description else None,
        class_="top",
    )
    return element(
        "article",
        top,
        _banner(report),
        _facts(report),
        *(_deciding(report, metric, colors) for metric in report.metrics if metric.role == "primary"),
        _guardrails(report, colors),
        _secondary(report, colors),
        _exposure(report, colors),
        _serving(report, colors),
        _trust(report),
        _method(report),
        element("footer", report_markdown.footer(report), _builds(report)),
        id=f"report-{number}",
    )


def _winner(report: tables.Report) -> str:
    return f" ({report.winner})" if report.winner else ""


def _colors(report: tables.Report) -> Colors:
    """Control is grey, the others take turns."""
    others = [row.name for row in report.variants if not row.control]
    found = {row.name: 0 for row in report.variants if row.control}
    return found | {name: 1 + at % (COLORS - 1) for at, name in enumerate(others)}


def _card(title: str, sub: str, *content: markup.Markup | None) -> markup.Markup:
    return element(
        "section", element("h2", title), element("p", sub, class_="sub") if sub else None, *content, class_="card"
    )


def _banner(report: tables.Report) -> markup.Markup | None:
    verdict = report.verdict
    if verdict is None:
        return None
    waiting = {check.text for check in verdict.checks if check.state == "open"}  # said below, and as what is next
    items = [element("li", reason) for reason in verdict.reasons if reason not in waiting]
    steps = [element("li", words) for words in verdict.needed.words]
    following = element("div", element("strong", "What would change this"), element("ul", *steps), class_="next")
    return element(
        "section",
        element("div", verdict.advice.capitalize(), class_="word"),
        element("div", verdict.headline, class_="headline"),
        element("ul", *items, class_="why") if items else None,
        following if steps else None,
        class_=f"card banner {verdict.advice.replace(' ', '-')}",
        aria_label="Verdict",
    )


def _facts(report: tables.Report) -> markup.Markup:
    return element("dl", *(_fact(*each) for each in _fact_rows(report)), class_="facts")


def _fact(name: str, value: str, small: str = "", filled: float | None = None) -> markup.Markup:
    bar = None
    if filled is not None:
        bar = element("div", element("i", "", style=f"width:{100 * min(1.0, filled):.1f}%"), class_="bar-of")
    told = element("dd", value, element("small", small) if small else None, bar)
    return element("div", element("dt", name), told)


def _fact_rows(report: tables.Report) -> Iterator[tuple[str, str, str, float | None]]:
    plan, primary = report.plan, report.primary
    planned = f"of {plan.units:,} planned" if plan.units else "no number planned"
    yield "Units", f"{report.units:,}", planned, report.units / plan.units if plan.units else None
    shown = [each for each in primary.comparisons if each.estimate is not None] if primary is not None else []
    verdict = report.verdict
    best = next((each for each in shown if verdict is not None and each.variant == verdict.variant), None)
    best = best or (shown[0] if shown else None)
    if primary is not None and best is not None:
        yield f"Effect on {primary.label}", wording.change(best.estimate, primary.scale), best.variant, None
        yield "Lift", wording.lift(best.lift), f"relative to {report.control}", None
    if report.first_ts is not None:
        lasted = wording.duration(max(0.0, report.as_of - report.first_ts))
        yield "Running", lasted, f"since {wording.moment(report.first_ts)}", None
    ends = verdict.needed.ends_ts if verdict is not None else None
    if ends is not None and ends > report.as_of:
        yield "Planned end", wording.moment(ends).partition(" ")[0], "at the present flow", None
    if report.sample_ratio is not None:
        p = wording.p_is(report.sample_ratio.p_value)
        yield "Sample ratio", report.sample_ratio.verdict, p, None


def _variant(name: str, report: tables.Report, colors: Colors) -> Cell:
    control = element("span", " control", class_="soft") if name == report.control else None
    return Cell(element("span", element("i", "", class_=f"key v{colors.get(name, 0)}"), name, control), "left")


def _table(heads: Sequence[str], rows: Sequence[Sequence[Cell]]) -> markup.Markup:
    """A table; on a phone each row is a small card, whose cells carry their column's head."""
    head = element("tr", *(element("th", text, scope="col") for text in heads))
    body = [
        element(
            "tr",
            *(
                element("td", cell.content, class_=cell.style or None, data_head=text)
                for text, cell in zip(heads, row, strict=True)
            ),
        )
        for row in rows
    ]
    return element("div", element("table", element("thead", head), element("tbody", *body)), class_="scroll")


def _deciding(report: tables.Report, metric: tables.MetricTable, colors: Colors) -> markup.Markup:
    sub = f"{report_text.title(metric)}. {_level(metric)} intervals hold at every look."
    name = f"Primary metric: {metric.label}"
    if report.hidden:
        return _card(name, sub, element("p", report.hidden, class_="hidden-note"))
    plots: list[markup.Markup | None] = []
    for compared in metric.comparisons:
        color = colors.get(compared.variant, 1)
        over_time = report_plots.effect_over_time(metric, compared, color)
        by_cohort = report_plots.cohorts(metric, compared, color)
        marked = "" if metric.effect is None else "; the dashed lines are the smallest effect that matters"
        plots.append(
            element(
                "div",
                _figure(
                    f"{compared.variant} − {report.control}, over time", over_time, f"The band is always-valid{marked}."
                ),
                _figure("By time of first exposure", by_cohort, _novelty(compared)),
                class_="two" if over_time is not None and by_cohort is not None else None,
            )
        )
    return _card(name, sub, _metric_table(report, metric, colors), *plots, *_beside(metric))


def _figure(title: str, plot: markup.Markup | None, words: str) -> markup.Markup | None:
    if plot is None:
        return None
    return element("div", element("h3", title), plot, element("p", words, class_="sub"))


def _novelty(compared: tables.Comparison) -> str:
    trend = "" if compared.trend_p is None else f" Trend: {wording.p_is(compared.trend_p)}."
    return f"A novelty wears off from left to right. Ordinary 95 % intervals, exploratory.{trend}"


def _level(metric: tables.MetricTable) -> str:
    return f"{100 * (1 - metric.alpha):.4g} %"


def _beside(metric: tables.MetricTable) -> Iterator[markup.Markup]:
    for compared in metric.comparisons:
        made = compared.adjustment
        if made is None:
            continue
        without = wording.change(made.estimate, metric.scale)
        span = "" if made.interval is None else wording.between(made.interval.low, made.interval.high, metric.scale)
        reduction, share = wording.percent(made.reduction), wording.percent(made.covariate_ratio)
        text = (
            f"{metric.label}, {compared.variant}: adjusted by a covariate (CUPED), {reduction} less variance; {share}"
        )
        yield element(
            "p", f"{text} of the units have one. Without it: {without}{f' ({span})' if span else ''}.", class_="sub"
        )


def _metric_table(report: tables.Report, metric: tables.MetricTable, colors: Colors) -> markup.Markup:
    found = {each.variant: each for each in metric.comparisons}
    complete = any(each.fixed is not None and each.fixed.interval is not None for each in metric.comparisons)
    on = _range(metric.comparisons)
    rows = []
    for estimate in metric.estimates:
        compared = found.get(estimate.variant)
        value = estimate.value if estimate.value is not None else estimate.mean
        cells = [
            _variant(estimate.variant, report, colors),
            Cell(_units(estimate)),
            Cell(wording.value(value, metric.scale)),
            Cell(wording.change(compared.estimate, metric.scale) if compared else None),
            Cell(wording.lift(compared.lift) if compared else None),
            Cell((report_text.always(compared, metric) or "-") if compared else None),
            Cell((report_text.fixed(compared, metric) or "-") if compared else None),
            Cell(_mini(metric, compared, on)),
            _reading(compared),
        ]
        rows.append(cells if complete else cells[:6] + cells[7:])
    heads = ["variant", "units", "value", "difference", "lift", f"{_level(metric)}, any time"]
    heads += [f"{_level(metric)}, planned end"] if complete else []
    return _table([*heads, "", "reading"], rows)


def _units(estimate: tables.Estimate) -> str:
    closed = f"{estimate.closed:,}"
    return closed if estimate.closed == estimate.units else f"{closed} of {estimate.units:,}"


def _reading(compared: tables.Comparison | None) -> Cell:
    if compared is None:
        return Cell(None)
    style = {True: "good", False: "bad", None: "soft"}[compared.better]
    return Cell(READINGS[compared.reading], f"state {style}")


def _range(compared: Sequence[tables.Comparison]) -> report_plots.Range:
    ends = [
        end
        for each in compared
        if each.always_valid is not None
        for end in (each.always_valid.interval.low, each.always_valid.interval.high)
    ]
    return report_plots.shared(ends)


def _mini(
    metric: tables.MetricTable, compared: tables.Comparison | None, on: report_plots.Range
) -> markup.Markup | None:
    if compared is None or compared.always_valid is None or compared.estimate is None:
        return None
    interval = compared.always_valid.interval
    style = {True: "good", False: "bad", None: ""}[compared.better]
    words = f"{wording.change(compared.estimate, metric.scale)}, {report_text.always(compared, metric)}"
    title = f"{metric.label}: effect of {compared.variant}"
    return report_plots.interval(title, words, on, (interval.low, interval.high), compared.estimate, style)


def _secondary(report: tables.Report, colors: Colors) -> markup.Markup | None:
    found = [metric for metric in report.metrics if metric.role == "secondary"]
    if not found:
        return None
    sub = "Exploratory: p-values are adjusted over all of them (Benjamini-Hochberg). They decide nothing."
    if report.hidden:
        return _card("Secondary metrics", sub, element("p", report.hidden, class_="hidden-note"))
    rows = []
    for metric in found:
        values = {each.variant: each for each in metric.estimates}
        for compared in metric.comparisons:
            ours, theirs = values.get(compared.variant), values.get(report.control)
            name = markup.joined([element("strong", metric.name), f" {report_text.title(metric).partition(': ')[2]}"])
            cells = [
                Cell(name, "left wrap"),
                _variant(compared.variant, report, colors),
                Cell(wording.value(ours.value if ours else None, metric.scale)),
                Cell(wording.value(theirs.value if theirs else None, metric.scale)),
                Cell(wording.change(compared.estimate, metric.scale)),
                Cell(wording.lift(compared.lift)),
                Cell(_mini(metric, compared, _range(metric.comparisons))),
                Cell(wording.p_value(compared.adjusted_p)),
                _reading(compared),
            ]
            rows.append(cells)
    heads = ["metric", "variant", "value", report.control, "difference", "lift", "any time", "p", "reading"]
    return _card("Secondary metrics", sub, _table(heads, rows), *(line for metric in found for line in _beside(metric)))


def _guardrails(report: tables.Report, colors: Colors) -> markup.Markup | None:
    if not report.guardrails:
        return None
    sub = "Harm with its one-sided bounds. Safe: surely below the margin (dashed). Inconclusive is not safe."
    if not any(each.harm is not None for metric in report.guardrails for each in metric.comparisons):
        return _card("Guardrails", sub, element("p", report.hidden, class_="hidden-note"))
    rows = []
    for metric in report.guardrails:
        values = {each.variant: each for each in metric.estimates}
        harms = [each.harm for each in metric.comparisons if each.harm is not None]
        on = report_plots.shared([metric.margin, *(end for harm in harms for end in (harm.low, harm.high))])
        for compared in metric.comparisons:
            ours, theirs, harm = values.get(compared.variant), values.get(report.control), compared.harm
            state = harm.state if harm is not None else "hidden"
            rows.append(
                [
                    Cell(markup.joined([element("strong", metric.name), f" {metric.label}"]), "left wrap"),
                    _variant(compared.variant, report, colors),
                    Cell(wording.value(ours.value if ours else None, metric.scale)),
                    Cell(wording.value(theirs.value if theirs else None, metric.scale)),
                    Cell(wording.change(harm.estimate, metric.scale) if harm else "-"),
                    Cell(wording.change(metric.margin, metric.scale, sign=False)),
                    Cell(_harm(metric, compared, on)),
                    Cell(state, f"state {STATES[state]}"),
                ]
            )
    heads = ["guardrail", "variant", "value", report.control, "worse by", "margin", "", "state"]
    return _card("Guardrails", sub, _table(heads, rows))


def _harm(metric: tables.MetricTable, compared: tables.Comparison, on: report_plots.Range) -> markup.Markup | None:
    harm = compared.harm
    if harm is None or harm.low is None or harm.high is None or harm.estimate is None:
        return None
    words = f"{wording.between(harm.low, harm.high, metric.scale)}, margin {wording.change(harm.margin, metric.scale)}"
    title = f"{metric.label}: harm of {compared.variant}"
    ends = (harm.low, harm.high)
    return report_plots.interval(title, words, on, ends, harm.estimate, STATES[harm.state], mark=harm.margin)


def _legend(names: Mapping[str, int]) -> markup.Markup:
    items = [element("span", element("i", "", class_=f"key v{color}"), name) for name, color in names.items()]
    return element("div", *items, class_="legend")


def _exposure(report: tables.Report, colors: Colors) -> markup.Markup | None:
    bars, plot = report_plots.shares(report, colors), report_plots.flow(report, colors)
    if bars is None and plot is None:
        return None
    ratio = report.sample_ratio
    told = "The weights of this phase are unknown, so the sample ratio is not checked."
    if ratio is not None:
        one, always = wording.p_is(ratio.p_value), wording.p_value(ratio.sequential_p)
        told = f"Sample ratio {ratio.verdict}: {one} at one look, {always} at any number of looks."
    left_out = f" {report.crossed:,} units seen in two variants are left out." if report.crossed else ""
    period = wording.duration(report.bucket_s)
    return _card(
        "Exposure",
        f"{told}{left_out}",
        _legend(colors),
        element("div", _figure("Units", bars, ""), _figure(f"New units, every {period}", plot, ""), class_="two"),
    )


def _serving(report: tables.Report, colors: Colors) -> markup.Markup:
    fallbacks = any(row.serving.fallbacks for row in report.variants)
    rows = []
    for row in report.variants:
        cells = [
            _variant(row.name, report, colors),
            Cell("-" if row.weight is None else f"{row.weight:g}"),
            Cell(f"{row.units:,}"),
            Cell(f"{row.serving.requests:,}"),
            Cell(wording.percent(row.serving.error_ratio, 2)),
            Cell(wording.value(row.serving.p50_s, "seconds")),
            Cell(wording.value(row.serving.p95_s, "seconds")),
            Cell(wording.value(row.serving.p99_s, "seconds")),
        ]
        rows.append([*cells, Cell(wording.percent(row.serving.fallback_ratio, 2))] if fallbacks else cells)
    heads = ["variant", "weight", "units", "requests", "errors", "p50", "p95", "p99"]
    heads += ["fallbacks"] if fallbacks else []
    return _card("Requests", "By the variant that was assigned, whoever answered.", _table(heads, rows))


def _trust(report: tables.Report) -> markup.Markup | None:
    found = report.verdict.checks if report.verdict is not None else ()
    fine = [_told(check.state, CHECKS[check.state], check.text) for check in found if check.state == "fine"]
    listed = {check.text for check in found}
    items = [_told(check.state, CHECKS[check.state], check.text) for check in found if check.state != "fine"]
    levels = {"alarm": "odd", "warning": "unsure", "info": "soft"}
    items += [_told(note.level, levels[note.level], note.text) for note in report.notes if note.text not in listed]
    passed = element(
        "details",
        element("summary", wording.several(len(fine), "check") + " passed"),
        element("ul", *fine, class_="checks"),
        open=None if items else "",
    )
    if not items and not fine:
        return None
    listing = element("ul", *items, class_="checks") if items else None
    return _card("Can it be trusted?", "", listing, passed if fine else None)


def _told(state: str, style: str, text: str) -> markup.Markup:
    return element("li", element("span", state, class_=f"state {style}"), element("span", text))


def _method(report: tables.Report) -> markup.Markup:
    plan = report.plan
    lines = [
        "Everything is computed per unit, by the variant that was assigned (intention to treat), from the first "
        "exposure on. Only units whose window is over are compared.",
        f"Any-time intervals are asymptotic confidence sequences, tightest at {plan.tightest_at:,.0f} units; they hold "
        "at every look, from 100 units a variant on. Several variants share the error.",
        "Intervals of the planned end appear only when the planned units, windows and duration are complete. "
        f"Horizon: {plan.horizon}; alpha {plan.alpha:g}; planned power {plan.power:g}.",
        "Errors, fallbacks and latencies are clustered by unit (100 sub-buckets). Guardrails share alpha; their bounds "
        "are one-sided.",
        "Units seen in two variants are left out and counted. Phases are never pooled.",
    ]
    return element(
        "details", element("summary", "How this was computed"), element("ul", *(element("li", line) for line in lines))
    )


def _builds(report: tables.Report) -> str:
    return f", build {', '.join(report.builds)}" if report.builds else ""
