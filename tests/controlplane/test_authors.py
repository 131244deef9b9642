"""Who is written down as a document's author."""

import getpass
import subprocess
from pathlib import Path

import pytest

from turnout.controlplane import authors


def git(folder: Path, *arguments: str) -> None:
    identity = ["-c", "user.name=Ada L", "-c", "user.email=ada@example.org", "-c", "commit.gpgsign=false"]
    subprocess.run(["git", "-C", str(folder), *identity, *arguments], check=True, capture_output=True)


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    git(tmp_path, "init", "-q")
    for name, subject in (("turnout.yaml", "Begin with two variants"), ("turnout.prod.yaml", "More weight in prod")):
        (tmp_path / name).write_text("models: {}\n")
        git(tmp_path, "add", name)
        git(tmp_path, "commit", "-qm", subject)
    return tmp_path


def test_a_committed_document_is_its_commits(repository: Path) -> None:
    assert authors.of([repository / "turnout.yaml"]) == ("Ada L <ada@example.org>", "Begin with two variants")


def test_the_newest_commit_of_all_its_files_counts(repository: Path) -> None:
    files = [repository / "turnout.yaml", repository / "turnout.prod.yaml"]
    assert authors.of(files, given="deployer")[1] == "More weight in prod"


def test_a_file_that_was_changed_since_is_its_owners(repository: Path) -> None:
    (repository / "turnout.yaml").write_text("models: {a: {}}\n")
    assert authors.of([repository / "turnout.yaml"]) == (getpass.getuser(), "")
    assert authors.of([repository / "turnout.yaml"], given="deployer") == ("deployer", "")


def test_a_file_git_does_not_know_is_its_owners(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    (repository / "new.yaml").write_text("")
    elsewhere = tmp_path_factory.mktemp("elsewhere") / "turnout.yaml"
    elsewhere.write_text("")
    for path in (repository / "new.yaml", elsewhere):
        assert authors.of([path]) == (getpass.getuser(), "")


def test_a_document_that_is_gone_has_the_given_author(tmp_path: Path) -> None:
    assert authors.of([tmp_path / "turnout.yaml"], given="x") == ("x", "")
