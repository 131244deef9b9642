"""ONNX files through onnxruntime on the CPU.

The artifact says what it takes and gives; the first dimension of every tensor is the batch.
Rows are stacked at once; rows of different shapes (where the artifact leaves dimensions open)
are computed in one group for each shape. A fixed batch dimension is honoured: of 1 by running
row by row, of n by padding. Outputs of scikit-learn converters that are lists of
dicts (class to probability) become arrays, classes in sorted order.

Opened through `catalog`.
"""

import math
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
import onnxruntime

from turnout import wire
from turnout.errors import SpecError
from turnout.runtimes import base

DTYPES: dict[str, tuple[str, Any]] = {
    "tensor(float)": ("FP32", np.float32),
    "tensor(double)": ("FP64", np.float64),
    "tensor(float16)": ("FP16", np.float16),
    "tensor(int8)": ("INT8", np.int8),
    "tensor(int16)": ("INT16", np.int16),
    "tensor(int32)": ("INT32", np.int32),
    "tensor(int64)": ("INT64", np.int64),
    "tensor(uint8)": ("UINT8", np.uint8),
    "tensor(uint16)": ("UINT16", np.uint16),
    "tensor(uint32)": ("UINT32", np.uint32),
    "tensor(uint64)": ("UINT64", np.uint64),
    "tensor(bool)": ("BOOL", np.bool_),
    "tensor(string)": ("BYTES", np.object_),
}
"""onnxruntime's type to the Open Inference Protocol's name and numpy's type."""

MAPS: dict[str, str] = {
    "seq(map(int64,tensor(float)))": "FP32",
    "seq(map(string,tensor(float)))": "FP32",
}
"""Outputs that are one dict a row."""

OPTIONS = frozenset({"providers"})

SOME = 4
"""What stands for an open dimension in an example row."""


class _Input:
    """One input: how its rows are stacked."""

    def __init__(self, alias: str, argument: Any) -> None:
        kind = DTYPES.get(argument.type)
        if kind is None:
            raise SpecError(
                f"model {alias!r}: input {argument.name!r} has the type {argument.type}, which is not served."
            )
        if not argument.shape:
            raise SpecError(
                f"model {alias!r}: input {argument.name!r} is a scalar; its first dimension must be the batch.",
                hint="Export the model with a batch dimension, or fold the input into the graph.",
            )
        first, *rest = argument.shape
        self.name: str = argument.name
        self.dtype: Any = np.dtype(kind[1])
        self.batch: int | None = first if isinstance(first, int) and first > 0 else None
        self.shape = _row_shape(rest)
        self.spec = wire.TensorSpec(self.name, kind[0], self.shape)
        self.open = -1 in self.shape
        self.size = -1 if self.open else math.prod(self.shape)

    def stacked(self, values: list[Any]) -> Any:
        """An array of shape [rows, *shape]; raises ValueError naming what does not fit."""
        array = self._converted(values)
        found = array.shape[1:]
        if found != self.shape:
            if not found and self.shape == (1,):
                return array.reshape(-1, 1)
            if len(found) != len(self.shape) or any(b not in (-1, a) for a, b in zip(found, self.shape, strict=True)):
                raise ValueError(f"input {self.name!r} takes {_shown(self.spec)} a row, got {list(found)}")
        return array

    def _converted(self, values: list[Any]) -> Any:
        if self.size > 0 and self.shape:
            try:
                alike = [value.shape for value in values].count(self.shape) == len(values)
            except AttributeError:  # lists among them
                alike = False
            if alike:
                array = np.concatenate(values, axis=None)  # a third of the time of np.stack
                if array.dtype == self.dtype:
                    return array.reshape(len(values), *self.shape)
        try:
            array = np.asarray(values, dtype=self.dtype if self.dtype.kind in "fO" else None)
        except (ValueError, TypeError) as error:
            raise ValueError(f"input {self.name!r} takes {_shown(self.spec)} a row: {error}") from error
        if array.dtype == self.dtype:
            return array
        if not np.can_cast(array.dtype, self.dtype, "safe") and not _fits(array, self.dtype):
            raise ValueError(f"input {self.name!r} takes {_shown(self.spec)} a row, got values of type {array.dtype}")
        return array.astype(self.dtype)


