"""Runs one bound pipeline for one request, under its deadline, and says which step failed.

Called by dispatch in the request's own task; calls the author's function. It is the only
place that sets `wire.current_call`, which model handles read.

    answer in time                     the value, or a Stream once its first chunk is there
    deadline passed                    DeadlineError; the author's code is cancelled where it waits
    the author's code raised           StepError, step "code", the cause chained (SystemExit too)
    a model raised                     StepError, step = the model's keyword, the ModelError chained
    refused (input, overload, ...)     passed on as it is

A deadline interrupts code that waits. Code that swallows the cancellation is cancelled
again and again (`alarm`); code that blocks the event loop cannot be interrupted by anything
in this process, and is what the supervisor's watch on stalled workers is for.
"""

import asyncio
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Coroutine
from typing import Any

from turnout import wire
from turnout.errors import DeadlineError, ModelError, StepError, TurnoutError
from turnout.pipelines import alarm, binding

log = logging.getLogger("turnout.pipelines")

CLOSE_S = 1.0
"""Time for the `finally` blocks of a stream that ends early."""

STOPPED = ("cancelled", DeadlineError.code)
"""Errors of steps that were under way when time ran out."""

CODE = "code"

RAISED = (Exception, SystemExit, KeyboardInterrupt, GeneratorExit)
"""What an author's code may raise: none of it may end the worker. A cancellation is the caller's and passes."""

MAX_REASON_CHARACTERS = 300


def run(pipeline: binding.BoundPipeline, request: Any, call: wire.Call) -> Coroutine[Any, Any, Any]:
    """The pipeline's reply to one request.

    Args:
        pipeline: Bound.
        request: Decoded by `pipeline.request`.
        call: Deadline and trace of this run; its steps are filled in while it runs.

    Returns:
        The value as the author returned it, not encoded; a Stream for async generators, with
        the first chunk already there, so that until then another pipeline may still answer.

    Raises:
        DeadlineError, StepError, and what models refuse with: InputError, OverloadError, UnavailableError.

    Cancellation: passed on to the author's code; nothing is left behind.

    Complexity: about 2 µs over the author's code (one timer, one ContextVar).
    Source: a bare `call_later` and `cancel` costs 0.9 µs on uvloop, `asyncio.timeout` 3.6 µs.
    """
    if pipeline.streams:
        return Stream(pipeline, request, call).open()
    return _guarded(pipeline, pipeline.start(request), call)


async def _guarded(pipeline: binding.BoundPipeline, work: Awaitable[Any], call: wire.Call) -> Any:
    """Await the author's code under an alarm; StopAsyncIteration, a stream's end, passes."""
    token = wire.current_call.set(call)
    watch = alarm.Alarm(pipeline.clock, call.deadline)
    try:
        value = await work
    except StopAsyncIteration:
        raise
    except asyncio.CancelledError as error:
        if watch.forgive():
            raise
        if watch.rang:
            raise late(pipeline, call) from None
        # nobody cancelled the request: the author awaited a task that had been cancelled
        raise failed(pipeline, "it waited for something that was cancelled.") from error
    except RAISED as error:  # the border to the author's code
        if watch.rang:
            watch.forgive()
            raise late(pipeline, call) from error
        failure = explained(pipeline, call, error)
        if failure is error:
            raise
        raise failure from error
    finally:
        watch.stop()
        wire.current_call.reset(token)
    if watch.rang:  # it swallowed the cancellation; nobody waits for this value
        watch.forgive()
        raise late(pipeline, call)
    return value


