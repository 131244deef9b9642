"""The page and the comment: whole, self-contained, and closed against whatever names hold."""

import re
from html.parser import HTMLParser

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.reports import simulated
from tests.reports.simulated import DAY, START, Truth

from turnout.cli import markup, report_html, report_markdown, report_plots
from turnout.reports import experiment, tables

HOSTILE = "<script>alert(1)</script>\"'&</style><img src=x onerror=y> | `a` [b](http://c) @d\x00\x1b"
VOID = {"meta", "br", "hr", "line", "rect", "circle", "path", "polygon", "polyline"}


class Page(HTMLParser):
    """Elements, attributes and text of a page that is well-formed."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag in VOID, tag
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(self.words)


@pytest.fixture(scope="module")
def reports(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tables.Report]:
    admitted = simulated.admitted(simulated.TEXT.replace("units: 4000", "units: 1200"))
    made = {}
    for name, truth in {"ship": Truth(kept=0.5), "broken": Truth(lost=0.5), "stop": Truth(slow=0.4)}.items():
        world = simulated.World(admitted, {"generation": truth}, units=1_200)
        store = simulated.filled(tmp_path_factory.mktemp(name), world)
        made[name] = experiment.report(store, admitted, "structure", now=START + 11 * DAY)
        store.close()
    return made


def test_the_page_says_the_verdict_and_holds_every_part(reports: dict[str, tables.Report]) -> None:
    page = Page(report_html.page([reports["ship"]]))
    for words in ("Ship", "generation is better than retrieval", "Primary metric: kept_talking", "Guardrails"):
        assert words in page.text
    for words in ("Secondary metrics", "Exposure", "Requests", "Can it be trusted?", "How this was computed"):
        assert words in page.text
    made = reports["ship"]
    for words in (f"revision {made.revision}", f"phase {made.phase}", "as of 2023-11-25 00:00 UTC", "build b1"):
        assert words in page.text


def test_the_page_needs_nothing_else(reports: dict[str, tables.Report]) -> None:
    text = report_html.page(list(reports.values()))
    page = Page(text)
    assert not {tag for tag, _ in page.elements} & {
        "script",
        "link",
        "img",
        "iframe",
        "object",
        "embed",
        "form",
        "base",
    }
    for _, attributes in page.elements:
        for name, value in attributes.items():
            assert not name.startswith("on")
            if name in ("href", "src", "xlink:href", "action"):
                assert (value or "").startswith("#")
    assert "url(" not in text
    assert "@import" not in text
    assert not re.search(r"https?://", text)
    assert [href["href"] for tag, href in page.elements if tag == "a"] == ["#report-0", "#report-1", "#report-2"]
    assert sum(tag == "article" for tag, _ in page.elements) == 3


def test_every_plot_has_a_name_and_a_description(reports: dict[str, tables.Report]) -> None:
    page = Page(report_html.page([reports["ship"]]))
    plots = [attributes for tag, attributes in page.elements if tag == "svg"]
    kinds = [attributes["class"] for attributes in plots]
    assert kinds.count("wide") == kinds.count("narrow") == 3  # over time, cohorts, flow
    assert "mini" in kinds
    for attributes in plots:
        assert attributes["role"] == "img"
        assert attributes["aria-label"]
        assert "NaN" not in str(attributes)
    numbers = re.findall(r'(?:x|y|cx|cy|width|height|points)="([^"]*)"', report_html.page([reports["ship"]]))
    assert numbers
    assert not [number for number in numbers if "nan" in number or "inf" in number]


def test_a_broken_experiment_shows_no_effect(reports: dict[str, tables.Report]) -> None:
    made = reports["broken"]
    for text in (Page(report_html.page([made])).text, report_markdown.text(made)):
        assert "roken" in text
        assert "mismatch" in text
        assert " pp;" not in text
        assert not re.search(r"lift[^a-z]+[+-]\d", text)


def test_the_comment_begins_with_the_verdict(reports: dict[str, tables.Report]) -> None:
    text = report_markdown.text(reports["stop"])
    assert text.startswith("### 🔴 structure: stop\n\n**generation does harm")
    assert "❌ harmful" in text
    lines = text.splitlines()
    for at, line in enumerate(lines):
        if line.startswith("|---"):
            end = next(at for at in range(at, len(lines)) if not lines[at].startswith("|"))
            assert {row.count("|") - row.count("\\|") for row in lines[at - 1 : end]} == {line.count("|")}


def hostile(made: tables.Report) -> tables.Report:
    """The report with every text replaced by an attack."""
    plain = msgspec.json.decode(msgspec.json.encode(made))
    kept = {"role", "kind", "scale", "direction", "reading", "state", "advice", "horizon", "level", "signal"}

    def attacked(value: object, key: str = "") -> object:
        if isinstance(value, dict):
            return {name: attacked(each, name) for name, each in value.items()}
        if isinstance(value, list):
            return [attacked(each, key) for each in value]
        if isinstance(value, str) and key not in kept and not (key == "verdict" or value in ("", "mismatch", "fine")):
            return f"{HOSTILE}{value}"
        return value

    changed = attacked(plain)
    assert isinstance(changed, dict)
    changed["verdict"]["by_variant"] = {}
    return msgspec.convert(_infinite(changed), tables.Report, strict=False)


def _infinite(value: object) -> object:
    if isinstance(value, dict):
        return {key: float("inf") if key == "df" and each is None else _infinite(each) for key, each in value.items()}
    return [_infinite(each) for each in value] if isinstance(value, list) else value


@pytest.mark.parametrize("name", ["ship", "broken", "stop"])
def test_nothing_that_was_read_becomes_markup(reports: dict[str, tables.Report], name: str) -> None:
    made = hostile(reports[name])
    text = report_html.page([made])
    page = Page(text)
    assert {tag for tag, _ in page.elements} == {tag for tag, _ in Page(report_html.page([reports[name]])).elements}
    assert "<script" not in text
    assert "\x00" not in text
    assert "alert(1)" in page.text
    comment = report_markdown.text(made)
    assert "<script" not in re.sub(r"\\<", "", comment)
    assert not re.search(r"(?<!\\)\[b", comment)
    assert not re.search(r"(?<!\\)@d", comment)


@given(st.text(), st.text())
def test_text_and_attributes_come_back_as_they_were(text: str, attribute: str) -> None:
    def seen(value: str) -> str:
        kept = "".join(each for each in value if each in "\t\n\r" or (each >= " " and each != "\x7f"))
        return kept.replace("\r\n", "\n").replace("\r", "\n")

    page = Page(markup.element("p", text, title=attribute))
    assert seen("".join(page.words)) == seen(text)
    assert seen(page.elements[0][1]["title"] or "") == seen(attribute)


@given(st.floats(-1e6, 1e6), st.floats(1e-6, 1e6), st.integers(2, 9))
def test_ticks_lie_inside_and_are_few(low: float, span: float, about: int) -> None:
    found = report_plots.ticks(low, low + span, about)
    slack = 1e-3 * span + 1e-9 * abs(low)
    assert all(low - slack <= tick <= low + span + slack for tick in found)
    assert len(found) <= about + 2
    assert found == sorted(found)
