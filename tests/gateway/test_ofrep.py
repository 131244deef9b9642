"""Flags by OFREP: the endpoint's own answers, for OpenFeature's SDK and for whoever posts JSON."""

import asyncio
import functools
import queue
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import openfeature.exception as refused
import pytest
from openfeature import api
from openfeature.contrib.provider.ofrep import OFREPProvider
from openfeature.evaluation_context import EvaluationContext
from openfeature.flag_evaluation import Reason

from turnout.experiments import overrides
from turnout.gateway import embedded, ofrep, routes
from turnout.transport import http, server

CODE = """
from dataclasses import dataclass
from turnout import pipeline

@dataclass
class Asked:
    user_id: str | None = None
    country: str | None = None
    api_key: str | None = None

@pipeline
async def say(request: Asked, *, word: str = "", secret: str = "") -> dict[str, str]:
    return {"word": word}
"""
DOCUMENT = """
override_key: "${OFREP_KEY}"
pipelines:
  say: {code: "ofrep_shop:say", params: {word: own}}
  other: {code: "ofrep_shop:say", params: {word: other}}
endpoints:
  reply: {pipeline: say, unit: user_id, attributes: {country: country, plan: "header:X-Plan"}}
  flagged: {pipeline: say, unit: user_id}
  moving: {pipeline: say, unit: user_id}
  decided: {pipeline: say, unit: user_id}
  idle: {pipeline: say, unit: user_id}
holdouts: {everyone: {ratio: 10%, endpoints: [reply]}}
experiments:
  words:
    endpoint: reply
    ramp: 80%
    targeting: 'country in ["KR", "JP"]'
    layer: {name: reply, slots: 0-699}
    variants:
      old: {weight: 50, control: true, params: {word: old}}
      new: {weight: 50, params: {word: new, secret: "${OFREP_KEY}"}, overrides: [tester]}
  rest:
    endpoint: reply
    targeting: 'plan == "pro"'
    layer: {name: reply, slots: 700-999}
    variants:
      old: {weight: 50, control: true}
      new: {weight: 50, pipeline: other}
  named:
    endpoint: flagged
    assign: external
    header: X-Variant
    on_missing_unit: attribute:api_key
    variants: {old: {weight: 50, control: true}, new: {weight: 50, pipeline: other}}
  won:
    endpoint: decided
    winner: new
    variants: {old: {weight: 50, control: true}, new: {weight: 50, pipeline: other}}
  off:
    endpoint: idle
    enabled: false
    variants: {old: {weight: 50, control: true}, new: {weight: 50, pipeline: other}}
rollouts:
  next: {endpoint: moving, to: {pipeline: other}}
"""
KEY = "top secret"
UNITS = [f"user-{number}" for number in range(40)]


def str_of(value: object) -> str:
    """A short id for a test's parameter."""
    return str(value)[:12]


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A served document behind a real socket, its loop in a thread of its own."""
    project = tmp_path_factory.mktemp("project")
    (project / "ofrep_shop.py").write_text(CODE)
    document = project / "turnout.yaml"
    document.write_text(DOCUMENT)
    told: queue.Queue[str | Exception] = queue.Queue()
    stopping: list[Callable[[], object]] = []

    async def main() -> None:
        served = embedded.Embedded(document, state=project / "state", watch=False)
        stop = asyncio.Event()
        stopping.append(functools.partial(asyncio.get_running_loop().call_soon_threadsafe, stop.set))
        try:
            await served.start()
        except Exception as error:
            told.put(error)
            raise
        front = server.Server(routes.Routes(served.home), limits=http.Limits())
        sock = socket.create_server(("127.0.0.1", 0))
        await front.start(sock)
        told.put(f"http://127.0.0.1:{sock.getsockname()[1]}")
        try:
            await stop.wait()
        finally:
            await front.drain(0.0)
            await served.stop()

    thread = threading.Thread(target=lambda: asyncio.run(main()))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OFREP_KEY", KEY)
        thread.start()
        where = told.get(timeout=30)
    assert isinstance(where, str), where
    yield where
    stopping[0]()
    thread.join(30)


@pytest.fixture(scope="module")
def client(address: str) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=address, timeout=20) as opened:
        yield opened


@pytest.fixture
def provider(address: str) -> Iterator[OFREPProvider]:
    """OpenFeature's own provider, which asks over the socket."""
    opened = OFREPProvider(address)
    yield opened
    opened.session.close()


