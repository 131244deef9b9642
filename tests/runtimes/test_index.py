"""Vector search: exact and approximate, and what a wrong file or query says."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from turnout.authoring import Query
from turnout.errors import SpecError

Opened = Callable[..., Any]

RNG = np.random.default_rng(0)
VECTORS = RNG.normal(size=(500, 16)).astype(np.float32)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "answers.npz"
    np.savez(path, vectors=VECTORS, text=np.array([f"text {i}" for i in range(500)]), year=np.arange(500))
    return path


def scores(metric: str, query: Any) -> Any:
    v = VECTORS.astype(np.float64)
    q = np.asarray(query, np.float64)
    if metric == "ip":
        return v @ q
    if metric == "l2":
        return -((v - q) ** 2).sum(axis=1)
    return v @ q / np.linalg.norm(v, axis=1) / np.linalg.norm(q)


@pytest.mark.parametrize("metric", ["cos", "ip", "l2"])
def test_exact_search_agrees_with_the_definition(source: Path, opened: Opened, metric: str) -> None:
    runtime = opened("index", source, metric=metric)
    queries = [Query(RNG.normal(size=16), count) for count in (1, 7, 500, 900)]
    for query, matches in zip(queries, runtime.predict(queries), strict=True):
        expected = scores(metric, query.vector)
        order = np.argsort(-expected)[: query.count]
        assert [match.id for match in matches] == order.tolist()
        assert [match.score for match in matches] == pytest.approx(expected[order].tolist(), abs=1e-4)


@pytest.mark.parametrize("metric", ["cos", "ip", "l2"])
def test_approximate_search_finds_most_of_it_with_the_same_scores(source: Path, opened: Opened, metric: str) -> None:
    queries = [Query(RNG.normal(size=16), 10) for _ in range(50)]
    exact = opened("index", source, metric=metric).predict(queries)
    runtime = opened("index", source, metric=metric, exact=False)
    found = runtime.predict(queries)
    hits = [len({m.id for m in a} & {m.id for m in b}) for a, b in zip(exact, found, strict=True)]
    assert sum(hits) >= 0.95 * 500
    by_id = {match.id: match.score for match in exact[0]}
    assert all(match.score == pytest.approx(by_id[match.id], abs=1e-4) for match in found[0] if match.id in by_id)
    one = runtime.predict(queries[:1])[0]
    assert [match.id for match in one] == [match.id for match in found[0]]
    assert [match.score for match in one] == sorted((match.score for match in one), reverse=True)


def test_every_row_gets_its_own_count_and_payload(source: Path, opened: Opened) -> None:
    runtime = opened("index", source, vectors=True)
    first, second = runtime.predict([Query(VECTORS[3], 2), Query(VECTORS[9].tolist(), 5)])
    assert (len(first), len(second)) == (2, 5)
    assert (first[0].id, first[0].payload) == (3, {"text": "text 3", "year": 3})
    assert second[0].vector.tolist() == VECTORS[9].tolist()
    assert first[0].score == pytest.approx(1.0, abs=1e-5)


def test_a_changed_payload_changes_no_later_answer(source: Path, opened: Opened) -> None:
    runtime = opened("index", source)
    query = Query(VECTORS[3], 1)
    runtime.predict([query])[0][0].payload["text"] = "changed"
    assert runtime.predict([query])[0][0].payload["text"] == "text 3"


def test_vectors_alone_have_no_payload(tmp_path: Path, opened: Opened) -> None:
    path = tmp_path / "vectors.npy"
    np.save(path, VECTORS)
    match = opened("index", path).predict([Query(VECTORS[0], 1)])[0][0]
    assert (match.id, match.payload, match.vector) == (0, {}, None)


def test_a_vector_without_direction_matches_nothing_in_particular(tmp_path: Path, opened: Opened) -> None:
    path = tmp_path / "vectors.npy"
    np.save(path, np.array([[0.0, 0.0], [1.0, 0.0]], np.float32))
    matches = opened("index", path).predict([Query([0.0, 0.0], 2), Query([1.0, 0.0], 2)])
    assert [[match.score for match in each] for each in matches] == [[0.0, 0.0], [1.0, 0.0]]


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(counts=st.lists(st.integers(1, 20), min_size=1, max_size=8), data=st.data())
def test_a_row_is_answered_the_same_alone_and_in_any_batch(
    source: Path, opened: Opened, counts: list[int], data: st.DataObject
) -> None:
    runtime = opened("index", source)
    queries = [Query(VECTORS[data.draw(st.integers(0, 499))], count) for count in counts]
    together = runtime.predict(queries)
    for query, matches in zip(queries, together, strict=True):
        alone = runtime.predict([query])[0]
        assert [match.id for match in alone] == [match.id for match in matches]


@pytest.mark.parametrize(
    ("row", "error", "message"),
    [
        ([1.0] * 16, TypeError, r"an index takes Query\(vector, count\), got list"),
        (Query([1.0] * 3), ValueError, r"Query\.vector takes 16 numbers, got the shape \[3\]"),
        (Query([1.0] * 16, 0), ValueError, r"Query\.count is a whole number from 1, got 0"),
        (Query([1.0] * 16, 2.5), ValueError, "whole number"),  # type: ignore[arg-type]
        (Query([float("nan")] * 16), ValueError, "NaN or infinity"),
    ],
    ids=["no query", "wrong length", "none wanted", "a fraction wanted", "NaN"],
)
def test_a_query_that_does_not_fit_says_what_fits(
    source: Path, opened: Opened, row: Any, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        opened("index", source).predict([row])


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"text": np.array(["a"])}, r"has no array 'vectors'; it has \['text'\]"),
        ({"vectors": np.zeros(3, np.float32)}, r"expected numbers of shape \[count, dimensions\]"),
        ({"vectors": np.zeros((0, 3), np.float32)}, "expected numbers"),
        ({"vectors": np.array([["a"]])}, "expected numbers"),
        ({"vectors": np.array([[np.nan]])}, "holds NaN or infinity"),
        ({"vectors": np.ones((2, 2)), "text": np.array(["a"])}, r"column 'text' .* has the shape \[1\] for 2 vectors"),
        ({"vectors": np.ones((1, 2)), "text": np.array([{}], dtype=object)}, "file of plain arrays"),
    ],
    ids=["no vectors", "flat", "empty", "text", "NaN", "short column", "pickled column"],
)
def test_a_source_that_is_no_index_is_the_documents_error(
    tmp_path: Path, opened: Opened, arrays: dict[str, Any], message: str
) -> None:
    path = tmp_path / "bad.npz"
    np.savez(path, **arrays)
    with pytest.raises(SpecError, match=message):
        opened("index", path)


def test_a_half_written_source_is_the_documents_error(source: Path, opened: Opened) -> None:
    source.write_bytes(source.read_bytes()[:1000])
    with pytest.raises(SpecError, match="file of plain arrays"):
        opened("index", source)
    source.unlink()
    with pytest.raises(SpecError, match="file of plain arrays"):
        opened("index", source)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"metric": "cosine"}, "metric 'cosine' does not exist"),
        ({"exact": "no"}, "exact is true or false"),
        ({"expansion": 0}, "expansion is a whole number"),
        ({"top_k": 3}, "has no option 'top_k'"),
    ],
    ids=lambda value: str(value) if isinstance(value, dict) else "",
)
def test_a_wrong_option_is_the_documents_error_at_its_key(
    source: Path, opened: Opened, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(SpecError, match=message) as caught:
        opened("index", source, **options)
    assert caught.value.path in options
    with pytest.raises(SpecError, match="needs a source"):
        opened("index")
