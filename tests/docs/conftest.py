"""Documents as lists of fenced blocks, and a shell for what they tell people to type."""

import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FENCE = re.compile(r"^```(?P<kind>[a-z]*)(?: file=(?P<file>\S+))?\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)
DEADLINE_S = 60.0


@dataclass(frozen=True)
class Block:
    """One fenced block.

    Attributes:
        kind: What stands behind the fence: yaml, python, console; "" for none.
        file: The file it is to be saved as; "" for none.
        line: Where it begins.
    """

    kind: str
    file: str
    text: str
    line: int


class Shell:
    """Runs what a guide says, in a folder of its own. `turnout serve` stays until the next one, or the end."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.server: subprocess.Popen[bytes] | None = None
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = str(free.getsockname()[1])
        source = str(ROOT / "src")
        self.environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("TURNOUT_")},
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "PYTHONPATH": source,
            "TURNOUT_LISTEN_PORT": self.port,
            "NO_COLOR": "1",
        }

    def type(self, command: str) -> tuple[int, str]:
        """Run one line; its exit status and what it printed. A `cd` in it counts for the lines after it."""
        command = command.replace(":8000", f":{self.port}")
        if command.startswith("turnout serve"):
            return 0, self._serve(command)
        command = re.sub(r"\bturnout (?=[a-z])", f"{sys.executable} -m turnout ", command)
        ended = subprocess.run(
            ["bash", "-c", f"{command}\nstatus=$?; pwd > {self.folder / '.pwd'}; exit $status"],
            cwd=self._here(),
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=DEADLINE_S,
            check=False,
        )
        return ended.returncode, ended.stdout.replace(f":{self.port}", ":8000")

    def write(self, name: str, text: str) -> None:
        (self._here() / name).write_text(text)

    def stop(self) -> None:
        if self.server is not None and self.server.poll() is None:
            self.server.send_signal(signal.SIGINT)
            self.server.wait(DEADLINE_S)
        self.server = None

    def _here(self) -> Path:
        place = self.folder / ".pwd"
        return Path(place.read_text().strip()) if place.exists() else self.folder

    def _serve(self, command: str) -> str:
        self.stop()
        told = self.folder / ".served"
        words = [sys.executable, "-m", *command.split()]
        with told.open("wb") as out:
            self.server = subprocess.Popen(
                words, cwd=self._here(), env=self.environment, stdout=out, stderr=out, start_new_session=True
            )
        deadline = time.monotonic() + DEADLINE_S
        while "Ctrl-C" not in told.read_text():
            assert self.server.poll() is None, told.read_text()
            assert time.monotonic() < deadline, told.read_text()
            time.sleep(0.05)
        return told.read_text().replace(f":{self.port}", ":8000")


@pytest.fixture(scope="session")
def blocks() -> Callable[[str], list[Block]]:
    """The fenced blocks of a document, by its path from the repository's root."""

    def read(path: str) -> list[Block]:
        text = (ROOT / path).read_text()
        return [
            Block(found["kind"], found["file"] or "", found["text"], text.count("\n", 0, found.start()) + 1)
            for found in FENCE.finditer(text)
        ]

    return read


@pytest.fixture
def shell(tmp_path: Path) -> Iterator[Shell]:
    """A shell in an empty folder that has the examples beside it, as a clone of the repository does."""
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    made = Shell(tmp_path)
    yield made
    made.stop()
