"""Small experiments in great number: drawn by numpy, written through a store, reported by the real chain."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np

from turnout.events import Event, Exposure, Outcome, Prediction
from turnout.experiments import allocations, assignment, phases
from turnout.reports import experiment, tables
from turnout.spec import snapshot
from turnout.stores import base, catalog

DAY = 86_400.0
HOUR = 3_600.0
START = 1_699_920_000.0
"""A midnight, UTC."""

PRIMARY = "primary: {outcome: kept, window: 1d}"

TWO = "{old: {weight: 50, control: true}, new: {pipeline: new, weight: 50}}"

TEXT = """\
models: {{rank: {{source: rank.onnx}}}}
pipelines:
  old: {{code: "chat:retrieve", models: {{rank: rank}}, params: {{top_k: 20}}}}
  new: {{code: "chat:generate", models: {{rank: rank}}}}
endpoints: {{reply: {{pipeline: old, unit: user_id}}}}
experiments:
  e: {{endpoint: reply, variants: {variants}, metrics: {{{metrics}}}, plan: {{{plan}}}{more}}}
"""


def admitted(
    metrics: str = PRIMARY, plan: str = "units: 400", variants: str = TWO, more: str = ""
) -> snapshot.Snapshot:
    """A document with one experiment `e`, variants `old` and `new`; `more` are further keys of it."""
    text = TEXT.format(metrics=metrics, plan=plan, variants=variants, more=f", {more}" if more else "")
    return snapshot.admit({"turnout.yaml": text}, environment={})


class Log:
    """The log of one experiment in the making.

    Args:
        run: Tells runs apart: other units, other draws.
    """

    def __init__(self, document: snapshot.Snapshot, run: int) -> None:
        self.document = document
        self.run = run
        self.rng = np.random.default_rng(run)
        self.spec = document.document.experiments["e"]
        self.phase = phases.of("e", document.document, written=document.written, digests=document.digests)
        self.allocation = allocations.of("e", self.spec, phase=self.phase, unit_type="user_id")
        self.events: list[tuple[float, Event]] = []
        self.serial = 0

    def id(self) -> str:
        self.serial += 1
        return f"{self.serial:032x}"

    def units(self, count: int, days: float, start: float = START) -> list[tuple[str, float, assignment.Assignment]]:
        """Units with when they come, evenly over so many days, and what the real assignment gives them."""
        moments = np.sort(self.rng.random(count)) * days * DAY + start
        names = (f"r{self.run}-{len(self.events)}-{number}" for number in range(count))
        return [
            (name, float(ts), assignment.assign(name, self.allocation)) for name, ts in zip(names, moments, strict=True)
        ]

    def expose(self, unit: str, ts: float, found: assignment.Assignment, **changed: Any) -> str:
        """An exposure; the request's id is given back."""
        request = self.id()
        row: dict[str, Any] = {
            "event_id": self.id(),
            "ts": ts,
            "revision": "r",
            "endpoint": "reply",
            "experiment": "e",
            "phase": self.phase,
            "unit_type": "user_id",
            "unit": unit,
            "variant": found.variant,
            "served": found.variant,
            "reason": found.reason,
            "propensity": found.propensity,
            "sub_bucket": found.sub_bucket,
            "request_id": request,
        }
        self._keep(Exposure(**{**row, **changed}), ts)
        return request

    def request(  # a prediction has so many parts
        self,
        unit: str,
        ts: float,
        found: assignment.Assignment,
        *,
        latency_s: float = 0.05,
        failed: bool = False,
        fallback: bool = False,
        variant: str = "",
        request: str = "",
    ) -> None:
        assigned = variant or found.variant
        self._keep(
            Prediction(
                request or self.id(),
                ts,
                "r",
                "reply",
                unit,
                "e",
                self.phase,
                assigned,
                "old" if fallback else assigned,
                found.sub_bucket,
                assigned,
                ("rank@1",),
                "b1",
                "model" if failed else "ok",
                "",
                latency_s,
                [],
                fallback,
            ),
            ts,
        )

    def outcome(self, unit: str, name: str, ts: float, value: float = 1.0, *, late_s: float = 1.0, **more: Any) -> str:
        """An outcome, which arrives some time after it happened; its id is given back."""
        found = Outcome(event_id=self.id(), ts=ts, name=name, value=float(value), unit=unit, **more)
        self._keep(found, ts + late_s)
        return found.event_id

    def reports(
        self, looks: Iterable[float], known: experiment.Known = experiment.NOTHING_KNOWN
    ) -> list[tables.Report]:
        """The report at each of these moments, of what had arrived until then."""
        store = catalog.open_store("memory:")
        waiting = sorted(self.events, key=lambda arriving: arriving[0])
        made, at = [], 0
        for now in looks:
            first = at
            while at < len(waiting) and waiting[at][0] <= now:
                at += 1
            _append(store, waiting[first:at])
            made.append(experiment.report(store, self.document, "e", now=now, known=known))
        store.close()
        return made

    def _keep(self, event: Event, arrives: float) -> None:
        self.events.append((arrives, event))


def _append(store: base.EventStore, events: list[tuple[float, Event]]) -> None:
    for arrives, event in events:
        store.append([event], None, ingested_at=arrives, subject=lambda unit: unit)


def days(first: float, last: float, step: float = 1.0) -> list[float]:
    """Moments to look at, from day `first` to day `last` of the log."""
    return [START + day * DAY for day in np.arange(first, last + step / 2, step).tolist()]


def rate(runs: Iterable[bool]) -> float:
    """Share of the runs that are true."""
    found = list(runs)
    return sum(found) / len(found)


def kinds(made: Iterable[tables.Report]) -> set[str]:
    """Verdicts given at any look."""
    return {each.verdict.kind for each in made if each.verdict is not None}


def ever(runs: Iterable[list[tables.Report]], said: Callable[[tables.Report], bool]) -> float:
    """Share of the runs in which a report at any look said so."""
    return rate(any(said(made) for made in each) for each in runs)


def state(made: tables.Report, code: str) -> str:
    """Of one check."""
    assert made.verdict is not None
    return next((check.state for check in made.verdict.checks if check.code == code), "")


def harms(made: tables.Report) -> Mapping[str, str]:
    """State of each guardrail, by name; of the first variant."""
    return {
        metric.name: metric.comparisons[0].harm.state if metric.comparisons[0].harm is not None else ""
        for metric in made.guardrails
    }
