"""What commands make of their arguments, and how they print."""

import io
import json
from pathlib import Path

import pytest
from rich import console

from turnout.cli import call, implied, remote, report_text, screen, status
from turnout.errors import InputError, NotFoundError
from turnout.experiments import samples, sequences, statistics
from turnout.reports import tables


def test_a_field_is_json_or_else_text() -> None:
    assert call.field("user_id=u7") == ("user_id", "u7")
    assert call.field("x=[1.5, 2]") == ("x", [1.5, 2])
    assert call.field('id="7"') == ("id", "7")
    assert call.field("text=a=b") == ("text", "a=b")
    with pytest.raises(InputError, match=r"--field 'oops' is not NAME=VALUE\. Such as --field user_id=u7\."):
        call.field("oops")


def test_a_body_comes_from_a_file_or_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "body.json").write_text('{"x": 1}')
    assert call.read(f"@{tmp_path}/body.json") == b'{"x": 1}'
    assert call.read('{"x": 2}') == b'{"x": 2}'
    with pytest.raises(InputError, match="After @ comes the path of a file"):
        call.read("@nowhere.json")


def test_a_model_file_implies_a_document(tmp_path: Path) -> None:
    model = tmp_path / "My Flower.v2.onnx"
    model.write_bytes(b"x")
    assert implied.is_model(model)
    assert implied.document(model) == (
        "models:\n"
        '  my-flower-v2: {runtime: onnx, source: "My Flower.v2.onnx"}\n'
        "pipelines:\n"
        "  my-flower-v2: {code: predict, models: {model: my-flower-v2}}\n"
        "endpoints:\n"
        "  my-flower-v2: {pipeline: my-flower-v2, deadline: 10s}\n"
    )
    assert not implied.is_model(tmp_path / "turnout.yaml")
    with pytest.raises(NotFoundError, match="no model file"):
        implied.document(tmp_path / "none.onnx")


def test_a_pickle_is_pinned_by_the_implied_document(tmp_path: Path) -> None:
    model = tmp_path / "9.joblib"
    model.write_bytes(b"x")
    text = implied.document(model)
    assert "model-9: {runtime: sklearn" in text
    assert "digest: sha256:2d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881" in text


def test_tables_are_plain_columns_when_piped(capsys: pytest.CaptureFixture[str]) -> None:
    screen.show_table(screen.open_console(), "", ("name", ">count"), [("a[b]", 3), ("c", None)])
    assert [line.split() for line in capsys.readouterr().out.splitlines()] == [
        ["name", "count"],
        ["a[b]", "3"],
        ["c", "-"],
    ]


def test_trouble_is_told_in_words() -> None:
    fine = {"refused": None, "converged": True, "reload": {"state": "idle", "failed": None}, "recorder": None}
    assert status.troubles(fine) == []
    broken = fine | {"refused": {"errors": []}, "converged": False, "recorder": {"state": "restarting"}}
    assert len(status.troubles(broken)) == 3


def estimate(variant: str, rate: float) -> tables.Estimate:
    return tables.Estimate(variant=variant, units=1000, total=1000 * rate, mean=rate, interval=None)


def row(name: str, *, control: bool) -> tables.VariantRow:
    serving = tables.Serving(requests=1500, errors=2, error_ratio=0.001, p50_s=0.002, p95_s=0.004, p99_s=0.01)
    return tables.VariantRow(
        name=name, control=control, weight=50, units=1000, unit_ratio=0.5, expected_units=1000.0, serving=serving
    )


