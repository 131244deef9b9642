"""A small world for the controller: a document, users who call and come back, stores in memory, a clock that is set.

The requests are assigned and recorded as the data plane does it: the document with the newest overlay decides,
and of a rollout only the canary's and the control's units are exposed.
"""

import random
from collections.abc import Callable, Mapping
from itertools import count

from turnout.events import Event, Exposure, Outcome, Prediction
from turnout.experiments import allocations, assignment, phases
from turnout.rollouts import controller, failures, progress, records
from turnout.spec import snapshot, stages
from turnout.stores import catalog

DOCUMENT = """
models: {{m: {{runtime: python, code: "a:M"}}}}
pipelines:
  old: {{code: "a:p", models: {{model: m}}}}
  new: {{code: "a:p", models: {{model: m}}, params: {{top_k: {top_k}}}}}
endpoints: {{reply: {{pipeline: old{unit}}}}}
{rollouts}
"""
ROLLOUT = """
rollouts:
  next:
    endpoint: reply
    to: {{pipeline: new}}
    {keys}
"""
TIMES = "steps: [25%, 50%], step: {min: 60s, max: 300s, units: 50}, bake: 60s"
QUICK = TIMES + ", guardrails: {errors: {signal: error, margin: 0.03}}"

Rate = Callable[[str, float], float]


def document(keys: str = QUICK, *, unit: bool = True, top_k: int = 5) -> str:
    """A document with a rollout; without one for keys ""."""
    rollouts = ROLLOUT.format(keys="\n    ".join(_lines(keys))) if keys else ""
    return DOCUMENT.format(unit=", unit: user_id" if unit else "", top_k=top_k, rollouts=rollouts)


def _lines(keys: str) -> list[str]:
    """Keys of a flow mapping, one a line."""
    depth, start, found = 0, 0, []
    for at, letter in enumerate(keys):
        depth += (letter in "[{") - (letter in "]}")
        if letter == "," and depth == 0:
            found.append(keys[start:at].strip())
            start = at + 1
    return [*found, keys[start:].strip()]


