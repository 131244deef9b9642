"""A rollout under real traffic: healthy, failing, slow, crashing; its controller killed; a person's commands."""

import asyncio
import contextlib
import json
import os
import signal
import sqlite3
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.long]

PATIENCE_S = 60.0

CODE = '''
import asyncio
import itertools
from dataclasses import dataclass
from pathlib import Path

from turnout import pipeline

HOW = Path(__file__).parent / "how"
NUMBERS = itertools.count()


@dataclass
class Ask:
    user_id: str


@dataclass
class Answer:
    text: str


@pipeline
async def old(ask: Ask) -> Answer:
    return Answer(text="old")


@pipeline
async def new(ask: Ask, *, version: int = 1) -> Answer:
    """As the file says: every third request fails or is slow, never two in a row; or each one fails."""
    how = HOW.read_text().strip()
    third = next(NUMBERS) % 3 == 0
    if how == "crashing" or (how == "failing" and third):
        raise ValueError("no such price")
    if how == "slow" and third:
        await asyncio.sleep(0.15)
    return Answer(text="new")
'''

DOCUMENT = """
pipelines:
  old: {{code: "shop:old"}}
  new: {{code: "shop:new", params: {{version: {version}}}}}
endpoints:
  reply: {{pipeline: old, unit: user_id, deadline: 5s}}
rollouts:
  next:
    endpoint: reply
    to: {{pipeline: new}}
    look: 200ms
    bake: 2s
    {keys}
"""

CANARY = """
    steps: [20%, 50%]
    step: {min: 2s, max: 60s, units: 50}
    guardrails:
      errors: {signal: error, margin: 0.05}
      slow: {signal: latency, kind: share_over, threshold: 100ms, margin: 0.1}
"""
QUIET = CANARY.replace("min: 2s", "min: 20s")

BLUE_GREEN = "kind: blue-green"


