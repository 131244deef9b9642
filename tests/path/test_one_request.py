"""What callers see: one request, end to end, over HTTP."""

import asyncio
import gc
import math
from pathlib import Path
from typing import Any

import msgspec
import pytest

from turnout.errors import StepError

ORDER = {"user_id": "u1", "amount": 10.0}


def test_a_yaml_only_model_answers(serve: Any) -> None:
    async def scenario() -> None:
        async with serve() as client:
            example = (await client.http.get("/status")).json()["endpoints"]["flower"]["example"]
            answer = await client.ask("flower", example | {"user_id": "u1"})
            assert answer.status_code == 200, answer.text
            assert answer.headers["turnout-revision"]
            assert len(answer.headers["turnout-request-id"]) == 32
            assert answer.json()

    asyncio.run(scenario())


def test_every_kind_of_type_answers_alike(serve: Any) -> None:
    async def scenario() -> None:
        async with serve() as client:
            for endpoint in ("order", "as-dict", "as-struct", "as-pydantic"):
                answer = await client.ask(endpoint, ORDER)
                assert answer.status_code == 200, answer.text
                assert answer.json()["score"] == 20.0

    asyncio.run(scenario())


@pytest.mark.parametrize("endpoint", ["order", "as-dict", "as-struct", "as-pydantic"])
@pytest.mark.parametrize(
    ("body", "status", "path", "word"),
    [
        (b"{not json", 400, None, "JSON"),
        (b"", 400, None, ""),
        (b"[]", 422, None, "object"),
        ({"user_id": "u1"}, 422, "amount", "amount"),
        ({"user_id": "u1", "amount": "many"}, 422, "amount", ""),
        ({"user_id": "u1", "amount": 1.0, "amuont": 2.0}, 422, "amuont", "amount"),
        (b'{"user_id": "u1", "amount": NaN}', 400, None, ""),
        (b'{"user_id": "u1", "amount": 1e999}', 422, "amount", ""),
        (b'{"user_id": "u1", "amount": ' + b"[" * 1000 + b"]" * 1000 + b"}", 422, "amount", ""),
        (b"\xff\xfe{}", 400, None, ""),
        (b'{"user_id": "\xff", "amount": 1.0}', 400, None, ""),
    ],
    ids=["broken-json", "empty", "list", "missing", "wrong-type", "unknown", "nan", "huge", "deep", "not-utf8", "unit"],
)
def test_bad_input_names_the_field_and_harms_nobody(
    serve: Any, endpoint: str, body: Any, status: int, path: str | None, word: str
) -> None:
    async def scenario() -> None:
        async with serve() as client:
            answer = await client.ask(endpoint, body)
            problem = answer.json()
            assert answer.status_code in ({status} if status != 422 else {400, 422}), problem
            assert answer.headers["content-type"] == "application/problem+json"
            assert problem["code"] == "invalid-input"
            assert problem["request_id"] == answer.headers["turnout-request-id"]
            if path is not None and answer.status_code == 422:
                assert problem["path"] == path
            assert word in answer.text
            assert (await client.ask(endpoint, ORDER)).status_code == 200

    asyncio.run(scenario())


def test_tensor_input_is_checked_at_the_edge(serve: Any) -> None:
    async def scenario() -> None:
        async with serve() as client:
            example: dict[str, Any] = (await client.http.get("/status")).json()["endpoints"]["flower"]["example"]
            name, row = next(iter(example.items()))
            for bad in (row[:-1], [*row, 1.0], [], [row], ["a"] * len(row), None, [math.pi] * 10_000):
                answer = await client.ask("flower", {name: bad})
                assert answer.status_code == 422, bad
                assert answer.json()["path"].startswith(name)

    asyncio.run(scenario())


def test_unknown_endpoint_names_the_nearest(serve: Any) -> None:
    async def scenario() -> None:
        async with serve() as client:
            answer = await client.ask("ordr", ORDER)
            assert answer.status_code == 404
            assert "'order'" in answer.json()["hint"]

    asyncio.run(scenario())


