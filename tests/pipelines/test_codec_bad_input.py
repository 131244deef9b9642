"""Every kind of bad body against every kind of type: the same field is named, whatever the class."""

import dataclasses
import typing
from typing import Any, NotRequired, TypedDict

import msgspec
import pydantic
import pytest

from turnout.errors import InputError, SpecError
from turnout.pipelines import codec


@dataclasses.dataclass
class DataItem:
    price: float
    count: int = 1


@dataclasses.dataclass
class DataOrder:
    customer: str
    items: list[DataItem]
    best: DataItem | None = None
    by_name: dict[str, DataItem] = dataclasses.field(default_factory=dict)
    note: Any = None


class StructItem(msgspec.Struct):
    price: float
    count: int = 1


class StructOrder(msgspec.Struct):
    customer: str
    items: list[StructItem]
    best: StructItem | None = None
    by_name: dict[str, StructItem] = {}
    note: Any = None


class StrictItem(msgspec.Struct, forbid_unknown_fields=True):
    price: float
    count: int = 1


class StrictOrder(msgspec.Struct, forbid_unknown_fields=True):
    customer: str
    items: list[StrictItem]
    best: StrictItem | None = None
    by_name: dict[str, StrictItem] = {}
    note: Any = None


class DictItem(TypedDict):
    price: float
    count: NotRequired[int]


class DictOrder(TypedDict):
    customer: str
    items: list[DictItem]
    best: NotRequired[DictItem | None]
    by_name: NotRequired[dict[str, DictItem]]
    note: NotRequired[Any]


class ModelItem(pydantic.BaseModel):
    price: float
    count: int = 1


class ModelOrder(pydantic.BaseModel):
    customer: str
    items: list[ModelItem]
    best: ModelItem | None = None
    by_name: dict[str, ModelItem] = {}
    note: Any = None


class LenientItem(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="allow")
    price: float
    count: int = 1


@dataclasses.dataclass
class MixedOrder:
    """A dataclass with a pydantic model inside."""

    customer: str
    items: list[LenientItem]
    best: LenientItem | None = None
    by_name: dict[str, LenientItem] = dataclasses.field(default_factory=dict)
    note: Any = None


KINDS = [DataOrder, StructOrder, StrictOrder, DictOrder, ModelOrder, MixedOrder]
ids = [kind.__name__ for kind in KINDS]

GOOD = b'{"customer": "c", "items": [{"price": 1.5}], "best": {"price": 2, "count": 3}}'


def item(text: bytes) -> bytes:
    return b'{"customer": "c", "items": [{"price": 1}, ' + text + b"]}"


def note(text: bytes) -> bytes:
    return b'{"customer": "c", "items": [], "note": ' + text + b"}"


# name: (body, kind of error, path, a word that must be in the message)
TABLE: dict[str, tuple[bytes, str, str, str]] = {
    "empty body": (b"", "syntax", "", "empty"),
    "blanks only": (b" \n", "syntax", "", "empty"),
    "half a body": (GOOD[:-20], "syntax", "", "too early"),
    "text after the body": (GOOD + b" x", "syntax", "", "trailing"),
    "trailing comma": (b'{"customer": "c",}', "syntax", "", "trailing comma"),
    "single quotes": (b"{'customer': 'c'}", "syntax", "", "near"),
    "not JSON at all": (b"customer=c", "syntax", "", "not JSON"),
    "byte order mark": (b"\xef\xbb\xbf" + GOOD, "syntax", "", "byte 0"),
    "NaN": (item(b'{"price": NaN}'), "syntax", "", "NaN"),
    "minus Infinity": (item(b'{"price": -Infinity}'), "syntax", "", "Infinity"),
    "invalid UTF-8 in a string": (b'{"customer": "\xff", "items": []}', "syntax", "", ""),
    "nested 1,000 deep": (note(b"[" * 1_000 + b"]" * 1_000), "syntax", "", "too deeply"),
    "nested 100,000 deep": (note(b"[" * 100_000 + b"]" * 100_000), "syntax", "", "too deeply"),
    "an array": (b"[1, 2, 3]", "type", "", "an array of 3"),
    "null": (b"null", "type", "", "null"),
    "a number": (b"12", "type", "", "12"),
    "missing field": (b'{"items": []}', "type", "customer", "missing"),
    "missing nested field": (item(b'{"count": 1}'), "type", "items[1].price", "missing"),
    "unknown field": (b'{"customer": "c", "items": [], "coupon": 1}', "type", "coupon", "unknown"),
    "misspelt field": (b'{"custommer": "c", "items": []}', "type", "custommer", "Did you mean 'customer'?"),
    "unknown nested field": (item(b'{"price": 1, "prize": 1}'), "type", "items[1].prize", "Did you mean 'price'?"),
    "unknown field of an optional": (
        b'{"customer": "c", "items": [], "best": {"price": 1, "zzz": 2}}',
        "type",
        "best.zzz",
        "count, price",
    ),
    "wrong type": (b'{"customer": 7, "items": []}', "type", "customer", "7"),
    "wrong nested type": (item(b'{"price": "dear"}'), "type", "items[1].price", '"dear"'),
    "object for a list": (b'{"customer": "c", "items": {}}', "type", "items", "an object"),
    "a fraction for an integer": (item(b'{"price": 1, "count": 1.5}'), "type", "items[1].count", "1.5"),
    "null for a number": (item(b'{"price": null}'), "type", "items[1].price", "null"),
    "1e400": (item(b'{"price": 1e400}'), "type", "items[1].price", "out of range"),
    "10**400 for a number": (item(b'{"price": 1' + b"0" * 400 + b"}"), "type", "items[1].price", "out of range"),
    "1e400 where anything goes": (note(b"1e400"), "type", "note", "out of range"),
}


