"""Logs of experiments whose truth is known: realistic traffic, written through the store's own front door."""

import random
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from msgspec import Struct

from turnout.events import Event, Exposure, Outcome, Prediction
from turnout.experiments import allocations, assignment, phases
from turnout.spec import snapshot
from turnout.stores import base, catalog

DAY = 86_400.0
START = 1_699_920_000.0
"""A midnight, UTC."""

BATCH = 4_000

TEXT = """\
models:
  rank: {source: rank.onnx}
pipelines:
  retrieval: {code: "chat:retrieve", models: {rank: rank}, params: {top_k: 20}}
  generation: {code: "chat:generate", models: {rank: rank}}
endpoints:
  reply: {pipeline: retrieval, unit: user_id}
experiments:
  structure:
    endpoint: reply
    description: People talk on when the answer is generated.
    variants:
      generation: {pipeline: generation, weight: 50}
      retrieval: {weight: 50, control: true}
    metrics:
      primary: {outcome: kept_talking, kind: conversion, window: 1d, effect: 0.05}
      secondary:
        spent: {outcome: spent, kind: mean, window: 1d, covariate: 14d, cap: 100}
        clicks: {outcome: click, per: view, kind: ratio, window: 1d}
        views: {outcome: view, kind: count, window: 1d}
        speed: {signal: latency, kind: mean}
        tail: {signal: latency, kind: quantile, quantile: 0.95}
      guardrails:
        slow: {signal: latency, kind: share_over, threshold: 800ms, margin: 0.05}
        errors: {signal: error, margin: 0.02}
        left: {outcome: unsubscribe, direction: down, margin: 0.05, window: 1d}
    plan: {units: 4000, min_duration: 7d}
"""


class Truth(Struct, frozen=True, kw_only=True):
    """What is true of one variant.

    Attributes:
        kept: Probability that a unit keeps talking.
        spend: Factor on what a unit spends.
        slow: Probability that a request takes over 800 ms.
        error: Probability that a request fails.
        left: Probability that a unit unsubscribes.
        lost: Share of the exposures that never reach the log.
    """

    kept: float = 0.30
    spend: float = 1.0
    slow: float = 0.02
    error: float = 0.005
    left: float = 0.02
    click: float = 0.2
    lost: float = 0.0


def admitted(text: str = TEXT) -> snapshot.Snapshot:
    """The document, admitted."""
    return snapshot.admit({"turnout.yaml": text}, environment={})


class World:
    """A simulated experiment.

    Args:
        truth: By variant; a variant that is not named is like `Truth()`.
        units: How many arrive, evenly over `days`.
        crossing: Share of the units seen in a second variant, too.
    """

    def __init__(
        self,
        document: snapshot.Snapshot,
        truth: Mapping[str, Truth] | None = None,
        *,
        units: int = 4_000,
        days: float = 8.0,
        seed: int = 1,
        crossing: float = 0.0,
        experiment: str = "structure",
        builds: tuple[str, ...] = ("b1",),
    ) -> None:
        self.rng = random.Random(seed)
        self.truth = truth or {}
        self.units, self.days, self.crossing, self.builds = units, days, crossing, builds
        self.experiment = experiment
        spec = document.document.experiments[experiment]
        self.spec = spec
        self.phase = phases.of(experiment, document.document, written=document.written, digests=document.digests)
        self.allocation = allocations.of(experiment, spec, phase=self.phase, unit_type="user_id")
        self.serial = 0

    def fill(self, store: base.EventStore) -> None:
        """Write everything; it arrives a second after it happened."""
        subject: Callable[[str], str] = lambda unit: unit  # noqa: E731
        batch: list[Event] = []
        for event in sorted(self.events(), key=lambda event: event.ts):
            batch.append(event)
            if len(batch) >= BATCH:
                store.append(batch, None, ingested_at=batch[-1].ts + 1, subject=subject)
                batch = []
        store.append(batch, None, ingested_at=START + self.days * DAY, subject=subject)

    def events(self) -> Iterator[Event]:
        for number in range(self.units):
            yield from self._unit(f"user-{number}", START + self.rng.random() * self.days * DAY)

    def _id(self) -> str:
        self.serial += 1
        return f"{self.serial:032x}"

    def _unit(self, unit: str, t0: float) -> Iterator[Event]:
        rng = self.rng
        found = assignment.assign(unit, self.allocation)
        truth = self.truth.get(found.variant, Truth())
        taste = rng.lognormvariate(0.0, 1.0)
        yield from self._outcomes(
            unit, "spent", [t0 - rng.uniform(0, 10 * DAY)] if rng.random() < 0.8 else [], taste * 5
        )
        if rng.random() < truth.lost:
            return
        variants = [found.variant]
        if rng.random() < self.crossing:
            variants.append(next(name for name in self.spec.variants if name != found.variant))
        for variant in variants:
            for visit in range(1 + (rng.random() < 0.5) + (rng.random() < 0.2) * 3):
                ts = t0 + visit * rng.uniform(0, 0.2 * DAY)
                yield from self._request(unit, variant, found, truth, ts, first=visit == 0)
        if found.reason != "SPLIT":
            return
        later = [t0 + rng.uniform(1, DAY - 1) for _ in range(3)]
        yield from self._outcomes(unit, "kept_talking", later[: rng.random() < truth.kept], 1.0)
        yield from self._outcomes(unit, "unsubscribe", later[: rng.random() < truth.left], 1.0)
        yield from self._outcomes(unit, "spent", later[: rng.random() < 0.6], taste * 5 * truth.spend)
        for ts in later:
            yield from self._outcomes(unit, "view", [ts], 1.0)
            yield from self._outcomes(unit, "click", [ts] if rng.random() < truth.click else [], 1.0)

    def _outcomes(self, unit: str, name: str, moments: list[float], value: float) -> Iterator[Event]:
        for ts in moments:
            yield Outcome(event_id=self._id(), ts=ts, name=name, value=value, unit=unit)

    def _request(
        self, unit: str, variant: str, found: assignment.Assignment, truth: Truth, ts: float, *, first: bool
    ) -> Iterator[Event]:
        request, rng = self._id(), self.rng
        if first:
            yield Exposure(
                event_id=self._id(),
                ts=ts,
                revision="r",
                endpoint="reply",
                experiment=self.experiment,
                phase=self.phase,
                unit_type="user_id",
                unit=unit,
                variant=variant,
                served=variant,
                reason=found.reason,
                propensity=found.propensity,
                sub_bucket=found.sub_bucket,
                request_id=request,
            )
        slow, failed = rng.random() < truth.slow, rng.random() < truth.error
        yield Prediction(
            event_id=request,
            ts=ts,
            revision="r",
            endpoint="reply",
            unit=unit,
            experiment=self.experiment,
            phase=self.phase,
            variant=variant,
            served=variant,
            sub_bucket=found.sub_bucket,
            pipeline=variant,
            models=("rank@1",),
            build=rng.choice(self.builds),
            status="model" if failed else "ok",
            error="it failed" if failed else "",
            latency_s=rng.uniform(0.8, 2.0) if slow else rng.lognormvariate(-2.5, 0.5),
            steps=[],
        )


def filled(folder: Path, world: World) -> base.EventStore:
    """An SQLite store with the world's log."""
    store = catalog.open_store(f"sqlite:///{folder / 'events.db'}")
    world.fill(store)
    return store