class OnnxRuntime:
    """One session of one ONNX file. Options: `providers`, the execution providers by onnxruntime's names."""

    native: ClassVar[bool] = True

    def __init__(self, artifact: base.Artifact) -> None:
        self.artifact = artifact
        base.refuse_unknown_options(artifact, "onnx", OPTIONS)
        if artifact.path is None:
            raise SpecError(f"model {artifact.alias!r}: the onnx runtime needs a source: the .onnx file.")
        self._session: Any = None
        self._inputs: list[_Input] = []
        self._outputs: list[str] = []
        self._maps: dict[str, int] = {}
        self._kept_whole: frozenset[str] = frozenset()
        self._chief: list[str] = []
        self._open = False
        self._batch: int | None = None
        self._signature: wire.Signature | None = None

    def load(self) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = self.artifact.threads
        options.inter_op_num_threads = 1
        options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
        options.log_severity_level = 3
        providers = self.artifact.options.get("providers", ["CPUExecutionProvider"])
        alias = self.artifact.alias
        try:
            session = onnxruntime.InferenceSession(self.artifact.path, options, providers=list(providers))
        except Exception as error:
            raise SpecError(
                f"model {alias!r}: {self.artifact.path} is not an ONNX file that onnxruntime "
                f"{onnxruntime.__version__} loads: {error}"
            ) from error
        self._session = session
        self._inputs = [_Input(alias, argument) for argument in session.get_inputs()]
        self._open = any(each.open for each in self._inputs)
        self._batch = self._fixed_batch()
        self._read_outputs(session.get_outputs())

    def _fixed_batch(self) -> int | None:
        fixed = {each.batch for each in self._inputs if each.batch is not None}
        if len(fixed) > 1:
            raise SpecError(
                f"model {self.artifact.alias!r}: its inputs have different first dimensions {sorted(fixed)}; "
                "the first dimension must be the batch in all of them."
            )
        return fixed.pop() if fixed else None

    def _read_outputs(self, arguments: Sequence[Any]) -> None:
        self._outputs = [argument.name for argument in arguments]
        specs = []
        for argument in arguments:
            if argument.type in MAPS:
                self._maps[argument.name] = -1
                specs.append(wire.TensorSpec(argument.name, MAPS[argument.type], (-1,)))
            elif argument.type in DTYPES:
                whole = self._batch == 1 and (not argument.shape or argument.shape[0] != 1)
                if whole:
                    self._kept_whole |= {argument.name}
                shape = argument.shape if whole else argument.shape[1:]
                specs.append(wire.TensorSpec(argument.name, DTYPES[argument.type][0], _row_shape(shape)))
            else:
                raise SpecError(
                    f"model {self.artifact.alias!r}: output {argument.name!r} has the type {argument.type}, "
                    "which is not served."
                )
        floats = [spec.name for spec in specs if spec.dtype.startswith("FP")]
        self._chief = [self._outputs[0] if len(specs) == 1 or not floats else floats[0]]
        self._signature = wire.Signature(tuple(each.spec for each in self._inputs), tuple(specs))

    def signature(self) -> wire.Signature | None:
        return self._signature

    def example(self) -> Any | None:
        """Zeros that fit the signature; None when the model does not take them (open dimensions that must agree)."""
        row = {
            each.name: np.full(
                [SOME if d == -1 else d for d in each.shape], "" if each.dtype.kind == "O" else 0, each.dtype
            )
            for each in self._inputs
        }
        try:
            self.predict([row])
        except Exception:  # noqa: BLE001 - the row is our guess: its failure says nothing about the model
            return None
        return row

    def unload(self) -> None:
        self._session = None

    def predict(self, rows: list[Any]) -> list[Any]:
        columns = [self._column(each.name, rows) for each in self._inputs]
        if self._open and len(rows) > 1:
            return self._grouped(rows, columns)
        return self._computed(rows, columns)

    def _computed(self, rows: list[Any], columns: list[list[Any]]) -> list[Any]:
        arrays = {each.name: each.stacked(column) for each, column in zip(self._inputs, columns, strict=True)}
        dicts = [type(row) for row in rows].count(dict)
        names = self._outputs if dicts else self._chief
        outputs = self._run(names, arrays, len(rows))
        if not dicts:
            return list(outputs[0])
        if len(outputs) == 1:
            name = names[0]
            answers: list[Any] = [{name: value} for value in outputs[0]]
        else:
            answers = [dict(zip(names, values, strict=True)) for values in zip(*outputs, strict=True)]
        if dicts == len(rows):
            return answers
        chief = self._chief[0]
        return [answer if type(row) is dict else answer[chief] for row, answer in zip(rows, answers, strict=True)]

    def _column(self, name: str, rows: list[Any]) -> list[Any]:
        """What the rows hold for one input."""
        if len(self._inputs) == 1 and dict not in [type(row) for row in rows]:
            return rows
        try:
            if len(self._inputs) == 1:
                return [row[name] if type(row) is dict else row for row in rows]
            return [row[name] for row in rows]
        except (KeyError, TypeError, IndexError):
            for row in rows:
                self._check_names(row)
            raise

    def _check_names(self, row: Any) -> None:
        names = [each.name for each in self._inputs]
        if not isinstance(row, dict):
            if len(names) == 1:
                return
            raise TypeError(f"a row must be a dict with the inputs {names}, got {type(row).__name__}")
        missing = [name for name in names if name not in row]
        if missing:
            raise ValueError(f"input {missing[0]!r} is missing; the model takes {names}, got {list(row)}")

    def _grouped(self, rows: list[Any], columns: list[list[Any]]) -> list[Any]:
        """Rows of one shape together."""
        groups: dict[Any, list[int]] = {}
        for i in range(len(rows)):
            groups.setdefault(tuple([np.shape(column[i]) for column in columns]), []).append(i)
        if len(groups) == 1:
            return self._computed(rows, columns)
        answers: list[Any] = [None] * len(rows)
        for places in groups.values():
            found = self._computed([rows[i] for i in places], [[column[i] for i in places] for column in columns])
            for i, answer in zip(places, found, strict=True):
                answers[i] = answer
        return answers

    def _run(self, names: list[str], arrays: dict[str, Any], count: int) -> list[Any]:
        """The named outputs for `count` rows, each indexable by row."""
        if self._batch is None:
            found = self._session.run(names, arrays)
            return [self._checked(name, out, count) for name, out in zip(names, found, strict=True)]
        size = self._batch
        pieces: list[list[Any]] = []
        for start in range(0, count, size):
            used = min(size, count - start)
            piece = {name: _padded(array[start : start + size], size) for name, array in arrays.items()}
            found = self._session.run(names, piece)
            pieces.append(
                [
                    out[None] if name in self._kept_whole else self._checked(name, out, size)[:used]
                    for name, out in zip(names, found, strict=True)
                ]
            )
        if len(pieces) == 1:
            return pieces[0]
        return [[row for piece in pieces for row in piece[i]] for i in range(len(names))]

    def _checked(self, name: str, out: Any, count: int) -> Any:
        if name in self._maps:
            classes = sorted(out[0]) if out else []
            out = np.array([[row[key] for key in classes] for row in out], dtype=np.float32)
        if not out.ndim or len(out) != count:
            raise ValueError(
                f"output {name!r} has the shape {list(out.shape)} for {count} rows; "
                "its first dimension must be the batch"
            )
        return out


def _padded(array: Any, size: int) -> Any:
    missing = size - len(array)
    return np.concatenate([array, np.repeat(array[-1:], missing, axis=0)]) if missing else array


def _row_shape(shape: Sequence[Any]) -> tuple[int, ...]:
    return tuple(d if isinstance(d, int) and d > 0 else -1 for d in shape)


def _shown(spec: wire.TensorSpec) -> str:
    return f"{spec.dtype}{list(spec.shape)}"


def _fits(array: Any, dtype: Any) -> bool:
    """Whether whole numbers fit a narrower or unsigned type without change."""
    if array.dtype.kind not in "iu" or dtype.kind not in "iu" or not array.size:
        return False
    info = np.iinfo(dtype)
    return bool(array.min() >= info.min and array.max() <= info.max)
