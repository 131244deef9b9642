"""The frozen vectors: the same unit gets the same variant in every process and release."""

import hashlib
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from turnout.experiments import assignment, points

VECTORS = Path(__file__).with_name("vectors.json")
FROZEN = "3b40ee03293db64a80fabdf5d67a3b7ac5f7fcd03dbd97f8f7943496486d17bb"

ELSEWHERE = """
import json, sys
from turnout.experiments import assignment
wrong = 0
for v in json.load(open(sys.argv[1], encoding="utf-8")):
    names = sorted(v["weights"])[::-1]
    allocation = assignment.Allocation("e", {n: v["weights"][n] for n in names}, names[0], seed=v["seed"])
    answer = assignment.assign(v["unit"], allocation)
    wrong += (answer.variant, answer.sub_bucket, answer.reason) != (v["variant"], v["sub_bucket"], "SPLIT")
print(wrong)
"""


def two(retrieval: float, generation: float) -> assignment.Allocation:
    return assignment.Allocation("structure", {"retrieval": retrieval, "generation": generation}, "retrieval")


def test_the_vectors_are_frozen() -> None:
    assert hashlib.sha256(VECTORS.read_bytes()).hexdigest() == FROZEN


def test_a_thousand_frozen_vectors(vectors: list[dict[str, Any]]) -> None:
    for vector in vectors:
        control = next(iter(vector["weights"]))
        allocation = assignment.Allocation("any", vector["weights"], control, seed=vector["seed"])
        answer = assignment.assign(vector["unit"], allocation)
        numbers = points.of(str(vector["unit"]), allocation)
        expected = (vector["variant"], vector["sub_bucket"], vector["ramp_point_ppm"])
        assert expected == (answer.variant, answer.sub_bucket, numbers.ramp_point_ppm), vector
        assert (answer.reason, answer.unit) == ("SPLIT", str(vector["unit"]))
    assert len(vectors) == 1000


@pytest.mark.parametrize(("hash_seed", "locale"), [("0", "C"), ("4711", "tr_TR.UTF-8"), ("random", "POSIX")])
def test_another_process_with_another_hash_seed_and_locale_agrees(hash_seed: str, locale: str) -> None:
    source = Path(assignment.__file__).parents[2]
    environment = {**os.environ, "PYTHONHASHSEED": hash_seed, "LC_ALL": locale, "PYTHONPATH": str(source)}
    done = subprocess.run(
        [sys.executable, "-c", ELSEWHERE, str(VECTORS)], env=environment, capture_output=True, text=True, timeout=60
    )
    assert done.stdout.strip() == "0", done.stderr


GATED = """
import hashlib
from turnout.experiments import assignment, holdouts, layers
from turnout.expressions import catalog
answers = []
for hashed in ("v1", "growthbook-v1", "growthbook-v2"):
    allocation = assignment.Allocation(
        "e", {"b": 0.5, "a": 0.5}, "b", ramp_ppm=700_000,
        gates=assignment.Gates(
            hash=hashed, holdout=holdouts.holdout("h", 100_000),
            layer=layers.Layer("l", [(0, 799)], namespace=hashed != "v1"),
            targeting=catalog.compile("country in ['KR', 'T\u0131']", ["country"]),
        ),
    )
    for number in range(200):
        for country in ("KR", "TI", "t\u0131", "T\u0131"):
            found = assignment.assign(f"Zo\u00eb-{number}", allocation, attributes={"country": country})
            answers.append(f"{found.variant} {found.reason} {found.sub_bucket}")
print(hashlib.sha256("|".join(answers).encode()).hexdigest(), len(set(answers)) > 50)
"""


def test_layers_holdouts_conditions_and_growthbook_agree_everywhere_too() -> None:
    source = Path(assignment.__file__).parents[2]
    said = set()
    for hash_seed, locale in (("0", "C"), ("4711", "tr_TR.UTF-8"), ("random", "POSIX")):
        environment = {**os.environ, "PYTHONHASHSEED": hash_seed, "LC_ALL": locale, "PYTHONPATH": str(source)}
        said.add(subprocess.check_output([sys.executable, "-c", GATED], env=environment, text=True, timeout=60))
    assert len(said) == 1
    assert said.pop().endswith(" True\n")


PUBLISHED = [
    ("user-1", "8e5c8ca42af71173", "2ae9124d057c7fd4", "generation", "retrieval", 455015, 22),
    ("user-2", "9b45a062d185fdac", "e5c9ad27161df021", "retrieval", "retrieval", 945690, 7),
    ("42", "26410d7668cf8a02", "7b6095e1cad31527", "retrieval", "retrieval", 526427, 64),
    ("Zo\u00eb", "1776adc2028407de", "a22473847c67418c", "retrieval", "retrieval", 879311, 2),
]


@pytest.mark.parametrize(("unit", "generation", "retrieval", "even", "tilted", "ramp", "bucket"), PUBLISHED)
def test_the_published_table(
    unit: str, generation: str, retrieval: str, even: str, tilted: str, ramp: int, bucket: int
) -> None:
    numbers = points.of(unit, two(50, 50))
    assert [generation, retrieval] == [draw.word for draw in numbers.draws]
    assert (ramp, bucket) == (numbers.ramp_point_ppm, numbers.sub_bucket)
    assert even == assignment.assign(unit, two(50, 50)).variant
    assert tilted == assignment.assign(unit, two(90, 10)).variant


def test_the_published_counts_of_three_variants() -> None:
    allocation = assignment.Allocation("any", {"a": 60, "b": 30, "c": 10}, "a", seed="s2")
    assert [assignment.assign(u, allocation).variant for u in ("user-1", "user-2", "user-3", "42")] == [
        "a",
        "b",
        "c",
        "b",
    ]
    counts = {"a": 0, "b": 0, "c": 0}
    for number in range(100_000):
        counts[assignment.assign(number, allocation).variant] += 1
    assert counts == {"a": 59_813, "b": 30_053, "c": 10_134}
