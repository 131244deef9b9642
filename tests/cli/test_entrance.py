"""The entrance: what is loaded, what is said, how it ends."""

import dataclasses
import importlib
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import pytest

import turnout as package
from turnout.cli import app, serve
from turnout.supervisor import settings

Turnout = Callable[..., Any]
HEAVY = ("rich", "pydantic", "numpy", "sqlalchemy", "alembic", "scipy", "onnxruntime", "turnout.gateway.app")


def loaded_after(code: str) -> list[str]:
    """Which heavy modules a fresh interpreter has loaded after the code."""
    text = f"{code}\nimport sys\nprint([name for name in {HEAVY!r} if name in sys.modules], file=sys.stderr)"
    environment = {**os.environ, "PYTHONPATH": str(Path(package.__file__).parent.parent)}
    ended = subprocess.run(
        [sys.executable, "-c", text], env=environment, capture_output=True, text=True, timeout=60, check=True
    )
    return list(eval(ended.stderr.splitlines()[-1]))


def test_help_loads_no_command() -> None:
    assert loaded_after("from turnout.cli import app; app.main(['--help'])") == []


def test_serve_starts_workers_before_anything_heavy_is_loaded() -> None:
    assert loaded_after("from turnout.cli import serve") == []


@pytest.mark.parametrize("name", app.COMMANDS)
def test_every_command_has_its_module_its_help_and_its_line_in_the_list(name: str, turnout: Turnout) -> None:
    command = importlib.import_module(f"turnout.cli.{name}").command
    assert isinstance(command, click.Command)
    assert command.short_help == app.COMMANDS[name]
    ended = turnout(name, "--help")
    assert ended.status == 0
    assert command.short_help.rstrip(".").split()[0].lower()[:4] in ended.out.lower()


def test_help_lists_every_command_and_the_exit_statuses(turnout: Turnout) -> None:
    ended = turnout("--help")
    assert ended.status == 0
    assert all(f"  {name} " in ended.out for name in app.COMMANDS)
    assert "the document is refused" in ended.out


def test_an_unknown_command_is_told_the_nearest(turnout: Turnout) -> None:
    ended = turnout("reprot")
    assert ended.status == 2
    assert "no command 'reprot'. Did you mean 'report'?" in ended.err


def test_an_unknown_option_is_wrong_usage(turnout: Turnout) -> None:
    ended = turnout("serve", "--prot", "1")
    assert ended.status == 2
    assert "--prot" in ended.err
    assert "--port" in ended.err


def test_an_error_of_ours_is_one_text_on_stderr_without_traceback(turnout: Turnout) -> None:
    ended = turnout("check", "nowhere.yaml")
    assert ended.status == 1
    assert ended.out == ""
    assert ended.err.startswith("turnout: no document at nowhere.yaml.")
    assert "turnout init" in ended.err
    assert "Traceback" not in ended.err


@pytest.mark.parametrize("command", [["status"], ["reload"], ["call", "x"]])
def test_without_a_server_commands_say_how_to_start_one(command: list[str], turnout: Turnout) -> None:
    ended = turnout(*command)
    assert ended.status == 1
    assert "no server runs on turnout.yaml" in ended.err
    assert "turnout serve turnout.yaml" in ended.err


def test_an_unknown_variable_of_ours_is_wrong_usage(turnout: Turnout, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TURNOUT_WROKERS", "2")
    ended = turnout("serve")
    assert ended.status == 2
    assert "unknown environment variable TURNOUT_WROKERS" in ended.err
    assert "TURNOUT_WORKERS" in ended.err


def test_a_size_without_unit_is_wrong_usage(turnout: Turnout) -> None:
    ended = turnout("serve", "--max-body", "16")
    assert ended.status == 2
    assert "16MiB" in ended.err


def test_serve_lists_every_variable_and_every_option_is_a_setting(turnout: Turnout) -> None:
    names = {field.name for field in dataclasses.fields(settings.Settings)}
    text = turnout("serve", "--help").out
    assert all(f"  TURNOUT_{name.upper()}\n" in text for name in names)
    assert {parameter.name for parameter in serve.command.params} <= names