class Shop:
    """The project with a rollout, and callers that count what they are answered."""

    def __init__(self, project: Any) -> None:
        self.project = project
        self.statuses: Counter[int] = Counter()
        self.texts: Counter[str] = Counter()
        self.failures: list[str] = []
        self._stop = asyncio.Event()
        (project.folder / "shop.py").write_text(CODE)
        self.behave("fine")

    def write(self, keys: str, *, version: int = 1) -> None:
        self.project.write(DOCUMENT.format(keys=keys.strip(), version=version))

    def behave(self, how: str) -> None:
        """What the new pipeline does from now on."""
        draft = self.project.folder / ".how"
        draft.write_text(how)
        draft.replace(self.project.folder / "how")

    def serve(self) -> None:
        self.project.start("--workers", "2")

    @contextlib.asynccontextmanager
    async def callers(self, *ports: int) -> AsyncIterator[None]:
        """Four users at each port who call around a block; every one of their requests must have been answered."""
        at = [port for port in ports or (self.project.port,) for _ in range(4)]
        self._stop.clear()
        tasks = [asyncio.create_task(self._call(number, port)) for number, port in enumerate(at)]
        try:
            yield
        finally:
            self._stop.set()
            await asyncio.wait_for(asyncio.gather(*tasks), PATIENCE_S)
        assert self.failures == []
        assert set(self.statuses) == {200}

    async def _call(self, number: int, port: int) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        count = 0
        while not self._stop.is_set():
            count += 1
            body = json.dumps({"user_id": f"u{number}-{count % 5_000}"}).encode()
            head = f"POST /v1/endpoints/reply HTTP/1.1\r\nhost: t\r\ncontent-length: {len(body)}\r\n\r\n"
            writer.write(head.encode() + body)
            try:
                lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
                headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines[1:])}
                reply = await reader.readexactly(int(headers["content-length"]))
            except (OSError, asyncio.IncompleteReadError, ValueError) as error:
                self.failures.append(repr(error))
                return
            status = int(lines[0].split()[1])
            self.statuses[status] += 1
            if status == 200:
                self.texts[json.loads(reply)["text"]] += 1
            else:
                self.failures.append(f"{status} {reply[:300]!r}")
            await asyncio.sleep(0.004)
        writer.close()

    async def standing(self) -> dict[str, Any]:
        ended = await asyncio.to_thread(self.project.run, "rollout", "next", "--json")
        return dict(json.loads(ended.stdout)) if ended.returncode == 0 else {"state": "", "stderr": ended.stderr}

    async def until(self, condition: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        """Poll `turnout rollout next` until the condition holds."""
        deadline = time.monotonic() + PATIENCE_S
        while True:
            told = await self.standing()
            if condition(told):
                return told
            assert time.monotonic() < deadline, f"not reached: {told}\n{self.project.errors}"
            await asyncio.sleep(0.1)

    def moves(self) -> list[dict[str, Any]]:
        ended = self.project.run("rollout", "looks", "next", "--moves", "--json")
        assert ended.returncode == 0, ended.stderr
        return list(json.loads(ended.stdout))

    def path(self) -> list[str]:
        return [move["record"]["after"] for move in self.moves() if move["kind"] != "failure"]

    def command(self, *arguments: str) -> dict[str, Any]:
        ended = self.project.run("rollout", *arguments, "--json")
        assert ended.returncode == 0, ended.stderr
        return dict(json.loads(ended.stdout))


@pytest.fixture
def shop(project: Any) -> Shop:
    return Shop(project)


def in_state(*states: str) -> Callable[[dict[str, Any]], bool]:
    return lambda told: told["state"] in states


def test_a_healthy_canary_is_promoted_though_its_controller_is_killed(shop: Shop) -> None:
    async def go() -> None:
        shop.write(CANARY)
        shop.serve()
        async with shop.callers():
            await shop.until(in_state("ramping"))
            status = await shop.project.status()
            os.kill(status["control_plane"]["pid"], signal.SIGKILL)
            await shop.until(in_state("done"))
            shop.texts.clear()
            await asyncio.sleep(0.5)
            assert set(shop.texts) == {"new"}
        again = await shop.project.status()
        assert again["control_plane"]["pid"] != status["control_plane"]["pid"]

    asyncio.run(go())
    assert shop.path() == ["ramping", "ramping", "promoting", "baking", "done"]
    advanced = shop.moves()[1]["record"]
    assert advanced["reason"].startswith("errors: new 0.00 %")
    assert [each["name"] for each in advanced["seen"]["guardrails"]] == ["errors", "slow"]


@pytest.mark.parametrize(("how", "guardrail"), [("failing", "errors"), ("slow", "slow")])
def test_a_canary_that_turns_bad_midway_is_taken_back_for_that_reason(shop: Shop, how: str, guardrail: str) -> None:
    async def go() -> None:
        shop.write(QUIET)
        shop.serve()
        async with shop.callers():
            await shop.until(lambda told: told["state"] == "ramping" and bool(told["last_look"]["seen"]))
            await asyncio.sleep(1)
            shop.behave(how)
            began = time.monotonic()
            told = await shop.until(in_state("rolled_back"))
            assert told["note"].startswith(f"{guardrail}: new ")
            assert "worse by" in told["note"]
            assert time.monotonic() - began < 20, "it takes less than the step's shortest time"
            await asyncio.sleep(0.5)
            shop.texts.clear()
            await asyncio.sleep(0.5)
            assert set(shop.texts) == {"old"}

    asyncio.run(go())
    assert shop.path() == ["ramping", "rolled_back"]


def test_a_canary_that_crashes_at_once_opens_its_circuit_and_goes_back(shop: Shop) -> None:
    async def go() -> None:
        shop.behave("crashing")
        shop.write(QUIET)
        shop.serve()
        async with shop.callers():
            told = await shop.until(in_state("rolled_back"))
        assert "is not asked since it failed 5 times in a row" in told["note"]
        assert "ValueError: no such price" in told["note"]
        assert shop.texts["new"] == 0

    asyncio.run(go())
    assert [move["kind"] for move in shop.moves()] == ["move", "failure", "move"]


def test_blue_green_switches_everybody_and_a_person_switches_back_in_one_step(shop: Shop) -> None:
    async def go() -> None:
        shop.write(BLUE_GREEN)
        shop.serve()
        async with shop.callers():
            await shop.until(in_state("baking", "done"))
            back = shop.command("abort", "next", "--reason", "wrong prices", "--author", "mia")
            assert (back["progress"]["state"], back["author"], back["servers"]) == ("rolled_back", "mia", 1)
            await shop.project.until(lambda status: (status["overlay"] or {}).get("author") == "mia")
            shop.texts.clear()
            await asyncio.sleep(0.5)
            assert set(shop.texts) == {"old"}

    asyncio.run(go())
    last = shop.moves()[-1]
    assert (last["kind"], last["record"]["author"]) == ("hand", "mia")
    assert last["record"]["reason"] == "abort by mia: wrong prices"


def test_a_person_pauses_resumes_and_promotes_and_without_traffic_nothing_moves(shop: Shop) -> None:
    async def go() -> None:
        shop.write(CANARY.replace("max: 60s", "max: 3s"))
        shop.serve()
        told = await shop.until(in_state("holding"))
        assert "too few requests in this step: 0 on the new side" in told["note"]
        paused = shop.command("pause", "next", "--reason", "lunch")
        assert "`turnout rollout resume next` goes on" in paused["next"]
        refused = shop.project.run("rollout", "pause", "next")
        assert refused.returncode == 1
        assert "paused already" in refused.stderr
        assert shop.command("resume", "next")["progress"]["state"] == "ramping"
        assert shop.command("promote", "next", "--reason", "no users at night")["progress"]["forced"]
        await shop.until(in_state("baking"))
        told = await shop.until(lambda told: (told["last_look"] or {}).get("reason", "").startswith("only 0 requests"))
        assert told["state"] == "baking", "a bake without requests is no success, however long it takes"

    asyncio.run(go())
    text = shop.project.run("rollout", "looks", "next", "--moves").stdout
    assert "no users at night" in text
    assert "resume" in text


def test_of_two_servers_one_steers_and_when_it_ends_the_other_goes_on(shop: Shop, tmp_path: Path) -> None:
    database = tmp_path / ".turnout" / "events.db"

    def one(query: str) -> str:
        with contextlib.closing(sqlite3.connect(database, timeout=10)) as connection:
            found = connection.execute(query).fetchone()
        return str(found[0]) if found else ""

    async def go() -> None:
        shop.write(CANARY.replace("min: 2s", "min: 4s"))
        (tmp_path / "other").mkdir()
        other = type(shop.project)(tmp_path / "other")
        for name in ("turnout.yaml", "shop.py", "how"):
            (other.folder / name).write_text((tmp_path / name).read_text())
        shop.serve()
        other.start("--store", f"sqlite:///{database}")
        try:
            async with shop.callers(shop.project.port, other.port):
                await shop.until(lambda told: told["state"] == "ramping" and told["step"] == 2)
                status = await other.until(lambda status: status["convergence"]["replicas"]["current"] == 2)
                assert status["revision"] == (await shop.project.status())["revision"]
            holder = one("SELECT holder FROM leases WHERE name = 'rollouts'")
            url = one(f"SELECT url FROM replicas WHERE id = '{holder}'")
            steers_here = url.endswith(f":{shop.project.port}")
            ending, staying = (shop.project, other) if steers_here else (other, shop.project)
            assert ending.stop() == 0
            async with shop.callers(staying.port):
                await shop.until(in_state("done"))
            assert one("SELECT holder FROM leases WHERE name = 'rollouts'") != holder
        finally:
            other.stop()

    asyncio.run(go())
    assert shop.path() == ["ramping", "ramping", "promoting", "baking", "done"]


def test_a_definition_that_changes_starts_anew_and_a_deleted_block_ends_it(shop: Shop) -> None:
    async def go() -> None:
        shop.behave("crashing")
        shop.write(QUIET)
        shop.serve()
        async with shop.callers():
            await shop.until(in_state("rolled_back"))
            shop.behave("fine")
            shop.write(QUIET, version=2)
            told = await shop.until(in_state("ramping"))
            assert told["note"].startswith("every worker has the new side loaded")
            text = (Path(shop.project.folder) / "turnout.yaml").read_text()
            shop.project.write(text[: text.index("rollouts:")])
            status = await shop.project.until(
                lambda status: "any more" in ((status["overlay"] or {}).get("reason") or "")
            )
            assert "overlay" not in str(status["warnings"])

    asyncio.run(go())
    gone = shop.project.run("rollout", "next")
    assert gone.returncode == 1
    assert "the document has no rollout 'next'. It has none." in gone.stderr
