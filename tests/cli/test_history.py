"""What `turnout history` tells of a store."""

import json
from pathlib import Path
from urllib.parse import quote

import pytest

from turnout.cli import app, history
from turnout.stores import catalog, control

FIRST = "models:\n  rank: {runtime: python, code: 'a:B'}\noverride_key: hunter2\n"
SECOND = FIRST.replace("'a:B'", "'a:C'").replace("hunter2", "hunter3")


def record(revision: str, at: float, text: str, **more: object) -> control.RevisionRecord:
    fields = {"author": "Ada", "host": "h", "document": {"turnout.yaml": text}, **more}
    return control.RevisionRecord(revision=revision, at=at, **fields)  # type: ignore[arg-type]


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder whose store knows three revisions and a refused overlay."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    (tmp_path / ".turnout").mkdir()
    store = catalog.open_control(f"sqlite:///{quote(str(tmp_path / '.turnout' / 'events.db'))}")
    number = store.record(record("aaaa1111", 1_000.0, FIRST, reason="begin", source="start"), after=None)
    number = store.record(record("bbbb2222", 1_100.0, SECOND, replaced="aaaa1111"), after=number)
    laid = record("cccc3333", 1_100.5, SECOND, replaced="bbbb2222", source="overlay", digests={"rank": "sha256:ff"})
    store.record(laid, after=number)
    store.propose("a: 1", after=0, author="turnout", reason="step", at=1_200.0)
    payload = json.dumps({"errors": ["a: no such key"]})
    store.add_look(control.Look(rollout=history.REFUSALS, phase="1", at=1_201.0, kind="refused", payload=payload))
    store.close()
    return tmp_path


def test_the_list_tells_who_changed_what_and_how_long_it_was_live(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert app.main(["history"]) == 0
    shown = capsys.readouterr().out
    lines = [line.split() for line in shown.splitlines()[1:]]
    assert [line[2] for line in lines[:3]] == ["cccc3333", "bbbb2222", "aaaa1111"]
    assert lines[0][3:6] == ["now", "overlay", "Ada"]
    assert lines[1][3:5] == ["0.5", "s"]
    assert "models.rank.code, override_key" in shown
    assert "the first one known" in shown
    assert "overlay 1 of turnout was refused" in shown
    assert "a: no such key" in shown


def test_a_revision_is_shown_as_what_it_changed_without_secrets(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert app.main(["history", "bbbb"]) == 0
    shown = capsys.readouterr().out
    assert "revision bbbb2222, live since" in shown
    assert "by Ada (document)" in shown
    assert "models.rank.code: a:B -> a:C (turnout.yaml:2)" in shown
    assert "-  rank: {runtime: python, code: 'a:B'}" in shown
    assert "+  rank: {runtime: python, code: 'a:C'}" in shown
    assert "hunter" not in shown


def test_machines_get_everything(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert app.main(["history", "--json", "--limit", "2"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert [(entry["revision"], entry["until"]) for entry in told["revisions"]] == [
        ("cccc3333", None),
        ("bbbb2222", 1_100.5),
    ]
    assert told["revisions"][1]["changed"] == ["models.rank.code", "override_key"]
    assert told["refused_overlays"][0]["errors"] == ["a: no such key"]
    assert app.main(["history", "cccc", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["record"]["digests"] == {"rank": "sha256:ff"}
    assert told["diff"] == ""


def test_an_unknown_revision_is_an_error_that_lists_known_ones(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert app.main(["history", "dddd"]) == 1
    assert "no revision begins with 'dddd'. The newest: cccc3333, bbbb2222, aaaa1111." in capsys.readouterr().err


def test_an_artifact_that_changed_behind_an_unchanged_document_is_told() -> None:
    before = record("a", 1.0, "models: {}\n", digests={"rank": "sha256:1111", "same": "sha256:3"})
    after = record("b", 2.0, "models: {}\n", digests={"rank": "sha256:2222", "same": "sha256:3"})
    (key,) = history.changes(before, after)
    assert (key.path, key.before, key.after) == ("models.rank (artifact)", "sha256:1111", "sha256:2222")


def test_an_overlay_and_a_stage_are_part_of_what_changed() -> None:
    text = "experiments: {x: {endpoint: e, managed: [winner], variants: {a: {weight: 1}}}}\n"
    files = {"turnout.yaml": text, "turnout.prod.yaml": "endpoints: {e: {pipeline: p}}\n"}
    overlay = files | {"turnout.overlay": '{"experiments": {"x": {"winner": "a"}}}'}
    before = record("a", 1.0, "", document={"turnout.yaml": text})
    staged = record("b", 2.0, "", document=files, stage="prod")
    laid = record("c", 3.0, "", document=overlay, stage="prod")
    assert [key.path for key in history.changes(before, staged)] == ["endpoints.e"]
    assert [key.path for key in history.changes(staged, laid)] == ["experiments.x.winner"]


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.4, "0.4 s"), (75, "75 s"), (150, "2.5 min"), (3 * 3600, "3.0 h"), (200_000, "2.3 d")]
)
def test_spans_are_told_in_the_unit_that_fits(seconds: float, text: str) -> None:
    assert history.span(seconds) == text
