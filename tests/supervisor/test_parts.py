"""The supervisor's parts on their own: back-off, stored documents, claims, sockets, settings, watched code, words."""

import asyncio
import doctest
import importlib
import json
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from turnout.errors import ConflictError, DocumentError, SpecError, UnavailableError
from turnout.supervisor import (
    app,
    backoff,
    banner,
    codewatch,
    lastgood,
    listening,
    overview,
    settings,
    statefolder,
    swap,
    tree,
)
from turnout.transport import control


@pytest.mark.parametrize("name", ["backoff", "banner", "chronicle", "convergence", "overview", "statefolder", "tally"])
def test_examples_in_docstrings_hold(name: str) -> None:
    assert doctest.testmod(importlib.import_module(f"turnout.supervisor.{name}")).failed == 0


def test_back_off_is_bounded_and_forgets_a_sound_life() -> None:
    pause = backoff.Backoff()
    delays = [pause.after(lived_s=0.0) for _ in range(50)]
    assert delays[0] == 0.0
    assert delays == sorted(delays)
    assert delays[-1] == backoff.LONGEST_S
    assert pause.looping
    assert pause.after(lived_s=backoff.SOUND_S) == 0.0
    assert not pause.looping


def accepted(text: str, stage: str = "") -> lastgood.Accepted:
    return lastgood.Accepted(files={"turnout.yaml": text}, revision="r", at=1.0, stage=stage)


def test_an_accepted_document_is_kept_per_stage(tmp_path: Path) -> None:
    assert lastgood.load(tmp_path, "") is None
    lastgood.store(tmp_path, accepted("a"))
    lastgood.store(tmp_path, accepted("b"))
    lastgood.store(tmp_path, accepted("p", stage="prod"))
    assert lastgood.load(tmp_path, "") == accepted("b")
    assert lastgood.load(tmp_path, "prod") == accepted("p", stage="prod")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["accepted.json", "accepted.prod.json"]


def test_a_damaged_stored_document_is_told_with_its_place(tmp_path: Path) -> None:
    (tmp_path / "accepted.json").write_text('{"files": {')
    with pytest.raises(SpecError, match=r"accepted\.json.*cannot be read.*Delete the file"):
        lastgood.load(tmp_path, "")


def note(port: int = 1) -> statefolder.Running:
    return statefolder.Running(pid=1, host="h", port=port, url="u", started=0.0, document="d")


def test_a_state_folder_has_one_holder_and_forgets_a_killed_one(tmp_path: Path) -> None:
    claim = statefolder.Claim(tmp_path)
    claim.take()
    claim.note(note())
    assert statefolder.running(tmp_path) == note()
    with pytest.raises(ConflictError, match=r"pid 1, u.*--state DIR"):
        statefolder.Claim(tmp_path).take()
    claim.release()
    assert statefolder.running(tmp_path) is None
    (tmp_path / statefolder.NOTE).write_text(json.dumps({"pid": 1}))
    second = statefolder.Claim(tmp_path)
    second.take()
    assert not (tmp_path / statefolder.NOTE).exists()
    second.release()


def test_a_state_folder_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConflictError, match="cannot be used"):
        statefolder.Claim(tmp_path / "file" / "below").take()


def test_slots_share_one_port_and_a_foreign_listener_is_noticed() -> None:
    sockets = listening.reserve("127.0.0.1", 0, 3)
    port = sockets[0].getsockname()[1]
    assert {sock.getsockname()[1] for sock in sockets} == {port}
    sockets[0].listen()
    with pytest.raises(ConflictError, match=f"port {port} on 127.0.0.1 is not free"):
        listening.reserve("127.0.0.1", port, 1)
    for sock in sockets:
        sock.close()


def test_nobody_is_heard_on_a_slot_before_its_worker_listens() -> None:
    (sock,) = listening.reserve("127.0.0.1", 0, 1)
    with pytest.raises(ConnectionRefusedError), socket.create_connection(sock.getsockname(), timeout=5):
        pass
    sock.close()


def test_a_host_without_address_is_told() -> None:
    with pytest.raises(ConflictError, match=r"cannot listen on host 'no\.such\.host\.invalid'"):
        listening.reserve("no.such.host.invalid", 0, 1)


def test_variables_become_settings_of_the_right_type() -> None:
    given = settings.from_environment(
        {
            "TURNOUT_WORKERS": "3",
            "TURNOUT_RELOAD": "true",
            "TURNOUT_LINGER_S": "1.5",
            "TURNOUT_STAGE": "prod",
            "PATH": "x",
        }
    )
    assert given == {"workers": 3, "reload": True, "linger_s": 1.5, "stage": "prod"}
    assert settings.Settings(**given).workers == 3


