"""A rollout on the path: three slices, who answers where the new side fails, and the circuit that ends it."""

import asyncio
import json
from collections import Counter
from typing import Any

import pytest

from turnout.errors import DocumentError
from turnout.experiments import allocations, assignment, phases
from turnout.spec import stages

TEXT = """
models: {double: {code: "lab:Double"}, triple: {code: "lab:Triple"}}
pipelines:
  old: {code: "lab:old", models: {model: double}}
  moody: {code: "lab:moody", models: {model: triple}}
endpoints: {ask: {pipeline: old, unit: user_id, deadline: 2s}}
rollouts:
  moody: {endpoint: ask, kind: KIND, to: {pipeline: moody}}
"""
CANARY = TEXT.replace("KIND", "canary")
SWITCH = TEXT.replace("KIND", "blue-green")


@pytest.fixture(autouse=True)
def fine() -> Any:
    """The new side is well at the beginning of each test."""

    def turn(mode: str) -> None:
        import lab  # type: ignore[import-not-found]  # noqa: PLC0415

        lab.Switch.mode = mode

    yield turn
    turn("fine")


class Stage:
    """A served rollout that is moved by hand, as the controller moves it: by overlays."""

    def __init__(self, client: Any, text: str) -> None:
        self.client = client
        self.text = text
        self.generation = 100

    async def move(self, state: str, share: float = 0.0) -> None:
        home = self.client.served.home
        snapshot = home.current.snapshot
        phase = phases.of_rollout("moody", snapshot.document, written=snapshot.written, digests=snapshot.digests)
        progress = {"phase": phase, "state": state, "share": share}
        overlay = json.dumps({"rollouts": {"moody": {"progress": progress}}})
        self.generation += 1
        await home.prepare(self.generation, {"turnout.yaml": self.text, stages.OVERLAY: overlay})
        home.commit(self.generation)

    async def ask(self, unit: str, amount: float = 1.0, **options: Any) -> Any:
        return await self.client.ask("ask", {"user_id": unit, "amount": amount}, **options)

    async def variants(self, units: int) -> dict[str, str]:
        return {f"u{n}": (await self.ask(f"u{n}")).headers["turnout-variant"] for n in range(units)}

    @property
    def endpoint(self) -> Any:
        return self.client.served.home.current.endpoint("ask")

    def a_unit_of(self, variant: str) -> str:
        allocation = self.endpoint.groups[0][0].allocation
        return next(f"c{n}" for n in range(10_000) if assignment.assign(f"c{n}", allocation).variant == variant)

    async def told(self) -> dict[str, Any]:
        found: dict[str, Any] = (await self.client.http.get("/status")).json()
        return found


def test_a_rising_share_moves_units_from_rest_only(serve: Any) -> None:
    async def scenario() -> None:
        async with serve(CANARY) as client:
            stage = Stage(client, CANARY)
            seen: dict[str, list[str]] = {}
            for state, share in (("pending", 0.0), ("ramping", 0.1), ("ramping", 0.3), ("holding", 0.5)):
                await stage.move(state, share)
                for unit, variant in (await stage.variants(120)).items():
                    seen.setdefault(unit, []).append(variant)
            assert {variants[0] for variants in seen.values()} == {"rest"}
            assert {variants[-1] for variants in seen.values()} == {"control", "canary"}
            for variants in seen.values():
                assert len(set(variants) - {"rest"}) <= 1, "a unit saw both sides that are compared"
                assert "rest" not in variants[variants.index(variants[-1]) :]

    asyncio.run(scenario())


def test_only_the_two_sides_that_are_compared_are_exposed_and_every_prediction_names_its_slice(serve: Any) -> None:
    async def scenario() -> None:
        async with serve(CANARY) as client:
            stage = Stage(client, CANARY)
            await stage.variants(20)
            await stage.move("ramping", 0.2)
            found = await stage.variants(80)
            exposed = {each.unit: each.variant for each in await client.exposures()}
            assert exposed == {unit: variant for unit, variant in found.items() if variant != "rest"}
            slices = Counter(each.variant for each in await client.predictions())
            assert slices == Counter(found.values()) + Counter({"rest": 20})
            assert {each.experiment for each in await client.predictions()} == {"moody"}

    asyncio.run(scenario())


def test_a_request_without_unit_is_split_by_its_id(serve: Any) -> None:
    async def scenario() -> None:
        async with serve(CANARY) as client:
            stage = Stage(client, CANARY)
            await stage.move("ramping", 0.5)
            answers = [await client.ask("ask", {"amount": 1.0}) for _ in range(40)]
            assert {answer.headers["turnout-variant"] for answer in answers} == {"control", "canary"}
            exposures = await client.exposures()
            assert {each.unit for each in exposures} == {a.headers["turnout-request-id"] for a in answers}
            assert {each.unit_type for each in exposures} == {"request_id"}

    asyncio.run(scenario())


