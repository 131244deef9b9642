"""scikit-learn estimators from joblib, pickle or skops files.

Unpickling runs whatever code the file holds. So nothing is loaded whose SHA-256 is not the
digest that the document pins, and none is loaded without a pin. The digest is taken of the
very bytes that are then unpickled: exchanging the file in between gains nothing.

Opened through `catalog`.
"""

import hashlib
import hmac
import importlib
import io
import pickle
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import sklearn

from turnout import wire
from turnout.errors import SpecError
from turnout.runtimes import base

OPTIONS = {"method": "predict", "trusted": []}
METHODS = {
    "predict": "prediction",
    "predict_proba": "probabilities",
    "decision_function": "decision",
    "transform": "features",
}
"""Method of the estimator to the name of its output."""

INPUT = "x"
DTYPES = {"f8": "FP64", "f4": "FP32", "i8": "INT64", "i4": "INT32", "b1": "BOOL", "u1": "UINT8"}


class SklearnRuntime:
    """One fitted estimator or Pipeline.

    Options: `method` (predict, predict_proba, decision_function, transform), `trusted` (type names
    that a skops file may hold beyond the safe ones).

    A row is the list of features, or a dict: `{"x": [...]}`, or by feature name for an estimator
    that was fitted with names (it then needs pandas where it chooses columns by name).
    """

    native: ClassVar[bool] = False

    def __init__(self, artifact: base.Artifact) -> None:
        self.artifact = artifact
        alias = artifact.alias
        base.refuse_unknown_options(artifact, "sklearn", OPTIONS)
        self._method = artifact.options.get("method", "predict")
        if self._method not in METHODS:
            raise SpecError(
                f"model {alias!r}: method {self._method!r} is not served; there are {sorted(METHODS)}.",
                path="method",
            )
        if artifact.path is None:
            raise SpecError(f"model {alias!r}: the sklearn runtime needs a source: a .joblib, .pkl or .skops file.")
        self._output = METHODS[self._method]
        self._estimator: Any = None
        self._call: Any = None
        self._names: list[str] | None = None
        self._features = -1
        self._pandas: Any = None
        self._signature: wire.Signature | None = None

    def load(self) -> None:
        alias, path = self.artifact.alias, Path(str(self.artifact.path))
        try:
            content = path.read_bytes()
        except OSError as error:
            raise SpecError(f"model {alias!r}: {path} cannot be read: {error.strerror}.", path="source") from error
        self._check_pin(content, path)
        try:
            estimator = self._unpickled(content, path)
        except SpecError:
            raise
        except Exception as error:
            raise SpecError(
                f"model {alias!r}: {path} does not load with scikit-learn {sklearn.__version__}: "
                f"{type(error).__name__}: {error}",
                path="source",
                hint="Was it saved with another version, or does it need a module that is not installed?",
            ) from error
        call = getattr(estimator, self._method, None)
        if call is None:
            has = [name for name in METHODS if hasattr(estimator, name)]
            raise SpecError(
                f"model {alias!r}: {type(estimator).__name__} has no {self._method}; it has {has}.",
                path="method",
            )
        self._estimator, self._call = estimator, call
        self._describe()

    def _check_pin(self, content: bytes, path: Path) -> None:
        found = "sha256:" + hashlib.sha256(content).hexdigest()
        pinned = self.artifact.pinned
        if not pinned:
            raise SpecError(
                f"model {self.artifact.alias!r}: {path.name} is a pickle, which is code, and no digest is pinned.",
                path="digest",
                hint=f"If you trust this file, write digest: {found}",
            )
        wanted = pinned if pinned.startswith("sha256:") else f"sha256:{pinned}"
        if not hmac.compare_digest(found, wanted.lower()):
            raise SpecError(
                f"model {self.artifact.alias!r}: {path.name} has the digest {found}, the document pins {wanted}; "
                "it was not loaded.",
                path="digest",
                hint="If the change is yours, pin the new digest; if not, find out who changed the file.",
            )

    def _unpickled(self, content: bytes, path: Path) -> Any:
        if path.suffix in {".pkl", ".pickle"}:
            return pickle.loads(content)  # noqa: S301 - the bytes are the pinned ones
        if path.suffix == ".joblib":
            return importlib.import_module("joblib").load(io.BytesIO(content))
        if path.suffix == ".skops":
            return importlib.import_module("skops.io").loads(
                content, trusted=list(self.artifact.options.get("trusted", []))
            )
        raise SpecError(
            f"model {self.artifact.alias!r}: {path.name} is none of .joblib, .pkl, .pickle, .skops.",
            path="source",
            hint="Rename it after the way it was saved.",
        )

    def _describe(self) -> None:
        names = getattr(self._estimator, "feature_names_in_", None)
        self._names = [str(name) for name in names] if names is not None else None
        self._features = int(getattr(self._estimator, "n_features_in_", -1))
        if self._names is not None:
            try:
                self._pandas = importlib.import_module("pandas")
            except ModuleNotFoundError:
                self._pandas = None
        if self._features < 0 or self._names is not None:
            return  # columns may be of any type: the artifact does not say
        try:
            answer = np.asarray(self._call(np.zeros((1, self._features))))
        except Exception:  # noqa: BLE001 - a model that takes no zeros merely has no signature
            return
        dtype = DTYPES.get(answer.dtype.str[1:], "BYTES")
        given = wire.TensorSpec(INPUT, "FP64", (self._features,))
        self._signature = wire.Signature((given,), (wire.TensorSpec(self._output, dtype, answer.shape[1:]),))

    def signature(self) -> wire.Signature | None:
        return self._signature

    def example(self) -> Any | None:
        return None if self._signature is None else [0.0] * self._features

    def predict(self, rows: list[Any]) -> list[Any]:
        plain = [self._plain(row) for row in rows]
        try:
            table = np.asarray(plain)
        except ValueError as error:
            raise ValueError(
                f"rows have different lengths; expected {self._features} features each: {error}"
            ) from error
        if table.ndim == 1:
            table = table.reshape(-1, 1)
        if self._features >= 0 and table.shape[1:] != (self._features,):
            raise ValueError(f"a row takes {self._features} features, got {list(table.shape[1:])}")
        if self._pandas is not None:
            answers = self._call(self._pandas.DataFrame(plain, columns=self._names))
        else:
            answers = self._call(table)
        if hasattr(answers, "toarray"):
            answers = answers.toarray()
        if len(answers) != len(rows):
            raise ValueError(f"{self._method} gave {len(answers)} rows for {len(rows)}")
        return [
            {self._output: answer} if type(row) is dict else answer for row, answer in zip(rows, answers, strict=True)
        ]

    def _plain(self, row: Any) -> Any:
        """The features of one row, in the estimator's order."""
        if type(row) is not dict:
            return row
        if INPUT in row and len(row) == 1:
            return row[INPUT]
        names = self._names or [INPUT]
        missing = [name for name in names if name not in row]
        unknown = [name for name in row if name not in names]
        if missing or unknown:
            raise ValueError(f"a row has the features {names}; missing {missing}, unknown {unknown}")
        return [row[name] for name in names]

    def unload(self) -> None:
        self._estimator = self._call = None
