"""What the demo needs around a server: a copy of the document to edit, the process, its memory."""

import copy
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import ruamel.yaml

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
FOLDER = ROOT / ".turnout" / "demo"
START_S, CHANGE_S, STOP_S = 90.0, 60.0, 45.0


class DemoError(Exception):
    """The demo cannot go on; the message says why and what to do."""


class LiveDocument:
    """A copy of `turnout.yaml` in the demo's own folder, so that editing it leaves the repository as it is."""

    def __init__(self, folder: Path = FOLDER) -> None:
        self.path = folder / "turnout.yaml"
        self._yaml = ruamel.yaml.YAML()
        self._yaml.width = 120
        self._whole = self._yaml.load((HERE / "turnout.yaml").read_text("utf-8"))
        self._canary = self._yaml.load((HERE / "canary" / "no-reranker.yaml").read_text("utf-8"))
        for name in ("chat", "data", "models"):
            (folder / name).symlink_to(HERE / name)

    def draft(
        self,
        experiments: Iterable[str],
        weights: dict[str, int] | None = None,
        *,
        winner: str = "",
        canary: bool = False,
    ) -> Path:
        """Write the next document beside the one in force: with these experiments, and what they need.

        Args:
            experiments: Names of the experiments to keep.
            weights: New weights of the variants of `structure`.
            winner: The variant of `config` that everybody gets from now on.
            canary: Whether the rollout of `canary/` begins.
        """
        document = copy.deepcopy(self._whole)
        keep = set(experiments)
        _drop(document["experiments"], set(document["experiments"]) - keep)
        _drop(document["pipelines"], set(document["pipelines"]) - _pipelines(document))
        _drop(document["models"], set(document["models"]) - _models(document))
        if not keep:
            del document["experiments"]
        for name, weight in (weights or {}).items():
            document["experiments"]["structure"]["variants"][name]["weight"] = weight
        if winner:
            document["experiments"]["config"]["winner"] = winner
        if canary:
            document["pipelines"] |= self._canary["pipelines"]
            document["rollouts"] = self._canary["rollouts"]
        draft = self.path.with_suffix(".draft")
        with draft.open("w", encoding="utf-8") as file:
            self._yaml.dump(document, file)
        return draft

    def write(self, experiments: Iterable[str], weights: dict[str, int] | None = None) -> float:
        """Draft the next document and put it in force; `time.monotonic()` of the moment it was on disk."""
        self.draft(experiments, weights)
        return self.put_in_force()

    def put_in_force(self) -> float:
        """Make the draft the document; `time.monotonic()` of the moment it was on disk."""
        self.path.with_suffix(".draft").replace(self.path)
        return time.monotonic()

    def bound_by(self, model: str) -> list[str]:
        """The variants whose pipelines hold this model."""
        document, found = self._whole, list[str]()
        for experiment in document["experiments"].values():
            default = document["endpoints"][experiment["endpoint"]]["pipeline"]
            for name, variant in experiment["variants"].items():
                pipeline = document["pipelines"][variant.get("pipeline", default)]
                if model in (pipeline["models"] | variant.get("models", {})).values():
                    found.append(name)
        return found


def _drop(mapping: dict[str, Any], names: set[str]) -> None:
    for name in names:
        del mapping[name]


def _variants(document: dict[str, Any]) -> list[dict[str, Any]]:
    return [variant for each in document["experiments"].values() for variant in each["variants"].values()]


def _pipelines(document: dict[str, Any]) -> set[str]:
    named = {endpoint["pipeline"] for endpoint in document["endpoints"].values()}
    return named | {variant["pipeline"] for variant in _variants(document) if "pipeline" in variant}


def _models(document: dict[str, Any]) -> set[str]:
    bound = [each["models"] for each in (*document["pipelines"].values(), *_variants(document)) if "models" in each]
    return {model for models in bound for model in models.values()}


