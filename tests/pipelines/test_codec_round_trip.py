"""What is encoded decodes to itself, and nothing that arrives raises anything but InputError."""

import contextlib
import dataclasses
from typing import Any, TypedDict

import msgspec
import pydantic
import pytest
from hypothesis import given
from hypothesis import strategies as st

from turnout.errors import InputError
from turnout.pipelines import codec


@dataclasses.dataclass
class DataInner:
    number: float
    words: list[str]


@dataclasses.dataclass
class DataOuter:
    name: str
    inner: DataInner
    many: dict[str, DataInner]
    maybe: int | None


class StructInner(msgspec.Struct):
    number: float
    words: list[str]


class StructOuter(msgspec.Struct):
    name: str
    inner: StructInner
    many: dict[str, StructInner]
    maybe: int | None


class DictInner(TypedDict):
    number: float
    words: list[str]


class DictOuter(TypedDict):
    name: str
    inner: DictInner
    many: dict[str, DictInner]
    maybe: int | None


class ModelInner(pydantic.BaseModel):
    number: float
    words: list[str]


class ModelOuter(pydantic.BaseModel):
    name: str
    inner: ModelInner
    many: dict[str, ModelInner]
    maybe: int | None


PAIRS: list[tuple[Any, Any]] = [
    (DataOuter, DataInner),
    (StructOuter, StructInner),
    (DictOuter, DictInner),
    (ModelOuter, ModelInner),
]
CODECS = {outer: codec.of(outer) for outer, _ in PAIRS}
text = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
inner_fields = st.fixed_dictionaries(
    {"number": st.floats(allow_nan=False, allow_infinity=False), "words": st.lists(text, max_size=3)}
)


@pytest.mark.parametrize(("outer", "inner"), PAIRS, ids=lambda kind: kind.__name__)
@given(data=st.data())
def test_encoded_value_decodes_to_itself(outer: Any, inner: Any, data: st.DataObject) -> None:
    made = inner_fields.map(lambda fields: inner(**fields))
    value = outer(
        name=data.draw(text),
        inner=data.draw(made),
        many=data.draw(st.dictionaries(text, made, max_size=3)),
        maybe=data.draw(st.none() | st.integers(-(2**63), 2**64 - 1)),
    )
    assert CODECS[outer].decode(CODECS[outer].encode(value)) == value


@pytest.mark.parametrize(("outer", "inner"), PAIRS, ids=lambda kind: kind.__name__)
@given(
    value=st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | text,
        lambda inside: (
            st.lists(inside, max_size=4)
            | st.dictionaries(st.sampled_from(["name", "inner", "many", "maybe", "number", "words", "x"]), inside)
        ),
        max_leaves=12,
    )
)
def test_any_json_is_decoded_or_refused(outer: Any, inner: Any, value: Any) -> None:
    with contextlib.suppress(InputError):
        CODECS[outer].decode(pydantic.TypeAdapter(Any).dump_json(value))


@pytest.mark.parametrize(("outer", "inner"), PAIRS, ids=lambda kind: kind.__name__)
@given(body=st.binary(max_size=60) | st.text('{}[]",:0123456789eE+-.nulltrue', max_size=40).map(str.encode))
def test_any_bytes_are_refused_or_decoded(outer: Any, inner: Any, body: bytes) -> None:
    with contextlib.suppress(InputError):
        CODECS[outer].decode(body)
