"""Several files, and stages laid over them."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from turnout.spec import merging, parsing, stages, tree
from turnout.spec.tree import Node


def _root(file: str, text: str) -> Node:
    root, errors = parsing.parse(file, text)
    assert errors == []
    return root


def _overlay(base: str, stage: str) -> tuple[Any, list[str], list[str]]:
    laid, errors, warnings = merging.overlay(_root("t.yaml", base), _root("t.prod.yaml", stage))
    return tree.plain(laid), [str(error) for error in errors], [str(warning) for warning in warnings]


def test_sections_of_several_files_join() -> None:
    joined, errors = merging.merge(
        [_root("a.yaml", "models: {a: 1}\n"), _root("b.yaml", "models: {b: 2}\nendpoints: {}\n")]
    )
    assert tree.plain(joined) == {"models": {"a": 1, "b": 2}, "endpoints": {}}
    assert errors == []


def test_name_defined_in_two_files_names_both_places() -> None:
    one, two = _root("a.yaml", "models:\n  rank: {source: a}\n"), _root("b.yaml", "\nmodels:\n  rank: {threads: 2}\n")
    _, errors = merging.merge([one, two])
    assert [str(error) for error in errors] == [
        "b.yaml:3 models.rank: models.rank is defined twice; first in a.yaml:2. "
        "Remove one of the two. To vary a key by stage, use a stage file."
    ]


def test_section_that_is_empty_in_one_file_is_no_conflict() -> None:
    joined, errors = merging.merge(
        [_root("a.yaml", "models:\n"), _root("b.yaml", "models: {a: 1}\n"), _root("c.yaml", "models:\n")]
    )
    assert (tree.plain(joined), errors) == ({"models": {"a": 1}}, [])


def test_section_of_the_wrong_kind_in_two_files_is_a_conflict() -> None:
    _, errors = merging.merge([_root("a.yaml", "models: 1\n"), _root("b.yaml", "models: {a: 1}\n")])
    assert [error.path for error in errors] == ["models"]


_NAMES = st.dictionaries(st.sampled_from("abcdef"), st.integers(0, 3), max_size=3)
_FILES = st.dictionaries(st.sampled_from(["models", "pipelines"]), _NAMES, max_size=2)


@given(_FILES, _FILES, _FILES)
def test_joining_files_does_not_depend_on_grouping(one: Any, two: Any, three: Any) -> None:
    def roots() -> list[Node]:
        return [_root(f"{n}.yaml", tree.canonical(file).decode()) for n, file in enumerate((one, two, three))]

    at_once, errors = merging.merge(roots())
    first, second, third = roots()
    left, left_errors = merging.merge([first, second])
    stepwise, more = merging.merge([left, third])
    assert tree.plain(stepwise) == tree.plain(at_once)
    assert sorted(map(str, left_errors + more)) == sorted(map(str, errors))
    assert _places(stepwise) == _places(at_once)


def _places(root: Node) -> dict[str, tuple[str, str]]:
    return {tree.path_text(path): (str(node.key), str(node.place)) for path, node in tree.walk(root) if len(path) > 1}


def test_stage_merges_mappings_and_replaces_scalars_and_lists() -> None:
    laid, errors, warnings = _overlay(
        "endpoints: {a: {deadline: 5s, unit: u}}\nx: {l: [1, 2]}\n", "endpoints: {a: {deadline: 1s}}\nx: {l: [3]}\n"
    )
    assert laid == {"endpoints": {"a": {"deadline": "1s", "unit": "u"}}, "x": {"l": [3]}}
    assert errors == warnings == []


def test_null_in_a_stage_deletes_a_key() -> None:
    laid, errors, _ = _overlay("experiments: {a: {x: 1}, b: {y: 2}}\n", "experiments: {a: null}\n")
    assert (laid, errors) == ({"experiments": {"b": {"y": 2}}}, [])


def test_null_for_a_key_that_is_not_there_is_an_error() -> None:
    _, errors, _ = _overlay("experiments: {structure: {x: 1}}\n", "experiments:\n  strukture: null\n")
    assert errors == [
        "t.prod.yaml:2 experiments.strukture: null deletes a key, and the document has no such key. "
        "Did you mean 'structure'?"
    ]


def test_null_inside_a_part_that_the_stage_adds_is_an_error() -> None:
    _, errors, _ = _overlay("a: {}\n", "a: {new: {x: 1, y: null}}\n")
    assert len(errors) == 1
    assert "a.new.y" in errors[0]


@pytest.mark.parametrize(
    ("stage", "warning"),
    [
        ("", "t.prod.yaml:1: the stage file changes nothing."),
        ("a: {b: 5s}\n", "t.prod.yaml:1 a.b: changes nothing: t.yaml:1 says the same."),
        ("a: {l: [1, {x: 2}]}\n", "t.prod.yaml:1 a.l: changes nothing: t.yaml:1 says the same."),
        ("a: {}\n", "t.prod.yaml:1 a: {} changes nothing; null deletes."),
    ],
)
def test_stage_that_changes_nothing_is_told(stage: str, warning: str) -> None:
    laid, errors, warnings = _overlay("a: {b: 5s, l: [1, {x: 2}]}\n", stage)
    assert (laid, errors, warnings) == ({"a": {"b": "5s", "l": [1, {"x": 2}]}}, [], [warning])


def test_stage_keeps_its_own_places() -> None:
    laid, _, _ = merging.overlay(_root("t.yaml", "a:\n  b: 1\n  c: 2\n"), _root("t.prod.yaml", "\na: {c: 3, d: 4}\n"))
    assert {tree.path_text(path): str(node.place) for path, node in tree.walk(laid) if len(path) == 2} == {
        "a.b": "t.yaml:2",
        "a.c": "t.prod.yaml:2",
        "a.d": "t.prod.yaml:2",
    }


_NESTED = st.recursive(
    st.integers(0, 5),
    lambda inner: st.dictionaries(st.sampled_from("abc"), inner, min_size=1, max_size=3),
    max_leaves=8,
)
_MAPPINGS = st.dictionaries(st.sampled_from("abc"), _NESTED, max_size=3)


@given(_MAPPINGS, _MAPPINGS)
def test_laying_a_stage_twice_is_laying_it_once(base: Any, stage: Any) -> None:
    text = tree.canonical(stage).decode()
    once, _, _ = merging.overlay(_root("t.yaml", tree.canonical(base).decode()), _root("t.s.yaml", text))
    twice, _, _ = merging.overlay(once, _root("t.s.yaml", text))
    assert tree.plain(twice) == tree.plain(once)


@given(_MAPPINGS, _MAPPINGS)
def test_laying_a_stage_leaves_the_base_as_it_was(base: Any, stage: Any) -> None:
    root = _root("t.yaml", tree.canonical(base).decode())
    merging.overlay(root, _root("t.s.yaml", tree.canonical(stage).decode()))
    assert tree.plain(root) == base


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        (
            ["turnout.yaml", "turnout.prod.yaml", "turnout.dev.yml"],
            {"turnout.prod.yaml": "prod", "turnout.dev.yml": "dev"},
        ),
        (["conf/models.yaml", "conf/turnout.prod.yaml"], {"conf/turnout.prod.yaml": "prod"}),
        (["my.chat.yaml"], {}),
        (["my.chat.yaml", "my.chat.prod.yaml"], {"my.chat.prod.yaml": "prod"}),
        (["a.b/turnout.yaml"], {}),
        (["turnout.yaml", "turnout.Prod.yaml"], {}),
        (["document"], {}),
    ],
    ids=lambda value: " ".join(value),
)
def test_stage_is_the_part_before_the_suffix(files: list[str], expected: dict[str, str]) -> None:
    assert {file: stage for file in files if (stage := stages.stage_of(file, files))} == expected
    assert stages.stages(files) == tuple(sorted(set(expected.values())))
