"""A messy event log gives the report of the clean one: repeats, disorder, late outcomes, corrections, crossings."""

import random
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from turnout.events import Event, Exposure, Outcome, Prediction
from turnout.experiments import allocations, assignment, phases
from turnout.reports import experiment, tables
from turnout.spec import snapshot
from turnout.stores import catalog

DAY = 86_400.0
START = 1_700_000_000.0
NOW = START + 10 * DAY
UNITS = 400

Document = Callable[..., snapshot.Snapshot]


class Log:
    """A simulated experiment: what should be counted is noted while the events are made."""

    def __init__(self, admitted: snapshot.Snapshot, seed: int) -> None:
        self.rng = random.Random(seed)
        spec = admitted.document.experiments["structure"]
        phase = phases.of("structure", admitted.document, written=admitted.written, digests=admitted.digests)
        self.allocation = allocations.of("structure", spec, phase=phase, unit_type="user_id")
        self.events: list[Event] = []
        self.converted: dict[str, dict[str, bool]] = {"retrieval": {}, "generation": {}}
        self.spent: dict[str, dict[str, float]] = {"retrieval": {}, "generation": {}}
        self.met: set[str] = set()
        self.serial = 0
        for number in range(UNITS):
            self._unit(f"u{number}")
        self._unit("")

    def id(self) -> str:
        self.serial += 1
        return f"{self.serial:032x}"

    def expose(self, unit: str, ts: float, variant: str = "") -> None:
        found = assignment.assign(unit, self.allocation)
        request = self.id()
        self.events.append(
            Exposure(
                event_id=self.id(),
                ts=ts,
                revision="r",
                endpoint="reply",
                experiment="structure",
                phase=self.allocation.phase,
                unit_type="user_id",
                unit=unit,
                variant=variant or found.variant,
                served=variant or found.variant,
                reason=found.reason,
                propensity=found.propensity,
                sub_bucket=found.sub_bucket,
                request_id=request,
            )
        )
        self.events.append(
            Prediction(
                event_id=request,
                ts=ts,
                revision="r",
                endpoint="reply",
                unit=unit,
                experiment="structure",
                phase=self.allocation.phase,
                variant=found.variant,
                served=found.variant,
                sub_bucket=found.sub_bucket,
                pipeline=found.variant,
                models=("rank@1",),
                build="b1",
                status="ok",
                error="",
                latency_s=0.01,
                steps=[],
            )
        )

    def outcome(self, unit: str, name: str, ts: float, value: float) -> None:
        self.events.append(Outcome(event_id=self.id(), ts=ts, name=name, value=value, unit=unit))

    def _unit(self, unit: str) -> None:
        rng = self.rng
        t0 = START + rng.uniform(0, 5 * DAY)
        self.expose(unit, t0)
        for _ in range(rng.randint(0, 2)):
            self.expose(unit, t0 + rng.uniform(1, 3 * DAY))
        if not unit:
            return
        self.met.add(unit)
        variant = assignment.assign(unit, self.allocation).variant
        self.converted[variant][unit] = False
        self.spent[variant][unit] = 0.0
        for ts, counts in ((t0 - 1, False), (t0, True), (t0 + DAY - 1, True), (t0 + DAY, False)):
            if rng.random() < 0.3:
                self.outcome(unit, "kept_talking", ts, 1.0)
                self.converted[variant][unit] |= counts
            if rng.random() < 0.3:
                value = float(rng.randint(1, 50))
                self.outcome(unit, "spent", ts, value)
                self.spent[variant][unit] += value if counts else 0.0


def shuffled(log: Log) -> list[list[Event]]:
    """The same facts in any order, in pieces, half of them delivered twice."""
    again = [event for event in log.events if log.rng.random() < 0.5]
    events = log.events + again
    log.rng.shuffle(events)
    return [events[at : at + 97] for at in range(0, len(events), 97)]


