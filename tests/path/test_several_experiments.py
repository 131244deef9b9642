"""Several experiments on one endpoint: who takes a request, what is laid over it, what is logged."""

import asyncio
import json
from typing import Any

import pytest

from turnout.assembly import reading
from turnout.errors import DocumentError
from turnout.experiments import assignment, overrides

BASE = """
models: {double: {code: "lab:Double"}}
pipelines:
  old: {code: "lab:old", models: {model: double}}
  new: {code: "lab:new", models: {model: double}}
endpoints:
  ask: {pipeline: old, unit: user_id, attributes: {country: user.country, age: user.age, plan: "header:X-Plan"}}
override_key: a-key-of-the-test
experiments:
"""
LAYERED = (
    BASE
    + """
  first:
    endpoint: ask
    layer: {name: ask, slots: 0-499}
    variants: {a: {weight: 1, control: true}, b: {weight: 1, pipeline: new}}
  second:
    endpoint: ask
    layer: {name: ask, slots: 500-899}
    variants: {c: {weight: 1, control: true, params: {tone: calm}}, d: {weight: 1, pipeline: new, params: {tone: loud}}}
"""
)
BESIDE = (
    BASE
    + """
  structure:
    endpoint: ask
    variants: {o: {weight: 1, control: true}, n: {weight: 1, pipeline: new}}
  tones:
    endpoint: ask
    variants: {plain: {weight: 1, control: true}, warm: {weight: 1, params: {tone: warm}}}
  lengths:
    endpoint: ask
    ramp: 50%
    variants: {one: {weight: 1, control: true}, two: {weight: 1, params: {length: 2}}}
"""
)


KOREA = """
  korea:
    endpoint: ask
    targeting: 'country == "KR" && plan == "pro"'
    variants: {o: {weight: 0, control: true}, n: {weight: 1, pipeline: new}}
"""
SIDES = "endpoint: ask, variants: {x: {weight: 1, control: true}, y: {weight: 1"


def question(unit: Any, **more: Any) -> dict[str, Any]:
    return {"user_id": unit, "amount": 1.0, **more}


def headers_of(answer: Any) -> dict[str, str]:
    return {key: value for key, value in answer.headers.items() if key.startswith("turnout-") and "id" not in key}


def test_of_a_layer_the_owner_of_the_units_slot_takes_the_request(serve: Any) -> None:
    async def scenario() -> None:
        async with serve(LAYERED) as client:
            first, second = client.served.home.current.endpoint("ask").groups[0]
            taken = set()
            for number in range(150):
                answer = await client.ask("ask", question(f"u{number}"))
                told = (answer.headers["turnout-experiment"], answer.headers["turnout-variant"])
                one = assignment.assign(f"u{number}", first.allocation)
                other = assignment.assign(f"u{number}", second.allocation)
                assert (one.reason == "SPLIT") + (other.reason == "SPLIT") <= 1
                expected = ("second", other.variant) if other.reason == "SPLIT" else ("first", one.variant)
                assert told == expected
                assert answer.json()["by"] == {"a": "old", "b": "new", "c": "old", "d": "new"}[told[1]]
                assert answer.json()["tone"] == {"a": "plain", "b": "plain", "c": "calm", "d": "loud"}[told[1]]
                taken.add((*told, one.reason))
            assert {told[:2] for told in taken} == {("first", "a"), ("first", "b"), ("second", "c"), ("second", "d")}
            assert ("first", "a", "NOT_IN_LAYER") in taken  # slots 900-999 belong to nobody
            exposures = await client.exposures()
            assert len(exposures) == 150
            assert {each.layer for each in exposures} == {"ask"}

    asyncio.run(scenario())


def test_params_of_other_experiments_lie_over_the_chosen_pipeline(serve: Any) -> None:
    async def scenario() -> None:
        async with serve(BESIDE) as client:
            ready = client.served.home.current.endpoint("ask")
            allocations = {split.name: split.allocation for split in ready.splits}
            seen = set()
            for number in range(200):
                unit = f"u{number}"
                found = {name: assignment.assign(unit, each).variant for name, each in allocations.items()}
                answer = await client.ask("ask", question(unit))
                told = headers_of(answer)
                assert (told["turnout-experiment"], told["turnout-variant"]) == ("structure", found["structure"])
                assert told["turnout-also"] == f"tones={found['tones']}, lengths={found['lengths']}"
                assert answer.json() == {
                    "by": {"o": "old", "n": "new"}[found["structure"]],
                    "score": 2.0,
                    "tone": {"plain": "plain", "warm": "warm"}[found["tones"]],
                    "length": {"one": 1, "two": 2}[found["lengths"]],
                }
                seen.add(tuple(found.values()))
            assert len(seen) == 8

    asyncio.run(scenario())


