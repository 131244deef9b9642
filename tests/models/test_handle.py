"""A model as a pipeline calls it: deadline, trace, errors."""

import asyncio
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy
import pytest

from turnout import wire
from turnout.errors import ModelError
from turnout.models import handle, host
from turnout.runtimes import base, catalog


def onnx_factory(path: Path) -> Callable[[], base.Runtime]:
    artifact = base.Artifact(alias="rank", version="0123456789ab", path=str(path))
    return lambda: catalog.load("onnx")(artifact)


def test_a_pipeline_gets_its_answer_and_leaves_a_step(make_host: Callable[..., host.Host], doubling_onnx: Path) -> None:
    async def run() -> None:
        loaded = make_host(onnx_factory(doubling_onnx))
        await loaded.open()
        call = wire.Call("f" * 32, "p", time.monotonic() + 30.0)
        wire.current_call.set(call)
        scores = await handle.Handle("score", loaded)([1.0, 2.0, 3.0])
        many = await handle.Handle("score", loaded).many([[1, 2, 3], [4, 5, 6]])
        await loaded.close(1.0)

        assert scores.tolist() == [2.0, 4.0, 6.0]
        assert [row.tolist() for row in many] == [[2.0, 4.0, 6.0], [8.0, 10.0, 12.0]]
        assert [(s.name, s.model, s.version, s.rows, s.batch_rows, s.error) for s in call.steps] == [
            ("score", "rank", "0123456789ab", 1, 1, ""),
            ("score", "rank", "0123456789ab", 2, 2, ""),
        ]
        assert all(0.0 < s.compute_s <= s.duration_s for s in call.steps)

    asyncio.run(run())


def test_a_bad_row_fails_alone_and_its_step_says_so(make_host: Callable[..., host.Host], doubling_onnx: Path) -> None:
    async def run() -> None:
        loaded = make_host(onnx_factory(doubling_onnx))
        await loaded.open()
        call = wire.Call("f" * 32, "p", time.monotonic() + 30.0)
        wire.current_call.set(call)
        score = handle.Handle("score", loaded)
        rows = [numpy.ones(3), [1.0, 2.0], [1, 1, 1]]
        answers: list[Any] = await asyncio.gather(*map(score, rows), return_exceptions=True)
        good, bad, fine = answers
        await loaded.close(1.0)

        assert good.tolist() == fine.tolist() == [2.0, 2.0, 2.0]
        assert isinstance(bad, ModelError)
        assert "input 'x' takes FP32[3] a row, got [2]" in bad.message
        assert [step.error for step in call.steps] == ["", "model-failed", ""]

    asyncio.run(run())


def test_without_a_call_a_default_deadline_holds(make_host: Callable[..., host.Host], doubling_onnx: Path) -> None:
    async def run() -> None:
        loaded = make_host(onnx_factory(doubling_onnx))
        await loaded.open()
        score = handle.Handle("score", loaded)
        assert (await score([1, 2, 3])).tolist() == [2.0, 4.0, 6.0]
        assert await score.many([]) == []
        await loaded.close(1.0)

    asyncio.run(run())


@pytest.mark.parametrize("execution", ["auto", "loop", "thread"])
def test_every_execution_gives_the_same_answers(
    make_host: Callable[..., host.Host], doubling_onnx: Path, execution: str
) -> None:
    async def run() -> None:
        loaded = make_host(onnx_factory(doubling_onnx), execution=execution)
        await loaded.open()
        score = handle.Handle("score", loaded)
        answers = await asyncio.gather(*(score([i, i, i]) for i in range(200)))
        assert [answer.tolist() for answer in answers] == [[2.0 * i] * 3 for i in range(200)]
        await loaded.close(1.0)

    asyncio.run(run())