def test_a_failing_canary_is_answered_by_the_stable_side_and_stays_assigned(serve: Any, fine: Any) -> None:
    async def scenario() -> None:
        async with serve(CANARY) as client:
            stage = Stage(client, CANARY)
            await stage.move("ramping", 0.3)
            fine("crash")
            answer = await stage.ask(stage.a_unit_of("canary"))
            assert (answer.status_code, answer.json()["by"]) == (200, "old")
            assert (answer.headers["turnout-experiment"], answer.headers["turnout-variant"]) == ("moody", "control")
            (prediction,) = await client.predictions()
            assert (prediction.variant, prediction.served, prediction.fallback) == ("canary", "control", True)
            assert (prediction.status, prediction.pipeline) == ("ok", "old")
            assert "broken" in prediction.error

    asyncio.run(scenario())


def test_five_failures_in_a_row_open_the_circuit_until_the_document_changes(serve: Any, fine: Any) -> None:
    async def scenario() -> None:
        async with serve(CANARY) as client:
            stage = Stage(client, CANARY)
            await stage.move("ramping", 0.3)
            unit = stage.a_unit_of("canary")
            fine("crash")
            for _ in range(4):
                await stage.ask(unit)
            fine("fine")
            assert (await stage.ask(unit)).json()["by"] == "moody"  # a success in between begins anew
            fine("crash")
            for _ in range(5):
                assert (await stage.ask(unit)).json()["by"] == "old"
            circuit = (await stage.told())["endpoints"]["ask"]["circuits"]["moody"]
            assert (circuit["open"], circuit["failures_in_a_row"], circuit["total"]) == (True, 5, 9)
            fine("fine")
            assert (await stage.ask(unit)).json()["by"] == "old"  # it is not asked any more
            last = (await client.predictions())[-1]
            assert (last.variant, last.served, last.fallback, last.status) == ("canary", "control", True, "ok")
            assert "5 times in a row" in last.error
            metrics = (await client.http.get("/metrics")).text
            assert 'turnout_circuit_open{endpoint="ask",experiment="moody",variant="canary"} 1' in metrics
            assert 'turnout_variant_failures_total{endpoint="ask",experiment="moody",variant="canary"} 9' in metrics
            await stage.move("ramping", 0.31)
            assert (await stage.ask(unit)).json()["by"] == "moody"
            assert (await stage.told())["endpoints"]["ask"]["circuits"]["moody"]["open"] is False
            assert 'variant="canary"} 0' in (await client.http.get("/metrics")).text

    asyncio.run(scenario())


def test_past_an_open_circuit_the_exposure_tells_that_another_side_was_served(serve: Any, fine: Any) -> None:
    async def scenario() -> None:
        async with serve(CANARY) as client:
            stage = Stage(client, CANARY)
            await stage.move("ramping", 0.5)
            fine("crash")
            found = await asyncio.gather(*(stage.ask(f"u{n}") for n in range(40)))
            assert {answer.status_code for answer in found} == {200}
            late = next(
                f"late{n}"
                for n in range(1000)
                if assignment.assign(f"late{n}", stage.endpoint.groups[0][0].allocation).variant == "canary"
            )
            await stage.ask(late)
            (exposure,) = [each for each in await client.exposures() if each.unit == late]
            assert (exposure.variant, exposure.served, exposure.fallback) == ("canary", "control", True)

    asyncio.run(scenario())


def test_what_is_not_the_canarys_fault_opens_no_circuit(serve: Any, fine: Any) -> None:
    async def scenario() -> None:
        async with serve(CANARY) as client:
            stage = Stage(client, CANARY)
            await stage.move("ramping", 0.3)
            unit = stage.a_unit_of("canary")
            for _ in range(6):
                assert (await client.ask("ask", {"user_id": unit, "amount": "many"})).status_code == 422
            fine("hang")
            for _ in range(6):
                await stage.ask(unit, headers={"turnout-deadline": "20ms"})  # the caller's own haste
            circuit = (await stage.told())["endpoints"]["ask"]["circuits"]["moody"]
            assert (circuit["open"], circuit["total"]) == (False, 0)

    asyncio.run(scenario())


def test_a_canary_that_hangs_leaves_time_for_the_stable_side_and_opens_the_circuit(serve: Any, fine: Any) -> None:
    text = CANARY.replace("deadline: 2s", "deadline: 300ms")

    async def scenario() -> None:
        async with serve(text) as client:
            stage = Stage(client, text)
            await stage.move("ramping", 0.3)
            unit = stage.a_unit_of("canary")
            fine("hang")
            answers = await asyncio.gather(*(stage.ask(unit) for _ in range(5)))
            assert {answer.json()["by"] for answer in answers} == {"old"}
            assert (await stage.told())["endpoints"]["ask"]["circuits"]["moody"]["open"] is True

    asyncio.run(scenario())


