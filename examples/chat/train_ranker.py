"""Train both rerankers on the corpus and print what they are worth on questions they never saw.

Questions of one half (`corpus.held_out` is false) are typed carelessly, the index gives its
20 nearest, and the network learns which of them carry a right answer: real negatives,
found by the index that serves. The other half is typed by other people and only measured.

Needs scikit-learn and onnx; `models/*.onnx` are committed, so serving needs neither.
"""

import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import corpus
import numpy as np
import onnx
import onnxruntime
import people
import prepare
from chat import features
from onnx import TensorProto, helper
from onnx import numpy_helper as numbers
from rich.console import Console
from rich.table import Table
from sklearn.neural_network import MLPClassifier

HERE = Path(__file__).parent
NEIGHBOURS = 20
TYPED_PER_QUESTION = 2
COLUMNS = {"ranker": len(features.NAMES), "similarity": 4}
"""How many of the features each of the two learns from: all, or only those of the vectors and lengths."""


def main() -> None:
    console = Console()
    entries = corpus.read()
    with np.load(prepare.INDEX) as index:
        vectors = index["vectors"]
    seen = [entry for entry in entries if not corpus.held_out(entry.question)] * TYPED_PER_QUESTION
    unseen = [entry for entry in entries if corpus.held_out(entry.question)]
    rows, right = candidates(seen, entries, vectors, "train", console)
    test_rows, test_right = candidates(unseen, entries, vectors, "test", console)

    table = Table(title=f"{len(unseen):,} held-out questions, {NEIGHBOURS} candidates each")
    for heading in ("order", "first is right", "MRR", "English: first is right"):
        table.add_column(heading, justify="right" if table.columns else "left")
    english = np.array([entry.language == "english" for entry in unseen])
    judged = {"cosine alone": test_rows[:, :, 0], "trigrams alone": test_rows[:, :, 4]}
    for name, columns in COLUMNS.items():
        graph = network(name, fit(rows, right, columns), columns)
        onnx.save(graph, HERE / "models" / f"{name}.onnx")
        judged[f"{name}.onnx"] = scores(graph, test_rows)
    for name, score in judged.items():
        first, reciprocal = quality(score, test_right)
        table.add_row(
            name, f"{first:.3f}", f"{reciprocal:.3f}", f"{quality(score[english], test_right[english])[0]:.3f}"
        )
    table.add_row("best possible", f"{test_right.any(axis=1).mean():.3f}", "", "")
    console.print(table)


def candidates(
    asked: Sequence[corpus.Entry], entries: Sequence[corpus.Entry], vectors: Any, salt: str, console: Console
) -> tuple[Any, Any]:
    """Features [questions, 20, columns] and labels [questions, 20] of what the index finds for each."""
    typed = [people.careless(entry.question, random.Random(f"{salt} {at}")) for at, entry in enumerate(asked)]
    similarities = prepare.embed(typed, console) @ vectors.T
    nearest = np.argsort(-similarities, axis=1)[:, :NEIGHBOURS]
    rows, right = [], []
    for at, entry in enumerate(asked):
        found = [entries[index] for index in nearest[at]]
        rows.append(features.rows(typed[at], [item.question for item in found], similarities[at, nearest[at]]))
        right.append([item.answers[0] in entry.answers for item in found])
    return np.array(rows, dtype=np.float32), np.array(right)


def fit(rows: Any, right: Any, columns: int) -> tuple[Any, Any, Any, Any]:
    """Weights of a network of one hidden layer; the scaling of the inputs is folded into the first."""
    useful = right.any(axis=1)
    table, labels = rows[useful][:, :, :columns].reshape(-1, columns), right[useful].reshape(-1)
    middle, spread = table.mean(axis=0), table.std(axis=0)
    learned = MLPClassifier((16,), alpha=1e-2, max_iter=200, early_stopping=True, random_state=0)
    learned.fit((table - middle) / spread, labels)
    (first, last), (first_bias, last_bias) = learned.coefs_, learned.intercepts_
    return first / spread[:, None], first_bias - (middle / spread) @ first, last, last_bias


def network(name: str, weights: tuple[Any, Any, Any, Any], columns: int) -> onnx.ModelProto:
    """`features` [rows, 10] to `score` [rows]; columns beyond those learned from weigh nothing."""
    first, first_bias, last, last_bias = weights
    wide = np.zeros((len(features.NAMES), first.shape[1]))
    wide[:columns] = first
    constants = {"first": wide, "first_bias": first_bias, "last": last, "last_bias": last_bias}
    stored = [numbers.from_array(value.astype(np.float32), key) for key, value in constants.items()]
    nodes = [
        helper.make_node("Gemm", ["features", "first", "first_bias"], ["hidden"]),
        helper.make_node("Relu", ["hidden"], ["positive"]),
        helper.make_node("Gemm", ["positive", "last", "last_bias"], ["logit"]),
        helper.make_node("Sigmoid", ["logit"], ["chance"]),
        helper.make_node("Squeeze", ["chance", "axis"], ["score"]),
    ]
    stored.append(numbers.from_array(np.array([1], dtype=np.int64), "axis"))
    inputs = [helper.make_tensor_value_info("features", TensorProto.FLOAT, ["rows", len(features.NAMES)])]
    outputs = [helper.make_tensor_value_info("score", TensorProto.FLOAT, ["rows"])]
    graph = helper.make_graph(nodes, name, inputs, outputs, stored)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.checker.check_model(model)
    return model


def scores(model: onnx.ModelProto, rows: Any) -> Any:
    """What the written file says, run by onnxruntime as in serving."""
    session = onnxruntime.InferenceSession(model.SerializeToString())
    return session.run(["score"], {"features": rows.reshape(-1, rows.shape[2])})[0].reshape(rows.shape[:2])


def quality(score: Any, right: Any) -> tuple[float, float]:
    """Share of questions whose best candidate is right, and the mean reciprocal rank."""
    order = np.argsort(-score, axis=1, kind="stable")
    ordered = np.take_along_axis(right, order, axis=1)
    reciprocal = np.where(ordered.any(axis=1), 1.0 / (ordered.argmax(axis=1) + 1), 0.0)
    return float(ordered[:, 0].mean()), float(reciprocal.mean())


if __name__ == "__main__":
    main()
