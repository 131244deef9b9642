from collections.abc import Callable, Mapping, Sequence
from typing import Any

import hypothesis
import pytest

from turnout.experiments import phases, samples
from turnout.spec import snapshot
from turnout.stores import base

hypothesis.settings.register_profile("untimed", deadline=None)  # a busy machine is not a failure
hypothesis.settings.load_profile("untimed")

DOCUMENT = """\
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
    variants:
      generation: {pipeline: generation, weight: 50}
      retrieval: {weight: 50, control: true}
    metrics:
      primary: {outcome: kept_talking, kind: conversion, window: 1d}
      secondary: {spent: {outcome: spent, kind: mean, window: 1d}}
    plan: {units: 2000}
"""

Replace = Callable[..., snapshot.Snapshot]


@pytest.fixture(scope="session")
def document() -> Replace:
    """The document with texts replaced, admitted: `document({"plan: {units: 2000}": ""})`."""

    def admit(replaced: Mapping[str, str] | None = None) -> snapshot.Snapshot:
        text = DOCUMENT
        for old, new in (replaced or {}).items():
            assert old in text, old
            text = text.replace(old, new)
        return snapshot.admit({"turnout.yaml": text}, environment={})

    return admit


class Canned:
    """A store that answers what it was told, for one phase."""

    def __init__(self, phase: str, **answers: Any) -> None:
        self.phase = phase
        self.units: dict[str, int] = answers.get("units", {})
        self.crossed: int = answers.get("crossed", 0)
        self.reasons: dict[str, int] = answers.get("reasons", {})
        self.sums: dict[str, dict[str, samples.Moments]] = answers.get("sums", {})
        self.closed: float = answers.get("closed", 1.0)
        self.served: dict[str, base.Serving] = answers.get("served", {})
        self.names: list[base.OutcomeName] = answers.get("names", [])
        self.builds: tuple[str, ...] = answers.get("builds", ("b1",))
        self.signals: list[base.SignalSums] = answers.get("signals", [])
        self.others: list[base.Phase] = answers.get("others", [])

    def phases(self, experiment: str) -> list[base.Phase]:
        units = sum(self.units.values())
        own = base.Phase(
            experiment=experiment, phase=self.phase, first_ts=10.0, last_ts=20.0, units=units, builds=self.builds
        )
        return ([own] if units else []) + self.others

    def exposed(self, experiment: str, phase: str) -> base.Exposed:
        units = self.units if phase == self.phase else {}
        return base.Exposed(units=units, crossed=self.crossed, reasons=self.reasons)

    def unit_sums(self, query: base.UnitQuery) -> list[base.UnitSums]:
        found = self.sums.get(query.outcome) or {
            name: samples.Moments(n=count, y=0.0, yy=0.0) for name, count in self.units.items()
        }
        rows = []
        for name, sums in found.items():
            closed = round(sums.n * self.closed)
            for is_closed, n in ((True, closed), (False, sums.n - closed)):
                if n:
                    y, yy = sums.y * n / sums.n, sums.yy * n / sums.n
                    rows.append(base.UnitSums(variant=name, bucket=0, closed=is_closed, n=n, y=y, yy=yy))
        return rows

    def signal_sums(self, query: base.SignalQuery) -> list[base.SignalSums]:
        return self.signals

    def signal_ranks(
        self, experiment: str, phase: str, quantile: float, alpha: float, as_of: float | None
    ) -> dict[str, base.Ranks]:
        return {}

    def exposure_days(self, experiment: str, phase: str, bucket_s: float) -> list[base.ExposureDay]:
        return [base.ExposureDay(bucket=0, variant=name, units=count) for name, count in self.units.items()]

    def lateness(self, name: str) -> base.Lateness | None:
        return None

    def serving(self, experiment: str, phase: str, quantiles: Sequence[float]) -> dict[str, base.Serving]:
        return self.served

    def outcome_names(self) -> list[base.OutcomeName]:
        return self.names


@pytest.fixture(scope="session")
def canned() -> Callable[..., Canned]:
    """A store for the document's own phase: `canned(admitted, units={...}, ...)`."""

    def make(admitted: snapshot.Snapshot, **answers: Any) -> Canned:
        phase = phases.of("structure", admitted.document, written=admitted.written, digests=admitted.digests)
        return Canned(answers.pop("phase", phase), **answers)

    return make