class Server:
    """`turnout serve` as a process of its own, on a free port."""

    def __init__(self, document: Path) -> None:
        self.url = ""
        self.ready_s = 0.0
        self._document = document
        self._log = document.parent / "server.log"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it and wait until it is ready.

        Raises:
            DemoError: It ended or was not ready in time; the message has the end of its log.
        """
        started = time.monotonic()
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "turnout", "serve", str(self._document), "--port", "0"],
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=ROOT,
                start_new_session=True,
            )
        while time.monotonic() - started < START_S:
            if self._process.poll() is not None:
                break
            self.url = self._noted_url()
            if self.url and self._ready():
                self.ready_s = time.monotonic() - started
                return
            time.sleep(0.02)
        self.stop()
        log_end = self._log.read_text("utf-8", "replace")[-2000:]
        raise DemoError(f"the server was not ready within {START_S:.0f} s; its log ends:\n{log_end}")

    def stop(self) -> None:
        """Ask it to drain and end; after a while end it."""
        process, self._process = self._process, None
        if process is None or process.poll() is not None:
            return
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    @property
    def alive(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def status(self) -> dict[str, Any]:
        """What `/status` says."""
        with urllib.request.urlopen(f"{self.url}/status", timeout=10) as response:
            content: dict[str, Any] = json.load(response)
            return content

    def rollout(self, endpoint: str, name: str) -> str:
        """The state of a rollout, as every worker has it."""
        return str(self.status()["endpoints"][endpoint]["experiments"][name]["rollout"]["state"])

    def changed(self, revision: str, *, since: float) -> float:
        """Wait until another revision than this is in force everywhere.

        Returns:
            Seconds since `since` when it was seen.

        Raises:
            DemoError: It did not come, or was refused.
        """
        while time.monotonic() - since < CHANGE_S:
            status = self.status()
            if status["revision"] != revision and status["converged"]:
                return time.monotonic() - since
            if status["refused"]:
                raise DemoError(f"the edited document was refused: {json.dumps(status['refused'], indent=2)}")
            time.sleep(0.01)
        raise DemoError(f"the edited document was not in force within {CHANGE_S:.0f} s.")

    def worker_memory(self) -> float | None:
        """Proportional set size of the first worker in bytes; None where the kernel does not tell."""
        pid = self.status()["workers"][0]["pid"]
        try:
            lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
        except OSError:
            return None
        return next(float(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:"))

    def _noted_url(self) -> str:
        try:
            note = json.loads((self._document.parent / ".turnout" / "supervisor.json").read_text("utf-8"))
        except (OSError, ValueError):
            return ""
        return str(note["url"])

    def _ready(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.url}/readyz", timeout=5) as response:
                return bool(response.status == 200)
        except (OSError, urllib.error.URLError):
            return False


def fresh_folder() -> Path:
    """The demo's empty folder.

    Raises:
        DemoError: Another demo is serving from it.
    """
    note = FOLDER / ".turnout" / "supervisor.json"
    if note.exists():
        running = json.loads(note.read_text("utf-8"))
        if Path(f"/proc/{running['pid']}").exists():
            raise DemoError(
                f"a demo is serving already, on {running['url']} (pid {running['pid']}); stop that one first."
            )
    shutil.rmtree(FOLDER, ignore_errors=True)
    FOLDER.mkdir(parents=True)
    return FOLDER


def turnout(*arguments: object, width: int) -> str:
    """What a command prints on a terminal of this width.

    Raises:
        DemoError: The command failed.
    """
    command = [sys.executable, "-m", "turnout", *map(str, arguments)]
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        cwd=ROOT,
        timeout=60,
        check=False,
        env=os.environ | {"COLUMNS": str(width)},
    )
    if done.returncode != 0:
        told = " ".join(map(str, arguments))
        raise DemoError(f"`turnout {told}` ended with {done.returncode}: {done.stderr or done.stdout}")
    return done.stdout