def test_each_experiment_of_a_request_is_exposed_once_and_names_the_others(serve: Any) -> None:
    async def scenario() -> None:
        async with serve(BESIDE) as client:
            for _ in range(3):
                await client.ask("ask", question("u1"))
            exposures = {each.experiment: each for each in await client.exposures()}
            assert len(await client.exposures()) == 3
            assert exposures.keys() == {"structure", "tones", "lengths"}
            for name, each in exposures.items():
                others = {(other.experiment, other.phase, other.variant) for other in exposures.values()}
                assert set(each.also) == {other for other in others if other[0] != name}
            predictions = await client.predictions()
            assert [each.experiment for each in predictions] == ["structure"] * 3
            assert {name for name, _, _ in predictions[0].also} == {"tones", "lengths"}
            assert predictions[0].unit == "u1"

    asyncio.run(scenario())


def test_the_endpoint_agrees_with_the_pure_assignment_for_five_thousand_units(serve: Any) -> None:
    async def scenario() -> None:
        async with serve(BESIDE) as client:
            ready = client.served.home.current.endpoint("ask")
            main = ready.groups[0][0].allocation
            units = [f"user-{number}" for number in range(5_000)]
            wrong = [
                unit
                for unit in units
                if ready.choose(incoming(unit)).route.variant != assignment.assign(unit, main).variant
            ]
            assert wrong == []
            for unit in units[::100]:
                answer = await client.ask("ask", question(unit))
                assert answer.headers["turnout-variant"] == assignment.assign(unit, main).variant

    asyncio.run(scenario())


def incoming(unit: str) -> reading.Incoming:
    body = json.dumps(question(unit)).encode()
    return reading.Incoming("ask", body, id="0" * 32, received=0.0, ts=0.0)


def test_targeting_reads_the_declared_attributes_of_body_and_header(serve: Any) -> None:
    text = BASE + KOREA

    async def scenario() -> None:
        async with serve(text) as client:

            async def by(plan: str | None, user: Any) -> str:
                options = {} if plan is None else {"headers": {"X-Plan": plan}}
                answer = await client.ask("ask", question("u1", user=user), **options)
                assert answer.status_code == 200, answer.text
                return str(answer.json()["by"])

            assert await by("pro", {"country": "KR"}) == "new"
            assert await by("free", {"country": "KR"}) == "old"
            assert await by("pro", {"country": "JP"}) == "old"
            assert await by(None, {"country": "KR"}) == "old"
            assert await by("pro", "a text where an object could be") == "old"
            reasons = [each.reason for each in await client.exposures()]
            assert reasons == ["SPLIT", "TARGETING"]
            assert (await client.exposures())[0].attributes == {"country": "KR", "plan": "pro"}
            assert (await client.exposures())[0].unit == "u1"

    asyncio.run(scenario())


def test_a_condition_that_does_not_compile_refuses_the_document_where_it_stands(serve: Any) -> None:
    text = BASE + KOREA.replace("country", "countri")

    async def scenario() -> None:
        with pytest.raises(DocumentError) as caught:
            async with serve(text):
                pass
        error = caught.value.errors[0]
        assert (error.path, error.line) == ("experiments.korea.targeting", 13)
        assert "country" in str(error)

    asyncio.run(scenario())


def test_another_system_may_decide_by_a_header(serve: Any) -> None:
    text = (
        BASE
        + """
  flags:
    endpoint: ask
    assign: external
    header: X-Variant
    variants: {o: {weight: 1, control: true}, n: {weight: 1, pipeline: new}}
"""
    )

    async def scenario() -> None:
        async with serve(text) as client:
            named = await client.ask("ask", question("u1"), headers={"x-variant": "n"})
            unknown = await client.ask("ask", question("u2"), headers={"x-variant": "zzz"})
            silent = await client.ask("ask", question("u3"))
            assert [each.json()["by"] for each in (named, unknown, silent)] == ["new", "old", "old"]
            reasons = {each.unit: each.reason for each in await client.exposures()}
            assert reasons == {"u1": "EXTERNAL", "u2": "EXTERNAL_UNKNOWN", "u3": "EXTERNAL_UNKNOWN"}

    asyncio.run(scenario())


