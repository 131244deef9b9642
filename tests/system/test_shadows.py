"""Shadows and splits in real worker processes: what the database says, and that a stop waits for no shadow."""

import asyncio
import json
import sqlite3
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.slow

CODE = """
import asyncio
from dataclasses import dataclass
from turnout import Model, pipeline

class Scale:
    def predict(self, items: list) -> list:
        return [item * 2 for item in items]

@dataclass
class Number:
    user_id: str
    value: float

@dataclass
class Answer:
    value: float
    by: str

@pipeline
async def old(number: Number, *, model: Model) -> Answer:
    return Answer(await model(number.value), "old")

@pipeline
async def new(number: Number, *, model: Model) -> Answer:
    return Answer(await model(number.value) + 0.5, "new")

@pipeline
async def hang(number: Number, *, model: Model) -> Answer:
    await asyncio.sleep(600)
    return Answer(0.0, "hang")
"""
DOCUMENT = """
models: {scale: {code: "mirrored:Scale"}}
pipelines:
  old: {code: "mirrored:old", models: {model: scale}}
  new: {code: "mirrored:new", models: {model: scale}}
  hang: {code: "mirrored:hang", models: {model: scale}}
endpoints: {ask: {pipeline: old, unit: user_id}}
"""
SHADOWS = """
shadows:
  next: {endpoint: ask, pipeline: new, max_in_flight: 64}
  stuck: {endpoint: ask, pipeline: hang, deadline: 600s, max_in_flight: 64}
"""
SPLIT = """
experiments:
  sides:
    endpoint: ask
    fallback: control
    variants: {o: {weight: 1, control: true}, n: {weight: 1, pipeline: new}}
"""


@pytest.fixture
def mirrored(project: Any) -> Any:
    (project.folder / "mirrored.py").write_text(CODE)
    return project


async def send(project: Any, ask: Callable[..., Any], units: range) -> list[tuple[int, dict[str, str], Any]]:
    """One request a unit, each on a connection of its own, so that all workers get some."""

    async def one(unit: int) -> tuple[int, dict[str, str], Any]:
        reader, writer = await asyncio.open_connection("127.0.0.1", project.port)
        try:
            body = json.dumps({"user_id": f"u{unit}", "value": 1.0}).encode()
            status, headers, reply = await ask(reader, writer, "POST", "/v1/endpoints/ask", body)
            return status, headers, json.loads(reply)
        finally:
            writer.close()

    return [await one(unit) for unit in units]


def test_comparisons_reach_the_database_and_a_stop_waits_for_no_shadow(mirrored: Any, ask: Callable[..., Any]) -> None:
    mirrored.write(DOCUMENT + SHADOWS)
    mirrored.start("--workers", "2")

    async def scenario() -> None:
        answers = await send(mirrored, ask, range(40))
        assert {(status, reply["by"]) for status, _, reply in answers} == {(200, "old")}
        metrics = await mirrored.metrics()
        assert 'turnout_shadow_sent_total{endpoint="ask",shadow="next"} 40' in metrics
        assert 'turnout_shadow_sent_total{endpoint="ask",shadow="stuck"} 40' in metrics

    asyncio.run(scenario())

    def report() -> dict[str, Any]:
        told = mirrored.run("shadow", "next", "--json")
        found: dict[str, Any] = json.loads(told.stdout) if told.returncode == 0 else {"runs": told.stderr}
        return found

    mirrored.wait_for(lambda: report()["runs"] == 40, "all comparisons in the database")
    assert (report()["disagreed"], report()["difference_max"]) == (40, 0.5)
    assert report()["copies"] == {"sent": 40, "done": 40, "failed": 0, "dropped": 0}
    assert "same reply   0.0 % (0 of 40" in mirrored.run("shadow").stdout
    began = time.monotonic()
    assert mirrored.stop() == 0
    assert time.monotonic() - began < 20
    rows = query(mirrored.folder, "select shadow, status, agree, difference from comparisons")
    assert rows == [("next", "ok", 0, 0.5)] * 40
    assert query(mirrored.folder, "select count(*) from predictions") == [(40,)]


def test_no_unit_sees_two_variants_whichever_worker_it_meets(mirrored: Any, ask: Callable[..., Any]) -> None:
    mirrored.write(DOCUMENT + SPLIT)
    mirrored.start("--workers", "2")

    async def scenario() -> None:
        seen: dict[int, set[str]] = {}
        for _ in range(4):
            for unit, (status, headers, _) in enumerate(await send(mirrored, ask, range(60))):
                assert status == 200
                seen.setdefault(unit, set()).add(headers["turnout-variant"])
        assert {len(variants) for variants in seen.values()} == {1}
        assert {variant for variants in seen.values() for variant in variants} == {"o", "n"}

    asyncio.run(scenario())
    assert mirrored.stop() == 0
    workers = query(mirrored.folder, "select count(distinct worker) from predictions")
    assert workers == [(2,)]
    crossed = (
        "select count(*) from (select unit from exposures group by unit, phase having count(distinct variant) > 1)"
    )
    assert query(mirrored.folder, crossed) == [(0,)]


def query(folder: Path, statement: str) -> list[tuple[Any, ...]]:
    with sqlite3.connect(folder / ".turnout" / "events.db") as connection:
        return connection.execute(statement).fetchall()
