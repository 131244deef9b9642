"""Two hundred changes of the document in a row under traffic: nobody fails, all follow, nobody goes back.

A unit that flips would have its answers mixed of two variants. Here every unit asks one request after the other,
each on another connection and so on another worker, while changes land: what a unit was answered from revision n
on may never be from a revision before n again. Some requests block the event loop of their worker, so that workers
hear of a change at different times (`test_convergence_instant.py` makes the differences larger, and sure).
"""

import asyncio
import itertools
import json
import math
import time
from collections.abc import Callable
from typing import Any

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.long]

CHANGES = 200
WORKERS = 4
UNITS = 4
BLOCKERS = 2
BETWEEN_S = 0.02
"""Rest between a change that has converged and the next; together with the file watch's own quiet time about 0.4 s."""

WITHIN_S = 1.0
BUDGET_S = 150.0


class Walker:
    """One unit that asks without pause, round the connections, one request at a time."""

    def __init__(self, port: int, unit: str, value: float = 1.0) -> None:
        self.port, self.unit, self.value = port, unit, value
        self.seen: list[str] = []
        self.failures: list[str] = []
        self.asked = 0

    async def walk(self, stop: asyncio.Event, exchange: Callable[..., Any]) -> None:
        connections = [await asyncio.open_connection("127.0.0.1", self.port) for _ in range(WORKERS * 2)]
        body = json.dumps({"user_id": self.unit, "value": self.value}).encode()
        for place in itertools.cycle(range(len(connections))):
            if stop.is_set():
                break
            try:
                status, headers, reply = await exchange(*connections[place], "POST", "/v1/endpoints/scale", body)
            except (OSError, asyncio.IncompleteReadError) as error:
                self.failures.append(repr(error))
                connections[place] = await asyncio.open_connection("127.0.0.1", self.port)
                continue
            self.asked += 1
            if status != 200:
                self.failures.append(f"{status} {reply[:200]!r}")
            elif not self.seen or headers["turnout-revision"] != self.seen[-1]:
                self.seen.append(headers["turnout-revision"])
            await asyncio.sleep(0.02 if self.value < 0 else 0.001)
        for _, writer in connections:
            writer.close()


def quantile(values: list[float], q: float) -> float:
    return sorted(values)[math.ceil(q * len(values)) - 1]


async def converged(project: Any, before: str, deadline: float) -> dict[str, Any]:
    """The first status that shows every worker on a revision other than `before`."""
    while True:
        status: dict[str, Any] = await project.status()
        if status["converged"] and status["revision"] != before:
            return status
        assert time.monotonic() < deadline, f"not converged: {json.dumps(status['convergence'], indent=1)}"
        await asyncio.sleep(0.02)


def test_two_hundred_changes_under_traffic_drop_nothing_converge_in_a_second_and_never_flip_back(
    project: Any, write_document: Callable[..., str], ask: Callable[..., Any], record_property: Callable[..., None]
) -> None:
    project.start("--workers", str(WORKERS))

    async def run() -> None:
        stop = asyncio.Event()
        walkers = [Walker(project.port, f"u{n}") for n in range(UNITS)]
        walkers += [Walker(project.port, f"b{n}", value=-1.0) for n in range(BLOCKERS)]
        walking = [asyncio.create_task(walker.walk(stop, ask)) for walker in walkers]
        took_s: list[float] = []
        order = [(await project.status())["revision"]]
        deadline = time.monotonic() + BUDGET_S
        for number in range(1, CHANGES + 1):
            written = time.time()
            project.write(write_document(weight=number / 10))
            status = await converged(project, order[-1], deadline)
            order.append(status["revision"])
            assert [worker["revision"] for worker in status["workers"]] == [order[-1]] * WORKERS
            took_s += [worker["since"] - written for worker in status["workers"]]
            await asyncio.sleep(BETWEEN_S)
        stop.set()
        await asyncio.gather(*walking)
        metrics = await project.metrics()

        p50, p99 = quantile(took_s, 0.5), quantile(took_s, 0.99)
        asked = sum(walker.asked for walker in walkers)
        late = next(line for line in metrics.splitlines() if line.startswith("turnout_commits_late_total "))
        said = f"{asked} requests, p50 {p50:.3f} s, p99 {p99:.3f} s, slowest {max(took_s):.3f} s, {late}"
        record_property("convergence", said)
        print(said)
        assert [failure for walker in walkers for failure in walker.failures] == []
        assert asked > CHANGES * UNITS
        assert len(set(order)) == CHANGES + 1
        places = {revision: place for place, revision in enumerate(order)}
        for walker in walkers:
            positions = [places[revision] for revision in walker.seen]
            assert positions == sorted(positions), f"unit {walker.unit} went back"
            assert positions[-1] == CHANGES
        assert p99 < WITHIN_S, said

    asyncio.run(run())
