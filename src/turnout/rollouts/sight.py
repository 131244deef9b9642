"""Asks the event store what a look has to know of one rollout, and hands it to `looks`.

Made anew by `controller` for every look.
"""

from typing import Final, Protocol

from turnout.experiments import allocations
from turnout.rollouts import evidence, looks, progress
from turnout.spec import traffic
from turnout.stores import base

MINUTE_S: Final = 60.0
"""Units are asked for by the minute in which they were first seen."""

USUAL_MARGIN: Final = 0.005
"""Of errors, where no guardrail on errors says another."""


class Events(Protocol):
    """What is read of an event store."""

    def signal_sums(self, query: base.SignalQuery) -> list[base.SignalSums]:
        """Requests of analysed units."""

    def unit_sums(self, query: base.UnitQuery) -> list[base.UnitSums]:
        """Outcomes per unit."""

    def exposure_days(self, experiment: str, phase: str, bucket_s: float) -> list[base.ExposureDay]:
        """New units by time."""

    def answered(self, experiment: str, phase: str, since: float) -> dict[str, base.Answered]:
        """Requests of everybody, by variant."""


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
        self._terms = looks.terms_of(spec)

    def beside(self, *, converged: bool, hard: str) -> evidence.Evidence:
        """Both sides while they run beside each other."""
        units = self._units()
        balanced, ln_e = looks.ratio_of(units, self._sides)
        readings = tuple(
            looks.of_signal(
                name,
                metric,
                self._signal(name),
                sides=self._sides,
                terms=self._terms,
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

    def since_switch(self, *, converged: bool, hard: str) -> evidence.Evidence:
        """The new side since the bake began, beside what the old side did before."""
        now_at = self.now_at
        nothing = base.Answered(requests=0, lost=0)
        after = self._events.answered(self.name, now_at.phase, now_at.step_since).get(self._sides.new, nothing)
        ever = self._events.answered(self.name, now_at.phase, now_at.counts_from)
        old = [each for variant, each in ever.items() if variant != self._sides.new]
        before = base.Answered(requests=sum(each.requests for each in old), lost=sum(each.lost for each in old))
        margins = (each.margin for each in self._spec.guardrails.values() if each.signal == "error")
        margin = next((margin for margin in margins if margin is not None), USUAL_MARGIN)
        reading = looks.since_switch(after, before, terms=self._terms, margin=margin)
        return evidence.Evidence(
            converged=converged, hard=hard, fresh=(after.requests, before.requests), guardrails=(reading,)
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
        """Units of (new, old) first seen since the counting began; requests where the request is the unit."""
        if self._by_request:
            return looks.requests_of(self._requests(self.now_at.counts_from), self._sides)
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
        return looks.of_outcome(name, metric, sums, sides=self._sides, terms=self._terms)

    def _counts(self, bucket: int) -> bool:
        return (bucket + 1) * MINUTE_S > self.now_at.counts_from
