"""Duplicates, disorder, late outcomes, corrections and crossed units: the answers are those of the clean log.

And whatever the log, every store answers what the memory store, plain Python, answers.
"""

import random
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import cast

import hypothesis
import msgspec
import pytest
from hypothesis import strategies
from tests.contracts.event_stores import (
    PHASE,
    Sealing,
    comparison,
    empty_postgresql,
    exposure,
    outcome,
    postgresql_url,
    prediction,
    sqlite_template,
    subject,
)

from turnout.events import Event, Exposure, Outcome, Prediction
from turnout.stores import base, catalog, memory

__all__ = ["postgresql_url", "sqlite_template"]

VARIANTS = ("a", "b", "c")
AS_OF = 900.0

SETTINGS = hypothesis.settings(
    derandomize=True,
    deadline=None,
    max_examples=25,
    suppress_health_check=[hypothesis.HealthCheck.function_scoped_fixture],
)


def quarter(source: random.Random, low: int, high: int) -> float:
    """A multiple of 1/4: sums of such are exact in any order, squares and products too."""
    return source.randint(4 * low, 4 * high) / 4


def clean_log(source: random.Random) -> list[Event]:
    """Units, their requests and what came of them; times 0 to 1,000."""
    events: list[Event] = []
    for number in range(source.randint(0, 25)):
        unit, variant = f"u{number}", source.choice(VARIANTS)
        t0 = quarter(source, 100, 900)
        sub_bucket = source.randint(0, 4)
        times = [t0, *(t0 + quarter(source, 0, 90) for _ in range(source.randint(0, 3)))]
        for at, ts in enumerate(times):
            request = f"{unit}-q{at}"
            alone = source.random() < 0.2  # the experiment stands in `also`: another one chose the pipeline
            status = source.choice(["ok", "ok", "ok", "model"])
            told = {"experiment": "layout", "phase": "p", "variant": "x", "also": (("structure", PHASE, variant),)}
            made = prediction(
                request,
                unit,
                variant,
                ts=ts,
                sub_bucket=sub_bucket,
                status=status,
                fallback=source.random() < 0.1,
                latency_s=source.randint(0, 2_000) / 1024,
            )
            events.append(msgspec.structs.replace(made, **told) if alone else made)
        events.append(exposure(unit, variant, t0, request_id=f"{unit}-q0", sub_bucket=sub_bucket))
        events += [
            outcome(
                f"{unit}-o{at}",
                unit=unit,
                ts=max(t0 + quarter(source, -90, 150), 0.0),
                name=source.choice(["kept", "view"]),
                value=float(source.choice([0, 1, 1, 2, 20])),
            )
            for at in range(source.randint(0, 5))
        ]
    return events


def messy(log: Sequence[Event], source: random.Random) -> list[list[Event]]:
    """The same facts as they may arrive: in batches."""
    events: list[Event] = []
    requests = {e.unit: e.event_id for e in log if isinstance(e, Prediction)}
    later: list[Event] = []
    for event in log:
        events += [event] * source.choice([1, 1, 2])
        if isinstance(event, Exposure) and source.random() < 0.3:  # a restart, another process
            events.append(msgspec.structs.replace(event, event_id=event.event_id + "+", ts=event.ts + 30))
        if isinstance(event, Outcome):
            if source.random() < 0.3:
                by_request = msgspec.structs.replace(event, unit="", request_id=requests[event.unit])
                events = [by_request if one is event else one for one in events]
                event = by_request
            if source.random() < 0.2:
                wrong = msgspec.structs.replace(event, value=event.value + 5, ts=event.ts + 1)
                events = [wrong if one is event else one for one in events]
                right = msgspec.structs.replace(event, event_id=event.event_id + "-right", correction_of=event.event_id)
                wronger = msgspec.structs.replace(right, event_id=right.event_id + "-not-yet", value=77.0)
                events.append(wronger)
                later += [right] * source.choice([1, 2])
    for number in range(source.randint(0, 5)):  # units seen in two variants
        crossed = f"crossed{number}"
        events += [exposure(crossed, "a", 200.0), exposure(crossed, "b", 100.0), outcome(f"{crossed}-o", unit=crossed)]
        events.append(prediction(f"{crossed}-q", crossed, "a", ts=210.0))
    events += [exposure(f"forced{number}", "a", 5.0, reason="OVERRIDE") for number in range(source.randint(0, 3))]
    source.shuffle(events)
    source.shuffle(later)
    every = [*events, *later]
    cuts = sorted(source.randint(0, len(every)) for _ in range(3))
    return [every[i:j] for i, j in zip([0, *cuts], [*cuts, len(every)], strict=True)]


def fill(store: base.EventStore, batches: Sequence[Sequence[Event]]) -> base.EventStore:
    for at, batch in enumerate(batches):
        store.append(batch, None, ingested_at=1_000.0 + at, subject=subject)
    return store


def queries() -> Iterator[base.UnitQuery]:
    for kind in ("conversion", "mean", "count", "ratio"):
        for cap, covariate_s in ((None, None), (3.0, 60.0)):
            yield base.UnitQuery(
                experiment="structure",
                phase=PHASE,
                outcome="kept",
                kind=kind,
                per="view",
                window_s=100.0,
                cap=cap,
                covariate_s=covariate_s,
                as_of=AS_OF,
                lateness_s=20.0,
                bucket_s=128.0,
            )


