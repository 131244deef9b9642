"""The command as people type it: arguments in, exit status and both outputs back."""

import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from turnout.cli import app


@dataclass(frozen=True)
class Ended:
    """How a command ended."""

    status: int
    out: str
    err: str


Type = Callable[..., Ended]


@pytest.fixture(autouse=True)
def clean(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """An empty folder, no variables of ours, and nothing a command imported left behind."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.delenv("COLUMNS", raising=False)
    for name in ("TURNOUT_STATE", "TURNOUT_DOCUMENT", "TURNOUT_STAGE", "TURNOUT_STORE", "TURNOUT_SECRETS"):
        monkeypatch.delenv(name, raising=False)
    path, modules = list(sys.path), set(sys.modules)
    yield
    sys.path[:] = path
    for name in set(sys.modules) - modules:
        if str(tmp_path) in str(getattr(sys.modules[name], "__file__", "")):
            del sys.modules[name]


@pytest.fixture
def turnout(capsys: pytest.CaptureFixture[str]) -> Type:
    def run(*arguments: str) -> Ended:
        status = app.main(list(arguments))
        captured = capsys.readouterr()
        return Ended(status, captured.out, captured.err)

    return run
