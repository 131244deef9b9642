"""The event log of one worker: when it writes, what it drops, and what it survives."""

import asyncio
import errno
import os
import shutil
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import msgspec
import pytest

from turnout import telemetry
from turnout.eventlog import log, segments
from turnout.events import Comparison, Event, Exposure, Outcome, Prediction

Virtual = Callable[[Coroutine[Any, Any, None]], None]
MakePrediction = Callable[..., Prediction]
MakeOutcome = Callable[[int], Outcome]


def written(directory: Path) -> list[Event]:
    """All events on disk, file by file."""
    found: list[Event] = []
    for path in sorted(directory.glob("*.seg")):
        data = path.read_bytes()
        for piece in segments.scan(data[len(segments.HEADER) :], len(segments.HEADER)):
            assert piece.payload is not None
            found += msgspec.msgpack.decode(piece.payload, type=list[Event])
    return found


def drops(registry: telemetry.Registry) -> dict[tuple[str, ...], float]:
    families = [found for found in registry.snapshot() if found.name == "turnout_events_dropped_total"]
    return {tuple(sample.labels): sample.value for family in families for sample in family.samples}


class Disk:
    """A write function that can be full."""

    def __init__(self) -> None:
        self.full = False
        self.writes = 0

    def write(self, descriptor: int, data: bytes) -> int:
        self.writes += 1
        if self.full:
            raise OSError(errno.ENOSPC, "no space left on device")
        return os.write(descriptor, data)


class Bench:
    """An event log with a disk and a registry."""

    def __init__(self, directory: Path, **settings: Any) -> None:
        self.directory = directory / "segments"
        self.registry = telemetry.Registry()
        self.disk = Disk()
        self.now = 1_000.0
        self.log = log.EventLog(
            self.directory,
            "w0",
            registry=self.registry,
            settings=log.Settings(**settings),
            clock=lambda: self.now,
            write=self.disk.write,
        )

    @property
    def written(self) -> list[Event]:
        return written(self.directory)


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def test_events_are_on_disk_within_fifty_milliseconds(
    bench: Bench, virtual: Virtual, prediction: MakePrediction
) -> None:
    async def case() -> None:
        bench.log.start()
        assert bench.log.append(prediction(1))
        assert bench.log.append(prediction(2))
        assert bench.written == []
        await asyncio.sleep(0.05)
        assert bench.written == [prediction(1), prediction(2)]
        await bench.log.close()

    virtual(case())


def test_nothing_is_written_and_no_file_made_while_nothing_happens(
    bench: Bench, virtual: Virtual, prediction: MakePrediction
) -> None:
    async def case() -> None:
        bench.log.start()
        await asyncio.sleep(10)
        assert list(bench.directory.iterdir()) == []
        bench.log.append(prediction(1))
        await asyncio.sleep(1)
        writes = bench.disk.writes
        await asyncio.sleep(10)
        assert bench.disk.writes == writes
        await bench.log.close()

    virtual(case())


def test_flush_returns_when_all_is_on_disk(bench: Bench, virtual: Virtual, prediction: MakePrediction) -> None:
    events = [prediction(number) for number in range(5_000)]

    async def case() -> None:
        bench.log.start()
        for event in events:
            bench.log.append(event)
        await bench.log.flush()
        assert bench.log.waiting == 0
        assert bench.written == events
        await bench.log.flush()
        await bench.log.close()

    virtual(case())


def test_flush_says_whether_the_disk_took_everything(
    bench: Bench, virtual: Virtual, prediction: MakePrediction
) -> None:
    async def case() -> None:
        bench.log.start()
        bench.disk.full = True
        bench.log.append(prediction(1))
        assert not await bench.log.flush()
        assert not bench.log.takes
        bench.disk.full = False
        assert await bench.log.flush()
        assert bench.log.takes
        await bench.log.close()

    virtual(case())


def test_a_segment_deleted_by_somebody_is_followed_by_a_new_one(
    bench: Bench, virtual: Virtual, prediction: MakePrediction
) -> None:
    async def case() -> None:
        bench.log.start()
        bench.log.append(prediction(1))
        await bench.log.flush()
        shutil.rmtree(bench.directory)
        bench.log.append(prediction(2))
        await bench.log.flush()
        assert bench.written == [prediction(2)]
        await bench.log.close()

    virtual(case())


def test_many_events_are_written_before_the_timer(bench: Bench, virtual: Virtual, prediction: MakePrediction) -> None:
    async def case() -> None:
        bench.log.start()
        for number in range(log.DEFAULTS.flush_events):
            bench.log.append(prediction(number))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert len(bench.written) == log.DEFAULTS.flush_events
        await bench.log.close()

    virtual(case())


