"""The record of one request in the making: what was assigned, served, exposed and how it ended.

`dispatch.py` opens a Visit, tells it what happened, and finishes it exactly once; the
Journal behind it turns that into events and counters.
"""

import asyncio
import functools
import time
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any

import msgspec

from turnout import wire
from turnout.assembly import assembly as assemblies
from turnout.assembly import endpoint as endpoints
from turnout.assembly import reading
from turnout.errors import TurnoutError
from turnout.eventlog import log, memory
from turnout.events import Comparison, Exposure, Prediction
from turnout.experiments import assignment
from turnout.pipelines import runner, shadow

MAX_ERROR_CHARACTERS = 500
MAX_ATTRIBUTE_CHARACTERS = 200


class Answer(msgspec.Struct, gc=False):
    """What a home sends back.

    Attributes:
        body: The encoded reply, or chunks of it as they come.
        visit: Where it came from, for the response headers.
    """

    body: bytes | AsyncIterator[bytes]
    visit: "Visit"


class Journal:
    """Writes what happened to the event log of one process."""

    def __init__(
        self, events: log.EventLog, exposures: memory.ExposureMemory, *, worker: str, new_id: Callable[[], str]
    ) -> None:
        self.events = events
        self.exposures = exposures
        self.worker = worker
        self.new_id = new_id

    def open(self, current: assemblies.Assembly, chosen: endpoints.Endpoint, request: reading.Incoming) -> "Visit":
        """Begin the record of one request; it counts as in flight until finished."""
        current.enter()
        return Visit(self, current, chosen, request, chosen.nothing, chosen.control)


