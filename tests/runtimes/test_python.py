"""A user's own class: what it may have, and what is wrong with it."""

from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import numpy as np
import pytest

from turnout.errors import SpecError

Opened = Callable[..., Any]


class Scaler:
    def load(self, factor: float = 1.0, *, offset: float = 0.0) -> None:
        self.factor, self.offset = factor, offset

    def predict(self, items: list[float]) -> list[float]:
        return [item * self.factor + self.offset for item in items]

    def example(self) -> float:
        return 1.0


class Plain:
    unloaded = False

    def predict(self, items: list[Any]) -> Any:
        return items[0]

    def unload(self) -> None:
        Plain.unloaded = True


class Words:
    def stream(self, item: str) -> Iterator[str]:
        yield from item.split()


class Asynchronous:
    async def predict(self, items: list[Any]) -> list[Any]:
        return items


class AsynchronousStream:
    async def stream(self, item: Any) -> AsyncIterator[Any]:
        yield item


class Nothing:
    pass


def test_params_reach_load(opened: Opened) -> None:
    runtime = opened("python", code=Scaler, factor=3.0, offset=1.0)
    assert runtime.predict([1.0, 2.0]) == [4.0, 7.0]
    assert runtime.example() == 1.0
    assert runtime.signature() is None
    assert not runtime.streams


@pytest.mark.parametrize("answers", [(1, 2), np.array([1, 2])], ids=["tuple", "array"])
def test_any_sequence_will_do_as_answer(opened: Opened, answers: Any) -> None:
    assert opened("python", code=Plain).predict([answers]) == [1, 2]


@pytest.mark.parametrize("answers", ["ab", {"a": 1}, 3, None, (x for x in [1])], ids=lambda x: type(x).__name__)
def test_what_is_no_list_is_refused(opened: Opened, answers: Any) -> None:
    with pytest.raises(TypeError, match=f"gave {type(answers).__name__}; expected a list with one answer an item"):
        opened("python", code=Plain).predict([answers])


def test_chunks_are_the_generators(opened: Opened) -> None:
    runtime = opened("python", code=Words)
    assert runtime.streams
    assert list(runtime.stream("a b c")) == ["a", "b", "c"]


def test_unload_reaches_the_class(opened: Opened) -> None:
    opened("python", code=Plain).unload()
    assert Plain.unloaded


@pytest.mark.parametrize(
    ("code", "options", "message"),
    [
        (None, {}, "needs code"),
        (Nothing, {}, "class Nothing has no predict"),
        (Asynchronous, {}, r"Asynchronous\.predict is async"),
        (AsynchronousStream, {}, r"AsynchronousStream\.stream is async"),
        (Plain, {"size": 3}, r"params \['size'\] are given, but class Plain has no load"),
        (Scaler, {"scale": 3}, r"load\(self, factor: float = 1\.0, \*, offset: float = 0\.0\) -> None does not"),
    ],
    ids=["no code", "no predict", "async predict", "async stream", "no load", "wrong params"],
)
def test_a_class_that_does_not_fit_is_the_documents_error(
    opened: Opened, code: Any, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(SpecError, match=message):
        opened("python", code=code, **options)
