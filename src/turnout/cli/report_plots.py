"""The plots of a report's page: plain SVG, coloured by the page's style sheet, each with a title and a description."""

import math
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Final

from msgspec import Struct

from turnout.cli import markup
from turnout.reports import tables, wording

WIDE, NARROW, HEIGHT = 540.0, 360.0, 230.0
"""Each plot is drawn twice, so that its letters stay as large as the page's on a phone."""

LEFT, RIGHT, TOP, BOTTOM = 64.0, 14.0, 14.0, 30.0
STEPS_S: Final = (60.0, 300.0, 900.0, 3_600.0, 10_800.0, 21_600.0, 43_200.0, 86_400.0, 172_800.0, 604_800.0)


class Axes(Struct, frozen=True, kw_only=True):
    """From values to places: x from `x0` to `x1`, y from `y0` to `y1`, on a plot of this width."""

    width: float
    x0: float
    x1: float
    y0: float
    y1: float
    height: float = HEIGHT

    def x(self, value: float) -> float:
        span = self.x1 - self.x0 or 1.0
        return LEFT + (value - self.x0) / span * (self.width - LEFT - RIGHT)

    def y(self, value: float) -> float:
        span = self.y1 - self.y0 or 1.0
        return self.height - BOTTOM - (value - self.y0) / span * (self.height - TOP - BOTTOM)


def both(title: str, words: str, draw: Callable[[float], Sequence[markup.Markup]]) -> markup.Markup:
    """A plot for wide and for narrow pages."""
    return markup.element(
        "div",
        _svg(title, words, WIDE, HEIGHT, draw(WIDE), "wide"),
        _svg(title, words, NARROW, HEIGHT, draw(NARROW), "narrow"),
        class_="plot",
    )


def _svg(
    title: str, words: str, width: float, height: float, content: Sequence[markup.Markup], kind: str
) -> markup.Markup:
    return markup.element(
        "svg",
        markup.element("title", title),
        markup.element("desc", words),
        *content,
        viewBox=f"0 0 {width:g} {height:g}",
        role="img",
        aria_label=f"{title}. {words}",
        class_=kind,
    )


