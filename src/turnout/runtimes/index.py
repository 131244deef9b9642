"""Vector search over a stored matrix: exact by matrix product, or approximate through usearch.

The artifact is a .npz with the array `vectors`, shape [count, dimensions]; every other array
of that length is a column, and comes back as the payload of a match. A .npy holds vectors
alone. Nothing in it is unpickled. A row is an `authoring.Query`, its answer a list of
`authoring.Match`, nearest first.

Opened through `catalog`.
"""

import importlib
import zipfile
import zlib
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from turnout import wire
from turnout.authoring import Match, Query
from turnout.errors import SpecError
from turnout.runtimes import base

METRICS = ("cos", "ip", "l2")
OPTIONS = ("metric", "exact", "vectors", "expansion")
VECTORS = "vectors"

EXPANSION = 128
"""Candidates usearch looks at for one query; the tests hold it to 95 % of the true neighbours."""

SCORES_BYTES = 64 * 2**20
"""Most memory for one block of scores of an exact search: 4,096 queries over 4,096 vectors."""

SMALLEST = 1e-12
"""Vectors shorter than this have no direction; their cosine is 0."""


class IndexRuntime:
    """Nearest neighbours.

    Options: `metric` (cos, ip, l2; scores of l2 are negative squared distances), `exact`,
    `vectors` (whether matches carry their vector), `expansion` (approximate search: candidates
    a query, more finds more and takes longer).
    """

    native: ClassVar[bool] = True  # our own bounded code over read-only arrays

    def __init__(self, artifact: base.Artifact) -> None:
        self.artifact = artifact
        alias = artifact.alias
        base.refuse_unknown_options(artifact, "index", OPTIONS)
        self._metric = artifact.options.get("metric", "cos")
        self._exact = artifact.options.get("exact", True)
        self._keeps_vectors = artifact.options.get("vectors", False)
        self._expansion = artifact.options.get("expansion", EXPANSION)
        if self._metric not in METRICS:
            raise SpecError(
                f"model {alias!r}: metric {self._metric!r} does not exist; there are {list(METRICS)}.",
                path="metric",
            )
        for name, value in (("exact", self._exact), ("vectors", self._keeps_vectors)):
            if not isinstance(value, bool):
                raise SpecError(f"model {alias!r}: {name} is true or false, got {value!r}.", path=name)
        if not isinstance(self._expansion, int) or not 1 <= self._expansion <= 65_536:
            raise SpecError(
                f"model {alias!r}: expansion is a whole number from 1 to 65536, got {self._expansion!r}.",
                path="expansion",
            )
        if artifact.path is None:
            raise SpecError(f"model {alias!r}: the index runtime needs a source: a .npz or .npy file.")
        self._given: Any = None
        self._vectors: Any = None
        self._norms: Any = None
        self._graph: Any = None
        self._payloads: list[dict[str, Any]] = []

    def load(self) -> None:
        vectors, columns = self._read()
        vectors.flags.writeable = False  # matches show views of it
        self._given = vectors
        self._vectors = _unit(vectors) if self._metric == "cos" else vectors
        self._norms = np.einsum("ij,ij->i", vectors, vectors) if self._metric == "l2" else None
        names = list(columns)
        lists = [column.tolist() for column in columns.values()]
        self._payloads = [dict(zip(names, values, strict=True)) for values in zip(*lists, strict=True)] if names else []
        if not self._exact:
            self._graph = self._built()

    def _read(self) -> tuple[Any, dict[str, Any]]:
        alias, path = self.artifact.alias, Path(str(self.artifact.path))
        try:
            with path.open("rb") as file:
                opened = np.load(file, allow_pickle=False)
                plain = isinstance(opened, np.ndarray)
                arrays = {VECTORS: opened} if plain else {name: opened[name] for name in opened.files}
        except (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile, zlib.error) as error:
            raise SpecError(
                f"model {alias!r}: {path} is not a .npz or .npy file of plain arrays: {error}",
                path="source",
                hint="Save text as arrays of fixed-width strings (dtype U), not as objects.",
            ) from error
        vectors = arrays.pop(VECTORS, None)
        if vectors is None:
            raise SpecError(f"model {alias!r}: {path} has no array 'vectors'; it has {sorted(arrays)}.", path="source")
        if vectors.ndim != 2 or not vectors.size or vectors.dtype.kind not in "fiu":
            raise SpecError(
                f"model {alias!r}: 'vectors' in {path} is {vectors.dtype}{list(vectors.shape)}; "
                "expected numbers of shape [count, dimensions].",
                path="source",
            )
        for name, column in arrays.items():
            if not column.ndim or len(column) != len(vectors):
                raise SpecError(
                    f"model {alias!r}: column {name!r} in {path} has the shape {list(column.shape)} "
                    f"for {len(vectors)} vectors.",
                    path="source",
                )
        vectors = np.ascontiguousarray(vectors, dtype=np.float32)
        if not np.isfinite(vectors).all():
            raise SpecError(f"model {alias!r}: 'vectors' in {path} holds NaN or infinity.", path="source")
        return vectors, arrays

    def _built(self) -> Any:
        try:
            usearch = importlib.import_module("usearch.index")
        except ModuleNotFoundError as error:
            raise SpecError(
                f"model {self.artifact.alias!r}: exact: false needs usearch, which is not installed.",
                path="exact",
                hint='pip install "turnout[index]", or write exact: true.',
            ) from error
        metric = {"cos": "ip", "ip": "ip", "l2": "l2sq"}[self._metric]
        graph = usearch.Index(ndim=self._vectors.shape[1], metric=metric, dtype="f32", expansion_search=self._expansion)
        graph.add(np.arange(len(self._vectors)), self._vectors, threads=self.artifact.threads)
        return graph

    def signature(self) -> wire.Signature | None:
        return None

    def example(self) -> Any | None:
        return Query(self._given[0], min(10, len(self._given)))

    def unload(self) -> None:
        self._given = self._vectors = self._norms = self._graph = None
        self._payloads = []

    def predict(self, rows: list[Any]) -> list[Any]:
        counts = [self._count(row) for row in rows]
        queries = self._queries(rows)
        if self._graph is not None:
            return self._approximate(queries, counts)
        answers: list[Any] = []
        block = max(1, SCORES_BYTES // (4 * len(self._vectors)))
        for start in range(0, len(rows), block):
            answers += self._exactly(queries[start : start + block], counts[start : start + block])
        return answers

    def _count(self, row: Any) -> int:
        if not isinstance(row, Query):
            raise TypeError(f"an index takes Query(vector, count), got {type(row).__name__}")
        if type(row.count) is not int or row.count < 1:
            raise ValueError(f"Query.count is a whole number from 1, got {row.count!r}")
        return min(row.count, len(self._vectors))

    def _queries(self, rows: list[Any]) -> Any:
        dimensions = self._vectors.shape[1]
        queries = np.empty((len(rows), dimensions), np.float32)
        for i, row in enumerate(rows):
            vector = np.asarray(row.vector, np.float32)
            if vector.shape != (dimensions,):
                raise ValueError(f"Query.vector takes {dimensions} numbers, got the shape {list(vector.shape)}")
            queries[i] = vector
        if not np.isfinite(queries).all():
            raise ValueError("Query.vector holds NaN or infinity")
        return _unit(queries) if self._metric == "cos" else queries

    def _exactly(self, queries: Any, counts: list[int]) -> list[Any]:
        scores = queries @ self._vectors.T
        if self._norms is not None:
            scores *= 2
            scores -= self._norms
            scores -= np.einsum("ij,ij->i", queries, queries)[:, None]
            np.minimum(scores, 0, out=scores)
        most = max(counts)
        total = scores.shape[1]
        if most < total:
            nearest = np.argpartition(scores, total - most, axis=1)[:, total - most :]
        else:
            nearest = np.broadcast_to(np.arange(total), scores.shape)
        kept = np.take_along_axis(scores, nearest, axis=1)
        order = np.lexsort((nearest, -kept), axis=1)
        ids = np.take_along_axis(nearest, order, axis=1).tolist()
        values = np.take_along_axis(kept, order, axis=1).tolist()
        return [self._matches(ids[i][:count], values[i][:count]) for i, count in enumerate(counts)]

    def _approximate(self, queries: Any, counts: list[int]) -> list[Any]:
        found = self._graph.search(queries, max(counts), threads=self.artifact.threads)
        keys, distances = np.atleast_2d(found.keys), np.atleast_2d(found.distances)
        scores = -distances if self._metric == "l2" else 1 - distances
        given = np.atleast_1d(found.counts) if hasattr(found, "counts") else [keys.shape[1]]
        ids, values = keys.tolist(), scores.tolist()
        return [
            self._matches(ids[i][: min(count, int(given[i]))], values[i][: min(count, int(given[i]))])
            for i, count in enumerate(counts)
        ]

    def _matches(self, ids: list[int], scores: list[float]) -> list[Match]:
        payloads, given = self._payloads, self._given
        return [
            Match(
                id=id_,
                score=score,
                payload=payloads[id_].copy() if payloads else {},
                vector=given[id_] if self._keeps_vectors else None,
            )
            for id_, score in zip(ids, scores, strict=True)
        ]


def _unit(vectors: Any) -> Any:
    """Rows of length 1; rows without a direction become 0."""
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.where(norms > SMALLEST, vectors / np.maximum(norms, SMALLEST), 0).astype(np.float32)
