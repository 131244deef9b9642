"""A user's own class: `predict(self, items: list) -> list`, and what else it cares to have.

Optional: `load(self, **params)`, called once with the document's params; `stream(self, item)`,
a generator of chunks; `example(self)`, an item to warm up with; `unload(self)`. All calls come
from one thread.
"""

import inspect
from collections.abc import Callable, Iterator
from typing import Any, ClassVar

from turnout import wire
from turnout.errors import SpecError
from turnout.runtimes import base


class PythonRuntime:
    """One object of the user's class."""

    native: ClassVar[bool] = False

    def __init__(self, artifact: base.Artifact) -> None:
        alias = artifact.alias
        if artifact.code is None:
            raise SpecError(f"model {alias!r}: the python runtime needs code.", hint='Write code: "module:Class".')
        self.artifact = artifact
        self.streams = callable(getattr(artifact.code, "stream", None))
        self._class: Any = artifact.code
        self._model: Any = None
        predict = getattr(self._class, "predict", None)
        if predict is None and not self.streams:
            raise SpecError(
                f"model {alias!r}: class {self._name()} has no predict.",
                hint="Give it predict(self, items: list) -> list, or stream(self, item).",
            )
        for name in ("load", "predict", "stream"):
            method = getattr(self._class, name, None)
            if inspect.iscoroutinefunction(method) or inspect.isasyncgenfunction(method):
                raise SpecError(
                    f"model {alias!r}: {self._name()}.{name} is async; models run in a thread of their own.",
                    hint=f"Write def {name}, or put what awaits into the pipeline.",
                )
        self._check_params()

    def _name(self) -> str:
        return getattr(self._class, "__qualname__", repr(self._class))

    def _check_params(self) -> None:
        load: Callable[..., Any] | None = getattr(self._class, "load", None)
        params = self.artifact.options
        if load is None:
            if params:
                raise SpecError(
                    f"model {self.artifact.alias!r}: params {sorted(params)} are given, "
                    f"but class {self._name()} has no load that takes them.",
                    path="params",
                    hint="Give it load(self, ...), or remove the params.",
                )
            return
        try:
            inspect.signature(load).bind(None, **params)
        except TypeError as error:
            raise SpecError(
                f"model {self.artifact.alias!r}: {self._name()}.load{inspect.signature(load)} "
                f"does not take the params {sorted(params)}: {error}.",
                path="params",
            ) from error

    def load(self) -> None:
        model = self._class()
        if hasattr(model, "load"):
            model.load(**self.artifact.options)
        self._model = model

    def signature(self) -> wire.Signature | None:
        return None

    def predict(self, rows: list[Any]) -> list[Any]:
        answers = self._model.predict(rows)
        if type(answers) is list:
            return answers
        if (
            hasattr(answers, "__len__")
            and hasattr(answers, "__getitem__")
            and not isinstance(answers, (str, bytes, dict))
        ):
            return list(answers)
        raise TypeError(
            f"{self._name()}.predict gave {type(answers).__name__}; expected a list with one answer an item"
        )

    def stream(self, row: Any) -> Iterator[Any]:
        return iter(self._model.stream(row))

    def example(self) -> Any | None:
        return self._model.example() if hasattr(self._model, "example") else None

    def unload(self) -> None:
        model, self._model = self._model, None
        if hasattr(model, "unload"):
            model.unload()
