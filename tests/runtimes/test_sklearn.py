"""Estimators: pinned digests, formats, rows by name."""

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pytest
from sklearn.linear_model import LinearRegression, LogisticRegression

from turnout import wire
from turnout.errors import SpecError
from turnout.runtimes import base, catalog

Opened = Callable[..., Any]
Pin = Callable[[Path], str]

RNG = np.random.default_rng(0)
X = RNG.normal(size=(50, 3))
CLASSES = np.where(X[:, 0] > 0, "kept", "left")


@pytest.fixture
def classifier(tmp_path: Path) -> Path:
    path = tmp_path / "classifier.joblib"
    joblib.dump(LogisticRegression().fit(X, CLASSES), path)
    return path


class Bomb:
    """Leaves a trace when it is unpickled."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> Any:
        return (Path.touch, (self.trace,))


def test_a_pinned_artifact_predicts(classifier: Path, opened: Opened, pin: Pin) -> None:
    runtime = opened("sklearn", classifier, pinned=pin(classifier))
    rows = [list(X[0]), {"x": list(X[1])}]
    first, second = runtime.predict(rows)
    assert (first, second) == (CLASSES[0], {"prediction": CLASSES[1]})
    assert runtime.signature() == wire.Signature(
        (wire.TensorSpec("x", "FP64", (3,)),), (wire.TensorSpec("prediction", "BYTES", ()),)
    )


def test_probabilities_on_demand(classifier: Path, opened: Opened, pin: Pin) -> None:
    runtime = opened("sklearn", classifier, pinned=pin(classifier), method="predict_proba")
    (answer,) = runtime.predict([{"x": X[0]}])
    assert answer["probabilities"].sum() == pytest.approx(1.0)
    assert runtime.signature().outputs == (wire.TensorSpec("probabilities", "FP64", (2,)),)


@pytest.mark.parametrize("suffix", [".pkl", ".pickle"])
def test_plain_pickles_load_too(tmp_path: Path, opened: Opened, pin: Pin, suffix: str) -> None:
    path = tmp_path / f"line{suffix}"
    path.write_bytes(pickle.dumps(LinearRegression().fit(X, X[:, 0] * 2)))
    assert opened("sklearn", path, pinned=pin(path)).predict([[1, 0, 0]])[0] == pytest.approx(2.0)


def test_skops_files_load_without_running_code(tmp_path: Path, opened: Opened, pin: Pin) -> None:
    skops = pytest.importorskip("skops.io", reason="skops is not installed")
    path = tmp_path / "line.skops"
    skops.dump(LinearRegression().fit(X, X[:, 0] * 2), path)
    assert opened("sklearn", path, pinned=pin(path)).predict([[1, 0, 0]])[0] == pytest.approx(2.0)


def test_without_a_pin_nothing_is_unpickled(tmp_path: Path, opened: Opened, pin: Pin) -> None:
    path, trace = tmp_path / "bomb.pkl", tmp_path / "trace"
    path.write_bytes(pickle.dumps(Bomb(trace)))
    with pytest.raises(SpecError, match="a pickle, which is code, and no digest is pinned") as caught:
        opened("sklearn", path)
    assert caught.value.hint == f"If you trust this file, write digest: {pin(path)}"
    assert not trace.exists()


def test_another_file_than_the_pinned_one_is_not_unpickled(
    tmp_path: Path, classifier: Path, opened: Opened, pin: Pin
) -> None:
    pinned, trace = pin(classifier), tmp_path / "trace"
    classifier.write_bytes(pickle.dumps(Bomb(trace)))
    with pytest.raises(SpecError, match=r"the document pins sha256:.*; it was not loaded"):
        opened("sklearn", classifier, pinned=pinned)
    assert not trace.exists()


def test_the_digest_of_resolution_is_no_permission(classifier: Path, pin: Pin) -> None:
    artifact = base.Artifact(alias="rank", path=str(classifier), digest=pin(classifier))
    with pytest.raises(SpecError, match="no digest is pinned"):
        catalog.load("sklearn")(artifact).load()


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ([1.0, 2.0], r"a row takes 3 features, got \[2\]"),
        ({"y": [1, 2, 3]}, r"missing \['x'\], unknown \['y'\]"),
    ],
    ids=["short", "unknown name"],
)
def test_a_row_that_does_not_fit_says_what_fits(
    classifier: Path, opened: Opened, pin: Pin, row: Any, message: str
) -> None:
    runtime = opened("sklearn", classifier, pinned=pin(classifier))
    with pytest.raises(ValueError, match=message):
        runtime.predict([row])


def test_rows_of_different_lengths_are_refused(classifier: Path, opened: Opened, pin: Pin) -> None:
    runtime = opened("sklearn", classifier, pinned=pin(classifier))
    with pytest.raises(ValueError, match="rows have different lengths; expected 3 features each"):
        runtime.predict([[1, 2, 3], [1, 2]])


def test_what_cannot_be_served_is_the_documents_error(tmp_path: Path, opened: Opened, pin: Pin) -> None:
    line = tmp_path / "line.pkl"
    line.write_bytes(pickle.dumps(LinearRegression().fit(X, X[:, 0])))
    with pytest.raises(SpecError, match=r"LinearRegression has no predict_proba; it has \['predict'\]"):
        opened("sklearn", line, pinned=pin(line), method="predict_proba")
    with pytest.raises(SpecError, match="method 'score' is not served"):
        opened("sklearn", line, pinned=pin(line), method="score")
    with pytest.raises(SpecError, match="has no option 'proba'"):
        opened("sklearn", line, proba=True)
    with pytest.raises(SpecError, match=r"cannot be read: No such file"):
        opened("sklearn", tmp_path / "absent.pkl", pinned="sha256:0")
    odd = tmp_path / "model.bin"
    odd.write_bytes(b"x")
    with pytest.raises(SpecError, match=r"is none of \.joblib"):
        opened("sklearn", odd, pinned=pin(odd))
    broken = tmp_path / "broken.pkl"
    broken.write_bytes(b"x")
    with pytest.raises(SpecError, match="does not load with scikit-learn"):
        opened("sklearn", broken, pinned=pin(broken))
    with pytest.raises(SpecError, match="needs a source"):
        opened("sklearn")
