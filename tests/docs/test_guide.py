"""The guide does what it says: its files are written, its lines typed, their output compared, in its order."""

import time
from collections.abc import Callable
from typing import Any

import pytest

PATIENCE_S = 30.0
"""A saved file is in force, and an event in the report, after a moment; what a line should show may come so late."""
AGAIN = ("status", "report", "call", "curl")


def lines(console: str) -> list[tuple[str, list[str]]]:
    """What is typed, with the texts that must appear then."""
    found: list[tuple[str, list[str]]] = []
    for line in console.splitlines():
        if line.startswith("$ "):
            found.append((line.removeprefix("$ "), []))
        elif line.strip():
            found[-1][1].append(line.strip())
    return found


@pytest.mark.slow
def test_every_block_of_the_guide_works_in_its_order(blocks: Callable[[str], list[Any]], shell: Any) -> None:
    for block in blocks("docs/guide.md"):
        if block.file:
            shell.write(block.file, block.text)
        for command, shown in lines(block.text) if block.kind == "console" else ():
            place = f"docs/guide.md, block at line {block.line}: {command}"
            deadline = time.monotonic() + PATIENCE_S
            while True:
                status, said = shell.type(command)
                missing = [text for text in shown if text not in said]
                if (not missing and (shown or status == 0)) or time.monotonic() > deadline:
                    break
                if not any(word in command for word in AGAIN):
                    break
                time.sleep(0.2)
            assert not missing, f"{place}\ndoes not show {missing}, but\n{said}"
            assert shown or status == 0, f"{place}\nended with {status}:\n{said}"


def test_the_guide_has_no_block_that_nothing_checks(blocks: Callable[[str], list[Any]]) -> None:
    unchecked = [block.line for block in blocks("docs/guide.md") if not block.file and block.kind != "console"]
    assert unchecked == []