def effect_over_time(metric: tables.MetricTable, compared: tables.Comparison, color: int) -> markup.Markup | None:
    """The effect with its confidence sequence; None with too little of it."""
    points = [point for point in compared.curve if point.low is not None and point.high is not None]
    if len(points) < 2:
        return None
    last = points[-1]
    span = wording.between(last.low, last.high, metric.scale)
    words = (
        f"{metric.label}, {compared.variant} minus control, {len(points)} moments. "
        f"At the last: {wording.change(last.estimate, metric.scale)}, interval {span}."
    )
    settled = points[len(points) // 4]
    ends = [settled.low or 0.0, settled.high or 0.0, last.low or 0.0, last.high or 0.0, 0.0]
    marks = [each for each in (metric.effect, -metric.effect if metric.effect else None) if each is not None]
    low, high = min([*ends, *marks]), max([*ends, *marks])
    pad = 0.06 * (high - low)

    def draw(width: float) -> list[markup.Markup]:
        axes = Axes(width=width, x0=points[0].ts, x1=last.ts, y0=low - pad, y1=high + pad)
        upper = [(axes.x(p.ts), _clamped(axes, p.high or 0.0)) for p in points]
        lower = [(axes.x(p.ts), _clamped(axes, p.low or 0.0)) for p in reversed(points)]
        line = [(axes.x(p.ts), _clamped(axes, p.estimate)) for p in points]
        return [
            *_grid(axes, lambda value: wording.change(value, metric.scale)),
            *_times(axes),
            *(_level(axes, mark, "mark") for mark in marks),
            _level(axes, 0.0, "zero"),
            markup.element("polygon", points=_places(upper + lower), class_=f"band v{color}"),
            markup.element("polyline", points=_places(line), class_=f"line v{color}"),
            markup.element("circle", cx=line[-1][0], cy=line[-1][1], r=4.0, class_=f"dot v{color}"),
        ]

    return both(f"Effect of {compared.variant} over time", words, draw)


def flow(report: tables.Report, colors: dict[str, int]) -> markup.Markup | None:
    """New units of each period, stacked by variant; None without any."""
    if not report.flow:
        return None
    most = max(sum(each.units.values()) for each in report.flow) or 1
    words = (
        f"{report.units:,} units in {len(report.flow)} periods of {wording.duration(report.bucket_s)}, "
        f"at most {most:,} in one."
    )

    def draw(width: float) -> list[markup.Markup]:
        end = report.flow[-1].start + report.bucket_s
        axes = Axes(width=width, x0=report.flow[0].start, x1=end, y0=0.0, y1=most * 1.05, height=HEIGHT)
        bars: list[markup.Markup] = []
        for each in report.flow:
            below = 0.0
            left, right = axes.x(each.start), axes.x(each.start + report.bucket_s)
            for name in colors:
                units = float(each.units.get(name, 0))
                if not units:
                    continue
                top, bottom = axes.y(below + units), axes.y(below)
                told = f"{name}: {units:,.0f} from {wording.moment(each.start)}"
                bars.append(
                    markup.element(
                        "rect",
                        markup.element("title", told),
                        x=left,
                        y=top,
                        width=max(0.5, (right - left) * 0.86),
                        height=bottom - top,
                        class_=f"bar v{colors[name]}",
                    )
                )
                below += units
        return [*_grid(axes, lambda value: f"{value:,.0f}"), *_times(axes), *bars]

    return both("New units over time, by variant", words, draw)


def cohorts(metric: tables.MetricTable, compared: tables.Comparison, color: int) -> markup.Markup | None:
    """The effect by period of first exposure; None with fewer than three."""
    found = [each for each in compared.cohorts if each.low is not None and each.high is not None]
    if len(found) < 3:
        return None
    lows, highs = [each.low or 0.0 for each in found], [each.high or 0.0 for each in found]
    low, high = min([*lows, 0.0]), max([*highs, 0.0])
    pad = 0.06 * (high - low)
    step = found[1].start - found[0].start
    trend = "" if compared.trend_p is None else f" Trend: {wording.p_is(compared.trend_p)}."
    words = f"{metric.label}, {compared.variant} minus control, for units first seen in {len(found)} periods.{trend}"

    def draw(width: float) -> list[markup.Markup]:
        axes = Axes(width=width, x0=found[0].start, x1=found[-1].start + step, y0=low - pad, y1=high + pad)
        made = [
            *_grid(axes, lambda value: wording.change(value, metric.scale)),
            *_times(axes),
            _level(axes, 0.0, "zero"),
        ]
        for each in found:
            x = axes.x(each.start + step / 2)
            told = f"{wording.moment(each.start)}: {wording.change(each.estimate, metric.scale)}, {each.units:,} units"
            made.append(
                markup.element(
                    "line", x1=x, x2=x, y1=axes.y(each.low or 0.0), y2=axes.y(each.high or 0.0), class_=f"line v{color}"
                )
            )
            made.append(
                markup.element(
                    "circle",
                    markup.element("title", told),
                    cx=x,
                    cy=axes.y(each.estimate),
                    r=4.0,
                    class_=f"dot v{color}",
                )
            )
        return made

    return both(f"Effect of {compared.variant} by time of first exposure", words, draw)


class Range(Struct, frozen=True, kw_only=True):
    """The scale that the intervals of one table share."""

    low: float
    high: float

    def x(self, value: float) -> float:
        inside = min(max(value, self.low), self.high)
        return 4.0 + (inside - self.low) / (self.high - self.low or 1.0) * 152.0


def shared(values: Sequence[float | None]) -> Range:
    """A scale that holds 0 and every value."""
    known = [value for value in values if value is not None and math.isfinite(value)] + [0.0]
    low, high = min(known), max(known)
    pad = 0.08 * (high - low) or 1.0
    return Range(low=low - pad, high=high + pad)


def interval(
    title: str,
    words: str,
    on: Range,
    ends: tuple[float, float],
    estimate: float,
    style: str,
    *,
    mark: float | None = None,
) -> markup.Markup:
    """An interval on a table's scale, with the line of 0 and, for a guardrail, of its margin."""
    parts = [markup.element("line", x1=on.x(0.0), x2=on.x(0.0), y1=2.0, y2=24.0, class_="zero")]
    if mark is not None:
        parts.append(markup.element("line", x1=on.x(mark), x2=on.x(mark), y1=2.0, y2=24.0, class_="margin"))
    low, high = on.x(ends[0]), on.x(ends[1])
    parts.append(
        markup.element("rect", x=low, y=9.0, width=max(1.0, high - low), height=8.0, rx=4.0, class_=f"span {style}")
    )
    parts.append(markup.element("circle", cx=on.x(estimate), cy=13.0, r=4.5, class_=f"point {style}"))
    return _svg(title, words, 160.0, 26.0, parts, "mini")


def shares(report: tables.Report, colors: dict[str, int]) -> markup.Markup | None:
    """Units counted beside units expected, as two bars; None where the weights are unknown."""
    rows = [row for row in report.variants if row.expected_units is not None]
    total = sum(row.units for row in rows)
    if not rows or not total:
        return None
    parts: list[markup.Markup] = []
    for top, label, values in (
        (4.0, "counted", [float(row.units) for row in rows]),
        (40.0, "expected", [row.expected_units or 0.0 for row in rows]),
    ):
        parts.append(markup.element("text", label, x=0.0, y=top + 18.0, class_="label"))
        at = 70.0
        for row, value in zip(rows, values, strict=True):
            width = value / total * 285.0
            told = f"{row.name}: {value:,.0f} {label}"
            style = f"bar v{colors[row.name]}" + (" faint" if label == "expected" else "")
            parts.append(
                markup.element(
                    "rect",
                    markup.element("title", told),
                    x=at,
                    y=top,
                    width=max(0.0, width - 1.5),
                    height=26.0,
                    rx=3.0,
                    class_=style,
                )
            )
            if width > 60:
                share = wording.percent(value / total)
                parts.append(markup.element("text", share, x=at + width / 2, y=top + 18.0, class_="inside"))
            at += width
    words = ", ".join(f"{row.name} {row.units:,} of {row.expected_units:,.0f} expected" for row in rows)
    return _svg("Units counted and expected", words, 360.0, 72.0, parts, "shares")


def _grid(axes: Axes, label: Callable[[float], str]) -> list[markup.Markup]:
    made = []
    for value in ticks(axes.y0, axes.y1, 5):
        y = axes.y(value)
        made.append(markup.element("line", x1=LEFT, x2=axes.width - RIGHT, y1=y, y2=y, class_="grid"))
        made.append(markup.element("text", label(value), x=LEFT - 8.0, y=y + 4.0, class_="tick end"))
    return made


def _times(axes: Axes) -> list[markup.Markup]:
    most = 7 if axes.width > NARROW else 4
    span = axes.x1 - axes.x0
    step = next((step for step in STEPS_S if span / step <= most), STEPS_S[-1] * math.ceil(span / STEPS_S[-1] / most))
    made = []
    at = math.ceil(axes.x0 / step) * step
    while at <= axes.x1:
        whole_day = step >= wording.DAY_S or at % wording.DAY_S == 0
        text = datetime.fromtimestamp(at, UTC).strftime("%-d %b" if whole_day else "%H:%M")
        made.append(markup.element("text", text, x=axes.x(at), y=axes.height - 8.0, class_="tick middle"))
        at += step
    return made


def _level(axes: Axes, value: float, style: str) -> markup.Markup:
    y = axes.y(value)
    return markup.element("line", x1=LEFT, x2=axes.width - RIGHT, y1=y, y2=y, class_=style)


def _clamped(axes: Axes, value: float) -> float:
    return axes.y(min(max(value, axes.y0), axes.y1))


def _places(points: Sequence[tuple[float, float]]) -> str:
    return " ".join(f"{x:.1f},{y:.1f}" for x, y in points)


def ticks(low: float, high: float, about: int) -> list[float]:
    """Round values inside a range.

    >>> ticks(-0.013, 0.041, 6)
    [-0.01, 0.0, 0.01, 0.02, 0.03, 0.04]
    """
    span = high - low
    if not span > 0 or not math.isfinite(span):
        return [low]
    rough = span / about
    size = 10.0 ** math.floor(math.log10(rough))
    step = next(size * factor for factor in (1, 2, 2.5, 5, 10) if size * factor >= rough * 0.99)
    digits = max(0, 3 - math.floor(math.log10(step)))
    return [round(number * step, digits) + 0.0 for number in range(math.ceil(low / step), math.floor(high / step) + 1)]
