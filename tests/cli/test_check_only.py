"""`check --only experiments` refuses a change of anything else, with its place."""

import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Turnout = Callable[..., Any]


def git(*arguments: str) -> None:
    settings = ("-c", "user.name=Test", "-c", "user.email=test@example.org", "-c", "commit.gpgsign=false")
    subprocess.run(["git", *settings, *arguments], check=True, capture_output=True)


def replace(file: str, old: str, new: str) -> None:
    text = Path(file).read_text()
    assert old in text, old
    Path(file).write_text(text.replace(old, new))


@pytest.fixture
def project(turnout: Turnout) -> None:
    """A folder with the experiments in a file of their own, committed."""
    turnout("init", "--template", "ab")
    serving, experiments = Path("turnout.yaml").read_text().split("experiments:")
    Path("turnout.yaml").write_text(serving)
    Path("experiments.yaml").write_text(f"experiments:{experiments}")
    git("init", "-q", ".")
    git("add", ".")
    git("commit", "-q", "-m", "one")


def test_a_folder_is_one_document_with_experiments_in_a_file_of_their_own(project: None, turnout: Turnout) -> None:
    assert turnout("check", ".").status == 0
    said = turnout("explain", "structure", "u2", "-d", ".")
    assert said.out.startswith("u2 -> words")


def test_a_change_of_experiments_alone_passes(project: None, turnout: Turnout) -> None:
    replace("experiments.yaml", "by-both, weight: 50", "by-both, weight: 10")
    ended = turnout("check", ".", "--only", "experiments")
    assert ended.status == 0, ended.err
    assert "against git:HEAD, nothing changed outside of experiments" in ended.out


@pytest.mark.parametrize(
    ("file", "old", "new", "told"),
    [
        pytest.param(
            "turnout.yaml", "deadline: 1s", "deadline: 2s", "turnout.yaml:9 endpoints.judge.deadline: says", id="key"
        ),
        pytest.param("turnout.yaml", ", deadline: 1s", "", "endpoints.judge.deadline: was removed.", id="removed"),
        pytest.param(
            "turnout.yaml",
            "endpoints:",
            "  spare: {code: 'mail:by_words', models: {words: words}}\nendpoints:",
            "turnout.yaml:8 pipelines.spare: is new.",
            id="added",
        ),
        pytest.param("mail.py", "1.4", "1.5", "mail.py:1: the code changed.", id="code"),
    ],
)
def test_anything_else_is_refused_with_its_place(
    project: None, turnout: Turnout, file: str, old: str, new: str, told: str
) -> None:
    replace("experiments.yaml", "by-both, weight: 50", "by-both, weight: 10")
    replace(file, old, new)
    ended = turnout("check", ".", "--only", "experiments")
    assert ended.status == 1
    assert told in ended.err
    assert "Only experiments may change here" in ended.err
    assert turnout("check", ".").status == 0


def test_a_stage_may_change_no_more(project: None, turnout: Turnout) -> None:
    Path("experiments.prod.yaml").write_text("experiments: {structure: {ramp: 10%}}\n")
    assert turnout("check", ".", "--only", "experiments").status == 0
    Path("turnout.prod.yaml").write_text("endpoints: {judge: {deadline: 2s}}\n")
    ended = turnout("check", ".", "--only", "experiments")
    assert ended.status == 1
    assert "turnout.prod.yaml:1 endpoints.judge" in ended.err


def test_an_artifact_that_is_another_file_is_refused(project: None, turnout: Turnout) -> None:
    Path("table.npz").write_bytes(b"one")
    replace("turnout.yaml", "models:\n", "models:\n  table: {source: table.npz}\n")
    git("add", ".")
    git("commit", "-q", "-m", "two")
    Path("table.npz").write_bytes(b"two")
    ended = turnout("check", ".", "--only", "experiments", "--no-code")
    assert ended.status == 1
    assert "models.table.source: the content of table.npz changed." in ended.err


def test_several_sections_and_another_base_may_be_named(project: None, turnout: Turnout) -> None:
    git("tag", "base")
    replace("turnout.yaml", "deadline: 1s", "deadline: 2s")
    git("commit", "-q", "-a", "-m", "two")
    assert turnout("check", ".", "--only", "experiments").status == 0
    assert turnout("check", ".", "--only", "experiments", "--against", "git:base").status == 1
    both = turnout("check", ".", "--only", "experiments", "--only", "endpoints", "--against", "git:base")
    assert both.status == 0, both.err


def test_a_section_that_is_not_there_is_wrong_usage(project: None, turnout: Turnout) -> None:
    ended = turnout("check", ".", "--only", "experiment")
    assert ended.status == 2
    assert "Did you mean 'experiments'?" in ended.err
