"""The instant of a change: workers that hear of it at different times begin with it at the same one.

Three homes as workers have them, each behind a channel that delivers late by another amount; one caller asks them
in turn, each request after the reply of the one before.
"""

import asyncio
import itertools
import time
from pathlib import Path

import pytest

from turnout import telemetry
from turnout.assembly import reading
from turnout.gateway import home
from turnout.supervisor import swap
from turnout.transport import control

DELAYS_S = (0.0, 0.015, 0.03)
CHANGES = 5

CODE = """
from turnout import pipeline

@pipeline
async def say(request: dict[str, str], *, word: str) -> dict[str, str]:
    return {"said": word}
"""

DOCUMENT = """
pipelines:
  say: {code: "instant_pipelines:say", params: {word: "WORD"}}
endpoints:
  say: {pipeline: say}
"""


class LateWorker:
    """A Home that hears everything `delay_s` late."""

    def __init__(self, served: home.Home, delay_s: float) -> None:
        self.name = served.identity.worker
        self.home = served
        self.delay_s = delay_s

    async def ask(self, message: control.Message, timeout_s: float) -> control.Message:
        await asyncio.sleep(self.delay_s)
        match message:
            case control.Prepare(generation=generation, files=files):
                built = await self.home.prepare(generation, files)
                return control.Prepared(
                    generation=generation, revision=built.revision, build=built.build, built_s=0.0, summary={}
                )
            case control.Arm(generation=generation, at=at):
                self.home.arm(generation, at)
            case control.Commit(generation=generation, at=at):
                if at:
                    await self.home.turned(self.home.arm(generation, at))
                else:
                    self.home.commit(generation)
                return control.Committed(generation=generation, revision="", at=self.home.since)
            case _:
                raise AssertionError(message)
        return control.Done()


async def answer(served: home.Home) -> str:
    """One request; the revision that answered it."""
    request = reading.Incoming(
        "say", b"{}", id=served.new_id(), received=time.monotonic(), ts=time.time(), header=lambda _: None
    )
    told = await served.dispatch(request)
    return told.visit.assembly.revision


@pytest.mark.slow
def test_no_caller_goes_back_while_workers_hear_of_a_change_at_different_times(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "instant_pipelines.py").write_text(CODE)
    monkeypatch.syspath_prepend(str(tmp_path))

    async def run() -> None:
        homes = [
            home.Home(
                home.Identity(worker=f"w{n}", directory=str(tmp_path), state=str(tmp_path / f"s{n}")),
                telemetry.Registry(),
            )
            for n in range(len(DELAYS_S))
        ]
        peers = [LateWorker(served, delay_s) for served, delay_s in zip(homes, DELAYS_S, strict=True)]
        order: list[str] = []
        seen: list[str] = []
        stop = asyncio.Event()

        async def caller() -> None:
            for served in itertools.cycle(homes):
                if stop.is_set():
                    return
                seen.append(await answer(served))
                await asyncio.sleep(0)

        for served in homes:
            await served.open()
        calling: asyncio.Task[None] | None = None
        for generation in range(1, CHANGES + 1):
            files = {"turnout.yaml": DOCUMENT.replace("WORD", f"word{generation}")}
            verdict = await swap.prepare(peers, generation=generation, files=files, timeout_s=10.0)
            assert isinstance(verdict, swap.Agreement)
            order.append(verdict.revision)
            said = await swap.commit(peers, generation, timeout_s=10.0)
            assert None not in said
            if calling is None:
                calling = asyncio.create_task(caller())
        stop.set()
        assert calling is not None
        await calling
        for served in homes:
            await served.close()

        positions = [order.index(revision) for revision in seen]
        assert positions == sorted(positions)
        assert set(positions) == set(range(CHANGES))
        assert len(positions) > 10 * CHANGES

    asyncio.run(run())
