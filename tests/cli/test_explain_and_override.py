"""`turnout explain` and `turnout override` as people type them."""

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from turnout.experiments import overrides

DOCUMENT = """
override_key: secret:qa
pipelines:
  say: {code: "shop:say"}
  other: {code: "shop:other"}
endpoints:
  reply: {pipeline: say, unit: user_id, attributes: {country: country, age: age, beta: beta}}
experiments:
  words:
    endpoint: reply
    targeting: 'country == "KR" && age > 17 && beta'
    variants: {old: {weight: 50, control: true}, new: {weight: 50, pipeline: other}}
"""
Type = Callable[..., Any]


@pytest.fixture(autouse=True)
def document(tmp_path: Path) -> None:
    (tmp_path / "turnout.yaml").write_text(DOCUMENT)
    (tmp_path / "secrets").mkdir()
    (tmp_path / "secrets" / "qa").write_text("the key\n")


def test_explain_takes_attributes_as_text_numbers_and_flags(turnout: Type) -> None:
    told = ["--attribute", "country=KR", "--attribute", "age=18", "--attribute", "beta=true"]
    ended = turnout("explain", "words", "user-1", *told)
    assert (ended.status, ended.err) == (0, "")
    assert 'Targeting (country == "KR" && age > 17 && beta) is true.' in ended.out
    assert "reason SPLIT" in ended.out.splitlines()[0]
    ended = turnout("explain", "words", "user-1", "--json", *told)
    found = json.loads(ended.out)
    assert found["attributes"] == {"country": "KR", "age": 18, "beta": True}
    assert found["reason"] == "SPLIT"


def test_explain_says_what_it_was_not_told(turnout: Type) -> None:
    ended = turnout("explain", "words", "user-1")
    assert "reason TARGETING" in ended.out.splitlines()[0]
    assert "which the request does not say" in ended.out
    ended = turnout("explain", "words", "user-1", "--attribute", "country")
    assert (ended.status, "'country' is not NAME=VALUE" in ended.err) == (2, True)


def test_override_prints_a_header_that_the_server_takes(turnout: Type) -> None:
    ended = turnout("override", "words", "new", "--for", "10m", "--secrets", "secrets")
    assert (ended.status, ended.err) == (0, "")
    name, _, value = ended.out.strip().partition(": ")
    assert name == "Turnout-Override"
    found = overrides.verify(value.encode(), "the key", now=time.time())
    assert (found.experiment, found.variant) == ("words", "new")
    assert 500 < found.expires - time.time() < 601
    ended = turnout("override", "words", "new", "--json", "--secrets", "secrets")
    assert json.loads(ended.out)["header"] == "Turnout-Override"


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("words", "new"), "secret 'qa' is not there. Name their folder: --secrets DIR."),
        (("wrods", "new", "--secrets", "secrets"), "no experiment 'wrods'. Did you mean 'words'?"),
        (("words", "newer", "--secrets", "secrets"), "has no variant 'newer'. Did you mean 'new'?"),
        (("words", "new", "--secrets", "secrets", "--for", "31d"), "at most 30d"),
        (("words", "new", "--secrets", "secrets", "--for", "1"), "Say the unit: 1s or 1ms."),
    ],
)
def test_override_refuses_what_no_server_would_take(turnout: Type, arguments: tuple[str, ...], told: str) -> None:
    ended = turnout("override", *arguments)
    assert ended.status != 0
    assert ended.out == ""
    assert told in ended.err


def test_override_needs_a_key_in_the_document(turnout: Type, tmp_path: Path) -> None:
    (tmp_path / "turnout.yaml").write_text(DOCUMENT.replace("override_key: secret:qa\n", ""))
    ended = turnout("override", "words", "new")
    assert (ended.status, "Add override_key: secret:NAME" in ended.err) == (1, True)


def test_check_compiles_targeting_without_code(turnout: Type, tmp_path: Path) -> None:
    (tmp_path / "turnout.yaml").write_text(DOCUMENT.replace("age > 17", "agee > 17"))
    ended = turnout("check", "--no-code", "--secrets", "secrets")
    assert ended.status == 1
    assert "experiments.words.targeting: column 20: unknown name 'agee'. Did you mean 'age'?" in ended.err
    assert "turnout.yaml:11" in ended.err
