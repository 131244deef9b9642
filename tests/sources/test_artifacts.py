"""Digests of artifacts."""

import hashlib
import os
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
