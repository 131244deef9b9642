"""One answering process: what it refuses, what it keeps in force, what it says of itself."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from turnout import telemetry
from turnout.assembly import reading
from turnout.errors import DocumentError, UnavailableError
from turnout.gateway import home

DOCUMENT = """
models:
  echo: {code: "home_models:Echo", params: {word: WORD}}
pipelines:
  say: {code: "home_models:say", models: {echo: echo}}
endpoints:
  say: {pipeline: say}
"""
CODE = """
from turnout import Model, pipeline

class Echo:
    def load(self, word: str) -> None:
        self.word = word

    def predict(self, items: list) -> list:
        return [self.word for _ in items]

@pipeline
async def say(request: dict[str, str], *, echo: Model) -> dict[str, str]:
    return {"said": await echo("")}
"""

Scenario = Callable[[home.Home], Awaitable[None]]


def text(word: str) -> dict[str, str]:
    return {"turnout.yaml": DOCUMENT.replace("WORD", word)}


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[Scenario], None]:
    """Runs a scenario with an open Home whose project holds the code above and the secret `key`."""
    (tmp_path / "home_models.py").write_text(CODE)
    (tmp_path / "secrets").mkdir()
    (tmp_path / "secrets" / "key").write_text("of-a-file\n")
    monkeypatch.syspath_prepend(str(tmp_path))

    def start(scenario: Scenario) -> None:
        async def main() -> None:
            identity = home.Identity(
                worker="w0", directory=str(tmp_path), state=str(tmp_path / "state"), secrets=str(tmp_path / "secrets")
            )
            served = home.Home(identity, telemetry.Registry())
            await served.open()
            try:
                await scenario(served)
            finally:
                await served.close()

        asyncio.run(main())

    return start


async def apply(served: home.Home, generation: int, word: str) -> None:
    await served.prepare(generation, text(word))
    served.commit(generation)


async def said(served: home.Home) -> Any:
    incoming = reading.Incoming("say", b"{}", served.new_id(), asyncio.get_running_loop().time(), 0.0)
    answer = await served.dispatch(incoming)
    return answer.body


def test_before_the_first_document_requests_are_told_to_come_back(run: Callable[[Scenario], None]) -> None:
    async def scenario(served: home.Home) -> None:
        assert served.not_ready() == ["no document is in force yet"]
        assert served.outcome_names() == frozenset()
        with pytest.raises(UnavailableError) as caught:
            await said(served)
        assert caught.value.retry_after_s == 1.0

    run(scenario)


def test_a_prepared_document_changes_nothing_until_it_is_committed(run: Callable[[Scenario], None]) -> None:
    async def scenario(served: home.Home) -> None:
        await apply(served, 1, "one")
        await served.prepare(2, text("two"))
        assert await said(served) == b'{"said":"one"}'
        served.commit(2)
        assert await said(served) == b'{"said":"two"}'
        assert served.ready
        assert served.status()["state"] == "ready"

    run(scenario)


def test_an_aborted_document_cannot_be_committed(run: Callable[[Scenario], None]) -> None:
    async def scenario(served: home.Home) -> None:
        await apply(served, 1, "one")
        await served.prepare(2, text("two"))
        await served.abort(2)
        await served.abort(2)
        with pytest.raises(UnavailableError, match="no document was prepared as generation 2"):
            served.commit(2)
        assert await said(served) == b'{"said":"one"}'

    run(scenario)


def test_a_request_under_way_is_answered_by_the_old_document_whose_models_then_go(
    run: Callable[[Scenario], None],
) -> None:
    async def scenario(served: home.Home) -> None:
        await apply(served, 1, "one")
        old = served.current
        assert old is not None
        await served.prepare(2, text("two"))
        under_way = asyncio.ensure_future(said(served))
        await asyncio.sleep(0)
        assert old.in_flight == 1
        served.commit(2)
        assert old.hosts["echo"].ready
        assert await under_way == b'{"said":"one"}'
        async with asyncio.timeout(10):
            while old.hosts["echo"].ready:
                await asyncio.sleep(0)
        assert await said(served) == b'{"said":"two"}'

    run(scenario)


def test_a_model_that_did_not_change_stays_loaded(run: Callable[[Scenario], None]) -> None:
    async def scenario(served: home.Home) -> None:
        await apply(served, 1, "one")
        first = served.current
        await served.prepare(2, {"turnout.yaml": DOCUMENT.replace("WORD", "one") + "  again: {pipeline: say}\n"})
        second = served.commit(2)
        assert first is not None
        assert second.hosts["echo"] is first.hosts["echo"]
        assert await first.drained(0.0)
        assert second.hosts["echo"].ready

    run(scenario)


def test_an_assembly_is_not_drained_while_a_request_stays(run: Callable[[Scenario], None]) -> None:
    async def scenario(served: home.Home) -> None:
        await apply(served, 1, "one")
        assert served.current is not None
        served.current.enter()
        assert not await served.current.drained(0.0)
        served.current.leave()
        assert await served.current.drained(0.0)

    run(scenario)


def test_a_refused_document_is_told_in_the_status_and_counted(run: Callable[[Scenario], None]) -> None:
    async def scenario(served: home.Home) -> None:
        await apply(served, 1, "one")
        with pytest.raises(DocumentError):
            await served.prepare(2, {"turnout.yaml": DOCUMENT + "  more: {pipeline: sya}\n"})
        (problem,) = served.status()["refused"]
        assert (problem.file, problem.path, problem.hint[:20]) == (
            "turnout.yaml",
            "endpoints.more.pipeline",
            "Did you mean 'say'? ",
        )
        (family,) = [each for each in served.registry.snapshot() if each.name == telemetry.SNAPSHOT_REJECTED]
        assert family.samples[0].value == 1
        assert await said(served) == b'{"said":"one"}'
        await apply(served, 3, "three")
        assert served.status()["refused"] is None

    run(scenario)


def test_a_secret_is_read_from_its_file_and_a_missing_one_is_an_error(run: Callable[[Scenario], None]) -> None:
    async def scenario(served: home.Home) -> None:
        await apply(served, 1, "secret:key")
        assert await said(served) == b'{"said":"of-a-file"}'
        with pytest.raises(DocumentError, match="secret 'other' is not there"):
            await served.prepare(2, text("secret:other"))

    run(scenario)


def test_a_closed_process_is_draining(run: Callable[[Scenario], None]) -> None:
    async def scenario(served: home.Home) -> None:
        await apply(served, 1, "one")
        await served.close()
        assert "draining" in served.not_ready()
        assert served.status()["state"] == "draining"

    run(scenario)


def serving(served: home.Home) -> str:
    assert served.current is not None
    return served.current.revision


def test_an_armed_document_serves_from_its_instant_on_even_before_any_timer(run: Callable[[Scenario], None]) -> None:
    async def scenario(served: home.Home) -> None:
        await served.prepare(1, text("old"))
        old = served.commit(1).revision
        await served.prepare(2, text("new"))
        served.arm(2, time.monotonic() + 3600.0)
        assert serving(served) == old
        due = served.arm(2, time.monotonic() + 0.02)  # the last word counts
        seen = serving(served)
        assert seen == old or time.monotonic() >= due.at
        while time.monotonic() < due.at:
            pass  # the event loop gets no turn, as under a request that computes
        assert serving(served) != old

    run(scenario)


def test_who_waits_for_the_instant_is_told_when_it_has_come(run: Callable[[Scenario], None]) -> None:
    async def scenario(served: home.Home) -> None:
        await served.prepare(1, text("old"))
        served.commit(1)
        built = await served.prepare(2, text("new"))
        due = served.arm(2, time.monotonic() + 0.02)
        assert due.late_s == 0.0
        await served.turned(due)
        assert time.monotonic() >= due.at
        assert serving(served) == built.revision
        assert served.arm(2, due.at) == due, "said once more, it changes nothing"

    run(scenario)


def test_an_instant_that_has_passed_counts_as_late_and_turns_at_once(run: Callable[[Scenario], None]) -> None:
    async def scenario(served: home.Home) -> None:
        await served.prepare(1, text("old"))
        served.commit(1)
        built = await served.prepare(2, text("new"))
        due = served.arm(2, time.monotonic() - 0.5)
        assert due.late_s >= 0.5
        await served.turned(due)
        assert serving(served) == built.revision

    run(scenario)


def test_an_aborted_instant_never_comes(run: Callable[[Scenario], None]) -> None:
    async def scenario(served: home.Home) -> None:
        await served.prepare(1, text("old"))
        old = served.commit(1).revision
        await served.prepare(2, text("new"))
        due = served.arm(2, time.monotonic() + 0.01)
        await served.abort(2)
        await served.turned(due)
        while time.monotonic() <= due.at:
            pass
        assert serving(served) == old
        with pytest.raises(UnavailableError, match="no document was prepared as generation 2"):
            served.arm(2, time.monotonic())

    run(scenario)
