"""Nothing that people can set, call or watch is missing from the reference, and no document links to nowhere."""

import asyncio
import dataclasses
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from turnout import errors, telemetry
from turnout.cli import app
from turnout.gateway import home, routes
from turnout.spec import schema
from turnout.supervisor import settings
from turnout.transport import http

ROOT = Path(__file__).parents[2]
REFERENCE = (ROOT / "docs" / "reference.md").read_text()
DOCUMENTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]


def unmentioned(names: Iterator[str]) -> list[str]:
    """Names that no code span of the reference contains."""
    spans = set(re.findall(r"`([^`\n]+)`", REFERENCE))
    return sorted(name for name in names if name not in spans)


def test_every_command_is_in_the_reference() -> None:
    assert unmentioned(f"turnout {name}" for name in app.COMMANDS) == []


def test_every_setting_is_in_the_reference() -> None:
    names = (field.name.upper() for field in dataclasses.fields(settings.Settings))
    assert unmentioned(f"{settings.PREFIX}{name}" for name in names) == []


def test_every_key_of_a_document_is_in_the_reference() -> None:
    def keys(node: Any) -> Iterator[str]:
        for name, value in (node.get("properties") or {}).items():
            if "not" not in value:
                yield name
        for child in (node.get("$defs") or {}).values():
            yield from keys(child)

    sections = {"models", "pipelines", "endpoints", "experiments", "rollouts", "shadows", "holdouts"}
    found = set(keys(schema.json_schema())) - sections
    assert "max_delay" in found
    assert unmentioned(iter(found)) == []


def test_every_metric_is_in_the_reference() -> None:
    names = [value for value in vars(telemetry).values() if isinstance(value, str) and value.startswith("turnout_")]
    assert "turnout_requests_total" in names
    assert unmentioned(iter(names)) == []


def test_every_route_is_in_the_reference(tmp_path: Path) -> None:
    served = home.Home(home.Identity(worker="w0", directory=str(tmp_path), state=str(tmp_path)), telemetry.Registry())
    request = http.Request("GET", "/nowhere", "", http.Headers([]), b"", "127.0.0.1", 0.0)
    told = asyncio.run(routes.Routes(served)(request)).body
    assert isinstance(told, bytes)
    paths = re.findall(r"/[^ ,]*[^ ,.]", json.loads(told)["hint"])
    assert "/openapi.json" in paths
    spans = set(re.findall(r"`(?:GET|POST) ([^`]+)`", REFERENCE))
    assert [path for path in paths if path not in spans] == []


def test_every_error_code_is_in_the_reference() -> None:
    def codes(kind: type[errors.TurnoutError]) -> Iterator[str]:
        yield kind.code
        for child in kind.__subclasses__():
            if child.__module__ == errors.__name__:
                yield from codes(child)

    assert unmentioned(iter(set(codes(errors.TurnoutError)))) == []


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_links_lead_somewhere(document: Path) -> None:
    targets = re.findall(r"\]\(([^)\s]+)\)", document.read_text())
    local = {target.partition("#")[0] for target in targets if "://" not in target}
    assert [target for target in sorted(local) if target and not (document.parent / target).exists()] == []
