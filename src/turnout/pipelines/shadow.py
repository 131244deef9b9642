"""A shadow: a pipeline that gets a copy of requests after they were answered, and is compared with the answers.

Called by `assembly/visit` with what was answered; runs in tasks of its own, so that the reply
neither waits for it nor knows of it. Bounded in all that it takes: requests at work at once, time
a request, and models: its rows go into a queue only while little waits there (`handle.ShyHandle`).
What finds no room is dropped and counted, never queued.

Invariants: nothing raises to the caller of `mirror`; every copy that was taken ends as done,
failed or dropped; after `stop` no new one begins and none is left, unless its code refuses to end.
"""

import asyncio
import logging
import time
import zlib
from collections.abc import Callable
from typing import Any

import msgspec

from turnout import telemetry, wire
from turnout.errors import OverloadError, TurnoutError
from turnout.pipelines import binding, runner

logger = logging.getLogger("turnout.pipelines")

COMPARED_BYTES = 256 * 1024
"""Longer replies are compared as bytes only: walking them would hold the event loop for over a millisecond."""

STOP_S = 5.0
"""Time for copies to end when they are cancelled; code that swallows that is left to its deadline."""

MAX_ERROR_CHARACTERS = 500


class Finding(msgspec.Struct, frozen=True, gc=False):
    """What a shadow made of one request.

    Attributes:
        status: "ok" or the error's code.
        error: The error's message; "" when fine.
        latency_s: From its start to its reply.
        agree: Whether both replies are equal as JSON; None without a reply.
        difference: Greatest absolute difference of numbers at equal paths; None when there is none to compare.
    """

    status: str
    error: str
    latency_s: float
    agree: bool | None = None
    difference: float | None = None


class Shadow:
    """One mirrored pipeline of one endpoint, on one assembly.

    Args:
        pipeline: Bound to shy handles.
        ratio: Share of the requests that is copied, in [0, 1].
        max_in_flight: Copies at work at once; what comes beyond is dropped.
        deadline_s: A copy is given up after so long.
    """

    def __init__(
        self,
        name: str,
        pipeline: binding.BoundPipeline,
        *,
        endpoint: str,
        ratio: float,
        max_in_flight: int,
        deadline_s: float,
        registry: telemetry.Registry,
    ) -> None:
        self.name = name
        self.pipeline = pipeline
        self.ratio = ratio
        self._most = max_in_flight
        self._deadline_s = deadline_s
        self._seed = zlib.crc32(name.encode())
        self._below = round(ratio * 2**32)
        self._tasks: set[asyncio.Task[None]] = set()
        self._stopped = False
        self._counts = _Counts(registry, endpoint, name)

    def wants(self, request_id: str) -> bool:
        """Whether this request is in the sample: a function of the request's id and the shadow's name."""
        return zlib.crc32(request_id.encode(), self._seed) < self._below

    def mirror(self, request_id: str, body: bytes, reply: bytes, tell: Callable[[Finding], None]) -> None:
        """Run a copy of an answered request in the background, or drop it. Never raises, never waits.

        Args:
            reply: What the caller got, encoded.
            tell: Gets the finding; not called for what is dropped.
        """
        if self._stopped or len(self._tasks) >= self._most:
            self._counts.drop("stopped" if self._stopped else "in-flight")
            return
        self._counts.sent.inc()
        task = asyncio.get_running_loop().create_task(self._run(request_id, body, reply, tell))
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if task.cancelled():
            self._counts.drop("stopped")

    async def stop(self) -> None:
        """Take no more copies and end those at work."""
        self._stopped = True
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        if tasks:
            _, deaf = await asyncio.wait(tasks, timeout=STOP_S)
            if deaf:
                logger.error("shadow %r: %d copies do not end when they are cancelled", self.name, len(deaf))

    async def _run(self, request_id: str, body: bytes, reply: bytes, tell: Callable[[Finding], None]) -> None:
        began = time.monotonic()
        call = wire.Call(request_id, self.pipeline.name, began + self._deadline_s, began)
        try:
            value = await runner.run(self.pipeline, self.pipeline.request.decode(body), call)
            found = self.pipeline.encode(value)
            agree, difference = compared(reply, found)
            finding = Finding("ok", "", time.monotonic() - began, agree, difference)
            self._counts.done.inc()
        except OverloadError:
            self._counts.drop("queue")
            return
        except Exception as error:  # a border: a background task
            self._counts.failed.inc()
            code = error.code if isinstance(error, TurnoutError) else "internal"
            finding = Finding(code, str(error)[:MAX_ERROR_CHARACTERS], time.monotonic() - began)
            if not isinstance(error, TurnoutError):
                logger.exception("shadow %r failed", self.name)
        tell(finding)

    def describe(self) -> dict[str, Any]:
        """For `/status`: what it is, and what became of its copies in this process."""
        counts = self._counts
        return {
            "pipeline": self.pipeline.name,
            "models": list(self.pipeline.models),
            "ratio": self.ratio,
            "in_flight": len(self._tasks),
            "sent": int(counts.sent.value),
            "done": int(counts.done.value),
            "failed": int(counts.failed.value),
            "dropped": {reason: int(counter.value) for reason, counter in sorted(counts.dropped.items())},
        }


class _Counts:
    def __init__(self, registry: telemetry.Registry, endpoint: str, name: str) -> None:
        labels = ("endpoint", "shadow")
        sent = registry.counter(telemetry.SHADOW_SENT, "Copies of requests that a shadow began with.", labels)
        done = registry.counter(telemetry.SHADOW_DONE, "Copies that a shadow answered.", labels)
        failed = registry.counter(telemetry.SHADOW_FAILED, "Copies that a shadow failed on.", labels)
        self.sent = sent.labels(endpoint, name)
        self.done = done.labels(endpoint, name)
        self.failed = failed.labels(endpoint, name)
        dropped = registry.counter(
            telemetry.SHADOW_DROPPED, "Copies that a shadow had no room or time for.", (*labels, "reason")
        )
        self.dropped = {reason: dropped.labels(endpoint, name, reason) for reason in ("in-flight", "queue", "stopped")}

    def drop(self, reason: str) -> None:
        self.dropped[reason].inc()


def compared(one: bytes, other: bytes) -> tuple[bool, float | None]:
    """Whether two replies are equal as JSON, and the greatest difference of numbers at equal paths.

    Key order does not matter; 1 and 1.0 are equal, 1 and true are not.

    Returns:
        Equality; and the difference, 0 for equal replies, None when no path has a number in both
        or when they are too long to walk.

    >>> compared(b'{"score": 1.5, "by": "a"}', b'{"by": "b", "score": 1.25}')
    (False, 0.25)
    """
    if one == other:
        return True, 0.0
    if len(one) > COMPARED_BYTES or len(other) > COMPARED_BYTES:
        return False, None
    waiting: list[tuple[Any, Any]] = [(msgspec.json.decode(one), msgspec.json.decode(other))]
    agree, difference = True, None
    while waiting:
        left, right = waiting.pop()
        if _number(left) and _number(right):
            apart = abs(left - right)
            difference = apart if difference is None else max(difference, apart)
            agree = agree and apart == 0
        elif isinstance(left, dict) and isinstance(right, dict):
            agree = agree and left.keys() == right.keys()
            waiting += [(left[key], right[key]) for key in left.keys() & right.keys()]
        elif isinstance(left, list) and isinstance(right, list):
            agree = agree and len(left) == len(right)
            waiting += zip(left, right, strict=False)
        else:
            agree = agree and type(left) is type(right) and left == right
    return agree, float(difference) if difference is not None else (0.0 if agree else None)


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
