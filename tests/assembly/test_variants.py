"""What the requests of an endpoint may run, read from documents: groups, combinations, and what is refused."""

import time
from typing import Any

import pytest

from turnout.assembly import variants
from turnout.spec import document, snapshot

HEAD = """
models: {m: {code: "a:M"}, n: {code: "a:N"}, s: {code: "a:S"}, f: {code: "a:F"}}
pipelines:
  old: {code: "a:p", models: {model: m}}
  new: {code: "a:q", models: {model: n}}
  spare: {code: "a:r", models: {model: f}}
endpoints: {e: {pipeline: old, unit: user_id, fallback: spare}, other: {pipeline: new}}
"""
PARAMS = "variants: {a: {weight: 1, control: true}, b: {weight: 1, params: {PARAM: 1}}}"
REPLACES = "variants: {a: {weight: 1, control: true}, b: {weight: 1, pipeline: new}}"


def admitted(text: str) -> document.Document:
    return snapshot.admit({"turnout.yaml": HEAD + text}, environment={}).document


def experiment(name: str, variants: str, more: str = "") -> str:
    return f"  {name}: {{endpoint: e, {more} {variants.replace('PARAM', name)}}}\n"


def names(found: variants.Groups) -> list[list[str]]:
    return [[part.name for part in group] for group in found]


@pytest.mark.parametrize(
    ("parts", "expected"),
    [
        ([], []),
        ([("one", PARAMS, "")], [["one"]]),
        ([("one", PARAMS, ""), ("two", REPLACES, "")], [["two"], ["one"]]),
        ([("one", PARAMS, ""), ("two", PARAMS, "")], [["one"], ["two"]]),
        (
            [
                ("one", REPLACES, "layer: {name: l, slots: 0-9},"),
                ("two", PARAMS, ""),
                ("three", REPLACES, "layer: {name: l, slots: 10-19},"),
            ],
            [["one", "three"], ["two"]],
        ),
        ([("off", REPLACES, "enabled: false,"), ("on", PARAMS, "")], [["on"]]),
        ([("off", REPLACES, "enabled: false,"), ("off2", PARAMS, "enabled: false,")], [["off"]]),
    ],
    ids=["none", "one", "the-replacing-one-first", "in-order", "a-layer-is-a-group", "off-is-out", "only-off"],
)
def test_groups(parts: list[tuple[str, str, str]], expected: list[list[str]]) -> None:
    text = "experiments:\n" + "".join(experiment(*part) for part in parts) if parts else ""
    assert names(variants.groups(admitted(text), "e", "")) == expected


def test_a_rollout_stands_first_and_experiments_beside_it() -> None:
    text = "rollouts: {next: {endpoint: e, to: {pipeline: new}}}\nexperiments:\n" + experiment("one", PARAMS)
    assert names(variants.groups(admitted(text), "e", "p")) == [["next"], ["one"]]


def test_every_model_that_a_request_can_reach_is_named_and_no_other() -> None:
    text = "shadows: {copy: {endpoint: e, models: {model: s}}}\n"
    assert variants.models(admitted(text), "e", ()) == {"m", "s", "f"}
    rolling = admitted("rollouts: {next: {endpoint: e, to: {pipeline: new}}}\n")
    assert variants.models(rolling, "e", variants.groups(rolling, "e", "p")) == {"m", "n", "f"}


def test_many_experiments_are_refused_at_once_and_not_counted_out() -> None:
    text = "experiments:\n" + "".join(experiment(f"x{number}", PARAMS) for number in range(40))
    found = variants.groups(admitted(text), "e", "")
    began = time.process_time()
    (error,) = variants.clashes("e", found)
    assert time.process_time() - began < 1.0
    assert f"{2**40} combinations" in error.message
    assert error.path == "experiments.x39"


@pytest.mark.parametrize("count", [1, 2, 3, 6])
def test_combinations_are_all_of_them_once(count: int) -> None:
    text = "experiments:\n" + "".join(experiment(f"x{number}", PARAMS) for number in range(count))
    others = variants.groups(admitted(text), "e", "")[1:]
    found: list[Any] = [tuple((part.name, variant) for part, variant in each) for each in variants.combinations(others)]
    assert len(set(found)) == len(found) == 2 ** (count - 1)
