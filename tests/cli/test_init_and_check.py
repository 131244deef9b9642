"""`init` writes what `check` accepts; `check` names every error."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from turnout.cli import init

Turnout = Callable[..., Any]


@pytest.mark.parametrize("template", init.TEMPLATES)
def test_a_written_project_passes_the_check(template: str, turnout: Turnout) -> None:
    written = turnout("init", "project", "--template", template)
    assert written.status == 0
    assert "cd project" in written.out
    checked = turnout("check", "project/turnout.yaml")
    assert checked.status == 0, checked.err
    assert "project/turnout.yaml is right: serves judge; revision " in checked.out


def test_files_that_are_there_are_not_overwritten(turnout: Turnout) -> None:
    Path("turnout.yaml").write_text("mine")
    refused = turnout("init")
    assert refused.status == 1
    assert "turnout.yaml" in refused.err
    assert "--force" in refused.err
    assert Path("turnout.yaml").read_text() == "mine"
    assert not Path("mail.py").exists()
    assert turnout("init", "--force").status == 0
    assert Path("turnout.yaml").read_text() != "mine"


def test_all_errors_come_out_with_their_lines(turnout: Turnout) -> None:
    turnout("init", "--template", "ab")
    text = Path("turnout.yaml").read_text()
    Path("turnout.yaml").write_text(text.replace("weight: 50}", "wieght: 50}").replace("unit:", "unti:"))
    ended = turnout("check")
    assert ended.status == 1
    assert "turnout.yaml:" in ended.err
    assert "wieght" in ended.err
    assert "unti" in ended.err
    assert ended.out == ""


def test_errors_of_code_are_found_too_unless_left_aside(turnout: Turnout) -> None:
    turnout("init")
    Path("turnout.yaml").write_text(Path("turnout.yaml").read_text().replace("mail:judge", "mail:jugde"))
    ended = turnout("check")
    assert ended.status == 1
    assert "jugde" in ended.err
    assert "judge" in ended.err
    assert turnout("check", "--no-code").status == 0


def test_json_lists_errors_for_machines(turnout: Turnout) -> None:
    turnout("init")
    good = json.loads(turnout("check", "--json").out)
    assert good["errors"] == []
    assert len(good["stages"][""]["revision"]) == 64
    Path("turnout.yaml").write_text(Path("turnout.yaml").read_text().replace("deadline: 1s", "deadline: 1"))
    ended = turnout("check", "--json")
    assert ended.status == 1
    (error,) = json.loads(ended.out)["errors"]
    assert error["line"] == 7
    assert error["path"] == "endpoints.judge.deadline"
    assert error["stages"] == [""]


def test_an_error_of_one_stage_names_the_stage(turnout: Turnout) -> None:
    turnout("init")
    Path("turnout.prod.yaml").write_text("endpoints:\n  judge: {deadline: fast}\n")
    ended = turnout("check")
    assert ended.status == 1
    assert "turnout.prod.yaml:2" in ended.err
    assert "(in stage prod)" in ended.err


def test_explain_says_which_variant_and_why_without_a_server(turnout: Turnout) -> None:
    turnout("init", "--template", "ab")
    said = turnout("explain", "structure", "u2")
    assert said.status == 0
    assert said.out.startswith("u2 -> words (pipeline by-words), reason SPLIT")
    machine = json.loads(turnout("explain", "structure", "u2", "--json").out)
    assert machine["variant"] == "words"
    nobody = turnout("explain", "structure")
    assert "NO_UNIT" in nobody.out
    wrong = turnout("explain", "strcture", "u2")
    assert wrong.status == 1
    assert "Did you mean 'structure'?" in wrong.err


def test_schema_is_json_that_editors_take(turnout: Turnout) -> None:
    schema = json.loads(turnout("schema").out)
    assert schema["$schema"].startswith("https://json-schema.org/")
    assert "endpoints" in schema["properties"]


def test_a_report_before_anything_was_recorded_says_so(turnout: Turnout) -> None:
    turnout("init", "--template", "ab")
    ended = turnout("report")
    assert ended.status == 1
    assert "nothing was recorded yet" in ended.err


def test_what_only_the_server_has_does_not_keep_explain_from_answering(turnout: Turnout) -> None:
    turnout("init", "--template", "ab")
    text = Path("turnout.yaml").read_text()
    text = text.replace("deadline: 1s", 'deadline: "${DEADLINE_OF_THE_SERVER}"')
    Path("turnout.yaml").write_text(text.replace("threshold: 0.5", 'threshold: "secret:threshold"', 1))
    said = turnout("explain", "structure", "u2")
    assert said.status == 0, said.err
    assert said.out.startswith("u2 -> words")
    assert turnout("check").status == 1


def test_a_missing_variable_that_matters_is_named(turnout: Turnout) -> None:
    turnout("init", "--template", "ab")
    text = Path("turnout.yaml").read_text()
    Path("turnout.yaml").write_text(text.replace("window: 1d", 'window: "${WINDOW_OF_THE_SERVER}"'))
    ended = turnout("explain", "structure", "u2")
    assert ended.status == 1
    assert "environment variable WINDOW_OF_THE_SERVER is not set" in ended.err
