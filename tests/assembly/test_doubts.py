"""Paths of an endpoint that its request's type hardly has are warned about, at the place where they stand."""

import asyncio
from pathlib import Path

import pytest

from turnout.assembly import admission

CODE = """
from dataclasses import dataclass, field
from turnout import pipeline

@dataclass
class Person:
    country: str = ""
    age: int = 0

@dataclass
class Question:
    user_id: str
    user: Person = field(default_factory=Person)
    tags: dict[str, str] = field(default_factory=dict)

@pipeline
async def answer(question: Question) -> Person:
    return question.user
"""
TEXT = """
pipelines: {answer: {code: "doubtful:answer"}}
endpoints:
  ask: {pipeline: answer, unit: UNIT, attributes: {where: ATTRIBUTE}}
"""


@pytest.mark.parametrize(
    ("unit", "attribute", "path", "words"),
    [
        ("usr_id", "user.country", "endpoints.ask.unit", "Did you mean 'user_id'?"),
        ("user_id", "user.contry", "endpoints.ask.attributes.where", "Did you mean 'country'?"),
        ("user_id", "user.plan", "endpoints.ask.attributes.where", "It has: age, country."),
        ("user_id", "user.country", None, ""),
        ("user_id", "tags.anything", None, ""),
        ("device", "header:X-Country", None, ""),
    ],
    ids=["typo", "typo-inside", "no-such-field", "fine", "any-key", "beside-the-type"],
)
def test_a_path_that_is_nearly_there_is_warned_about(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, unit: str, attribute: str, path: str | None, words: str
) -> None:
    (tmp_path / "doubtful.py").write_text(CODE)
    monkeypatch.syspath_prepend(str(tmp_path))
    text = TEXT.replace("UNIT", unit).replace("ATTRIBUTE", f'"{attribute}"')
    (verdict,) = asyncio.run(admission.check({"turnout.yaml": text}, directory=str(tmp_path), environment={}))
    assert verdict.errors == ()
    found = [each for each in verdict.warnings if each.path.startswith("endpoints.")]
    assert [each.path for each in found] == ([path] if path else [])
    assert all(words in str(each) and each.line == 4 for each in found)
