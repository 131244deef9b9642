"""What callers notice of another request or reply, from the types that authors write."""

from dataclasses import dataclass, make_dataclass
from typing import Annotated, Any, Literal

import jsonschema
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from turnout.changes import compatibility
from turnout.pipelines import codec


@dataclass
class Place:
    city: str
    zip: int | None = None


@dataclass
class Town:
    city: str


@dataclass
class Node:
    name: str
    below: "list[Node]"


def request(before: Any, after: Any) -> list[tuple[str, bool]]:
    found = compatibility.request(codec.of(before).json_schema(), codec.of(after).json_schema())
    return [(f"{each.path}: {each.text}", each.breaks) for each in found]


def reply(before: Any, after: Any) -> list[tuple[str, bool]]:
    found = compatibility.reply(codec.of(before).json_schema(), codec.of(after).json_schema())
    return [(f"{each.path}: {each.text}", each.breaks) for each in found]


def made(**fields: Any) -> type:
    """A dataclass; a tuple is a type with its default."""
    listed = [(name, *each) if isinstance(each, tuple) else (name, each) for name, each in fields.items()]
    required = [each for each in listed if len(each) == 2]
    return make_dataclass("Chat", [*required, *(each for each in listed if len(each) == 3)])


@pytest.mark.parametrize(
    ("before", "after", "told"),
    [
        pytest.param({"x": str}, {"x": str, "y": int}, [("y: is required now", True)], id="new-required"),
        pytest.param({"x": str}, {"x": str, "y": (int, 0)}, [("y: may be given now", False)], id="new-optional"),
        pytest.param({"x": str, "y": int}, {"x": str}, [("y: is refused now, it was allowed", True)], id="removed"),
        pytest.param({"x": (str, "")}, {"x": str}, [("x: is required now", True)], id="optional-becomes-required"),
        pytest.param({"x": str}, {"x": (str, "")}, [], id="required-becomes-optional"),
        pytest.param({"x": float}, {"x": int}, [("x: takes integer, no longer number", True)], id="narrower"),
        pytest.param({"x": int}, {"x": float}, [], id="wider"),
        pytest.param({"x": str | None}, {"x": str}, [("x: takes string, no longer null", True)], id="no-null-now"),
        pytest.param({"x": str}, {"x": str | None}, [], id="null-too"),
        pytest.param(
            {"x": Literal["a", "b"]}, {"x": Literal["a"]}, [("x: no longer takes 'b'", True)], id="fewer-values"
        ),
        pytest.param({"x": Literal["a"]}, {"x": Literal["a", "b"]}, [], id="more-values"),
        pytest.param({"x": str}, {"x": Literal["a"]}, [("x: takes only 'a' now", True)], id="values-only"),
        pytest.param(
            {"x": str},
            {"x": Annotated[str, msgspec.Meta(max_length=9)]},
            [("x: maxLength is 9, was unbounded", True)],
            id="bound",
        ),
        pytest.param(
            {"x": Annotated[int, msgspec.Meta(ge=1)]}, {"x": Annotated[int, msgspec.Meta(ge=0)]}, [], id="lax"
        ),
        pytest.param(
            {"x": list[float]}, {"x": list[int]}, [("x[]: takes integer, no longer number", True)], id="items"
        ),
        pytest.param({"x": Place}, {"x": Town}, [("x.zip: is refused now, it was allowed", True)], id="nested"),
        pytest.param({"x": Any}, {"x": str}, None, id="anything-becomes-text"),
        pytest.param({"x": str}, {"x": Any}, [], id="text-becomes-anything"),
        pytest.param({"x": dict[str, float]}, {"x": dict[str, int]}, None, id="values-of-a-mapping"),
        pytest.param({"x": Node}, {"x": Node}, [], id="a-type-that-holds-itself"),
    ],
)
def test_requests(before: dict[str, Any], after: dict[str, Any], told: list[tuple[str, bool]] | None) -> None:
    found = request(made(**before), made(**after))
    if told is None:
        assert any(breaks for _, breaks in found)
    else:
        assert found == told


@pytest.mark.parametrize(
    ("before", "after", "told"),
    [
        pytest.param({"x": str}, {"x": str, "y": int}, [("y: is new", False)], id="new-field"),
        pytest.param({"x": str, "y": int}, {"x": str}, [("y: is gone", True)], id="removed"),
        pytest.param({"x": str}, {"x": (str, "")}, [("x: may be missing now", True)], id="may-be-missing"),
        pytest.param({"x": int}, {"x": float}, [("x: may be number, was integer", True)], id="wider"),
        pytest.param({"x": float}, {"x": int}, [], id="narrower"),
        pytest.param({"x": str}, {"x": str | None}, [("x: may be null, was string", True)], id="may-be-null"),
        pytest.param({"x": Literal["a"]}, {"x": Literal["a", "b"]}, [("x: may be 'b' now", True)], id="more-values"),
        pytest.param({"x": Literal["a", "b"]}, {"x": Literal["a"]}, [], id="fewer-values"),
        pytest.param(
            {"x": Annotated[str, msgspec.Meta(max_length=9)]},
            {"x": str},
            [("x: maxLength 9 no longer holds", False)],
            id="bound-gone",
        ),
    ],
)
def test_replies(before: dict[str, Any], after: dict[str, Any], told: list[tuple[str, bool]]) -> None:
    assert reply(made(**before), made(**after)) == told


def test_unknown_fields_that_were_read_over_are_an_error_now() -> None:
    (found,) = compatibility.request(
        codec.of(Place, extra_fields="ignore").json_schema(), codec.of(Place).json_schema()
    )
    assert (found.text, found.breaks) == ("refuses unknown fields now", True)


KINDS: tuple[dict[str, Any], ...] = (
    {"type": "string"},
    {"type": "integer"},
    {"type": "number"},
    {"type": "boolean"},
    {"enum": ["a", "b"]},
    {"enum": ["a"]},
    {"anyOf": [{"type": "string"}, {"type": "null"}]},
    {"type": "array", "items": {"type": "number"}},
    {"type": "array", "items": {"type": "integer"}},
    {"type": "string", "maxLength": 2},
    {},
)
VALUES: tuple[Any, ...] = ("a", "b", "long", 1, 1.5, True, None, [], [1], [1.5])


@st.composite
def objects(draw: st.DrawFn) -> dict[str, Any]:
    names = draw(st.lists(st.sampled_from("xyz"), unique=True))
    return {
        "type": "object",
        "properties": {name: draw(st.sampled_from(KINDS)) for name in names},
        "required": [name for name in names if draw(st.booleans())],
        "additionalProperties": draw(st.booleans()),
    }


BODIES = st.dictionaries(st.sampled_from("xyz"), st.sampled_from(VALUES))


@given(objects(), objects(), st.lists(BODIES, min_size=20, max_size=20))
def test_what_is_called_compatible_never_refuses_a_body_that_was_right(
    before: dict[str, Any], after: dict[str, Any], bodies: list[dict[str, Any]]
) -> None:
    if any(found.breaks for found in compatibility.request(before, after)):
        return
    old, new = jsonschema.Draft202012Validator(before), jsonschema.Draft202012Validator(after)
    known = before["properties"].keys()
    for body in bodies:
        if body.keys() <= known and old.is_valid(body):  # other fields mean nothing to either
            assert new.is_valid(body), body


@given(objects())
def test_a_type_is_compatible_with_itself(schema: dict[str, Any]) -> None:
    assert compatibility.request(schema, schema) == []
    assert compatibility.reply(schema, schema) == []