class Stream:
    """Encoded chunks of one reply as they come; how they are framed is the gateway's affair.

    Iterate it once. It ends with its last chunk, or raises what went wrong after its first one;
    then `error` keeps it. `aclose` ends it early and is safe to call any number of times.

    Attributes:
        error: What ended it after its first chunk; None while all is well.
        chunks: Chunks given out so far.
    """

    __slots__ = ("_call", "_closed", "_encode", "_first", "_generator", "_pipeline", "chunks", "error")

    def __init__(self, pipeline: binding.BoundPipeline, request: Any, call: wire.Call) -> None:
        self.error: BaseException | None = None
        self.chunks = 0
        self._pipeline = pipeline
        self._call = call
        self._encode = pipeline.encode
        self._generator: AsyncGenerator[Any, None] = pipeline.start(request)
        self._first: bytes | None = None
        self._closed = False

    async def open(self) -> "Stream":
        """Wait for the first chunk. Called by `run`, whose errors it raises."""
        try:
            self._first = await self._next()
        except StopAsyncIteration:
            self._closed = True
        except BaseException:
            await self.aclose()
            raise
        return self

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        if self._first is not None:
            frame, self._first = self._first, None
        elif self._closed:
            raise StopAsyncIteration
        else:
            try:
                frame = await self._next()
            except StopAsyncIteration:
                self._closed = True
                raise
            except TurnoutError as error:
                self.error = error
                await self.aclose()
                raise
        self.chunks += 1
        return frame

    async def _next(self) -> bytes:
        chunk = await _guarded(self._pipeline, anext(self._generator), self._call)
        return self._encode(chunk)

    async def aclose(self) -> None:
        """End the author's generator: its `finally` blocks run now, for at most `CLOSE_S`."""
        if self._closed:
            return
        self._closed = True
        self._first = None
        token = wire.current_call.set(self._call)
        try:
            async with asyncio.timeout(CLOSE_S):
                await self._generator.aclose()
        except RAISED:  # the border to the author's code: the stream is over, whatever it says
            log.exception("pipeline %r failed while its stream was closed", self._pipeline.name)
        finally:
            wire.current_call.reset(token)


def late(pipeline: binding.BoundPipeline, call: wire.Call) -> DeadlineError:
    """The DeadlineError of a run, naming the model calls it was waiting for."""
    waiting = [step.name for step in call.steps if step.error in STOPPED or not (step.error or step.duration_s)]
    stage = waiting[0] if waiting else CODE
    limit_s = call.deadline - call.started
    where = f"waiting for {', '.join(repr(name) for name in dict.fromkeys(waiting))}" if waiting else "in its own code"
    return DeadlineError(
        f"pipeline {pipeline.name!r} did not answer within {limit_s:.3g} s; it was {where}.",
        stage=stage,
        hint="Raise the endpoint's deadline, or make this step faster.",
    )


def explained(pipeline: binding.BoundPipeline, call: wire.Call, error: BaseException) -> TurnoutError:
    """The error that callers get for what the author's code raised; the same object when it already says it all."""
    error = _single(error)
    if isinstance(error, ModelError):
        step = _failed_step(pipeline, call, error.model)
        text = f"pipeline {pipeline.name!r} step {step!r}: {error.message}"
        return StepError(text, pipeline=pipeline.name, step=step, hint=error.hint)
    if isinstance(error, TurnoutError):
        return error
    return failed(pipeline, f"{type(error).__name__}: {error}"[:MAX_REASON_CHARACTERS])


def failed(pipeline: binding.BoundPipeline, reason: str) -> StepError:
    """The StepError of the author's own lines."""
    return StepError(f"pipeline {pipeline.name!r} step {CODE!r}: {reason}", pipeline=pipeline.name, step=CODE)


def _single(error: BaseException) -> BaseException:
    """Of the group that `asyncio.TaskGroup` raises, the first of ours, else the first."""
    while isinstance(error, BaseExceptionGroup):
        error = (error.subgroup(TurnoutError) or error).exceptions[0]
    return error


def _failed_step(pipeline: binding.BoundPipeline, call: wire.Call, alias: str) -> str:
    for step in call.steps:
        if step.error and step.model == alias:
            return step.name
    return pipeline.steps.get(alias, alias)
