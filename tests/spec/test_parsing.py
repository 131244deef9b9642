"""YAML 1.2 with places, limits and clear errors."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from turnout.spec import parsing, tree


def _plain(text: str) -> object:
    root, errors = parsing.parse("f.yaml", text)
    assert [str(error) for error in errors] == []
    return tree.plain(root)


def _errors(text: str) -> list[str]:
    return [str(error) for error in parsing.parse("f.yaml", text)[1]]


@pytest.mark.parametrize(
    ("written", "value"),
    [
        ("on", "on"),
        ("NO", "NO"),
        ("yes", "yes"),
        ("y", "y"),
        ("true", True),
        ("False", False),
        ("2024-01-01", "2024-01-01"),
        ("12:30:45", "12:30:45"),
        ("1_000", "1_000"),
        ("~", None),
        ("", None),
        ("-12", -12),
        ("0x1F", 31),
        ("0o17", 15),
        ("1e3", 1000.0),
        (".5", 0.5),
        ("'50'", "50"),
        ("v1.2.3", "v1.2.3"),
        ("=", "="),
    ],
)
def test_scalars_follow_yaml_1_2(written: str, value: object) -> None:
    found = _plain(f"a: {written}\n")
    assert found == {"a": value}
    assert type(found["a"]) is type(value)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a: 1\nb: 2\na: 3\n", "f.yaml:3 a: key 'a' is defined twice; first in line 1. Remove one of the two."),
        ("m:\n  r: 1\n  r: 2\n", "f.yaml:3 m.r: key 'r' is defined twice; first in line 2."),
        ("a:\n\t- x\n", "f.yaml:2: not YAML: a tab in the indentation. YAML indents with spaces."),
        ("- 1\n- 2\n", "f.yaml:1: the document is a list; expected a mapping with models, pipelines"),
        ("just words", "f.yaml:1: the document is one single value; expected a mapping"),
        ("a: b: c\n", "f.yaml:1: not YAML: mapping values are not allowed in this context. Quote a text that"),
        ("a: 'x\nb: 2\n", "It began in line 1"),
        ("a: {\n", "f.yaml:2: not YAML: did not find expected node content"),
        ("a: [1, 2\nb: 3\n", "f.yaml:2: not YAML"),
        ("a: 1\n---\nb: 2\n", "f.yaml:2: a second YAML document starts here."),
        ("%YAML 1.1\n---\na: yes\n", "%YAML 1.1 is not supported. Documents are YAML 1.2"),
        ("a: *b\n", "f.yaml:1: alias '*b' names nothing. Write '&b' before."),
        ("a: &a [*a]\n", "f.yaml:1: alias '*a' stands inside what it names."),
        ("a: {<<: {b: 1}}\n", "f.yaml:1: merge keys '<<' are not part of YAML 1.2."),
        ("1: x\n", 'f.yaml:1: a key must be text, found 1. Quote it: "1".'),
        ("true: x\n", 'a key must be text, found true. Quote it: "true".'),
        ("? [a]\n: x\n", "f.yaml:1: a key must be text, found a list or mapping."),
        ("a: !!python/object/apply:os.system [ls]\n", "f.yaml:1: tags such as"),
        ("a: !secret x\n", "f.yaml:1: tags such as '!secret' are not used in documents."),
        ("a: .nan\n", "f.yaml:1: .nan is not a number one can use."),
        ("a: -.inf\n", "f.yaml:1: -.inf is not a number one can use."),
        ("a: 1e999\n", "f.yaml:1: number 1e999 is too large."),
        (
            "a: 007\n",
            'f.yaml:1: number 007 begins with 0, which may mean octal or text. Quote it to make it text: "007".',
        ),
        (f"a: {'9' * 5000}\n", "does not fit 64 bits."),
        ('a: "\\ud800"\n', "f.yaml:1: not YAML: an escape names no character."),
        ("a: 1\n\x00\x01\x02", "f.yaml:2: character 0x00 in the file; it looks binary."),
        ("a: 1\nb: \ufffd\n", "f.yaml:2: the file is not UTF-8 text. Save it as UTF-8."),
        ("a: 1\nb: \x9f", "f.yaml:2: character 0x9f in the file; it looks binary."),
        ('a: "\\UFFFFFFFF"', "f.yaml:1: not YAML: an escape names no character. Write the character itself"),
        ('a: "\\U00110000"', "f.yaml:1: not YAML: an escape names no character."),
        ("a: {b: ${C}}\n", "expected ',' or '}'. Inside braces a reference needs quotes: \"${NAME}\"."),
        ("a: 1\n b\nc\n", "not YAML: could not find expected ':'. Write 'key: value'."),
        ("a:\n  - 1\n b: 2\n", "Keys of one mapping begin in the same column."),
        ("a: \ud800", "f.yaml:1: the file is not UTF-8 text."),
        ("a: " + "x" * 2**20, "f.yaml: the file is larger than 1024 KiB."),
        ("[" * 100_000, "f.yaml:1: nested too deep. At most 50 levels."),
        ("a: " + "{a: " * 60, "f.yaml:1: nested too deep."),
    ],
    ids=lambda value: repr(value[:25]),
)
def test_bad_yaml_says_what_is_wrong_and_where(text: str, expected: str) -> None:
    errors = _errors(text)
    assert len(errors) == 1
    assert expected in errors[0]


def test_one_wrong_thing_does_not_hide_the_next() -> None:
    found = _errors("a: .nan\nb: 007\n1: x\nc: !t x\nc: 2\n")
    assert [error.split(":")[1].split(" ")[0] for error in found] == ["1", "2", "3", "4", "5"]


def test_errors_of_one_file_are_bounded() -> None:
    assert len(_errors("".join(f"k{n}: .nan\n" for n in range(500)))) == parsing.ERRORS_LIMIT


def test_billion_laughs_are_refused_before_they_cost_anything() -> None:
    lines = ["a: &a [" + ",".join("x" * 10) + "]"]
    lines += [f"{b}: &{b} [{','.join([f'*{a}'] * 10)}]" for a, b in zip("abcdefgh", "bcdefghi", strict=True)]
    assert "too many values in one file. At most 50,000 values, aliases written out." in _errors("\n".join(lines))[0]


def test_depth_is_counted_with_aliases_written_out() -> None:
    lines = ["a0: &a0 [x]"] + [f"a{n}: &a{n} [*a{n - 1}]" for n in range(1, 60)]
    assert _errors("\n".join(lines)) == [
        "f.yaml:50: nested too deep. At most 50 levels, aliases written out.",
    ]


def test_alias_repeats_a_value() -> None:
    assert _plain("a: &x {k: [1]}\nb: *x\nc: &n name\n*n : 3\n") == {
        "a": {"k": [1]},
        "b": {"k": [1]},
        "c": "name",
        "name": 3,
    }


def test_alias_is_found_where_it_is_used() -> None:
    root, _ = parsing.parse("f.yaml", "a: &x {k: 1}\n\nb: *x\n")
    node = tree.find(root, ("b",))
    assert node is not None
    assert str(node.key) == "f.yaml:3"


def test_every_key_and_value_keeps_its_line() -> None:
    root, _ = parsing.parse("f.yaml", "a:\n  b: 1\n  c:\n    - x\n    - long: |\n        t\n")
    places = {tree.path_text(path): (node.key.line, node.place.line) for path, node in tree.walk(root) if path}
    assert places == {
        "a": (1, 2),
        "a.b": (2, 2),
        "a.c": (3, 4),
        "a.c[0]": (4, 4),
        "a.c[1]": (5, 5),
        "a.c[1].long": (5, 5),
    }


@pytest.mark.parametrize("text", ["", "\n", "# only a comment\n", "---\n", "~\n", "\ufeff"], ids=repr)
def test_empty_text_is_an_empty_mapping(text: str) -> None:
    assert _plain(text) == {}


def test_byte_order_mark_is_skipped() -> None:
    assert _plain("\ufeffa: 1\n") == {"a": 1}


@given(st.text(alphabet="ab:- \n[]{}&*!|>'\"%#,?@`\t1.~<\\x0é\u2028\x85", max_size=60))
def test_any_text_gives_a_mapping_and_errors(text: str) -> None:
    root, errors = parsing.parse("f.yaml", text)
    assert isinstance(root.value, dict)
    assert all(error.message and error.file == "f.yaml" for error in errors)
    tree.canonical(tree.plain(root))


_SCALARS = (
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False, allow_infinity=False)
)
_VALUES = st.recursive(
    _SCALARS | st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"]), max_size=10),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("abc", min_size=1), inner, max_size=3),
    max_leaves=10,
)


@given(st.dictionaries(st.text("abcdef", min_size=1, max_size=5), _VALUES, max_size=4))
def test_json_is_read_as_what_it_says(document: dict[str, object]) -> None:
    text = tree.canonical(document).decode()
    if "\ufffd" not in text and "\ufeff" not in text and "\uffff" not in text and "\ufffe" not in text:
        assert _plain(text) == document