@pytest.mark.parametrize(
    "name",
    [
        "TURNOUT_SERVICE_HOST",
        "TURNOUT_SERVICE_PORT",
        "TURNOUT_SERVICE_PORT_HTTP",
        "TURNOUT_PORT_80_TCP_ADDR",
        "TURNOUT_PORT",
    ],
)
def test_variables_that_kubernetes_injects_are_not_ours(name: str) -> None:
    assert settings.from_environment({name: "tcp://10.0.0.1:80"}) == {}


def test_an_unknown_or_malformed_variable_is_an_error() -> None:
    with pytest.raises(SpecError, match=r"TURNOUT_WORKER.*Known: .*TURNOUT_WORKERS"):
        settings.from_environment({"TURNOUT_WORKER": "3"})
    with pytest.raises(SpecError, match="TURNOUT_WORKERS='many'"):
        settings.from_environment({"TURNOUT_WORKERS": "many"})


def test_saved_code_is_noticed_once_it_is_quiet(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text("1")
    (tmp_path / "__pycache__").mkdir()
    (tmp_path / ".venv").mkdir()

    async def run() -> list[str]:
        watching = codewatch.changes(tmp_path, poll_s=0.01, quiet_s=0.02)
        first = asyncio.ensure_future(anext(watching))
        await asyncio.sleep(0)
        (tmp_path / "__pycache__" / "c.py").write_text("1")
        (tmp_path / ".venv" / "d.py").write_text("1")
        (tmp_path / "notes.txt").write_text("1")
        (tmp_path / "a.py").write_text("12")
        (tmp_path / "b.py").write_text("1")
        return await asyncio.wait_for(first, 10)

    assert asyncio.run(run()) == [str(tmp_path / "a.py"), str(tmp_path / "b.py")]


def test_status_parts_add_up() -> None:
    share = {"weight": 50, "control": True}
    parts: list[dict[str, Any]] = [
        {
            "models": {"m": {"state": "ready", "rows": 10, "batches": 5, "mean_batch_rows": 2.0}},
            "endpoints": {"e": {"experiment": "x", "experiments": {"x": {"phase": "p", "variants": {"a": share}}}}},
        },
        {"models": {"m": {"state": "ready", "rows": 20, "batches": 5, "mean_batch_rows": 4.0}}},
        {},
    ]
    merged = overview.merge(parts)
    assert merged["models"] == {"m": {"state": "ready", "rows": 30, "batches": 10, "mean_batch_rows": 3.0}}
    assert merged["experiments"] == {"x": {"endpoint": "e", "phase": "p", "variants": {"a": share}}}


def test_the_example_line_is_safe_in_a_shell() -> None:
    line = banner.example_call("http://h", {"a": {"example": None}, "b": {"example": {"text": "it's"}}})
    said = subprocess.run(
        ["sh", "-c", line.replace("curl", "printf '%s\\n'")], capture_output=True, text=True, check=True
    )
    assert said.stdout.splitlines() == ["-s", "http://h/v1/endpoints/b", "-d", '{"text":"it\'s"}']


def test_the_base_address_is_one_this_machine_can_reach() -> None:
    assert tree.base_url("0.0.0.0", 80) == "http://127.0.0.1:80"
    assert tree.base_url("::", 80) == "http://[::1]:80"
    assert tree.base_url("10.0.0.7", 80) == "http://10.0.0.7:80"


def test_a_document_error_becomes_a_list_of_problems() -> None:
    error = DocumentError([SpecError("m.", path="a.b", file="f", line=3, hint="h."), SpecError("n.")])
    problems = control.problems(error, UnavailableError("gone.", hint="wait."))
    assert [str(problem) for problem in problems] == ["f:3 a.b: m. h.", "n.", "gone. wait."]


def test_a_document_by_link_keeps_the_links_folder(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "turnout.yaml").write_text("")
    (tmp_path / "link.yaml").symlink_to(tmp_path / "real" / "turnout.yaml")
    full = app.complete(settings.Settings(document=str(tmp_path / "link.yaml")))
    assert full.directory == str(tmp_path)
    assert full.state == str(tmp_path / ".turnout")


class FakePeer:
    """A worker that answers as told."""

    def __init__(self, name: str, answer: Callable[[control.Message], control.Message]) -> None:
        self.name = name
        self.heard: list[str] = []
        self._answer = answer

    async def ask(self, message: control.Message, timeout_s: float) -> control.Message:
        self.heard.append(type(message).__name__)
        return self._answer(message)


def prepared(revision: str) -> Callable[[control.Message], control.Message]:
    def answer(message: control.Message) -> control.Message:
        if isinstance(message, control.Prepare):
            return control.Prepared(generation=message.generation, revision=revision, build="b", built_s=0.0)
        return control.Done()

    return answer


def gone(message: control.Message) -> control.Message:
    raise UnavailableError("it is gone")


def decide(*peers: FakePeer) -> swap.Agreement | swap.Refusal:
    return asyncio.run(swap.prepare(peers, generation=1, files={"f": "t"}, timeout_s=1.0))


def test_all_prepared_alike_is_an_agreement_and_nobody_aborts() -> None:
    peers = [FakePeer("a", prepared("r")), FakePeer("b", prepared("r"))]
    verdict = decide(*peers)
    assert verdict == swap.Agreement(generation=1, revision="r", build="b")
    assert peers[0].heard == peers[1].heard == ["Prepare"]


def test_one_silent_worker_aborts_all() -> None:
    peers = [FakePeer("a", prepared("r")), FakePeer("b", gone)]
    verdict = decide(*peers)
    assert isinstance(verdict, swap.Refusal)
    assert verdict.lost
    assert "worker b did not prepare the document: it is gone" in verdict.errors[0].message
    assert peers[0].heard == ["Prepare", "Abort"]


def test_different_revisions_abort_all() -> None:
    verdict = decide(FakePeer("a", prepared("r")), FakePeer("b", prepared("s")))
    assert isinstance(verdict, swap.Refusal)
    assert verdict.split
    assert "revisions r, s" in verdict.errors[0].message


def committed(message: control.Message) -> control.Message:
    if isinstance(message, control.Commit):
        return control.Committed(generation=1, revision="r", at=message.at)
    return control.Done()


def test_a_commit_tells_who_did_not_confirm() -> None:
    peers = [FakePeer("a", committed), FakePeer("b", gone)]
    first, second = asyncio.run(swap.commit(peers, 1, timeout_s=1.0))
    assert first is not None
    assert second is None


def test_one_worker_commits_at_once_and_several_at_one_instant_that_all_have_confirmed() -> None:
    async def run() -> None:
        (alone,) = await swap.commit([FakePeer("a", committed)], 1, timeout_s=1.0)
        assert alone is not None
        assert alone.at == 0.0
        peers = [FakePeer("a", committed), FakePeer("b", committed)]
        first, second = await swap.commit(peers, 1, timeout_s=1.0, clock=lambda: 100.0)
        assert first is not None
        assert second is not None
        assert first.at == second.at == 100.0 + swap.LEADS_S[0]
        assert [peer.heard for peer in peers] == [["Arm", "Commit"], ["Arm", "Commit"]]

    asyncio.run(run())


def test_an_instant_that_not_all_have_confirmed_in_time_is_put_off() -> None:
    times = iter([100.0, 100.06, 200.0, 200.01])
    peers = [FakePeer("a", committed), FakePeer("b", committed)]
    first, _ = asyncio.run(swap.commit(peers, 1, timeout_s=1.0, clock=lambda: next(times)))
    assert first is not None
    assert first.at == 200.0 + swap.LEADS_S[1]
    assert peers[1].heard == ["Arm", "Arm", "Commit"]


def test_a_document_that_the_first_worker_refuses_or_dies_of_reaches_no_other() -> None:
    def refused(message: control.Message) -> control.Message:
        return control.Refused(generation=1, errors=[control.Problem(message="no")], revision="bad1")

    for bad in (refused, gone):
        peers = [FakePeer("a", bad), FakePeer("b", prepared("r"))]
        verdict = decide(*peers)
        assert isinstance(verdict, swap.Refusal)
        assert peers[1].heard == []
        assert verdict.revision == ("bad1" if bad is refused else "")


def test_a_worker_that_loads_for_long_keeps_the_others_waiting_for_a_bounded_time() -> None:
    async def run() -> None:
        loading = asyncio.Event()

        class Slow(FakePeer):
            async def ask(self, message: control.Message, timeout_s: float) -> control.Message:
                await loading.wait()
                return await super().ask(message, timeout_s)

        class Second(FakePeer):
            async def ask(self, message: control.Message, timeout_s: float) -> control.Message:
                loading.set()
                return await super().ask(message, timeout_s)

        peers = [Slow("a", prepared("r")), Second("b", prepared("r"))]
        verdict = await swap.prepare(peers, generation=1, files={}, timeout_s=60.0, head_start_s=0.01)
        assert isinstance(verdict, swap.Agreement)

    asyncio.run(run())


def test_the_supervisor_stays_small() -> None:
    heavy = ("rich", "click", "pydantic", "numpy", "sqlalchemy", "yaml", "uvloop", "httptools")
    code = f"import sys, turnout.supervisor.app\nprint([name for name in {heavy!r} if name in sys.modules])"
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert ended.stdout.strip() == "[]"
