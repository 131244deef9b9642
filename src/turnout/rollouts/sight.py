"""Asks the event store what a look has to know of one rollout, and hands it to `looks`.

Made anew by `controller` for every look.
"""

from collections.abc import Sequence
from typing import Final, Protocol

from turnout.experiments import allocations
from turnout.rollouts import evidence, looks, progress
from turnout.spec import traffic
from turnout.stores import base

MINUTE_S: Final = 60.0
"""Units are asked for by the minute in which they were first seen."""


class Events(Protocol):
    """What is read of an event store."""

    def signal_sums(self, query: base.SignalQuery) -> list[base.SignalSums]:
        """Requests of analysed units."""

    def unit_sums(self, query: base.UnitQuery) -> list[base.UnitSums]:
        """Outcomes per unit."""

    def exposure_days(self, experiment: str, phase: str, bucket_s: float) -> list[base.ExposureDay]:
        """New units by time."""

    def serving(self, experiment: str, phase: str, quantiles: Sequence[float]) -> dict[str, base.Serving]:
        """Requests by the variant that answered."""


class Sight:
    """Asks the event store what a look has to know of one rollout."""

    def __init__(
        self,
        events: Events,
        name: str,
        spec: traffic.RolloutSpec,
        now_at: progress.Progress,
        *,
        by_request: bool,
        now: float,
    ) -> None:
        self._events = events
        self.name = name
        self._spec = spec
        self.now_at = now_at
        self._by_request = by_request
        self._now = now
        canary = spec.kind == "canary"
        new, old = (allocations.CANARY, allocations.CONTROL) if canary else (allocations.GREEN, allocations.BLUE)
        self._sides = looks.Sides(new, old)
        self.terms = looks.terms_of(spec.alpha, spec.tightest_at, [*spec.guardrails, *spec.outcomes])

    @property
    def error_margin(self) -> float:
        """The margin of the guardrail on errors; the usual one where there is none."""
        found = (each.margin for each in self._spec.guardrails.values() if each.signal == "error")
        return next((margin for margin in found if margin is not None), 0.005)

    def beside(self, *, converged: bool, hard: str) -> evidence.Evidence:
        """Both sides while they run beside each other."""
        whole = self._requests(self.now_at.counts_from)
        units = looks.requests_of(whole, self._sides) if self._by_request else self._units()
        balanced, ln_e = looks.ratio_of(units, self._sides)
        readings = tuple(
            looks.of_signal(
                name,
                metric,
                self._signal(name),
                sides=self._sides,
                terms=self.terms,
                units=None if self._by_request else units,
            )
            for name, metric in self._spec.guardrails.items()
        )
        return evidence.Evidence(
            converged=converged,
            hard=hard,
            units=units,
            fresh=looks.requests_of(self._requests(self.now_at.step_since), self._sides),
            balanced=balanced,
            ratio_ln_e=ln_e,
            guardrails=readings,
            outcomes=tuple(self._outcome(name) for name in self._spec.outcomes),
        )

    def served(self) -> looks.Served:
        """Requests by the side that answered, whatever the reason; a fallback is the new side's failure."""
        found = self._events.serving(self.name, self.now_at.phase, ())
        new = found.get(self._sides.new)
        old = [each for variant, each in found.items() if variant != self._sides.new]
        stood_in = sum(each.fallbacks for each in old)
        return looks.Served(
            new=(new.requests if new else 0) + stood_in,
            new_bad=(new.errors if new else 0) + stood_in,
            old=sum(each.requests for each in old) - stood_in,
            old_bad=sum(each.errors for each in old),
        )

    def _requests(self, since: float) -> list[base.SignalSums]:
        return self._events.signal_sums(
            base.SignalQuery(
                experiment=self.name,
                phase=self.now_at.phase,
                signal="error",
                as_of=self._now,
                since=since or None,
            )
        )

    def _signal(self, name: str) -> list[base.SignalSums]:
        query = looks.query_of(
            self._spec.guardrails[name],
            self.name,
            self.now_at.phase,
            as_of=self._now,
            since=self.now_at.counts_from or None,
        )
        return self._events.signal_sums(query)

    def _units(self) -> tuple[int, int]:
        """Units first seen since the counting began."""
        counts = dict.fromkeys(self._sides, 0)
        for day in self._events.exposure_days(self.name, self.now_at.phase, MINUTE_S):
            if day.variant in counts and self._counts(day.bucket):
                counts[day.variant] += day.units
        return counts[self._sides.new], counts[self._sides.old]

    def _outcome(self, name: str) -> evidence.Reading:
        metric = self._spec.outcomes[name]
        sums: list[base.UnitSums] = []
        if metric.outcome is not None and metric.kind in ("conversion", "mean", "count", "ratio"):
            query = base.UnitQuery(
                experiment=self.name,
                phase=self.now_at.phase,
                outcome=metric.outcome,
                kind=metric.kind,
                per=metric.per,
                window_s=metric.window_s,
                cap=metric.cap,
                as_of=self._now,
                bucket_s=MINUTE_S,
            )
            sums = [each for each in self._events.unit_sums(query) if self._counts(each.bucket)]
        return looks.of_outcome(name, metric, sums, sides=self._sides, terms=self.terms)

    def _counts(self, bucket: int) -> bool:
        return (bucket + 1) * MINUTE_S > self.now_at.counts_from
