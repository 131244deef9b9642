"""What one assignment costs: `python bench/assignment.py`. In one process, best of several rounds; p99 of single calls.

The last line is an assignment and its exposure appended to the event log, which EXPERIMENTS wants below 100 µs at p99.
"""

import asyncio
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from turnout import telemetry
from turnout.eventlog import log
from turnout.events import Exposure
from turnout.experiments import assignment, holdouts, layers
from turnout.expressions import catalog

UNITS = [f"user-{number}" for number in range(20_000)]
ROUNDS = 7
ATTRIBUTES = {"country": "KR", "age": 40}


def allocation(variants: int = 2, **gates: object) -> assignment.Allocation:
    names = [f"variant-{number}" for number in range(variants)]
    weights = dict.fromkeys(names, 1 / variants)
    return assignment.Allocation("structure", weights, names[0], phase="p", gates=assignment.Gates(**gates))  # type: ignore[arg-type]


CASES: dict[str, assignment.Allocation] = {
    "two variants": allocation(),
    "five variants": allocation(5),
    "holdout and layer": allocation(holdout=holdouts.holdout("h", 50_000), layer=layers.Layer("l", [(0, 999)])),
    "targeting": allocation(targeting=catalog.compile('country in ["KR", "JP"] && age > 17', ["country", "age"])),
    "growthbook-v2": allocation(hash="growthbook-v2"),
}


def measured(call: Callable[[str], object]) -> tuple[float, float]:
    """Microseconds of one call: the mean of the best round, and the 99th percentile of single calls in it."""
    rounds = []
    for _ in range(ROUNDS):
        took = []
        for unit in UNITS:
            begun = time.perf_counter_ns()
            call(unit)
            took.append(time.perf_counter_ns() - begun)
        rounds.append((sum(took) / len(took) / 1000, sorted(took)[len(took) * 99 // 100] / 1000))
    return min(rounds)


async def with_exposure() -> tuple[float, float]:
    plain = CASES["two variants"]
    with tempfile.TemporaryDirectory() as folder:
        events = log.EventLog(Path(folder), "bench", registry=telemetry.Registry())
        events.start()

        def call(unit: str) -> None:
            found = assignment.assign(unit, plain)
            events.append(
                Exposure(
                    event_id=unit,
                    ts=1e9,
                    revision="r",
                    endpoint="reply",
                    experiment=plain.name,
                    phase=plain.phase,
                    unit_type="user_id",
                    unit=found.unit,
                    variant=found.variant,
                    served=found.variant,
                    reason=found.reason,
                    propensity=found.propensity,
                    sub_bucket=found.sub_bucket,
                    request_id=unit,
                )
            )

        found = measured(call)
        await events.close()
    return found


def main() -> None:
    print(f"{'case':<24}{'mean µs':>10}{'p99 µs':>10}")
    for name, each in CASES.items():
        mean, p99 = measured(lambda unit, each=each: assignment.assign(unit, each, attributes=ATTRIBUTES))  # type: ignore[misc]
        print(f"{name:<24}{mean:>10.2f}{p99:>10.2f}")
    mean, p99 = asyncio.run(with_exposure())
    print(f"{'with its exposure':<24}{mean:>10.2f}{p99:>10.2f}")


if __name__ == "__main__":
    main()