def corrected(log: Log) -> list[list[Event]]:
    """Outcomes arrive wrong first, are corrected to something else wrong, and then to what is right, all late."""
    first: list[Event] = []
    second: list[Event] = []
    third: list[Event] = []
    for event in log.events:
        if not isinstance(event, Outcome) or log.rng.random() < 0.6:
            first.append(event)
            continue
        wrong = msgspec.structs.replace(event, value=event.value + 1000, ts=event.ts + 50 * DAY)
        first.append(wrong)
        second.append(msgspec.structs.replace(wrong, event_id=log.id(), correction_of=event.event_id, value=-5.0))
        third.append(msgspec.structs.replace(event, event_id=log.id(), correction_of=event.event_id))
    return [first, second, third]


def crossed(log: Log) -> list[list[Event]]:
    """Some further units are seen in both variants."""
    for number in range(20):
        log.expose(f"crossing-{number}", START, "retrieval")
        log.expose(f"crossing-{number}", START + 5, "generation")
        log.outcome(f"crossing-{number}", "kept_talking", START + 6, 1.0)
    return [log.events]


def clean(log: Log) -> list[list[Event]]:
    return [sorted(log.events, key=lambda event: event.ts)]


@pytest.mark.parametrize("mess", [clean, shuffled, corrected, crossed])
@pytest.mark.parametrize(("seed", "url"), [(1, "sqlite:///{}"), (2, "memory:{}"), (3, "memory:{}")])
def test_a_messy_log_gives_the_report_of_the_clean_one(
    document: Document, tmp_path: Path, mess: Callable[[Log], list[list[Event]]], seed: int, url: str
) -> None:
    admitted = document()
    log = Log(admitted, seed)
    store = catalog.open_store(url.format(tmp_path / "events.db"))
    for number, events in enumerate(mess(log)):
        store.append(events, None, ingested_at=NOW - 100 + number, subject=lambda unit: unit)
    made = experiment.report(store, admitted, "structure", now=NOW)
    store.close()
    check(made, log, 20 if mess is crossed else 0)


def check(made: tables.Report, log: Log, crossings: int) -> None:
    conversion, spent = made.metrics
    for row in conversion.estimates:
        expected = log.converted[row.variant].values()
        assert (row.units, row.total) == (len(expected), sum(expected))
    for row in spent.estimates:
        assert row.total == pytest.approx(sum(log.spent[row.variant].values()))
        assert row.units == len(log.spent[row.variant])
    assert {row.name: row.units for row in made.variants} == {name: len(of) for name, of in log.converted.items()}
    assert made.crossed == crossings
    assert made.units == UNITS
    assert conversion.closed_ratio == 1.0
    assert made.reasons["SPLIT"] == UNITS + crossings
    without = [event for event in log.events if isinstance(event, Exposure) and not event.unit]
    assert made.reasons["NO_UNIT"] == len(without)
    counted = [event for event in log.events if isinstance(event, Prediction) and event.unit in log.met]
    assert sum(row.serving.requests for row in made.variants) == len(counted)
    assert made.builds == ("b1",)


def test_outcomes_of_the_future_and_open_windows_wait(document: Document, tmp_path: Path) -> None:
    admitted = document()
    store = catalog.open_store(f"sqlite:///{tmp_path / 'events.db'}")
    log = Log(admitted, 3)
    for event in log.events:
        if event.ts < START + 3 * DAY:
            store.append([event], None, ingested_at=event.ts + 1, subject=lambda unit: unit)
    early = experiment.report(store, admitted, "structure", now=START + 2 * DAY)
    late = experiment.report(store, admitted, "structure", now=NOW)
    store.close()
    assert early.metrics[0].closed_ratio is not None
    assert 0 < early.metrics[0].closed_ratio < 1
    assert sum(row.total for row in early.metrics[0].estimates) < sum(row.total for row in late.metrics[0].estimates)
