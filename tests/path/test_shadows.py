"""Shadows: copies of answered requests that change neither the reply nor its time, whatever their code does."""

import asyncio
import statistics
import time
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest

from turnout.errors import DocumentError
from turnout.events import Comparison

TEXT = """
models: {double: {code: "lab:Double"}, triple: {code: "lab:Triple"}}
pipelines:
  old: {code: "lab:old", models: {model: double}}
  moody: {code: "lab:moody", models: {model: MODEL}}
  stream: {code: "shop:count", models: {price: double}}
endpoints: {ask: {pipeline: old, unit: user_id, deadline: 2s}}
shadows:
  next: {endpoint: ask, pipeline: moody, ratio: RATIO, max_in_flight: 4, deadline: DEADLINE}
"""


def text(*, ratio: str = "100%", deadline: str = "5s", model: str = "triple") -> str:
    return TEXT.replace("RATIO", ratio).replace("DEADLINE", deadline).replace("MODEL", model)


@pytest.fixture(autouse=True)
def turn() -> Iterator[Callable[[str], Any]]:
    """Sets what the shadow's code does; returns its class, which counts."""

    def to(mode: str) -> Any:
        import lab  # type: ignore[import-not-found]  # noqa: PLC0415

        lab.Switch.mode = mode
        return lab.Switch

    yield to
    to("fine").most = 0


async def ask(client: Any, number: int = 1) -> Any:
    return await client.ask("ask", {"user_id": f"u{number}", "amount": float(number)})


async def told(client: Any) -> dict[str, Any]:
    found: dict[str, Any] = (await client.http.get("/status")).json()["endpoints"]["ask"]["shadows"]["next"]
    return found


async def until(reached: Callable[[], Any]) -> None:
    async with asyncio.timeout(10):
        while not await reached():
            await asyncio.sleep(0.01)


async def at_rest(client: Any) -> bool:
    return bool((await told(client))["in_flight"] == 0)


async def comparisons(client: Any) -> list[Comparison]:
    return [event for event in await client.events() if isinstance(event, Comparison)]


def test_a_copy_is_compared_with_the_answer_that_the_caller_got(serve: Any) -> None:
    async def scenario() -> None:
        async with serve(text()) as client:
            answer = await ask(client, 4)
            assert answer.json() == {"by": "old", "score": 8.0, "tone": "plain", "length": 1}
            await until(lambda: at_rest(client))
            (found,) = await comparisons(client)
            assert (found.shadow, found.pipeline, found.primary_pipeline) == ("next", "moody", "old")
            assert (found.status, found.agree, found.difference) == ("ok", False, 4.0)
            assert (found.request_id, found.unit) == (answer.headers["turnout-request-id"], "u4")
            assert found.latency_s > 0
            assert found.primary_latency_s > 0
            assert [each.shadow for each in await client.predictions()] == [False]

    asyncio.run(scenario())


def test_the_sample_is_a_function_of_the_request_id(serve: Any) -> None:
    async def scenario() -> None:
        async with serve(text(ratio="30%")) as client:
            (shadow,) = client.served.home.current.endpoint("ask").shadows
            wanted = []
            for number in range(60):
                answer = await ask(client, number)
                wanted.append(shadow.wants(answer.headers["turnout-request-id"]))
                await until(lambda: at_rest(client))
            assert (await told(client))["sent"] == sum(wanted)
            ids = [client.served.home.new_id() for _ in range(20_000)]
            assert sum(map(shadow.wants, ids)) == pytest.approx(6_000, abs=300)
            assert [shadow.wants(one) for one in ids] == [shadow.wants(one) for one in ids]

    asyncio.run(scenario())


@pytest.mark.parametrize("mode", ["crash", "hang", "crowd", "deaf"])
def test_whatever_a_shadow_does_replies_are_the_same_and_as_fast(serve: Any, turn: Any, mode: str) -> None:
    async def scenario() -> None:
        async with serve(text(model="double", deadline="300ms")) as client:

            async def timed(number: int) -> float:
                began = time.monotonic()
                answer = await ask(client, number)
                assert (answer.status_code, answer.json()["score"]) == (200, 2.0 * number)
                return time.monotonic() - began

            turn(mode)
            slow = [await timed(number) for number in range(30)]
            assert statistics.median(slow) < 0.1
            assert max(slow) < 1.0
            turn("fine")
            await until(lambda: at_rest(client))
            counts = await told(client)
            assert counts["sent"] == counts["done"] + counts["failed"] + sum(
                counts["dropped"][reason] for reason in ("queue", "stopped")
            )

    asyncio.run(scenario())