def flag(client: httpx.Client, key: str, headers: dict[str, str] | None = None, /, **context: Any) -> dict[str, Any]:
    reply = client.post(f"{ofrep.FLAGS}/{key}", json={"context": context}, headers=headers)
    found: dict[str, Any] = reply.json()
    return found


def context(unit: str | None, **attributes: Any) -> EvaluationContext:
    return EvaluationContext(targeting_key=unit, attributes=attributes)


@pytest.mark.parametrize("country", ["KR", "DE", None])
@pytest.mark.parametrize("plan", ["pro", None])
def test_a_flag_has_the_variant_that_the_endpoint_serves(
    client: httpx.Client, country: str | None, plan: str | None
) -> None:
    known: dict[str, Any] = {key: value for key, value in (("country", country), ("plan", plan)) if value}
    seen = set()
    for unit in [*UNITS, "tester"]:
        body = {"user_id": unit, **({"country": country} if country else {})}
        reply = client.post("/v1/endpoints/reply", json=body, headers={"X-Plan": plan} if plan else {})
        assert reply.status_code == 200
        experiment, variant = reply.headers["turnout-experiment"], reply.headers["turnout-variant"]
        found = flag(client, experiment, targetingKey=unit, **known)
        assert (found["value"], found["variant"]) == (variant, variant)
        assert found["metadata"]["revision"] == reply.headers["turnout-revision"]
        seen |= {flag(client, name, targetingKey=unit, **known)["metadata"]["reason"] for name in ("words", "rest")}
    assert {"HOLDOUT", "NOT_IN_LAYER", "OVERRIDE"} <= seen
    assert ("SPLIT" in seen) == (country == "KR" or plan == "pro")
    assert ("TARGETING" in seen) == (country != "KR" or plan is None)
    assert country != "KR" or "NOT_IN_RAMP" in seen


def test_the_openfeature_sdk_reads_variants_and_reasons(provider: OFREPProvider) -> None:
    api.set_provider(provider)
    try:
        client = api.get_client()
        for unit in UNITS:
            found = client.get_string_details("words", "default", context(unit, country="KR"))
            assert found.value in ("old", "new")
            assert found.value == found.variant
            ours = str(found.flag_metadata["reason"])
            assert found.reason == Reason[ofrep.REASONS[ours]]
            assert found.error_code is None
            assert len(str(found.flag_metadata["phase"])) == 16
            assert found.flag_metadata["endpoint"] == "reply"
        assert client.get_string_value("won", "default", context(None)) == "new"
        assert client.get_string_details("off", "default", context(None)).reason == Reason.DISABLED
        assert client.get_string_details("words", "default", context("tester")).reason == Reason.TARGETING_MATCH
        assert client.get_string_value("next", "default", context("u")) == "rest"
        missing = client.get_string_details("words", "default", context(None))
        assert (missing.value, missing.error_code) == ("default", refused.ErrorCode.TARGETING_KEY_MISSING)
        wrong = client.get_boolean_details("words", True, context("u"))
        assert (wrong.value, wrong.error_code) == (True, refused.ErrorCode.TYPE_MISMATCH)
    finally:
        api.clear_providers()


def test_the_provider_gets_openfeatures_errors(provider: OFREPProvider) -> None:
    with pytest.raises(refused.FlagNotFoundError, match="Did you mean 'words'"):
        provider.resolve_string_details("wrods", "", context("u"))
    with pytest.raises(refused.TargetingKeyMissingError, match="user_id"):
        provider.resolve_string_details("words", "", context(None))
    with pytest.raises(refused.InvalidContextError, match="1024 bytes"):
        provider.resolve_string_details("words", "", context("x" * 1025))


def test_params_are_a_flag_and_keep_secrets_to_themselves(provider: OFREPProvider, client: httpx.Client) -> None:
    found = provider.resolve_object_details("words.params", {}, context("tester"))
    assert found.value == {"word": "new"}
    assert found.variant == "new"
    with pytest.raises(refused.FlagNotFoundError, match="no variant of 'rest' brings params"):
        provider.resolve_object_details("rest.params", {}, context("tester"))
    assert KEY not in client.post(ofrep.FLAGS, json={"context": {"targetingKey": "tester"}}).text