class World:
    """One server's traffic and stores.

    Args:
        failing: Probability that a side ("old" or "new") fails at a time.
        slow: Probability that it takes a second.
        kept: Variant to the probability that a unit has the outcome `kept`, a second after it was first seen.
        users: How many there are; None: the endpoint has no unit.
        per_s: Requests a second.
        clumsy: Unit and side to the probability that this unit's requests fail; in place of `failing`.
        seed: Of who calls and what fails.
    """

    def __init__(
        self,
        text: str,
        *,
        failing: Rate = lambda side, now: 0.01,
        slow: Rate = lambda side, now: 0.0,
        kept: Mapping[str, float] | None = None,
        users: int | None = 5_000,
        per_s: int = 20,
        clumsy: Callable[[str, str], float] | None = None,
        seed: int = 7,
    ) -> None:
        self.text = text
        self.now = 1_000_000.0
        self.started = self.now
        self.failing, self.slow = failing, slow
        self.kept = kept or {}
        self.users, self.per_s = users, per_s
        self._met: set[str] = set()
        self.lagging = False
        self.events = catalog.open_store("memory:world")
        self.control = catalog.open_control("memory:world")
        self.clumsy = clumsy
        self._random = random.Random(seed)
        self._numbers = count(1)
        self._admitted: tuple[str, str, snapshot.Snapshot] | None = None

    def steering(self, holder: str = "one") -> controller.Controller:
        return controller.Controller(self.events, self.control, holder=holder, clock=lambda: self.now)

    @property
    def content(self) -> snapshot.Snapshot:
        """The document in force, with the newest overlay."""
        newest = self.control.overlay()
        overlay = newest.content if newest else ""
        if self._admitted is None or self._admitted[:2] != (self.text, overlay):
            files = {"turnout.yaml": self.text} | ({stages.OVERLAY: overlay} if overlay else {})
            self._admitted = (self.text, overlay, snapshot.admit(files, environment={}))
        return self._admitted[2]

    @property
    def everywhere(self) -> str:
        """The revision that all workers serve."""
        return "" if self.lagging else self.content.revision

    def break_down(self, reason: str) -> None:
        """A circuit opens on some server."""
        failures.write(
            self.control,
            rollout="next",
            phase=self.phase,
            revision=self.content.revision,
            reason=reason,
            host="box",
            now=self.now,
        )

    @property
    def phase(self) -> str:
        content = self.content
        return phases.of_rollout("next", content.document, written=content.written, digests=content.digests)

    @property
    def standing(self) -> progress.Progress:
        newest = self.control.overlay()
        return progress.read(newest.content if newest else "", "next", self.phase) or progress.Progress(
            phase=self.phase
        )

    @property
    def records(self) -> list[records.Dated]:
        return records.read(self.control.looks("next", self.phase))

    @property
    def path(self) -> list[tuple[str, float]]:
        """States and shares, in order, as the overlays tell them."""
        found = [progress.read(each.content, "next", self.phase) for each in reversed(self.control.overlays(1_000))]
        return [(each.state, each.share) for each in found if each is not None]

    def traffic(self, seconds: float) -> None:
        """Requests of so many seconds, the last of them just before the clock's new time."""
        content = self.content
        rollouts = content.document.rollouts
        allocation = None
        if "next" in rollouts:
            allocation = allocations.of_rollout("next", rollouts["next"], phase=self.phase, unit_type="user_id")
        phase = self.phase if allocation else ""
        made: list[Event] = []
        total = round(seconds * self.per_s)
        for number in range(total):
            made.extend(self._request(allocation, phase, self.now + seconds * number / total))
        self.now += seconds
        self.events.append(made, None, ingested_at=self.now, subject=lambda unit: unit)

    def _request(self, allocation: assignment.Allocation | None, phase: str, ts: float) -> list[Event]:
        request_id = f"q{next(self._numbers)}"
        unit = f"u{int(self.users * self._random.random() ** 2)}" if self.users else ""
        if allocation is None:
            return []
        given = assignment.assign(unit or None, allocation, request_id=request_id)
        side = "new" if given.variant in (allocations.CANARY, allocations.GREEN) else "old"
        rate = self.failing(side, ts - self.started) if self.clumsy is None else self.clumsy(unit, side)
        bad = self._random.random() < rate
        slow = self._random.random() < self.slow(side, ts - self.started)
        made: list[Event] = [
            Prediction(
                event_id=request_id,
                ts=ts,
                revision="r",
                endpoint="reply",
                unit=unit,
                experiment="next",
                phase=phase,
                variant=given.variant,
                served=given.variant,
                sub_bucket=given.sub_bucket,
                pipeline=side,
                models=(),
                build="b",
                status="step-failed" if bad else "ok",
                error="",
                latency_s=1.0 if slow else 0.01,
                steps=[],
            )
        ]
        if given.reason == assignment.Reason.SPLIT and given.variant != allocations.REST:
            made.append(
                Exposure(
                    event_id=f"x{request_id}",
                    ts=ts,
                    revision="r",
                    endpoint="reply",
                    experiment="next",
                    phase=phase,
                    unit_type=given.unit_type,
                    unit=given.unit,
                    variant=given.variant,
                    served=given.variant,
                    reason=given.reason,
                    propensity=given.propensity,
                    sub_bucket=given.sub_bucket,
                    request_id=request_id,
                )
            )
            if given.unit not in self._met and self._random.random() < self.kept.get(given.variant, 0.0):
                made.append(Outcome(event_id=f"o{request_id}", ts=ts + 1, name="kept", unit=given.unit))
            self._met.add(given.unit)
        return made

    def run(self, seconds: float, steering: controller.Controller, *, every_s: float = 10.0) -> None:
        """Traffic, with a pass of the controller after every so many seconds."""
        until = self.now + seconds
        while self.now < until:
            self.traffic(every_s)
            steering.act(self.content, self.everywhere)