def test_a_unit_of_a_megabyte_is_refused_and_one_of_the_wrong_type_too(serve: Any) -> None:
    async def scenario() -> None:
        async with serve() as client:
            long = await client.ask("order", {"user_id": "x" * 1_000_000, "amount": 1.0})
            assert (long.status_code, long.json()["path"]) == (422, "user_id")
            wrong = await client.ask("order", {"user_id": ["u1"], "amount": 1.0})
            assert (wrong.status_code, wrong.json()["path"]) == (422, "user_id")

    asyncio.run(scenario())


def test_a_body_beyond_the_limit_is_refused(serve: Any) -> None:
    async def scenario() -> None:
        async with serve() as client:
            answer = await client.ask("order", b" " * 5_000_000)
            assert answer.status_code == 413
            assert answer.json()["status"] == 413

    asyncio.run(scenario())


def test_a_raising_model_fails_its_own_request_only_and_names_the_step(serve: Any) -> None:
    async def scenario() -> None:
        async with serve() as client:
            bodies = [{"user_id": f"u{i}", "amount": -1.0 if i == 5 else float(i)} for i in range(20)]
            answers = await asyncio.gather(*(client.ask("order", body) for body in bodies))
            assert [answer.status_code for answer in answers] == [500 if i == 5 else 200 for i in range(20)]
            assert [answer.json()["score"] for i, answer in enumerate(answers) if i != 5] == [
                2.0 * i for i in range(20) if i != 5
            ]
            problem = answers[5].json()
            assert (problem["pipeline"], problem["step"]) == ("judge", "price")
            assert "Traceback" not in answers[5].text

    asyncio.run(scenario())


@pytest.mark.parametrize(("amount", "status"), [(-2.0, 500), (-4.0, 500)], ids=["too-few-rows", "nan"])
def test_a_lying_model_is_told_apart_from_its_caller(serve: Any, amount: float, status: int) -> None:
    async def scenario() -> None:
        async with serve() as client:
            answer = await client.ask("order", {"user_id": "u1", "amount": amount})
            assert answer.status_code == status, answer.text
            assert (await client.ask("order", ORDER)).status_code == 200

    asyncio.run(scenario())


def test_a_hanging_model_is_answered_at_the_deadline_and_replaced(serve: Any) -> None:
    async def scenario() -> None:
        async with serve() as client:
            answer = await client.ask("order", {"user_id": "u1", "amount": -3.0})
            assert answer.status_code == 504
            assert answer.json()["code"] == "deadline"
            assert (await client.ask("order", ORDER)).status_code == 200
            import shop  # type: ignore[import-not-found]  # noqa: PLC0415

            shop.Moody.release.set()

    asyncio.run(scenario())


def test_a_slow_pipeline_is_cancelled_at_its_deadline(serve: Any) -> None:
    async def scenario() -> None:
        async with serve() as client:
            late = await client.ask("slow", {"user_id": "u1", "amount": 5.0})
            assert late.status_code == 504
            shorter = await client.ask(
                "order", {"user_id": "u1", "amount": 1.0}, headers={"turnout-deadline": "banana"}
            )
            assert shorter.status_code == 422
            assert "banana" in shorter.text

    asyncio.run(scenario())


def test_a_deadline_of_nothing_is_over_at_once(serve: Any) -> None:
    async def scenario() -> None:
        async with serve() as client:
            late = await client.ask("order", ORDER, headers={"turnout-deadline": "0s"})
            assert (late.status_code, late.json()["code"]) == (504, "deadline")

    asyncio.run(scenario())


@pytest.mark.parametrize("amount", [-5.0, -6.0, -7.0], ids=["exit", "interrupt", "generator-exit"])
def test_code_that_tries_to_end_the_program_fails_its_own_request_only(serve: Any, amount: float) -> None:
    async def scenario() -> None:
        async with serve() as client:
            for endpoint in ("order", "slow"):
                answer = await client.ask(endpoint, {"user_id": "u1", "amount": amount})
                assert answer.status_code == 500, answer.text
            assert (await client.ask("order", ORDER)).status_code == 200

    asyncio.run(scenario())