def test_what_a_shadow_has_no_room_for_is_dropped_and_counted(serve: Any, turn: Any) -> None:
    async def scenario() -> None:
        async with serve(text(deadline="30s")) as client:
            switch = turn("hang")
            for number in range(10):
                await ask(client, number)
            await until(lambda: _reached(lambda: switch.running == 4))
            counts = await told(client)
            assert (counts["sent"], counts["in_flight"], counts["dropped"]["in-flight"]) == (4, 4, 6)
            assert switch.most == 4
            metrics = (await client.http.get("/metrics")).text
            assert 'turnout_shadow_dropped_total{endpoint="ask",shadow="next",reason="in-flight"} 6' in metrics
            assert 'turnout_shadow_sent_total{endpoint="ask",shadow="next"} 4' in metrics

    asyncio.run(scenario())


async def _reached(word: Callable[[], bool]) -> bool:
    return word()


def test_a_shadow_has_a_deadline_of_its_own_and_its_failures_are_compared_as_such(serve: Any, turn: Any) -> None:
    async def scenario() -> None:
        async with serve(text(deadline="100ms")) as client:
            turn("hang")
            await ask(client)
            await until(lambda: at_rest(client))
            turn("crash")
            await ask(client)
            await until(lambda: at_rest(client))
            assert [each.status for each in await comparisons(client)] == ["deadline", "step-failed"]
            assert {each.agree for each in await comparisons(client)} == {None}
            assert (await told(client))["failed"] == 2

    asyncio.run(scenario())


def test_a_copy_is_dropped_where_others_wait_for_the_same_model(serve: Any) -> None:
    document = text(model="gated") + "\n"
    gated = 'models: {gated: {code: "lab:Gated", batching: {max_rows: 4}}, double'
    document = document.replace("models: {double", gated, 1).replace("{ask: {p", "{busy: {pipeline: moody}, ask: {p", 1)

    async def scenario() -> None:
        async with serve(document) as client:
            import lab  # noqa: PLC0415

            lab.Gated.gate.clear()
            waiting = [asyncio.ensure_future(client.ask("busy", {"amount": float(n)})) for n in range(1, 8)]
            await until(lambda: _queue(client, "gated", 2))
            assert (await ask(client)).status_code == 200
            await until(lambda: at_rest(client))
            assert (await told(client))["dropped"]["queue"] == 1
            lab.Gated.gate.set()
            assert {answer.status_code for answer in await asyncio.gather(*waiting)} == {200}
            await ask(client)
            await until(lambda: at_rest(client))
            assert (await told(client))["done"] == 1

    asyncio.run(scenario())


async def _queue(client: Any, model: str, rows: int) -> bool:
    return bool((await client.http.get("/status")).json()["models"][model]["queue_rows"] >= rows)


def test_a_new_document_and_the_end_of_the_server_end_the_copies_at_work(serve: Any, turn: Any) -> None:
    async def scenario() -> None:
        async with serve(text(deadline="60s")) as client:
            switch = turn("hang")
            home = client.served.home
            (shadow,) = home.current.endpoint("ask").shadows
            await ask(client)
            await until(lambda: _reached(lambda: switch.running == 1))
            await home.prepare(100, {"turnout.yaml": text(deadline="50s")})
            home.commit(100)
            await until(lambda: _reached(lambda: switch.running == 0))
            assert shadow.describe()["dropped"]["stopped"] == 1
            await ask(client)
            await until(lambda: _reached(lambda: switch.running == 1))
        assert switch.running == 0

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("pipeline", "words"), [("stream", "stream"), ("wrong", "contract")], ids=["stream", "another-contract"]
)
def test_a_pipeline_that_cannot_be_compared_is_refused_as_a_shadow(serve: Any, pipeline: str, words: str) -> None:
    document = text().replace("pipeline: moody", f"pipeline: {pipeline}")
    document = document.replace("  stream:", '  wrong: {code: "shop:judge", models: {price: double}}\n  stream:')

    async def scenario() -> AsyncIterator[None]:
        async with serve(document):
            yield

    async def begin() -> None:
        async for _ in scenario():
            pass

    with pytest.raises(DocumentError) as caught:
        asyncio.run(begin())
    assert "shadows.next" in {error.path for error in caught.value.errors}
    assert words in str(caught.value)