@pytest.mark.parametrize("kind", KINDS, ids=ids)
@pytest.mark.parametrize("name", TABLE, ids=list(TABLE))
def test_bad_body_is_refused_naming_the_field(kind: Any, name: str) -> None:
    body, error_kind, path, word = TABLE[name]
    with pytest.raises(InputError) as caught:
        codec.of(kind).decode(body)
    assert (caught.value.kind, caught.value.path) == (error_kind, path)
    assert word in str(caught.value)


@pytest.mark.parametrize("kind", KINDS, ids=ids)
def test_deep_nesting_in_an_unknown_field_is_refused_for_one_or_the_other(kind: Any) -> None:
    with pytest.raises(InputError, match=r"too deeply|unknown field 'zz'"):
        codec.of(kind).decode(b'{"zz": ' + b"[" * 5_000 + b"]" * 5_000 + b"}")


@pytest.mark.parametrize("kind", KINDS, ids=ids)
def test_good_body_decodes_into_the_authors_class(kind: Any) -> None:
    order = codec.of(kind).decode(GOOD)
    found = order if isinstance(order, dict) else {"items": order.items, "customer": order.customer}
    assert isinstance(order, dict if typing.is_typeddict(kind) else kind)
    assert found["customer"] == "c"
    assert len(found["items"]) == 1


@pytest.mark.parametrize("kind", KINDS, ids=ids)
def test_unknown_field_in_a_mapping_is_refused(kind: Any) -> None:
    body = b'{"customer": "c", "items": [], "by_name": {"a": {"price": 1, "prize": 2}}}'
    with pytest.raises(InputError, match="prize"):
        codec.of(kind).decode(body)


@pytest.mark.parametrize("kind", KINDS, ids=ids)
def test_integer_of_5000_digits_is_refused(kind: Any) -> None:
    with pytest.raises(InputError, match="out of range"):
        codec.of(kind).decode(item(b'{"price": 1, "count": 1' + b"0" * 5_000 + b"}"))


@pytest.mark.parametrize("kind", KINDS, ids=ids)
def test_last_of_duplicate_keys_counts(kind: Any) -> None:
    order = codec.of(kind).decode(b'{"customer": "a", "items": [], "customer": "b"}')
    assert (order["customer"] if isinstance(order, dict) else order.customer) == "b"


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind is not StrictOrder], ids=lambda kind: kind.__name__)
def test_unknown_fields_pass_when_the_endpoint_ignores_them(kind: Any) -> None:
    order = codec.of(kind, extra_fields="ignore").decode(b'{"customer": "c", "items": [], "coupon": 1}')
    assert (order["customer"] if isinstance(order, dict) else order.customer) == "c"


@pytest.mark.parametrize("kind", KINDS, ids=ids)
def test_extra_names_are_allowed_at_the_top_and_only_there(kind: Any) -> None:
    made = codec.of(kind, extra_names=frozenset({"user_id"}))
    order = made.decode(b'{"user_id": "u", "customer": "c", "items": []}')
    assert (order["customer"] if isinstance(order, dict) else order.customer) == "c"
    with pytest.raises(InputError) as caught:
        made.decode(item(b'{"price": 1, "user_id": "u"}'))
    assert caught.value.path == "items[1].user_id"