def test_what_was_appended_before_the_start_is_written_after_it(
    bench: Bench, virtual: Virtual, prediction: MakePrediction
) -> None:
    bench.log.append(prediction(1))

    async def case() -> None:
        bench.log.start()
        await asyncio.sleep(0.05)
        assert bench.written == [prediction(1)]
        await bench.log.close()

    virtual(case())


def test_closing_writes_the_rest_and_takes_no_more(bench: Bench, virtual: Virtual, prediction: MakePrediction) -> None:
    async def case() -> None:
        bench.log.start()
        bench.log.append(prediction(1))
        await bench.log.close()
        assert not bench.log.append(prediction(2))
        await bench.log.close()

    virtual(case())

    assert bench.written == [prediction(1)]
    assert drops(bench.registry) == {("prediction", "a", "segments"): 1.0}


def test_a_segment_is_rotated_by_size(tmp_path: Path, virtual: Virtual, prediction: MakePrediction) -> None:
    bench = Bench(tmp_path, segment_bytes=1_000)

    async def case() -> None:
        bench.log.start()
        for number in range(50):
            bench.log.append(prediction(number))
            await bench.log.flush()
        await bench.log.close()

    virtual(case())

    sizes = [path.stat().st_size for path in bench.directory.iterdir()]
    assert len(sizes) > 3
    assert max(sizes) < 1_300
    assert len(bench.written) == 50


def test_a_segment_is_released_by_age(tmp_path: Path, virtual: Virtual, prediction: MakePrediction) -> None:
    bench = Bench(tmp_path, segment_age_s=60.0)

    async def case() -> None:
        bench.log.start()
        bench.log.append(prediction(1))
        await asyncio.sleep(1)
        (path,) = bench.directory.iterdir()
        descriptor = os.open(path, os.O_RDONLY)
        assert not segments.writer_gone(descriptor)
        await asyncio.sleep(60)
        assert segments.writer_gone(descriptor)
        os.close(descriptor)
        bench.log.append(prediction(2))
        await asyncio.sleep(1)
        assert len(list(bench.directory.iterdir())) == 2
        await bench.log.close()

    virtual(case())


def test_a_full_disk_costs_nothing_until_the_buffer_is_full(
    bench: Bench, virtual: Virtual, prediction: MakePrediction, outcome: MakeOutcome
) -> None:
    async def case() -> None:
        bench.log.start()
        bench.log.append(prediction(1))
        await bench.log.flush()
        bench.disk.full = True
        for number in range(2, 3_000):
            assert bench.log.append(prediction(number))
        await bench.log.flush()
        await asyncio.sleep(5)
        assert len(bench.written) == 1
        bench.disk.full = False
        await asyncio.sleep(2)
        assert bench.written == [prediction(number) for number in range(1, 3_000)]
        await bench.log.close()

    virtual(case())

    assert drops(bench.registry) == {}


def test_with_the_buffer_full_predictions_are_sampled_first_and_the_rest_is_refused_last(
    tmp_path: Path, virtual: Virtual, prediction: MakePrediction, outcome: MakeOutcome
) -> None:
    bench = Bench(tmp_path, buffer_events=1_000, flush_events=10)
    bench.disk.full = True

    async def case() -> None:
        bench.log.start()
        for number in range(895):
            bench.log.append(outcome(number))
        await asyncio.sleep(3)
        assert 0.8 < bench.log.pressure < 1.0
        taken = [number for number in range(100) if bench.log.append(prediction(number))]
        assert 20 < len(taken) < 80
        assert bench.log.append(outcome(1_000))
        for number in range(2_000, 2_200):
            bench.log.append(outcome(number))
        assert bench.log.waiting < 1_010
        assert not bench.log.append(prediction(3_000))
        assert not bench.log.append(outcome(3_000))
        bench.disk.full = False
        await asyncio.sleep(5)
        assert bench.log.append(prediction(4_000))
        await bench.log.close()

    virtual(case())

    counted = drops(bench.registry)
    assert set(counted) == {("prediction", "a", "segments"), ("outcome", "", "segments")}
    assert len(bench.written) + sum(counted.values()) == 895 + 100 + 1 + 200 + 2 + 1


def test_comparisons_of_shadows_are_the_first_to_go(
    tmp_path: Path, virtual: Virtual, prediction: MakePrediction, outcome: MakeOutcome
) -> None:
    bench = Bench(tmp_path, buffer_events=1_000, flush_events=10)
    bench.disk.full = True

    async def case() -> None:
        bench.log.start()
        assert bench.log.append(comparison(0))
        for number in range(810):
            bench.log.append(outcome(number))
        await asyncio.sleep(3)
        assert 0.8 < bench.log.pressure < 0.82
        assert not any(bench.log.append(comparison(number)) for number in range(1, 50))
        assert sum(bench.log.append(prediction(number)) for number in range(50)) > 30
        bench.disk.full = False
        await asyncio.sleep(5)
        assert bench.log.append(comparison(99))
        await bench.log.close()

    virtual(case())

    assert drops(bench.registry)["comparison", "", "segments"] == 49
    assert [event for event in bench.written if isinstance(event, Comparison)] == [comparison(0), comparison(99)]