def test_the_same_unit_always_meets_the_same_variant_and_both_variants_are_met(serve: Any) -> None:
    async def scenario() -> None:
        async with serve() as client:
            seen: dict[str, set[str]] = {}
            for _ in range(2):
                for user in range(30):
                    answer = await client.ask("order", {"user_id": f"u{user}", "amount": 1.0})
                    assert answer.json()["by"] == answer.headers["turnout-variant"]
                    assert answer.headers["turnout-experiment"] == "words"
                    seen.setdefault(f"u{user}", set()).add(answer.headers["turnout-variant"])
            assert all(len(variants) == 1 for variants in seen.values())
            assert {next(iter(variants)) for variants in seen.values()} == {"old", "new"}
            override = await client.ask("order", {"user_id": "tester", "amount": 1.0})
            assert override.headers["turnout-variant"] == "new"

    asyncio.run(scenario())


def test_exposures_once_a_unit_and_predictions_once_a_request(serve: Any) -> None:
    async def scenario() -> None:
        async with serve() as client:
            for _ in range(3):
                await client.ask("order", ORDER)
            await client.ask("order", {"user_id": "u1", "amount": "wrong"})
            await client.ask("plain", ORDER)
            exposures, predictions = await client.exposures(), await client.predictions()
            assert [(each.unit, each.experiment, each.reason) for each in exposures] == [("u1", "words", "SPLIT")]
            assert [each.status for each in predictions] == ["ok", "ok", "ok", "invalid-input", "ok"]
            assert predictions[0].steps[0].name == "price"
            assert predictions[0].models[0].startswith("price@")
            assert (predictions[4].experiment, predictions[4].variant) == ("", "")

    asyncio.run(scenario())


def test_a_failing_variant_is_answered_by_control_and_stays_assigned(serve: Any) -> None:
    async def scenario() -> None:
        async with serve() as client:
            answers = [await client.ask("risky", {"user_id": f"u{i}", "amount": 1.0}) for i in range(20)]
            assert {answer.status_code for answer in answers} == {200}
            predictions = await client.predictions()
            fallen = [each for each in predictions if each.fallback]
            assert fallen
            assert all((each.variant, each.served, each.status) == ("breaks", "works", "ok") for each in fallen)
            assert all("broken" in each.error for each in fallen)

    asyncio.run(scenario())


def test_a_fallback_leaves_nothing_behind(serve: Any) -> None:
    async def scenario() -> None:
        async with serve() as client:
            for user in range(20):
                assert (await client.ask("risky", {"user_id": f"u{user}", "amount": 1.0})).status_code == 200
            assert any(each.fallback for each in await client.predictions())
            gc.collect()
            assert [each for each in gc.get_objects() if type(each) is StepError] == []

    asyncio.run(scenario())


def test_a_stream_arrives_in_pieces_and_ends_with_its_error(serve: Any) -> None:
    async def scenario() -> None:
        async with serve() as client:
            short = await client.ask("count", {"user_id": "u1", "amount": 2})
            assert short.headers["content-type"].startswith("text/event-stream")
            pieces = [line for line in short.text.split("\n\n") if line]
            assert [msgspec.json.decode(piece.removeprefix("data: "))["score"] for piece in pieces] == [0.0, 2.0]
            long = await client.ask("count", {"user_id": "u1", "amount": 9}, headers={"accept": "application/x-ndjson"})
            lines = [msgspec.json.decode(line) for line in long.text.splitlines()]
            assert len(lines) == 4
            assert lines[3]["code"] == "step-failed"
            assert [each.status for each in await client.predictions()] == ["ok", "step-failed"]

    asyncio.run(scenario())


def test_outcomes_are_taken_once_each_or_not_at_all(serve: Any) -> None:
    async def scenario() -> None:
        async with serve() as client:
            one = await client.http.post("/v1/outcomes", json={"name": "paid", "unit": "u1", "event_id": "e1"})
            assert (one.status_code, one.json()["accepted"]) == (202, 1)
            twice = await client.http.post("/v1/outcomes", json={"name": "paid", "unit": "u1", "ts": 5.0})
            again = await client.http.post("/v1/outcomes", json={"name": "paid", "unit": "u1", "ts": 5.0})
            assert twice.json()["event_ids"] == again.json()["event_ids"]
            unread = await client.http.post("/v1/outcomes", json={"name": "payed", "unit": "u1"})
            assert "payed" in unread.json()["warnings"][0]
            batch = [{"name": "paid", "unit": "u1"}, {"name": "paid"}]
            bad = await client.http.post("/v1/outcomes", json=batch)
            assert (bad.status_code, bad.json()["path"]) == (422, "[1].unit")
            assert len(await client.outcomes()) == 4

    asyncio.run(scenario())


