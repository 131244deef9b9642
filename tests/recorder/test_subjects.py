"""Keyed hashes: stable for one state folder, different between two, kept private."""

import hashlib
import hmac
from pathlib import Path

import pytest

from turnout.errors import StoreError
from turnout.recorder import subjects


def test_the_key_is_made_once_and_only_its_owner_reads_it(tmp_path: Path) -> None:
    key = subjects.load_key(tmp_path / "subject.key")

    assert subjects.load_key(tmp_path / "subject.key") == key
    assert len(key) == 32
    assert (tmp_path / "subject.key").stat().st_mode & 0o777 == 0o600
    assert [path.name for path in tmp_path.iterdir()] == ["subject.key"]


def test_two_folders_have_two_keys(tmp_path: Path) -> None:
    assert subjects.load_key(tmp_path / "a") != subjects.load_key(tmp_path / "b")


@pytest.mark.parametrize("text", ["", "00" * 31, "no hex" * 20], ids=["empty", "short", "no hex"])
def test_a_damaged_key_is_not_replaced(tmp_path: Path, text: str) -> None:
    (tmp_path / "subject.key").write_text(text)

    with pytest.raises(StoreError, match="holds no key: expected 64 hex digits"):
        subjects.load_key(tmp_path / "subject.key")

    assert (tmp_path / "subject.key").read_text() == text


def test_a_subject_is_the_hmac_of_the_unit() -> None:
    subject = subjects.subject_function(b"k" * 32)

    assert subject("ünit") == hmac.new(b"k" * 32, "ünit".encode(), hashlib.sha256).hexdigest()
    assert subject("") == ""
