"""What callers see of a type: JSON Schema for OpenAPI, and an example that works."""

import dataclasses
import datetime
import enum
import typing
import uuid
from typing import Annotated, Any, Literal, TypedDict

import msgspec
import orjson
import pydantic
import pytest

from turnout.pipelines import codec, schemas


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Inner(msgspec.Struct):
    price: Annotated[float, msgspec.Meta(gt=0)]
    title: Annotated[str, msgspec.Meta(min_length=6, max_length=8)]


@dataclasses.dataclass
class DataAll:
    items: Annotated[list[Inner], msgspec.Meta(min_length=2)]
    colour: Colour
    kind: Literal["a", "b"]
    when: datetime.datetime
    day: datetime.date
    id: uuid.UUID
    pair: tuple[int, str]
    table: dict[str, int]
    either: int | str | None
    flag: bool
    share: Annotated[float, msgspec.Meta(ge=0, le=1)]
    below: Annotated[int, msgspec.Meta(lt=0)]
    defaulted: int = 7


class DictAll(TypedDict, total=False):
    properties: typing.Required[str]
    title: str


class ModelInner(pydantic.BaseModel):
    price: float = pydantic.Field(gt=0, lt=1)


class ModelAll(pydantic.BaseModel):
    items: list[ModelInner] = pydantic.Field(min_length=1)
    mail: Annotated[str, pydantic.Field(examples=["a@b.org"])]
    count: Annotated[int, pydantic.Field(ge=3)]
    colour: Colour


class Tree(msgspec.Struct):
    children: "Annotated[list[Tree], msgspec.Meta(min_length=0)]"


KINDS: list[Any] = [DataAll, DictAll, ModelAll, Inner, Tree, list[Inner], dict[str, Inner], Inner | None, int, str]


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_example_is_taken_by_the_codec(kind: Any) -> None:
    made = codec.of(kind)
    made.decode(orjson.dumps(made.example()))


@pytest.mark.parametrize("kind", [DataAll, DictAll, ModelAll, Inner], ids=str)
def test_example_has_the_extra_names_of_the_endpoint(kind: Any) -> None:
    made = codec.of(kind, extra_names=frozenset({"user_id"}))
    example = made.example()
    assert example["user_id"] == "u1"
    made.decode(orjson.dumps(example))


@pytest.mark.parametrize("kind", KINDS, ids=str)
@pytest.mark.parametrize("strict", [True, False])
def test_schema_forbids_unknown_fields_exactly_when_the_codec_does(kind: Any, strict: bool) -> None:
    schema = codec.of(kind, extra_fields="forbid" if strict else "ignore").json_schema()
    objects = [node for node in [schema, *schema.get("$defs", {}).values()] if "properties" in node]
    assert all((node.get("additionalProperties") is False) == strict for node in objects)


def test_references_follow_the_template() -> None:
    for kind in (DataAll, ModelAll):
        schema = codec.of(kind).json_schema("#/components/schemas/{name}")
        assert "#/components/schemas/" in orjson.dumps(schema).decode()
        assert "#/$defs/" not in orjson.dumps(schema).decode()
        assert "$defs" in schema


def test_field_called_properties_is_a_field() -> None:
    schema = codec.of(DictAll).json_schema()
    assert schemas.field_names(schema, ()) == ["properties", "title"]
    assert schema["$defs"]["DictAll"]["properties"]["title"] == {"type": "string"}