def example_report() -> tables.Report:
    difference = statistics.Difference(
        estimate=0.05,
        se=0.01,
        df=9.0,
        interval=samples.Interval(0.03, 0.07),
        p_value=0.001,
        lift=0.5,
        lift_interval=None,
    )
    always = sequences.Sequence(interval=samples.Interval(0.01, 0.09), p_value=0.01)
    comparison = tables.Comparison(
        variant="new", estimate=0.05, lift=0.5, fixed=difference, always_valid=always, reading="higher", better=True
    )
    metric = tables.MetricTable(
        name="primary",
        role="primary",
        outcome="liked",
        kind="conversion",
        window_s=86_400.0,
        closed_ratio=1.0,
        outcomes=250,
        estimates=(estimate("old", 0.10), estimate("new", 0.15)),
        comparisons=(comparison,),
        label="liked",
        scale="ratio",
    )
    return tables.Report(
        experiment="structure",
        endpoint="reply",
        description="",
        state="running",
        winner="",
        unit="user_id",
        control="old",
        ramp_ratio=1.0,
        revision="abc",
        phase="0123456789abcdef",
        current=True,
        as_of=0.0,
        first_ts=None,
        last_ts=None,
        builds=(),
        variants=(row("old", control=True), row("new", control=False)),
        units=2000,
        crossed=0,
        reasons={},
        sample_ratio=tables.SampleRatio(chi2=0.1, df=1, p_value=0.7, sequential_p=1.0, verdict="fine"),
        metrics=(metric,),
        guardrails=(),
        plan=tables.Plan(units=None, alpha=0.05, tightest_at=1000.0, complete=None),
        outcomes=(),
        other_phases=(),
        dropped={},
        notes=(tables.Note(code="x", level="warning", text="Mind the [gap]."),),
    )


def test_a_report_shows_units_rates_difference_and_reading() -> None:
    written = io.StringIO()
    out = console.Console(width=200, color_system=None, markup=False, file=written)
    report_text.show(out, example_report())
    text = written.getvalue()
    assert "structure on endpoint reply, running" in text
    assert "warning: Mind the [gap]." in text
    assert "primary: liked (conversion, within 1d)" in text
    assert "15.00 %" in text
    assert "+5.00 pp" in text
    assert "+3.00 to +7.00 pp" in text
    assert "+1.00 to +9.00 pp" in text
    assert "+50.0 %" in text
    assert "higher than control" in text
    assert "sample ratio: fine (p = 0.7, 2000 units)" in text


def test_a_table_too_wide_for_the_terminal_is_turned() -> None:
    heads = ("variant", *(f">measure {number}" for number in range(10)))
    rows = [("old (control)", *range(10)), ("new", *range(10))]

    def printed(width: int) -> list[str]:
        written = io.StringIO()
        out = console.Console(file=written, force_terminal=True, color_system=None, width=width)
        screen.show_table(out, "", heads, rows)
        return [line.rstrip() for line in written.getvalue().splitlines() if line.strip()]

    assert printed(160)[0].split()[0] == "variant"
    assert len(printed(160)) == 4
    narrow = printed(80)
    assert narrow[0].split() == ["variant", "old", "(control)", "new"]
    assert narrow[2].split() == ["measure", "0", "0", "0"]
    assert max(map(len, narrow)) <= 80


def test_what_others_wrote_cannot_command_the_terminal() -> None:
    written = io.StringIO()
    out = console.Console(file=written, force_terminal=True, color_system=None, width=80)
    screen.show_table(out, "", ("by", "why"), [("mia\x1b[31m", "\x07a\u202eb\x9b2Jc")])
    assert not set(written.getvalue()) & set("\x1b\x07\x9b\u202e")
    assert "mia [31m" in written.getvalue()


def test_a_problem_names_its_field_once() -> None:
    def told(**problem: str) -> str:
        return remote.problem(remote.Reply(422, {}, json.dumps(problem).encode()))

    assert told(path="x", detail="field 'x' is missing.", hint="Add 'x'.") == "field 'x' is missing. Add 'x'."
    assert told(path="user.id", detail="too long.") == "user.id: too long."


def test_tables_are_as_wide_as_columns_says_or_as_they_need(monkeypatch: pytest.MonkeyPatch) -> None:
    assert screen.open_console().width == screen.WIDE
    monkeypatch.setenv("COLUMNS", "90")
    assert screen.open_console().width == 90