def test_all_flags_come_with_a_tag_and_not_again(client: httpx.Client) -> None:
    body = {"context": {"targetingKey": "user-1", "country": "KR"}}
    first = client.post(ofrep.FLAGS, json=body)
    assert first.status_code == 200
    keys = [each["key"] for each in first.json()["flags"]]
    assert keys == ["named", "next", "off", "rest", "won", "words", "words.params"]
    assert first.json()["flags"][5] == flag(client, "words", **body["context"])
    tag = first.headers["etag"]
    for known in (tag, f'W/{tag}, "x"', f'"y", {tag}', "*"):
        again = client.post(ofrep.FLAGS, json=body, headers={"If-None-Match": known})
        assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", tag)
    other = {"context": {"targetingKey": "tester", "country": "KR"}}
    changed = client.post(ofrep.FLAGS, json=other, headers={"If-None-Match": tag})
    assert (changed.status_code, changed.headers["etag"] == tag) == (200, False)


def test_without_a_key_each_flag_says_for_itself_what_it_lacks(client: httpx.Client) -> None:
    for sent in (b"", b"{}", b'{"context": {"targetingKey": ""}}', b'{"context": {"targetingKey": null}}'):
        found = {each["key"]: each for each in client.post(ofrep.FLAGS, content=sent).json()["flags"]}
        assert {key for key, each in found.items() if "errorCode" in each} == {"rest", "words", "words.params"}
        assert found["words"]["errorCode"] == "TARGETING_KEY_MISSING"
        assert (found["won"]["value"], found["won"]["reason"]) == ("new", "STATIC")
        assert (found["off"]["value"], found["off"]["reason"]) == ("old", "DISABLED")


@pytest.mark.parametrize(
    ("path", "body", "status", "code"),
    [
        ("/words", b"{", 400, "PARSE_ERROR"),
        ("/words", b"\xff", 400, "PARSE_ERROR"),
        ("/words", b"[]", 400, "INVALID_CONTEXT"),
        ("/words", b'{"context": 3}', 400, "INVALID_CONTEXT"),
        ("/words", b'{"context": {"targetingKey": 1.5}}', 400, "INVALID_CONTEXT"),
        ("/words", b'{"context": {"targetingKey": true}}', 400, "INVALID_CONTEXT"),
        ("/words", b'{"context": {"targetingKey": 1' + b"0" * 1024 + b"}}", 400, "INVALID_CONTEXT"),
        ("/words", b'{"context": {"more": "' + b"x" * 2**18 + b'"}}', 400, "INVALID_CONTEXT"),
        ("/words", b"[" * 100_000, 400, "PARSE_ERROR"),
        ("", b"[]", 400, "INVALID_CONTEXT"),
        ("/none", b"{}", 404, "FLAG_NOT_FOUND"),
        ("/none.params", b"{}", 404, "FLAG_NOT_FOUND"),
        ("/words/more", b"{}", 404, "FLAG_NOT_FOUND"),
    ],
)
def test_mistakes_have_the_protocols_codes(
    client: httpx.Client, path: str, body: bytes, status: int, code: str
) -> None:
    reply = client.post(f"{ofrep.FLAGS}{path}", content=body)
    assert (reply.status_code, reply.json()["errorCode"]) == (status, code)
    assert reply.json()["errorDetails"]
    assert reply.json().get("key", "") == path.removeprefix("/")


def test_only_post_asks(client: httpx.Client) -> None:
    reply = client.get(f"{ofrep.FLAGS}/words")
    assert (reply.status_code, reply.headers["allow"]) == (405, "POST")


def test_a_number_as_key_is_its_text_and_numbers_as_attributes_are_errors_that_are_told(client: httpx.Client) -> None:
    assert flag(client, "words", targetingKey=7, country="KR") == flag(client, "words", targetingKey="7", country="KR")
    found = [flag(client, "rest", targetingKey=unit, plan=3) for unit in UNITS]
    told = [each for each in found if each["reason"] == "ERROR"]
    assert told
    assert {each["value"] for each in told} == {"old"}
    assert "targeting" in told[0]["metadata"]["error"]