class Visit(msgspec.Struct, gc=False):
    """One request on its way; see the module's docstring.

    Attributes:
        choice: What was decided; the endpoint's control and nobody until something is.
        served: The route that answers; differs from the chosen one after a fallback.
        fallback_cause: Why the chosen one did not answer; None when it did. The text and not the error: an error's
            traceback holds the frames that hold this visit, and the collector does not look through it (`gc=False`).
    """

    journal: Journal
    assembly: assemblies.Assembly
    endpoint: endpoints.Endpoint
    request: reading.Incoming
    choice: endpoints.Choice
    served: endpoints.Route
    call: wire.Call | None = None
    fallback_cause: str | None = None
    done: bool = False

    def take(self, choice: endpoints.Choice) -> endpoints.Route:
        """The route that this request goes: the chosen one, or past it where its circuit is open."""
        self.choice = choice
        route = self.served = choice.route
        broken = route.circuit
        if broken is not None and broken.open and route.fallback is not None:
            self.fallback_cause = broken.diverted()
            self.served = route.fallback
        return self.served

    def expose(self) -> None:
        """The variant's pipeline is about to be called: log the exposures, once per unit and day."""
        choice = self.choice
        if choice.assigned is None or choice.route.split is None:
            return
        self._expose(choice.route.split, choice.assigned, self.served.variant, self.fallback_cause is not None)
        for split, assigned in choice.also:
            self._expose(split, assigned, assigned.variant)

    def _expose(
        self, split: endpoints.Split, assigned: assignment.Assignment, served: str, fallback: bool = False
    ) -> None:
        journal, request = self.journal, self.request
        split.tally.assigned(assigned.reason)
        if assigned.missing:
            split.tally.lacked(assigned.missing)
        if not split.exposes(assigned):
            return
        who, answer = assigned.unit or request.id, (assigned.reason, assigned.variant)
        if not journal.exposures.first(split.name, split.phase, who, answer, request.ts):
            return
        split.tally.exposed(assigned.variant)
        taken = journal.events.append(
            Exposure(
                event_id=journal.new_id(),
                ts=request.ts,
                revision=self.assembly.revision,
                endpoint=self.endpoint.name,
                experiment=split.name,
                phase=split.phase,
                unit_type=assigned.unit_type,
                unit=assigned.unit,
                variant=assigned.variant,
                served=served,
                reason=assigned.reason,
                propensity=assigned.propensity,
                sub_bucket=assigned.sub_bucket,
                request_id=request.id,
                fallback=fallback,
                layer=split.layer,
                also=self._beside(split),
                attributes=_logged(self.choice.attributes),
            )
        )
        if not taken:
            journal.exposures.forget(split.name, split.phase, who)

    def _beside(self, split: endpoints.Split) -> tuple[tuple[str, str, str], ...]:
        """The other experiments of this request, as (experiment, phase, variant)."""
        choice = self.choice
        if not choice.also:
            return ()
        main = choice.route.split
        assert main is not None
        everything = ((main.name, main.phase, choice.route.variant), *choice.route.also)
        return tuple(each for each in everything if each[0] != split.name)

    def fall_back(self, route: endpoints.Route, cause: TurnoutError) -> None:
        """The chosen route failed; `route` answers in its place."""
        self.served = route
        self.fallback_cause = str(cause)[:MAX_ERROR_CHARACTERS]

    def blame(self, route: endpoints.Route, cause: TurnoutError) -> None:
        """`route` failed where its fallback could answer. Time that the caller itself cut short blames nobody."""
        if route.circuit is not None:
            limit_s = self.request.deadline_s
            route.circuit.failed(cause, hurried=limit_s is not None and limit_s < self.endpoint.deadline_s)

    def credit(self, route: endpoints.Route) -> None:
        """`route` has a fallback and did not need it."""
        if route.circuit is not None:
            route.circuit.passed()

    def answer(self, body: bytes) -> Answer:
        """The whole reply at once; shadows get a copy of what was asked."""
        if self.endpoint.shadows:
            self._mirror(body)
        return Answer(body, self)

    def _mirror(self, reply: bytes) -> None:
        request, latency_s = self.request, time.monotonic() - self.request.received
        for each in self.endpoint.shadows:
            if each.wants(request.id):
                each.mirror(request.id, request.body, reply, functools.partial(self._compare, each, latency_s))

    def _compare(self, mirrored: shadow.Shadow, latency_s: float, found: shadow.Finding) -> None:
        """A shadow has dealt with its copy."""
        journal, request = self.journal, self.request
        journal.events.append(
            Comparison(
                event_id=journal.new_id(),
                ts=request.ts,
                revision=self.assembly.revision,
                endpoint=self.endpoint.name,
                shadow=mirrored.name,
                request_id=request.id,
                unit=self.choice.unit,
                pipeline=mirrored.pipeline.name,
                status=found.status,
                error=found.error,
                latency_s=found.latency_s,
                primary_pipeline=self.served.pipeline.name,
                primary_latency_s=latency_s,
                agree=found.agree,
                difference=found.difference,
                worker=journal.worker,
            )
        )

    def streaming(self, stream: runner.Stream) -> Answer:
        """The reply as it comes; the visit finishes with the last chunk, an error, or the client leaving."""
        return Answer(self._follow(stream), self)

    async def _follow(self, stream: runner.Stream) -> AsyncIterator[bytes]:
        try:
            async for chunk in stream:
                yield chunk
        except BaseException as error:
            self.finish(error)
            raise
        finally:
            await stream.aclose()
            self.finish()

    def finish(self, error: BaseException | None = None) -> None:
        """The request is over: record the prediction. Only the first call counts."""
        if self.done:
            return
        self.done = True
        self.assembly.leave()
        request, choice, served, assigned = self.request, self.choice, self.served, self.choice.assigned
        route, split = choice.route, choice.route.split
        latency_s = time.monotonic() - request.received
        status, message = _status(error, self.fallback_cause)
        route.meter.finished(status, latency_s)
        steps = [] if self.call is None else self.call.steps
        served.meter.ran(steps)
        self.journal.events.append(
            Prediction(  # by position, in the order of its fields
                request.id,  # event_id
                request.ts,
                self.assembly.revision,
                self.endpoint.name,
                choice.unit,
                split.name if split is not None else "",
                split.phase if split is not None else "",
                assigned.variant if assigned is not None else "",
                served.variant,
                assigned.sub_bucket if assigned is not None else -1,
                served.pipeline.name,
                served.pipeline.models,
                self.assembly.build,
                status,
                message,  # error
                latency_s,
                steps,
                self.fallback_cause is not None,
                worker=self.journal.worker,
                also=route.also,
            )
        )


def _logged(attributes: Mapping[str, Any] | None) -> dict[str, Any]:
    """Attributes as an exposure keeps them: those that are there, texts cut, and no containers."""
    return {
        name: value[:MAX_ATTRIBUTE_CHARACTERS] if isinstance(value, str) else value
        for name, value in (attributes or {}).items()
        if isinstance(value, str | int | float)
    }


def _status(error: BaseException | None, fallback_cause: str | None) -> tuple[str, str]:
    """Status and message of a prediction; a fallback that worked is "ok" and keeps the message of what failed."""
    if error is None:
        return "ok", fallback_cause or ""
    if isinstance(error, asyncio.CancelledError | GeneratorExit):
        return "cancelled", "the caller left"
    message = str(error)[:MAX_ERROR_CHARACTERS]
    if isinstance(error, TurnoutError):
        return error.code, message
    return "internal", f"{type(error).__name__}: {message}"
