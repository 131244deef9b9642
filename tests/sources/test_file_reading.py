"""What a file source reads, and what it refuses."""

import asyncio
import os
from pathlib import Path

import pytest

from turnout.errors import DocumentError, UnavailableError
from turnout.sources import file
from turnout.sources.base import Files
from turnout.spec import snapshot


def _read(path: Path) -> Files:
    return asyncio.run(file.FileSource(path).read())


def _refusal(path: Path) -> str:
    with pytest.raises(UnavailableError) as caught:
        _read(path)
    return str(caught.value)


def test_one_file_comes_with_its_stage_files_only(tmp_path: Path) -> None:
    for name in ("turnout.yaml", "turnout.prod.yaml", "turnout.dev.yml", "other.yaml", "turnouts.prod.yaml", "a.txt"):
        (tmp_path / name).write_text(name)
    files = _read(tmp_path / "turnout.yaml")
    assert {Path(name).name for name in files} == {"turnout.yaml", "turnout.prod.yaml", "turnout.dev.yml"}


def test_directory_is_all_its_yaml_files(tmp_path: Path) -> None:
    for name in ("models.yaml", "endpoints.yml", "turnout.prod.yaml", "notes.md"):
        (tmp_path / name).write_text(name)
    assert [Path(name).name for name in _read(tmp_path)] == ["endpoints.yml", "models.yaml", "turnout.prod.yaml"]


def test_files_are_named_as_the_path_was_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "conf").mkdir()
    (tmp_path / "conf" / "turnout.yaml").write_text("a: 1\n")
    monkeypatch.chdir(tmp_path)
    assert list(_read(Path("conf/turnout.yaml"))) == ["conf/turnout.yaml"]
    assert file.FileSource(Path("conf/turnout.yaml")).directory == str(tmp_path / "conf")
    assert file.FileSource(Path("conf")).directory == str(tmp_path / "conf")


def test_document_with_another_suffix_is_read(tmp_path: Path) -> None:
    (tmp_path / "document").write_text("a: 1\n")
    assert list(_read(tmp_path / "document").values()) == ["a: 1\n"]


def test_file_that_is_not_utf_8_reaches_admission_which_names_the_line(tmp_path: Path) -> None:
    path = tmp_path / "turnout.yaml"
    path.write_bytes(b"a: 1\nb: \xff\xfe\n")
    with pytest.raises(DocumentError) as caught:
        snapshot.admit(_read(path), environment={})
    assert f"{path}:2: the file is not UTF-8 text." in str(caught.value)


def test_missing_document_says_what_to_give(tmp_path: Path) -> None:
    path = tmp_path / "turnout.yaml"
    assert _refusal(path) == (
        f"no document at {path}: {path} is not there. Give the path of a turnout.yaml or of a directory of them."
    )


def test_directory_without_yaml_is_refused(tmp_path: Path) -> None:
    assert "holds no *.yaml file. Write a turnout.yaml" in _refusal(tmp_path)


def test_pipe_is_refused_instead_of_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "turnout.yaml")
    assert "is not a regular file" in _refusal(tmp_path / "turnout.yaml")


def test_file_in_place_of_a_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x").write_text("")
    assert "cannot be read: Not a directory" in _refusal(tmp_path / "x" / "turnout.yaml")


def test_huge_file_is_refused_unread(tmp_path: Path) -> None:
    path = tmp_path / "turnout.yaml"
    path.touch()
    os.truncate(path, 2**34)
    assert _refusal(path) == f"{path} is larger than 2 MiB."


def test_many_large_files_are_refused(tmp_path: Path) -> None:
    for number in range(6):
        (tmp_path / f"f{number}.yaml").write_bytes(b"#" * (2**21 - 1))
    assert "is larger than 8 MiB" in _refusal(tmp_path)


def test_too_many_files_are_refused(tmp_path: Path) -> None:
    for number in range(201):
        (tmp_path / f"f{number}.yaml").touch()
    assert "holds 201 YAML files; at most 200 make a document." in _refusal(tmp_path)


def test_broken_link_in_a_directory_is_no_file_of_it(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("a: 1\n")
    (tmp_path / "b.yaml").symlink_to("nowhere")
    assert [Path(name).name for name in _read(tmp_path)] == ["a.yaml"]
