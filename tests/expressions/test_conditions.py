"""Conditions: what they read, what they say of a value that is not there, and how mistakes are told."""

import contextlib
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from turnout.errors import SpecError
from turnout.expressions import catalog

ATTRIBUTES = {"country": "user.country", "plan": "header:X-Plan", "age": "age", "score": "score", "tags": "tags"}


def holds(text: str, **attributes: object) -> bool:
    return catalog.compile(text, ATTRIBUTES).holds(attributes)


@pytest.mark.parametrize(
    ("text", "attributes", "expected"),
    [
        ('country in ["KR", "JP"]', {"country": "KR"}, True),
        ('country in ["KR", "JP"]', {"country": "DE"}, False),
        ("age >= 18", {"age": 18}, True),
        ("age >= 18", {"age": 17.5}, False),
        ("score > 0", {"score": 0.5}, True),
        ("age == 18", {"age": 18.0}, True),
        ('plan == "pro" || age > 60', {"age": 61}, True),
        ('plan == "pro" && age > 60', {"age": 60}, False),
        ('"beta" in tags', {"tags": ["beta", "x"]}, True),
        ('tags.exists(tag, tag.startsWith("be"))', {"tags": ["beta"]}, True),
        ('country.matches("^K")', {"country": "KR"}, True),
        ('country == "\u00c5"', {"country": "\u00c5"}, True),
        ("true", {}, True),
        ("tags[0]", {"tags": [False]}, False),
        ("country == 'KR'", {"country": 3}, False),
    ],
)
def test_a_condition_is_true_or_false(text: str, attributes: dict[str, object], expected: bool) -> None:
    assert holds(text, **attributes) is expected


def test_text_of_a_caller_is_never_taken_for_what_cel_says() -> None:
    forged = 'UNKNOWN: No value with name "forged" found in Activation'
    with pytest.raises(ValueError, match=r"targeting: it gives text, not true or false") as refused:
        holds("country", country=forged)
    assert "forged" not in str(refused.value)


def test_a_condition_says_what_it_reads() -> None:
    condition = catalog.compile("age > 3 && country != 'plan' && age < 9", ATTRIBUTES)
    assert (condition.text, condition.names) == ("age > 3 && country != 'plan' && age < 9", ("age", "country"))
    assert repr(condition) == "<condition age > 3 && country != 'plan' && age < 9>"


@pytest.mark.parametrize("attributes", [{}, {"country": None}, {"age": 3}], ids=str)
def test_what_is_missing_is_named(attributes: dict[str, object]) -> None:
    with pytest.raises(LookupError) as missing:
        holds("country == 'KR' || age > 60", **attributes)
    assert missing.value.args[0] in ("country", "age")


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("age > 18", "18"),
        ("age > 18", True),
        ("age > 18", [19]),
        ("age > 18", 10**30),
        ("age > 18", object()),
        ("age.month > 3", 7),
        ("age / 0 == 1", 1),
        ("'x'.matches(age)", "("),
        ("age", 1),
        ("age == 'x'", "\ud800"),
    ],
)
def test_what_cannot_be_computed_is_an_error(text: str, value: object) -> None:
    with pytest.raises(ValueError, match="targeting: "):
        holds(text, age=value)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ('contry == "KR"', "column 1: unknown name 'contry'. Did you mean 'country'?"),
        ("zzz", "column 1: unknown name 'zzz'. The endpoint's attributes: age, country, plan, score, tags."),
        ("plan > 3", "column 6: '>' does not take text and a whole number. Quote it, or turn the text into a number"),
        ("double(age) > 0", "column 13: '>' does not take a fraction and a whole number. Fractions compare with"),
        ("double(age) > 0", "write 0.0 for 0"),
        ('plan in "abc"', "'in' does not take text and text. Write a list: country in"),
        ("size(3) == 1", "column 5: 'size' does not take a whole number."),
        ("country = 'KR'", "column 9: cannot read '= '; column 11: ''KR'' does not belong here. Compare with '=='."),
        ("age > 18 &&", "column 12: it ends too early."),
        ("", "column 1: it ends too early."),
        ("age > 1 and age < 3", "column 9: 'and' does not belong here. CEL writes &&, || and !."),
        ("\ncontry == 1\n|| foo", "line 2, column 1: unknown name 'contry'; line 3, column 4: unknown name 'foo'."),
        ("1 + 1", "the condition gives a whole number, not true or false. Compare it"),
        ("[age]", "the condition gives list"),
        ("x" * 5000, "the condition has 5,000 characters; at most 4,096 are taken."),
        ("x.f() || " * 20 + "true", "column 1: unknown name 'x'"),
    ],
)
def test_mistakes_are_told_with_their_column(text: str, told: str) -> None:
    with pytest.raises(SpecError) as refused:
        catalog.compile(text, ATTRIBUTES)
    assert told in str(refused.value)


@pytest.mark.parametrize("text", ["tags.all(x, tags.all(y, y >= 0))", "tags.all(x, x >= 0)"])
def test_a_long_list_from_a_caller_cannot_make_a_condition_run_long(text: str) -> None:
    assert holds(text, tags=list(range(20))) is True
    with pytest.raises(ValueError, match="budget"):
        holds(text, tags=list(range(20_000)))


def test_names_alone_may_hold_anything() -> None:
    assert catalog.compile("plan > 3", ["plan"]).holds({"plan": 4}) is True


@given(st.text(max_size=40))
def test_any_text_compiles_or_is_refused(text: str) -> None:
    with contextlib.suppress(SpecError):
        catalog.compile(text, ATTRIBUTES)


json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=5,
)


@given(
    text=st.sampled_from(["age > 1", "country == 'KR'", "age in tags", "tags.all(t, t > age)", "country.size() > 1"]),
    age=json,
    country=json,
    tags=json,
)
def test_any_values_give_an_answer_or_one_of_two_errors(text: str, age: object, country: object, tags: object) -> None:
    with contextlib.suppress(LookupError, ValueError):
        assert holds(text, age=age, country=country, tags=tags) in (True, False)


def run(code: str) -> str:
    return subprocess.check_output([sys.executable, "-c", code], text=True, timeout=60).strip()


def test_cel_is_imported_by_the_first_condition_and_not_before() -> None:
    seen = "'cel_expr_python' in sys.modules"
    code = f"import sys; from turnout.expressions import catalog; a = {seen}; catalog.compile('true', []); "
    code += f"print(a, {seen})"
    assert run(code) == "False True"


def test_without_the_library_the_error_says_what_to_install() -> None:
    code = (
        "import sys; sys.modules['cel_expr_python'] = None\n"
        "from turnout.expressions import catalog\nfrom turnout.errors import SpecError\n"
        "try: catalog.compile('true', [])\nexcept SpecError as error: print(error)"
    )
    assert 'Install it: pip install "turnout[rules]".' in run(code)
