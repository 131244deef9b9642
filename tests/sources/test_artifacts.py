"""Digests of artifacts."""

import hashlib
import os
from io import BufferedReader
from pathlib import Path

import pytest

from turnout.errors import UnavailableError
from turnout.sources import artifacts


def test_digest_of_a_file_is_what_sha256sum_prints(tmp_path: Path) -> None:
    (tmp_path / "m.onnx").write_bytes(b"model")
    expected = "sha256:" + hashlib.sha256(b"model").hexdigest()
    assert artifacts.DigestCache().digest(tmp_path / "m.onnx") == expected
    assert artifacts.digest_under(str(tmp_path))("m.onnx") == expected


def test_changed_file_has_another_digest(tmp_path: Path) -> None:
    digest = artifacts.digest_under(str(tmp_path))
    (tmp_path / "m").write_bytes(b"one")
    first = digest("m")
    (tmp_path / "m").write_bytes(b"other")
    assert digest("m") != first


def test_unchanged_file_is_read_once(tmp_path: Path) -> None:
    """A file that nobody may read any more still has its digest."""
    path = tmp_path / "m"
    path.write_bytes(b"one")
    cache = artifacts.DigestCache()
    first = cache.digest(path)
    status = path.stat()
    key = (str(path), status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)
    assert cache.kept() == {key: first.removeprefix("sha256:")}
    assert cache.digest(path) == first


def test_digest_of_a_folder_covers_names_and_contents(tmp_path: Path) -> None:
    def digest(files: dict[str, str], name: str) -> str:
        for file, text in files.items():
            (tmp_path / name / file).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name / file).write_text(text)
        return artifacts.DigestCache().digest(tmp_path / name)

    same = {digest({"a": "1", "d/b": "2"}, "one"), digest({"d/b": "2", "a": "1"}, "two")}
    other = {
        digest({"a": "1", "d/c": "2"}, "three"),
        digest({"a": "1", "d/b": "3"}, "four"),
        digest({"a": "1"}, "five"),
    }
    assert len(same) == 1
    assert len(same | other) == 4


def test_digest_of_a_folder_is_documented(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("1")
    line = hashlib.sha256(b"1").hexdigest() + "  a\n"
    assert artifacts.DigestCache().digest(tmp_path) == "sha256:" + hashlib.sha256(line.encode()).hexdigest()


def test_missing_artifact_says_where_paths_start(tmp_path: Path) -> None:
    with pytest.raises(UnavailableError, match=r"is not there\. Paths start at the document's folder\."):
        artifacts.DigestCache().digest(tmp_path / "m")


def test_empty_folder_and_pipe_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UnavailableError, match="is an empty folder"):
        artifacts.DigestCache().digest(tmp_path)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(UnavailableError, match="is not a regular file"):
        artifacts.DigestCache().digest(tmp_path / "pipe")


def test_source_may_be_absolute(tmp_path: Path) -> None:
    (tmp_path / "m").write_bytes(b"x")
    assert artifacts.digest_under("/nowhere")(str(tmp_path / "m")).startswith("sha256:")


def test_only_so_many_digests_are_kept(tmp_path: Path) -> None:
    cache = artifacts.DigestCache(limit=2)
    for name in "abc":
        (tmp_path / name).write_text(name)
        cache.digest(tmp_path / name)
    assert [Path(key[0]).name for key in cache.kept()] == ["b", "c"]


def test_path_through_a_file_is_told(tmp_path: Path) -> None:
    (tmp_path / "m").write_text("x")
    with pytest.raises(UnavailableError, match="cannot be read: Not a directory"):
        artifacts.DigestCache().digest(tmp_path / "m" / "n")


def test_artifact_that_changes_all_the_time_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "m"
    path.write_text("x")

    def grow(opened: BufferedReader) -> str:
        with path.open("a") as more:
            more.write("x")
        return artifacts.sha256(opened)

    with pytest.raises(UnavailableError, match=r"changes while it is read\. Try again"):
        artifacts.DigestCache(hashing=grow).digest(path)


def test_folder_that_cannot_be_listed_is_told(tmp_path: Path) -> None:
    """Root may list everything, so the folder vanishes instead."""
    (tmp_path / "d" / "e").mkdir(parents=True)
    (tmp_path / "d" / "a").write_text("x")

    def vanish(opened: BufferedReader) -> str:
        (tmp_path / "d" / "e").rmdir()
        return artifacts.sha256(opened)

    with pytest.raises(UnavailableError, match=r"e is not there|d is not there"):
        artifacts.DigestCache(hashing=vanish).digest(tmp_path / "d")


def test_folder_with_too_many_files_is_refused(tmp_path: Path) -> None:
    for number in range(4):
        (tmp_path / str(number)).touch()
    with pytest.raises(UnavailableError, match="holds more than 3 files"):
        artifacts.DigestCache(limit=3).digest(tmp_path)