def comparison(number: int) -> Comparison:
    return Comparison(
        event_id=f"c{number}",
        ts=1.0,
        revision="r",
        endpoint="e",
        shadow="next",
        request_id=f"q{number}",
        unit="u",
        pipeline="new",
        status="ok",
        error="",
        latency_s=0.1,
        primary_pipeline="old",
        primary_latency_s=0.2,
        agree=False,
        difference=0.5,
    )


def test_a_full_spool_stops_the_log_and_room_starts_it_again(
    tmp_path: Path, virtual: Virtual, outcome: MakeOutcome
) -> None:
    bench = Bench(tmp_path, limit_bytes=10_000)
    other = bench.directory / "of-another-worker.seg"

    async def case() -> None:
        bench.log.start()
        other.write_bytes(b"x" * 20_000)
        bench.now += 1
        bench.log.append(outcome(1))
        await bench.log.flush()
        assert bench.log.pressure >= 1.0
        assert not bench.log.append(outcome(2))
        other.unlink()
        bench.now += 2
        await asyncio.sleep(2)
        assert bench.log.append(outcome(3))
        await bench.log.close()

    virtual(case())

    assert bench.written == [outcome(1), outcome(3)]
    assert drops(bench.registry) == {("outcome", "", "segments"): 1.0}


def test_the_same_requests_are_sampled_in_every_variant_alike(
    tmp_path: Path, virtual: Virtual, prediction: MakePrediction
) -> None:
    bench = Bench(tmp_path, limit_bytes=10_000)

    async def case() -> None:
        bench.log.start()
        (bench.directory / "other.seg").write_bytes(b"x" * 9_000)
        bench.now += 1
        bench.log.append(prediction(0))
        await bench.log.flush()
        taken = {
            variant: [number for number in range(1, 400) if bench.log.append(prediction(number, variant))]
            for variant in ("a", "b")
        }
        assert taken["a"] == taken["b"]
        assert 100 < len(taken["a"]) < 300
        await bench.log.close()

    virtual(case())


def test_one_event_that_cannot_be_encoded_is_dropped_alone(
    bench: Bench, virtual: Virtual, prediction: MakePrediction
) -> None:
    bad = [prediction(2, unit="\ud800"), prediction(3, steps=[object()])]

    async def case() -> None:
        bench.log.start()
        for event in [prediction(1), *bad, prediction(4)]:
            bench.log.append(event)
        await bench.log.flush()
        bench.log.append(bad[0])
        await bench.log.close()

    virtual(case())

    assert bench.written == [prediction(1), prediction(4)]
    assert drops(bench.registry) == {("prediction", "a", "segments"): 3.0}


def test_what_no_disk_took_at_the_end_is_counted(bench: Bench, virtual: Virtual, prediction: MakePrediction) -> None:
    async def case() -> None:
        bench.log.start()
        bench.disk.full = True
        bench.log.append(prediction(1))
        await bench.log.flush()
        bench.log.append(prediction(2, "b"))
        await bench.log.close()

    virtual(case())

    assert drops(bench.registry) == {("prediction", "a", "segments"): 1.0, ("prediction", "b", "segments"): 1.0}


def test_a_folder_that_vanishes_is_made_again(bench: Bench, virtual: Virtual, prediction: MakePrediction) -> None:
    async def case() -> None:
        bench.log.start()
        bench.directory.rmdir()
        bench.log.append(prediction(1))
        await bench.log.flush()
        assert bench.written == [prediction(1)]
        await bench.log.close()

    virtual(case())


def test_every_type_comes_back_as_it_was(bench: Bench, virtual: Virtual, outcome: MakeOutcome) -> None:
    exposure = Exposure(
        event_id="e1",
        ts=1.5,
        revision="r",
        endpoint="e",
        experiment="x",
        phase="p",
        unit_type="user_id",
        unit="ü",
        variant="a",
        served="b",
        reason="SPLIT",
        propensity=0.25,
        sub_bucket=3,
        request_id="q",
        fallback=True,
        also=(("y", "p2", "c"),),
        attributes={"n": 1},
    )

    async def case() -> None:
        bench.log.start()
        bench.log.append(exposure)
        bench.log.append(outcome(1))
        await bench.log.close()

    virtual(case())

    assert bench.written == [exposure, outcome(1)]