def test_a_signed_override_chooses_and_an_unsigned_one_is_refused(serve: Any) -> None:
    async def scenario() -> None:
        async with serve(LAYERED) as client:
            for variant in ("a", "b", "c", "d"):
                experiment = "first" if variant in "ab" else "second"
                signed = overrides.sign(overrides.Override(experiment, variant, 4_000_000_000), "a-key-of-the-test")
                answer = await client.ask("ask", question("u1"), headers={"turnout-override": signed})
                assert answer.headers["turnout-variant"] == variant
            forged = overrides.sign(overrides.Override("first", "b", 4_000_000_000), "another-key")
            refused = await client.ask("ask", question("u1"), headers={"turnout-override": forged})
            assert (refused.status_code, refused.json()["path"]) == (422, "header:Turnout-Override")
            assert {each.reason for each in await client.exposures()} == {"OVERRIDE"}

    asyncio.run(scenario())


def test_a_signed_override_of_a_variant_that_is_gone_is_refused(serve: Any) -> None:
    async def scenario() -> None:
        async with serve(LAYERED) as client:
            for experiment in ("first", "second"):
                gone = overrides.sign(overrides.Override(experiment, "gone", 4_000_000_000), "a-key-of-the-test")
                refused = await client.ask("ask", question("u1"), headers={"turnout-override": gone})
                assert (refused.status_code, refused.json()["path"]) == (422, "header:Turnout-Override")
                assert f"{experiment!r} has no variant 'gone'" in refused.json()["detail"]
            elsewhere = overrides.sign(overrides.Override("elsewhere", "gone", 4_000_000_000), "a-key-of-the-test")
            assert (await client.ask("ask", question("u1"), headers={"turnout-override": elsewhere})).status_code == 200

    asyncio.run(scenario())


def test_held_out_units_get_control_of_every_experiment(serve: Any) -> None:
    text = BESIDE + "holdouts: {everyone: {ratio: 30%}}\n"

    async def scenario() -> None:
        async with serve(text) as client:
            for number in range(60):
                await client.ask("ask", question(f"u{number}"))
            by_unit: dict[str, set[str]] = {}
            for each in await client.exposures():
                by_unit.setdefault(each.unit, set()).add(each.reason)
            held = {unit for unit, reasons in by_unit.items() if "HOLDOUT" in reasons}
            assert 5 <= len(held) <= 35
            assert all(by_unit[unit] == {"HOLDOUT"} for unit in held)

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("more", "path", "words"),
    [
        (
            f"  tones2: {{{SIDES}, params: {{tone: sad}}}}}}}}\n",
            "experiments.tones2.variants.y.params.tone",
            "'tones'",
        ),
        (
            f"  sizes: {{{SIDES}, params: {{size: 3}}}}}}}}\n",
            "experiments.sizes.variants.y.params.size",
            "no param 'size'",
        ),
        (
            "".join(
                f"  more{n}: {{endpoint: ask, variants: "
                "{x: {weight: 1, control: true}, y: {weight: 1}, z: {weight: 1}}}\n"
                for n in range(2)
            ),
            "experiments.more1",
            "72 combinations",
        ),
    ],
    ids=["one-param-twice", "unknown-param", "too-many"],
)
def test_what_cannot_stand_side_by_side_is_refused_and_named(serve: Any, more: str, path: str, words: str) -> None:
    async def scenario() -> None:
        with pytest.raises(DocumentError) as caught:
            async with serve(BESIDE + more):
                pass
        assert {error.path for error in caught.value.errors} == {path}
        assert words in str(caught.value.errors[0])
        assert caught.value.errors[0].line > 0

    asyncio.run(scenario())


def test_status_tells_every_experiment_of_an_endpoint(serve: Any) -> None:
    async def scenario() -> None:
        async with serve(BESIDE) as client:
            told = (await client.http.get("/status")).json()["endpoints"]["ask"]
            assert told["experiment"] == "structure"
            assert {name: each["also"] for name, each in told["experiments"].items()} == {
                "structure": False,
                "tones": True,
                "lengths": True,
            }
            assert told["variants"]["n"]["pipeline"] == "new"

    asyncio.run(scenario())
