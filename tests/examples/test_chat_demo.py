"""The demo's parts that need no server: the document and its live copy, and the caller."""

import contextlib
import http.server
import json
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest


def test_the_document_has_at_most_fifty_lines_and_three_experiments(examples: Path) -> None:
    text = (examples / "chat" / "turnout.yaml").read_text("utf-8")
    assert len(text.splitlines()) <= 50
    assert text.count("endpoint: ") == 3


def test_turnout_check_accepts_the_document(example: Callable[[str], Any], examples: Path) -> None:
    if not example("prepare").ready():
        pytest.skip("the index is not built; run examples/chat/prepare.py")
    document = examples / "chat" / "turnout.yaml"
    done = subprocess.run(
        [sys.executable, "-m", "turnout", "check", document], capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_the_live_copy_without_experiments_has_only_what_retrieval_needs(
    example: Callable[[str], Any], tmp_path: Path
) -> None:
    live = example("serving").LiveDocument(tmp_path)
    live.write([])
    text = live.path.read_text("utf-8")
    assert all(name in text for name in ("embed", "questions", "rank", "retrieval"))
    assert not any(name in text for name in ("speak", "rank-by-similarity", "generation", "experiments"))


def test_the_live_copy_follows_an_edited_weight_and_the_original_stays(
    example: Callable[[str], Any], examples: Path, tmp_path: Path
) -> None:
    original = (examples / "chat" / "turnout.yaml").read_text("utf-8")
    live = example("serving").LiveDocument(tmp_path)
    live.write(["structure", "config", "same"], {"retrieval": 90, "generation": 10})
    assert "generation: {pipeline: generation, weight: 10}" in live.path.read_text("utf-8")
    assert (examples / "chat" / "turnout.yaml").read_text("utf-8") == original


def test_a_draft_changes_nothing_until_it_is_put_in_force(example: Callable[[str], Any], tmp_path: Path) -> None:
    live = example("serving").LiveDocument(tmp_path)
    live.write(["config"])
    before = live.path.read_text("utf-8")
    draft = live.draft(["config"], winner="letters")
    assert live.path.read_text("utf-8") == before
    assert "winner: letters" in draft.read_text("utf-8")
    live.put_in_force()
    assert "winner: letters" in live.path.read_text("utf-8")


@pytest.mark.parametrize(
    ("experiments", "more"),
    [
        pytest.param(["config", "same"], {}, id="without-the-language-model"),
        pytest.param(["structure", "config", "same"], {"winner": "letters"}, id="shipped"),
        pytest.param(["structure"], {"canary": True}, id="canary"),
    ],
)
def test_every_document_that_the_demo_writes_is_right(
    example: Callable[[str], Any], tmp_path: Path, experiments: list[str], more: dict[str, Any]
) -> None:
    if not example("prepare").ready():
        pytest.skip("the index is not built; run examples/chat/prepare.py")
    live = example("serving").LiveDocument(tmp_path)
    draft = live.draft(experiments, **more)
    done = subprocess.run(
        [sys.executable, "-m", "turnout", "check", "--no-code", draft], capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_the_live_copy_knows_which_variants_share_a_model(example: Callable[[str], Any], tmp_path: Path) -> None:
    live = example("serving").LiveDocument(tmp_path)
    assert live.bound_by("rank") == ["retrieval", "generation", "letters", "one", "other"]
    assert live.bound_by("rank-by-similarity") == ["similarity"]


@pytest.fixture
def backend() -> Iterator[tuple[str, list[tuple[str, Any]]]]:
    """A server that answers every second person with what the first one wants to hear, and fails for `u-3`."""
    posted: list[tuple[str, Any]] = []

    class Answering(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            content = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            posted.append((self.path, content))
            if self.path == "/v1/outcomes":
                self._send(202, {"accepted": len(content)})
            elif content["user_id"] == "u-3":
                self._send(503, {"code": "overloaded"})
            else:
                self._send(200, {"text": "Right." if content["text"] == "ai" else "Wrong.", "score": 1.0})

        def _send(self, status: int, content: Any) -> None:
            body = json.dumps(content).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.send_header("Turnout-Variant", "letters")
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answering)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}", posted
    server.shutdown()
    thread.join()
    server.server_close()


def test_the_caller_reports_those_who_stay_and_counts_what_failed(
    example: Callable[[str], Any], backend: tuple[str, list[tuple[str, Any]]]
) -> None:
    caller, people = example("caller"), example("people")
    url, posted = backend
    crowd = [
        people.Person("u-1", "AI?", "ai", ("Right.",), patience=0.5),
        people.Person("u-2", "Else?", "else", ("Right.",), patience=0.5),
        people.Person("u-3", "AI?", "ai", ("Right.",), patience=0.5),
    ]
    answers: list[Any] = []
    caller.run(url, "suggest", crowd, concurrency=2, on_answer=answers.append)
    by_user = {answer.person.user_id: answer for answer in answers}
    assert {user: answer.status for user, answer in by_user.items()} == {"u-1": 200, "u-2": 200, "u-3": 503}
    assert [user for user, answer in by_user.items() if answer.failed] == ["u-3"]
    assert by_user["u-1"].variant == "letters"
    outcomes = [content for path, content in posted if path == "/v1/outcomes"]
    at = by_user["u-1"].at
    assert outcomes == [[{"event_id": "u-1-kept", "name": "kept_talking", "unit": "u-1", "ts": at}]]


def test_a_server_that_is_gone_is_a_failed_answer_and_not_an_exception(example: Callable[[str], Any]) -> None:
    caller, people = example("caller"), example("people")
    person = people.Person("u-1", "AI?", "ai", ("Right.",), patience=0.5)
    with contextlib.closing(caller.Caller("http://127.0.0.1:9", "suggest")) as asking:
        answer = asking.ask(person)
    assert (answer.status, answer.stays, answer.failed) == (0, None, True)