@pytest.mark.parametrize("number", [1_259_113_872_313_122_816, 2**63 - 1, 2**64, -(2**63)])
def test_any_whole_number_is_the_unit_that_the_endpoint_reads(client: httpx.Client, number: int) -> None:
    assert flag(client, "next", targetingKey=number) == flag(client, "next", targetingKey=str(number))


@pytest.mark.parametrize("country", [["KR"] * 101, "K" * 4_097, ["x" * 4_000] * 2, {"KR": 1}, [["KR"]]], ids=str_of)
def test_what_is_too_much_for_the_endpoint_is_too_much_here(client: httpx.Client, country: object) -> None:
    found = [flag(client, "words", targetingKey=unit, country=country) for unit in UNITS]
    reached = [each for each in found if each["metadata"]["reason"] == "TARGETING"]
    assert reached
    assert {each["metadata"]["missing"] for each in reached} == {"country"}


def test_what_targeting_lacks_is_told(client: httpx.Client) -> None:
    reasons = {flag(client, "words", targetingKey=unit)["metadata"].get("missing") for unit in UNITS}
    assert reasons == {None, "country"}


def test_at_the_endpoint_what_targeting_lacks_is_counted(client: httpx.Client) -> None:
    def counted() -> dict[str, float]:
        found = {}
        for line in client.get("/metrics").text.splitlines():
            if line.startswith("turnout_attributes_missing_total{"):
                labels, _, value = line.partition("} ")
                found[labels.partition("{")[2]] = float(value)
        return found

    before = counted()
    for unit in UNITS:
        client.post("/v1/endpoints/reply", json={"user_id": unit})
    grown = {labels: value - before.get(labels, 0) for labels, value in counted().items()}
    assert set(grown) == {'experiment="words",attribute="country"', 'experiment="rest",attribute="plan"'}
    assert all(value > 0 for value in grown.values())
    assert sum(grown.values()) <= len(UNITS)


def test_headers_count_as_they_do_at_the_endpoint(client: httpx.Client) -> None:
    found = flag(client, "named", {"X-Variant": "new"}, targetingKey="u")
    assert (found["value"], found["reason"], found["metadata"]["reason"]) == ("new", "SPLIT", "EXTERNAL")
    found = flag(client, "named", targetingKey="u")
    assert (found["value"], found["reason"], found["metadata"]["reason"]) == ("old", "DEFAULT", "EXTERNAL_UNKNOWN")
    signed = overrides.sign(overrides.Override("words", "new", 10**11), KEY)
    found = flag(client, "words", {"Turnout-Override": signed})
    assert (found["value"], found["reason"], found["metadata"]["reason"]) == ("new", "TARGETING_MATCH", "OVERRIDE")
    found = flag(client, "words", {"Turnout-Override": signed.replace("words", "rest")})
    assert (found["errorCode"], found["key"]) == ("INVALID_CONTEXT", "words")
    assert "signature" in found["errorDetails"]
    gone = overrides.sign(overrides.Override("words", "gone", 10**11), KEY)
    found = flag(client, "words", {"Turnout-Override": gone}, targetingKey="u")
    assert (found["errorCode"], found["key"]) == ("INVALID_CONTEXT", "words")
    assert "'gone'" in found["errorDetails"]


def test_asking_is_no_exposure(client: httpx.Client) -> None:
    def exposed() -> float:
        lines = client.get("/metrics").text.splitlines()
        return sum(float(line.split()[-1]) for line in lines if line.startswith("turnout_exposures_total"))

    before = exposed()
    for unit in UNITS:
        flag(client, "words", targetingKey=f"only-asked-{unit}", country="KR")
    assert exposed() == before
    client.post("/v1/endpoints/reply", json={"user_id": "not-only-asked", "country": "KR"})
    assert exposed() == before + 1


def test_before_the_first_document_there_is_no_answer(tmp_path: Path) -> None:
    served = embedded.Embedded(tmp_path / "none.yaml", state=tmp_path / "state", watch=False)
    request = http.Request("POST", f"{ofrep.FLAGS}/words", body=b"{}")
    reply = asyncio.run(routes.Routes(served.home)(request))
    assert (reply.status, reply.content_type) == (503, http.PROBLEM)
