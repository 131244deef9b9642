"""`turnout report`, `plan` and `aa` as people type them, over a state folder with a known log."""

import json
import time
from pathlib import Path

import pytest
from tests.cli.conftest import Ended, Type
from tests.reports import simulated
from tests.reports.simulated import DAY, Truth

from turnout.cli import documents, places

UNITS = 1_500


@pytest.fixture
def logged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder has a document, and a log of its experiment that ended two days ago."""
    monkeypatch.setattr(simulated, "START", time.time() - 11 * DAY)
    (tmp_path / "turnout.yaml").write_text(simulated.TEXT.replace("units: 4000", "units: 1500"))
    (tmp_path / "rank.onnx").write_bytes(b"model")
    (tmp_path / ".turnout").mkdir()
    admitted = documents.in_force(places.find(None, None))
    world = simulated.World(admitted, {"generation": Truth(kept=0.45)}, units=UNITS)
    simulated.filled(tmp_path / ".turnout", world).close()
    return tmp_path


def test_a_report_in_every_form(turnout: Type, logged: Path) -> None:
    text = turnout("report", "structure", "--html", "page.html")
    assert text.status == 0, text.err
    lines = text.out.splitlines()
    assert lines[0] == "structure on endpoint reply, running"
    assert lines[2] == " SHIP  generation is better than retrieval on kept_talking."
    assert "the page is in page.html" in text.out
    assert "<h1>structure</h1>" in (logged / "page.html").read_text()
    made = json.loads(turnout("report", "structure", "--json").out)
    assert (made["verdict"]["kind"], made["units"]) == ("BETTER", UNITS)
    (listed,) = json.loads(turnout("report", "--json").out)
    assert listed["verdict"] == made["verdict"]
    assert turnout("report", "--markdown").out.startswith("### 🟢 structure: ship")


def test_the_exit_status_tells_the_verdict_when_asked(turnout: Type, logged: Path) -> None:
    assert turnout("report").status == 0
    assert turnout("report", "--exit-code").status == 0  # ship
    past = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(time.time() - 9 * DAY))
    early = turnout("report", "--exit-code", "--as-of", past)
    assert (early.status, "KEEP GOING" in early.out) == (3, True)
    units = json.loads(turnout("report", "structure", "--json", "--as-of", past).out)["units"]
    assert 0.15 * UNITS < units < 0.4 * UNITS
    text = (logged / "turnout.yaml").read_text()
    (logged / "turnout.yaml").write_text(text.replace("margin: 0.02", "margin: 0.0"))
    assert turnout("report", "--exit-code").status in (0, 3)


def test_wrong_words_are_told(turnout: Type, logged: Path) -> None:
    cases: list[tuple[Ended, str]] = [
        (turnout("report", "structur"), "Did you mean 'structure'"),
        (turnout("report", "--as-of", "yesterday"), "is no time"),
        (turnout("report", "--phase", "ffff"), "Phases seen"),
        (turnout("report", "--events", "paper://x"), "no known store"),
        (turnout("plan", "structure", "--effect", "much"), "is no effect"),
        (turnout("plan", "--baseline", "0.1", "--effect", "1e-300"), "beyond what can be planned"),
        (turnout("plan", "--baseline", "0.1", "--effect", "1e-300%"), "beyond what can be planned"),
        (turnout("plan", "--sd", "1e308", "--effect", "1"), "beyond what can be planned"),
        (turnout("plan", "--sd", "1e-308", "--effect", "1e308"), "beyond what can be planned"),
        (turnout("plan", "--baseline", "1.5", "--effect", "0.1"), "no share between 0 and 1"),
        (turnout("plan"), "Name an EXPERIMENT"),
        (turnout("plan", "--sd", "2"), "Give --effect"),
        (turnout("plan", "--sd", "2", "--effect", "5%"), "needs a baseline"),
        (turnout("aa", "structure", "--metric", "spend"), "Did you mean 'spent'"),
        (turnout("aa", "structure", "--phase", "ffff"), "no units are logged"),
    ]
    for ended, words in cases:
        assert ended.status == 1, words
        assert words in ended.err
        assert "Traceback" not in ended.err


def test_nothing_recorded_is_told_and_plan_needs_nothing(turnout: Type, logged: Path) -> None:
    for each in (logged / ".turnout").iterdir():
        each.unlink()
    (logged / ".turnout").rmdir()
    assert "nothing was recorded yet" in turnout("report").err
    made = turnout("plan", "structure", "--baseline", "0.3", "--effect", "0.05", "--units-per-day", "500")
    assert made.status == 0, made.err
    assert "nothing is logged yet" in made.out


def test_a_plan_from_numbers_is_the_known_one(turnout: Type) -> None:
    made = json.loads(turnout("plan", "--baseline", "0.05", "--effect", "5%", "--json").out)
    (metric,) = made["metrics"]
    fixed, always = metric["needs"]
    assert metric["target"] == pytest.approx(0.0025)
    assert fixed["per_variant"] == pytest.approx(119_303, abs=1)  # 16 s²/d² with its exact constant
    assert always["per_variant"] > 1.8 * fixed["per_variant"]
    assert fixed["runtime"] is None
    flowing = turnout("plan", "--sd", "3", "--effect", "0.5", "--units-per-day", "100", "--variants", "3")
    assert flowing.status == 0, flowing.err
    assert "always-valid: any number of looks" in flowing.out


def test_a_plan_learns_from_the_log(turnout: Type, logged: Path) -> None:
    made = json.loads(turnout("plan", "structure", "--json").out)
    primary = next(metric for metric in made["metrics"] if metric["role"] == "primary")
    assert primary["spread"]["baseline"] == pytest.approx(0.3, abs=0.05)
    assert primary["spread"]["units"] > 700
    assert primary["target"] == 0.05
    assert made["curve"][-1] == UNITS
    assert 2_300 < primary["needs"][0]["total"] < 2_900  # 2 (1.96 + 0.84)² · 2 · 0.3 · 0.7 / 0.05²
    assert [reach["total"] for reach in primary["reaches"]] == [375, 750, 1500, 3000, 6000]
    spent = next(metric for metric in made["metrics"] if metric["name"] == "spent")
    assert 0.1 < spent["spread"]["reduction"] < 0.6
    slow = next(metric for metric in made["metrics"] if metric["name"] == "slow")
    assert slow["needs"][0]["total"] < slow["needs"][1]["total"]
    assert "kept_talking: baseline" in turnout("plan", "structure").out


def test_an_a_a_of_sound_metrics_is_trusted(turnout: Type, logged: Path) -> None:
    ended = turnout("aa", "structure", "--runs", "200", "--seed", "4", "--json")
    assert ended.status == 0, ended.err
    made = {each["name"]: each for each in json.loads(ended.out)}
    assert made["primary"]["trusted"] is True
    assert sum(made["primary"]["histogram"]) == 200
    assert made["primary"]["replayed"]["false_ratio"] < 0.12
    assert made["primary"]["replayed"]["any_look_ratio"] < 0.06
    assert made["slow"]["trusted"] is None
    again = turnout("aa", "structure", "--runs", "200", "--seed", "4", "--json", "--metric", "primary")
    assert json.loads(again.out)[0]["replayed"] == made["primary"]["replayed"]
    text = turnout("aa", "structure", "--runs", "50", "--metric", "clicks").out
    assert "this metric on this data can be trusted" in text
    assert "p 0.9 to 1.0" in text