def test_outcomes_that_reach_no_disk_are_not_accepted(serve: Any) -> None:
    async def scenario() -> None:
        async with serve() as client:
            folder = Path(client.served.home.identity.state) / "segments"
            folder.rmdir()
            folder.write_text("no folder")
            outcome = {"name": "paid", "unit": "u1", "event_id": "e1"}
            for _ in range(2):
                refused = await client.http.post("/v1/outcomes", json=outcome)
                assert (refused.status_code, refused.headers["retry-after"]) == (503, "5")
                assert "event_id" in refused.json()["hint"]
            assert (await client.ask("order", ORDER)).status_code == 200
            folder.unlink()
            async with asyncio.timeout(20):
                while (await client.http.post("/v1/outcomes", json=outcome)).status_code == 503:
                    await asyncio.sleep(0.02)
            assert {found.event_id for found in await client.outcomes()} == {"e1"}

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("outcome", "path"),
    [
        ({"name": "", "unit": "u"}, "name"),
        ({"name": "a", "unit": "u", "value": "x"}, "value"),
        ({"name": "a", "unit": "u", "ts": 4e12}, "ts"),
        ({"name": "a", "unit": "u" * 5000}, "unit"),
        ({"name": "a", "unit": "u", "valeu": 1}, "valeu"),
        ({"name": "a", "unit": "u", "correction_of": "e" * 5000}, "correction_of"),
    ],
    ids=["no-name", "value", "milliseconds", "long-unit", "unknown", "long-correction"],
)
def test_a_bad_outcome_names_its_field(serve: Any, outcome: dict[str, Any], path: str) -> None:
    async def scenario() -> None:
        async with serve() as client:
            answer = await client.http.post("/v1/outcomes", json=outcome)
            assert (answer.status_code, answer.json()["path"]) == (422, path)
            assert await client.outcomes() == []

    asyncio.run(scenario())


def test_the_trace_is_told_to_allowed_callers_only(serve: Any) -> None:
    async def scenario() -> None:
        async with serve(explain=True) as client:
            told = (await client.ask("order?explain", ORDER)).json()
            assert told["reply"]["score"] == 20.0
            assert told["explain"]["assignment"]["reason"] == "SPLIT"
            assert told["explain"]["steps"][0]["batch_rows"] == 1
        async with serve() as client:
            assert "explain" not in (await client.ask("order?explain", ORDER)).json()

    asyncio.run(scenario())


def test_health_status_metrics_openapi_and_docs_are_there(serve: Any) -> None:
    async def scenario() -> None:
        async with serve() as client:
            await client.ask("order", ORDER)
            assert (await client.http.get("/healthz")).status_code == 200
            assert (await client.http.get("/readyz")).json() == {"ready": True, "reasons": []}
            status = (await client.http.get("/status")).json()
            assert status["models"]["price"]["state"] == "ready"
            assert status["endpoints"]["order"]["experiment"] == "words"
            metrics = (await client.http.get("/metrics")).text
            assert 'turnout_requests_total{endpoint="order",experiment="words"' in metrics
            assert "<title>Turnout</title>" in (await client.http.get("/docs")).text
            wrong = await client.http.get("/v1/endpoints/order")
            assert (wrong.status_code, wrong.headers["allow"]) == (405, "POST")
            missing = await client.http.get("/nowhere")
            assert missing.status_code == 404
            assert "/v1/outcomes" in missing.json()["hint"]

    asyncio.run(scenario())


def test_openapi_is_valid_and_its_examples_work(serve: Any) -> None:
    validator = pytest.importorskip("openapi_spec_validator")

    async def scenario() -> None:
        async with serve() as client:
            api = (await client.http.get("/openapi.json")).json()
            validator.validate(api)
            for name in ("flower", "order", "as-dict", "as-struct", "as-pydantic"):
                body = api["paths"][f"/v1/endpoints/{name}"]["post"]["requestBody"]["content"]["application/json"]
                answer = await client.ask(name, body["example"])
                assert answer.status_code == 200, (name, body["example"], answer.text)

    asyncio.run(scenario())