def test_a_dependency_that_fails_for_both_sides_blames_nobody(serve: Any) -> None:
    text = CANARY.replace("model: double}", "model: double}").replace('"lab:old"', '"lab:moody"')

    async def scenario() -> None:
        async with serve(text) as client:
            stage = Stage(client, text)
            await stage.move("ramping", 0.3)
            unit = stage.a_unit_of("canary")
            for _ in range(6):
                assert (await stage.ask(unit, -1.0)).status_code == 500
            circuit = (await stage.told())["endpoints"]["ask"]["circuits"]["moody"]
            assert (circuit["open"], circuit["total"]) == (False, 0)

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("state", "by", "loaded"),
    [
        ("pending", "old", {"double", "triple"}),
        ("ramping", "both", {"double", "triple"}),
        ("rolled_back", "old", {"double"}),
        ("promoting", "moody", {"double", "triple"}),
        ("baking", "moody", {"double", "triple"}),
        ("done", "moody", {"triple"}),
    ],
)
def test_each_state_of_a_canary_serves_and_keeps_loaded_what_it_needs(
    serve: Any, state: str, by: str, loaded: set[str]
) -> None:
    async def scenario() -> None:
        async with serve(CANARY) as client:
            stage = Stage(client, CANARY)
            await stage.move(state, 0.5 if state == "ramping" else 0.0)
            found = {(await stage.ask(f"u{n}")).json()["by"] for n in range(30)}
            assert found == ({"old", "moody"} if by == "both" else {by})
            told = (await stage.told())["endpoints"]["ask"]["experiments"]["moody"]["rollout"]
            assert (told["kind"], told["state"]) == ("canary", state)
            assert (await stage.told())["models"].keys() == loaded

    asyncio.run(scenario())


def test_blue_green_switches_everybody_at_once_and_back_and_blue_answers_for_a_failing_green(
    serve: Any, fine: Any
) -> None:
    async def scenario() -> None:
        async with serve(SWITCH) as client:
            stage = Stage(client, SWITCH)
            assert set((await stage.variants(20)).values()) == {allocations.BLUE}
            await stage.move("baking")
            assert set((await stage.variants(20)).values()) == {allocations.GREEN}
            assert (await stage.told())["models"].keys() == {"double", "triple"}
            fine("crash")
            assert {(await stage.ask(f"u{n}")).json()["by"] for n in range(6)} == {"old"}
            assert (await stage.told())["endpoints"]["ask"]["circuits"]["moody"]["open"] is True
            await stage.move("rolled_back")
            assert set((await stage.variants(20)).values()) == {allocations.BLUE}

    asyncio.run(scenario())


def test_every_home_gives_a_unit_the_same_side(serve: Any) -> None:
    async def scenario() -> None:
        async with serve(CANARY) as client:
            stage = Stage(client, CANARY)
            await stage.move("ramping", 0.3)
            over_http = await stage.variants(60)
            for unit, variant in over_http.items():
                reply = await client.served.call("ask", {"user_id": unit, "amount": 1.0})
                assert reply["by"] == {"rest": "old", "control": "old", "canary": "moody"}[variant]
            by_unit: dict[tuple[str, str], set[str]] = {}
            for each in await client.predictions():
                by_unit.setdefault((each.unit, each.phase), set()).add(each.variant)
            assert {len(variants) for variants in by_unit.values()} == {1}

    asyncio.run(scenario())


TONES = """
experiments:
  tones:
    endpoint: ask
    variants: {plain: {weight: 1, control: true}, warm: {weight: 1, params: {tone: warm}}}
"""


@pytest.mark.parametrize("state", ["pending", "ramping", "promoting", "baking", "done", "rolled_back"])
def test_beside_a_rollout_params_of_an_experiment_lie_over_every_side_and_stay_when_one_fails(
    serve: Any, fine: Any, state: str
) -> None:
    text = CANARY + TONES

    async def scenario() -> None:
        async with serve(text) as client:
            stage = Stage(client, text)
            await stage.move(state, 0.4 if state == "ramping" else 0.0)
            tones = stage.endpoint.groups[1][0].allocation
            for mode in ("fine", "crash"):
                if mode == "crash" and state == "done":
                    continue  # nobody is left to answer in its place
                fine(mode)
                for number in range(20):
                    answer = await stage.ask(f"u{number}")
                    expected = assignment.assign(f"u{number}", tones).variant
                    assert answer.json()["tone"] == expected
                    assert answer.headers["turnout-also"] == f"tones={expected}"
                    assert answer.headers["turnout-experiment"] == "moody"
            assert {each.also[0][::2] for each in await client.predictions()} == {("tones", "plain"), ("tones", "warm")}

    asyncio.run(scenario())


def test_a_new_side_with_another_contract_is_refused_where_it_is_named(serve: Any) -> None:
    text = CANARY.replace("to: {pipeline: moody}", "to: {pipeline: other}").replace(
        "  moody: {code", '  other: {code: "shop:judge", models: {price: double}}\n  moody: {code'
    )

    async def begin() -> None:
        async with serve(text):
            pass

    with pytest.raises(DocumentError) as caught:
        asyncio.run(begin())
    assert [error.path for error in caught.value.errors] == ["rollouts.moody.to"]
    assert caught.value.errors[0].line == 9
