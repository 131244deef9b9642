"""`turnout rollout` as people type it, on a store in a state folder."""

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.rollouts import world

from turnout.cli import app
from turnout.rollouts import controller
from turnout.spec import snapshot, stages
from turnout.stores import catalog, control

Type = Callable[..., tuple[int, str, str]]


@pytest.fixture(autouse=True)
def place(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A document, and the state folder of a server that ran."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("NO_COLOR", "1")
    for name in ("TURNOUT_STATE", "TURNOUT_DOCUMENT", "TURNOUT_STAGE", "TURNOUT_STORE", "TURNOUT_AUTHOR", "COLUMNS"):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "turnout.yaml").write_text(world.document())
    (tmp_path / ".turnout").mkdir()
    return tmp_path


@pytest.fixture
def store(place: Path) -> Iterator[control.ControlStore]:
    opened = catalog.open_control(catalog.default_url(place / ".turnout"))
    yield opened
    opened.close()


@pytest.fixture
def turnout(store: control.ControlStore, capsys: pytest.CaptureFixture[str]) -> Type:
    def run(*arguments: str) -> tuple[int, str, str]:
        status = app.main(["rollout", *arguments])
        captured = capsys.readouterr()
        return status, captured.out, captured.err

    return run


def look(store: control.ControlStore, place: Path) -> None:
    """The controller of a server looks."""
    newest = store.overlay()
    files = {"turnout.yaml": (place / "turnout.yaml").read_text()}
    content = snapshot.admit(files | ({stages.OVERLAY: newest.content} if newest else {}), environment={})
    events = catalog.open_store("memory:cli")
    controller.Controller(events, store, holder="x", clock=time.time).act(content, content.revision)


def test_a_rollout_that_has_not_begun_says_what_it_waits_for(turnout: Type) -> None:
    status, out, _ = turnout()
    assert status == 0
    assert out.splitlines() == [
        "next: pending",
        "  Nobody has the new side yet. When every worker has it loaded, step 1 begins.",
    ]


def test_status_is_what_is_meant_without_a_command(turnout: Type, store: control.ControlStore, place: Path) -> None:
    look(store, place)
    for arguments in ((), ("next",), ("status",), ("status", "next")):
        status, out, _ = turnout(*arguments)
        assert status == 0
        assert out.startswith("next: ramping at 25 % (step 1 of 2), since ")
        assert "Next is 50 %: not before 60 s are over" in out
        assert "At the deadline, in 24.0 h, it goes back to nobody." in out
    told = json.loads(turnout("next", "--json")[1])
    assert (told["state"], told["share"], told["steps"]) == ("ramping", 0.25, [0.25, 0.5])
    assert told["last_look"]["decision"] == "start"


def test_commands_say_what_happens_next_and_who_will_follow(
    turnout: Type, store: control.ControlStore, place: Path
) -> None:
    look(store, place)
    status, out, _ = turnout("pause", "next", "--reason", "lunch", "--author", "mia")
    assert status == 0
    assert out.startswith("next: holding; overlay 2 by mia. No server is running; the next one starts with it.\n")
    assert "`turnout rollout resume next` goes on where it stood" in out
    store.announce(control.Replica(id="a", host="a", pid=1, seen=time.time()))
    assert "1 server will follow within a second" in turnout("resume", "next")[1]
    told = json.loads(turnout("promote", "next", "--json")[1])
    assert (told["progress"]["state"], told["servers"], told["decision"]) == ("promoting", 1, "promote")
    assert turnout("abort", "next")[1].startswith("next: rolled_back; overlay 5 by ")
    newest = store.overlay()
    assert newest is not None
    assert newest.number == 5


def test_the_author_may_come_from_the_environment(
    turnout: Type, store: control.ControlStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TURNOUT_AUTHOR", "ci@example.org")
    turnout("pause", "next")
    newest = store.overlay()
    assert newest is not None
    assert (newest.author, newest.reason) == ("ci@example.org", "rollout next: pause by ci@example.org")


def test_the_audit_list_names_numbers_and_reasons(turnout: Type, store: control.ControlStore, place: Path) -> None:
    assert turnout("looks", "next") == (0, "no look was made yet\n", "")
    look(store, place)
    look(store, place)
    turnout("abort", "next", "--reason", "wrong prices", "--author", "mia")
    out = turnout("looks", "next")[1]
    assert "pending > ramping" in out
    assert "abort by mia: wrong prices" in out
    assert len(out.splitlines()) == 4
    assert len(turnout("looks", "next", "--moves")[1].splitlines()) == 3
    assert len(turnout("looks", "next", "--limit", "1")[1].splitlines()) == 2
    listed = json.loads(turnout("looks", "next", "--json")[1])
    assert [each["kind"] for each in listed] == ["move", "look", "hand"]
    assert listed[1]["record"]["seen"]["guardrails"][0]["state"] == "no data"


def test_mistakes_are_told_in_words(turnout: Type, place: Path) -> None:
    status, _, err = turnout("abort", "nxt")
    assert (status, err) == (1, "turnout: the document has no rollout 'nxt'. Did you mean 'next'?\n")
    status, _, err = turnout("resume", "next")
    assert status == 1
    assert "not paused but pending" in err
    assert turnout("pause")[0] == 2
    (place / "turnout.yaml").write_text(world.document(""))
    status, _, err = turnout()
    assert (status, "the document has no rollout" in err) == (1, True)


def test_where_nothing_was_served_it_says_so(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "new").mkdir()
    monkeypatch.chdir(tmp_path / "new")
    Path("turnout.yaml").write_text(world.document())
    assert app.main(["rollout"]) == 1
    assert "nothing was served here yet: there is no state folder" in capsys.readouterr().err