@pytest.mark.parametrize("kind", KINDS, ids=ids)
@pytest.mark.parametrize("body", [b"[1]", b"3", b"", b"{", b"\xff"])
def test_extra_names_do_not_get_in_the_way_of_other_errors(kind: Any, body: bytes) -> None:
    with pytest.raises(InputError):
        codec.of(kind, extra_names=frozenset({"user_id"})).decode(body)


def test_huge_string_is_cut_in_the_message() -> None:
    with pytest.raises(InputError) as caught:
        codec.of(DataOrder).decode(b'{"customer": "c", "items": "' + b"x" * 1_000_000 + b'"}')
    assert len(str(caught.value)) < 300


def test_huge_unknown_name_is_cut_in_the_message() -> None:
    with pytest.raises(InputError) as caught:
        codec.of(DataOrder).decode(b'{"' + b"x" * 1_000_000 + b'": 1}')
    assert len(str(caught.value)) < 600


@dataclasses.dataclass
class Tree:
    value: int
    children: "list[Tree]" = dataclasses.field(default_factory=list)


def test_type_that_contains_itself_refuses_unknown_fields_at_every_depth() -> None:
    made = codec.of(Tree)
    assert made.decode(b'{"value": 1, "children": [{"value": 2}]}') == Tree(1, [Tree(2)])
    with pytest.raises(InputError) as caught:
        made.decode(b'{"value": 1, "children": [{"value": 2, "children": [{"value": 3, "colour": 4}]}]}')
    assert caught.value.path == "children[0].children[0].colour"


class Cat(msgspec.Struct, tag="cat"):
    lives: int


class Dog(msgspec.Struct, tag="dog"):
    tricks: list[str]


@pytest.mark.parametrize("kind", [Cat | Dog, list[Cat | Dog] | None, dict[str, Cat | Dog | int]], ids=str)
def test_tagged_union_refuses_unknown_fields_of_each_member(kind: Any) -> None:
    shapes = {
        "Cat": b"%b",
        "list": b"[%b]",
        "dict": b'{"a": 3, "b": %b}',
    }
    name = next(name for name in ("list", "dict", "Cat") if name in str(kind))
    made = codec.of(kind)
    made.decode(shapes[name] % b'{"type": "dog", "tricks": []}')
    with pytest.raises(InputError, match="lives"):
        made.decode(shapes[name] % b'{"type": "dog", "tricks": [], "lives": 9}')
    with pytest.raises(InputError):
        made.decode(shapes[name] % b'{"type": "bird"}')


class Point(msgspec.Struct, array_like=True):
    x: float
    y: float


@pytest.mark.parametrize(
    ("kind", "good", "bad"),
    [
        (list[DataItem], b'[{"price": 1}]', b'[{"price": 1, "x": 1}]'),
        (tuple[DataItem, int], b'[{"price": 1}, 2]', b'[{"price": 1, "x": 1}, 2]'),
        (dict[str, list[DataItem]], b'{"a": [{"price": 1}]}', b'{"a": [{"price": 1, "x": 1}]}'),
        (list[Point], b"[[1, 2]]", b"[[1, 2, 3]]"),
        (int | list[DataItem] | None, b"3", b'[{"price": 1, "x": 1}]'),
        (str | dict[str, DataItem] | list[int], b"[1]", b'{"a": {"x": 1}}'),
        (int, b"3", b'"3"'),
        (list[int], b"[1, 2]", b'[1, "2"]'),
        (typing.Literal["a", "b"], b'"a"', b'"c"'),
        (typing.Annotated[int, msgspec.Meta(ge=1)], b"1", b"0"),
    ],
    ids=str,
)
def test_builtin_types_around_named_ones(kind: Any, good: bytes, bad: bytes) -> None:
    made = codec.of(kind)
    made.decode(good)
    with pytest.raises(InputError):
        made.decode(bad)


def test_type_without_a_form_in_json_is_refused_when_bound() -> None:
    with pytest.raises(SpecError, match=r"no form in JSON.*dataclass"):
        codec.of(object())
    with pytest.raises(SpecError, match="no form in JSON"):
        codec.of(DataItem | StructItem)


def test_choice_lists_what_is_allowed() -> None:
    with pytest.raises(InputError, match="one of 'a', 'b'"):
        codec.of(typing.Literal["a", "b"]).decode(b'"c"')