def answers(store: base.EventStore) -> dict[str, object]:
    """Everything that a report reads, but counts of events and crossed units, which tell of the mess by design."""
    names = ("structure", PHASE)
    found: dict[str, object] = {
        "units": dict(store.exposed(*names).units),
        "days": store.exposure_days(*names, 100.0),
        "serving": store.serving(*names),
        "ranks": store.signal_ranks(*names, 0.75, 0.05, AS_OF),
    }
    for query in queries():
        sums = store.unit_sums(query)
        if query.kind == "ratio" and query.covariate_s:  # the common ratio is a quotient: no exact sums
            sums = [rounded(one) for one in sums]
        found[f"{query.kind} {query.cap}"] = sums
        values = store.unit_values(query, 20)
        found[f"values {query.kind} {query.cap}"] = [values.subjects, values.variants, values.t0, values.y, values.d]
    for signal, kind in (("latency", "mean"), ("latency", "share_over"), ("error", "share"), ("fallback", "share")):
        found[f"{signal} {kind}"] = store.signal_sums(
            base.SignalQuery(
                experiment="structure",
                phase=PHASE,
                signal=signal,  # type: ignore[arg-type]
                kind=kind,  # type: ignore[arg-type]
                threshold_s=0.5,
                as_of=AS_OF,
                bucket_s=256.0,
            )
        )
    return {name: msgspec.to_builtins(value, str_keys=True) for name, value in found.items()}


def rounded(sums: base.UnitSums) -> base.UnitSums:
    return msgspec.structs.replace(
        sums, **{name: round(getattr(sums, name), 6) + 0.0 for name in ("x", "xx", "xy", "xd")}
    )


@SETTINGS
@hypothesis.given(seed=strategies.integers(0, 2**32))
def test_a_messy_log_is_summed_like_the_clean_one(seed: int) -> None:
    source = random.Random(seed)
    log = clean_log(source)

    assert answers(fill(memory.MemoryStore(), messy(log, source))) == answers(fill(memory.MemoryStore(), [log]))


OpenEmpty = Callable[[], base.EventStore]


SLOW = [pytest.param(name, marks=pytest.mark.slow) for name in ("parquet", "parquet with a tail")]


@pytest.fixture(params=["sqlite", "postgresql", *SLOW])
def open_empty(request: pytest.FixtureRequest, tmp_path: Path) -> OpenEmpty:
    """Opens a store without events."""
    numbers = iter(range(10_000))

    def sqlite() -> base.EventStore:
        path = tmp_path / f"{next(numbers)}.db"
        shutil.copy(template, path)
        return catalog.open_store(f"sqlite:///{path}")

    def parquet() -> base.EventStore:
        number = next(numbers)
        shutil.copy(template, tmp_path / f"{number}.db")
        tail = request.param.endswith("tail")
        made = Sealing(tmp_path / f"{number}.db", tmp_path / f"{number}", tail=tail)
        return cast(base.EventStore, made)

    def postgresql() -> base.EventStore:
        return catalog.open_store(empty_postgresql(url))

    if request.param != "postgresql":
        template = request.getfixturevalue("sqlite_template")
        return sqlite if request.param == "sqlite" else parquet
    url = request.getfixturevalue("postgresql_url")
    return postgresql


@SETTINGS
@hypothesis.given(seed=strategies.integers(0, 2**32))
def test_every_store_answers_what_plain_python_answers(open_empty: OpenEmpty, seed: int) -> None:
    source = random.Random(seed)
    batches = messy(clean_log(source), source)
    batches[0] += [comparison(f"q{at}", latency_s=at / 100, agree=at % 3 == 0, difference=at / 4) for at in range(9)]
    store = fill(open_empty(), batches)
    oracle = fill(memory.MemoryStore(), batches)

    try:
        ours, expected = answers(store), answers(oracle)
        assert [name for name in expected if not close(ours[name], expected[name])] == []
        assert store.exposed("structure", PHASE) == oracle.exposed("structure", PHASE)
        assert store.outcome_names() == oracle.outcome_names()
        runs, expected_runs = (msgspec.to_builtins(one.comparisons("next"), str_keys=True) for one in (store, oracle))
        assert close(runs, expected_runs)
    finally:
        store.close()


def close(found: object, expected: object, relative: float = 1e-9) -> bool:
    """Equal but for the last digits of floats; quantiles of latencies are rounded to a hundredth of their value."""
    if isinstance(expected, dict):
        same = isinstance(found, dict) and found.keys() == expected.keys()
        loose = ("latency_s", "primary_latency_s")
        return same and all(close(found[k], expected[k], 0.01 if k in loose else relative) for k in expected)  # type: ignore[index]
    if isinstance(expected, list | tuple):
        return (
            isinstance(found, list | tuple)
            and len(found) == len(expected)
            and all(close(f, e, relative) for f, e in zip(found, expected, strict=True))
        )
    if isinstance(expected, float):
        return isinstance(found, float | int) and abs(found - expected) <= relative * abs(expected) + 1e-6 * (
            relative > 1e-3
        )
    return found == expected
