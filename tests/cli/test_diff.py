"""`diff` compares two documents, on disk or in git, with their code, and says so by its exit status."""

import http.server
import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from turnout.cli import diff_markdown, documents
from turnout.events import Exposure
from turnout.experiments import phases
from turnout.stores import catalog

Turnout = Callable[..., Any]
HELLO = Path(__file__).parents[2] / "examples" / "hello"


def git(*arguments: str) -> str:
    settings = ("-c", "user.name=Test", "-c", "user.email=test@example.org", "-c", "commit.gpgsign=false")
    command = ["git", *settings, *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def replace(file: str, old: str, new: str) -> None:
    text = Path(file).read_text()
    assert old in text, old
    Path(file).write_text(text.replace(old, new))


@pytest.fixture
def project(turnout: Turnout) -> None:
    """A project with an experiment, committed."""
    turnout("init", "--template", "ab")
    git("init", "-q", ".")
    git("add", ".")
    git("commit", "-q", "-m", "one")


def test_nothing_happens_when_nothing_changed(project: None, turnout: Turnout) -> None:
    ended = turnout("diff")
    assert (ended.status, ended.err) == (0, "")
    assert "turnout.yaml at HEAD" in ended.out
    assert "Nothing happens" in ended.out


def test_a_weight_is_told_in_numbers_and_plain_words(project: None, turnout: Turnout) -> None:
    replace("turnout.yaml", "by-words, weight: 50", "by-words, weight: 90")
    replace("turnout.yaml", "by-both, weight: 50", "by-both, weight: 10")
    ended = turnout("diff")
    assert ended.status == 0, ended.err
    for said in (
        "Callers do not notice",
        "40 % of the units change their variant",
        "40 % both -> words",
        "results of the two are never pooled",
        "variants.words.weight: 50 -> 90 (turnout.yaml:14)",
    ):
        assert said in ended.out
    machine = json.loads(turnout("diff", "git:HEAD", "turnout.yaml", "--json", "--no-code").out)
    assert machine["change"]["experiments"][0]["moved"] == pytest.approx(0.4)
    assert machine["change"]["breaks"] is False


def test_a_field_that_is_required_now_breaks_callers(project: None, turnout: Turnout) -> None:
    replace("mail.py", "    text: str\n", "    text: str\n    language: str\n")
    ended = turnout("diff")
    assert ended.status == 3
    assert "Callers break: request field language is required now." in ended.out
    assert "turnout reload" in ended.out
    assert "mail" not in sys.modules


@pytest.mark.slow
def test_two_folders_with_modules_of_one_name_are_told_apart(turnout: Turnout) -> None:
    for name in ("old", "new"):
        turnout("init", name)
    replace("new/mail.py", "    text: str\n", "    text: str\n    language: str = ''\n")
    ended = turnout("diff", "old/turnout.yaml", "new/turnout.yaml")
    assert ended.status == 0, ended.err
    assert "request field language may be given now" in ended.out
    back = turnout("diff", "new/turnout.yaml", "old/turnout.yaml")
    assert back.status == 3
    assert "request field language is refused now, it was allowed" in back.out


def test_without_code_it_says_what_it_does_not_know(project: None, turnout: Turnout) -> None:
    Path("mail.py").write_text("raise SystemExit('not imported')")
    ended = turnout("diff", "--no-code")
    assert ended.status == 0
    assert "Whether callers break was not compared for judge." in ended.out
    assert "--no-code" in ended.out


def test_a_document_that_is_not_valid_has_its_own_exit_status(project: None, turnout: Turnout) -> None:
    replace("turnout.yaml", "weight: 50, control", "wieght: 50, control")
    ended = turnout("diff")
    assert ended.status == 4
    assert "Did you mean 'weight'?" in ended.err
    assert turnout("diff", "turnout.yaml", "git:HEAD").status == 4
    errors = json.loads(turnout("diff", "--json").out)["errors"]
    assert errors[0]["line"] == 14


@pytest.mark.slow
def test_code_that_does_not_import_is_not_valid_now_and_a_note_before(project: None, turnout: Turnout) -> None:
    good = Path("mail.py").read_text()
    Path("mail.py").write_text("import nothing_of_this_name")
    ended = turnout("diff")
    assert ended.status == 4
    assert "nothing_of_this_name" in ended.err
    git("commit", "-q", "-a", "-m", "broken")
    Path("mail.py").write_text(good)
    ended = turnout("diff")
    assert ended.status == 0, ended.err
    assert "does not import here" in ended.out


@pytest.mark.slow
def test_a_revision_of_git_is_read_with_its_own_code_and_artifacts(turnout: Turnout, tmp_path: Path) -> None:
    shutil.copytree(HELLO, tmp_path / "served" / "hello")
    os.chdir(tmp_path / "served")
    git("init", "-q", ".")
    git("add", ".")
    git("commit", "-q", "-m", "one")
    shutil.copy("hello/flower-v2.onnx", "hello/flower.onnx")
    ended = turnout("diff", "git:HEAD", "hello")
    assert ended.status == 0, ended.err
    assert "flower reloads (artifact differs)" in ended.out
    assert "100 % of its units get something else" in ended.out
    assert "KiB afterwards" in ended.out
    git("commit", "-q", "-a", "-m", "two")
    named = turnout("diff", "git:HEAD~1:hello/turnout.yaml", "git:HEAD:hello/turnout.yaml")
    assert "flower reloads" in named.out
    assert "hello/turnout.yaml at HEAD~1" in named.out


def test_what_git_does_not_keep_is_taken_from_the_disk(turnout: Turnout, tmp_path: Path) -> None:
    shutil.copytree(HELLO, tmp_path / "hello")
    os.chdir(tmp_path / "hello")
    Path(".gitignore").write_text("*.onnx\n")
    git("init", "-q", ".")
    git("add", ".")
    git("commit", "-q", "-m", "one")
    ended = turnout("diff")
    assert ended.status == 0, ended.err
    assert "flower.onnx is not in git; the one on disk stands for it." in ended.out
    assert "Nothing happens" in ended.out


def test_a_git_lfs_pointer_stands_for_its_artifact(turnout: Turnout, tmp_path: Path) -> None:
    shutil.copytree(HELLO, tmp_path / "hello")
    os.chdir(tmp_path / "hello")
    artifact = Path("flower.onnx").read_bytes()
    digest = subprocess.run(["sha256sum", "flower.onnx"], check=True, capture_output=True, text=True).stdout.split()[0]
    Path("flower.onnx").write_text(
        f"version https://git-lfs.github.com/spec/v1\noid sha256:{digest}\nsize {len(artifact)}\n"
    )
    git("init", "-q", ".")
    git("add", ".")
    git("commit", "-q", "-m", "one")
    Path("flower.onnx").write_bytes(artifact)
    ended = turnout("diff")
    assert ended.status == 0, ended.err
    assert "Nothing happens" in ended.out


def test_a_document_that_was_not_there_is_compared_with_nothing(turnout: Turnout) -> None:
    git("init", "-q", ".")
    git("commit", "-q", "--allow-empty", "-m", "empty")
    turnout("init")
    ended = turnout("diff")
    assert ended.status == 0, ended.err
    assert "Endpoint judge is added" in ended.out
    assert "compared with an empty document" in ended.out


@pytest.mark.parametrize(
    ("old", "told"),
    [
        pytest.param("git:nowhere", "git knows no revision 'nowhere'", id="revision"),
        pytest.param("git:--output=x", "git knows no revision '--output=x'", id="option"),
        pytest.param("elsewhere.yaml", "no document at elsewhere.yaml", id="file"),
    ],
)
def test_what_is_not_there_is_said(project: None, turnout: Turnout, old: str, told: str) -> None:
    ended = turnout("diff", old)
    assert ended.status == 1
    assert told in ended.err
    assert not Path("x").exists()


def test_stages_are_compared_when_asked_and_named_when_not(project: None, turnout: Turnout) -> None:
    Path("turnout.prod.yaml").write_text("experiments: {structure: {ramp: 10%}}\n")
    ended = turnout("diff", "--no-code")
    assert "look with --stage prod" in ended.out
    staged = turnout("diff", "--no-code", "--stage", "prod")
    assert "10 % of the units take part, 100 % did" in staged.out
    assert "has no stage 'prod'" in staged.out


def test_markdown_is_one_bounded_comment_that_a_workflow_can_find(project: None, turnout: Turnout) -> None:
    replace("turnout.yaml", "structure:", "a_b:")
    replace("turnout.yaml", "weight: 50, control: true}", "weight: 50, control: true, description: 'ask @team <b>'}")
    ended = turnout("diff", "--markdown", "--no-code")
    assert ended.status == 0
    assert ended.out.startswith(diff_markdown.MARK)
    assert "**Experiment a\\_b on judge**" in ended.out
    assert "@team" not in ended.out
    assert "<b>" not in ended.out
    assert len(ended.out) < 65_536


def test_a_comment_of_a_refused_document_lists_its_errors(project: None, turnout: Turnout) -> None:
    replace("turnout.yaml", "unit: user_id", "unti: user_id")
    ended = turnout("diff", "--markdown", "--no-code")
    assert ended.status == 4
    assert "not valid" in ended.out
    assert "unti" in ended.out


def test_what_code_prints_when_it_is_imported_disturbs_nothing(project: None, turnout: Turnout) -> None:
    replace("mail.py", "import asyncio\n", "import asyncio\nprint('hello from the code')\n")
    ended = turnout("diff", "--json")
    assert ended.status == 0, ended.err
    assert json.loads(ended.out)["change"]["effect"] is True


def test_units_of_the_exposure_log_are_counted_exactly(project: None, turnout: Turnout) -> None:
    phase = json.loads(turnout("explain", "structure", "u1", "--json").out)["phase"]
    Path(".turnout").mkdir()
    url = f"sqlite:///{Path('.turnout/events.db').absolute()}"
    store = catalog.open_store(url)
    seen = [exposure(f"u{number}", phase) for number in range(1_000)]
    store.append(seen, None, ingested_at=200.0, subject=lambda unit: unit)
    store.close()
    replace("turnout.yaml", "by-both, weight: 50", "by-both, weight: 0")
    told = json.loads(turnout("diff", "--no-code", "--json").out)["change"]["experiments"][0]["logged"]
    assert told["units"] == 1_000
    assert told["flows"] == {"both -> words": told["moved"]}
    assert 440 < told["moved"] < 560
    said = turnout("diff", "--no-code", "--events", url).out
    assert f"of the 1,000 units in the exposure log, {told['moved']} change their variant" in said


def test_a_store_that_cannot_be_read_is_a_note(project: None, turnout: Turnout) -> None:
    replace("turnout.yaml", "by-both, weight: 50", "by-both, weight: 0")
    Path("events.db").write_bytes(b"no database" * 100)
    ended = turnout("diff", "--no-code", "--events", "sqlite:///events.db")
    assert ended.status == 0
    assert "Units of the exposure log were not counted" in ended.out


@pytest.mark.slow
def test_code_that_is_not_beside_the_document_is_said_not_to_be_of_the_revision(
    turnout: Turnout, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    turnout("init", "project")
    os.chdir("project")
    (tmp_path / "installed").mkdir()
    Path("mail.py").rename(tmp_path / "installed" / "mail.py")
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path / 'installed'}:{os.environ.get('PYTHONPATH', '')}")
    git("init", "-q", ".")
    git("add", ".")
    git("commit", "-q", "-m", "one")
    ended = turnout("diff")
    assert ended.status == 0, ended.err
    assert "The code of mail is not beside the document" in ended.out


@pytest.fixture
def status() -> Iterator[tuple[str, dict[str, Any]]]:
    """A server that answers every question with this status."""
    told: dict[str, Any] = {}

    class Answering(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = json.dumps(told).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answering)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}", told
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_running_server_tells_what_models_take(
    turnout: Turnout, tmp_path: Path, status: tuple[str, dict[str, Any]]
) -> None:
    shutil.copytree(HELLO, tmp_path / "hello")
    os.chdir(tmp_path / "hello")
    text = Path("turnout.yaml").read_text()
    Path("next.yaml").write_text(
        text.replace("models:\n", "models:\n  flower-v2: {source: flower-v2.onnx}\n")
        + "shadows: {next: {endpoint: flower, models: {model: flower-v2}}}\n"
    )
    checked = json.loads(turnout("check", "--no-code", "--json").out)
    url, told = status
    told |= {
        "revision": checked["stages"][""]["revision"][:12],
        "workers": [{}, {}],
        "models": {"flower": {"version": "another", "memory_bytes": 5 * 2**20}},
    }
    asked = ("diff", "turnout.yaml", "next.yaml", "--no-code", "--json", "--status", url)
    other = json.loads(turnout(*asked).out)["change"]["memory"]
    assert other["before_bytes"] == 2 * Path("flower.onnx").stat().st_size  # another version: its artifact counts
    told["models"]["flower"]["version"] = phases_version(Path("turnout.yaml"))
    memory = json.loads(turnout(*asked).out)["change"]["memory"]
    assert memory["before_bytes"] == 5 * 2**20
    assert memory["after_bytes"] == 5 * 2**20 + 2 * Path("flower-v2.onnx").stat().st_size
    assert memory["measured"] is False
    words = ("diff", "turnout.yaml", "next.yaml", "--no-code", "--status", url)
    assert "serves revision" not in turnout(*words).out
    told["revision"] = "another"
    assert f"{url} serves revision another, not turnout.yaml." in turnout(*words).out


def phases_version(document: Path) -> str:
    admitted = documents.admitted(documents.read(document), directory=document.absolute().parent)
    return phases.version("flower", admitted.document, written=admitted.written, digests=admitted.digests)


def exposure(unit: str, phase: str) -> Exposure:
    return Exposure(
        event_id=f"x-{unit}",
        ts=100.0,
        revision="r",
        endpoint="judge",
        experiment="structure",
        phase=phase,
        unit_type="user_id",
        unit=unit,
        variant="words",
        served="words",
        reason="SPLIT",
        propensity=0.5,
        sub_bucket=1,
        request_id=f"q-{unit}",
    )
