"""The record of one request in the making: what was assigned, served, exposed and how it ended.

`dispatch.py` opens a Visit, tells it what happened, and finishes it exactly once; the
Journal behind it turns that into events and counters.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Callable

from turnout import telemetry, wire
from turnout.assembly import assembly, endpoint
from turnout.errors import TurnoutError
from turnout.eventlog import log, memory
from turnout.events import Exposure, Prediction
from turnout.experiments import assignment
from turnout.pipelines import runner

MAX_ERROR_CHARACTERS = 500


class Answer:
    """What a home sends back.

    Attributes:
        body: The encoded reply, or chunks of it as they come.
        visit: Where it came from, for the response headers.
    """

    __slots__ = ("body", "content_type", "visit")

    def __init__(self, body: bytes | AsyncIterator[bytes], visit: "Visit", content_type: bytes) -> None:
        self.body = body
        self.visit = visit
        self.content_type = content_type


class Journal:
    """Writes what happened to the event log and the counters of one process."""

    def __init__(
        self,
        events: log.EventLog,
        exposures: memory.ExposureMemory,
        registry: telemetry.Registry,
        *,
        worker: str,
        new_id: Callable[[], str],
    ) -> None:
        self.events = events
        self.exposures = exposures
        self.worker = worker
        self.new_id = new_id
        self.requests = registry.counter(
            telemetry.REQUESTS, "Answered and refused requests.", ("endpoint", "experiment", "variant", "code")
        )
        self.duration = registry.histogram(
            telemetry.REQUEST_DURATION, "Seconds from complete request to reply.", ("endpoint", "variant")
        )
        self.steps = registry.histogram(
            telemetry.STEP_DURATION, "Seconds of one model call in a pipeline.", ("pipeline", "step", "model")
        )
        self.step_errors = registry.counter(
            telemetry.STEP_ERRORS, "Failed model calls.", ("pipeline", "step", "model", "kind")
        )
        self.assignments = registry.counter(telemetry.ASSIGNMENTS, "Assignments by reason.", ("experiment", "reason"))
        self.exposed = registry.counter(telemetry.EXPOSURES, "Exposures logged.", ("experiment", "variant"))

    def open(self, current: "assembly.Assembly", chosen: endpoint.Endpoint, request: endpoint.Incoming) -> "Visit":
        """Begin the record of one request; it counts as in flight until finished."""
        current.enter()
        return Visit(self, current, chosen, request)


class Visit:
    """One request on its way; see the module's docstring."""

    __slots__ = ("_done", "assembly", "assigned", "call", "endpoint", "fallback_cause", "journal", "request", "served")

    def __init__(
        self, journal: Journal, current: "assembly.Assembly", chosen: endpoint.Endpoint, request: endpoint.Incoming
    ) -> None:
        self.journal = journal
        self.assembly = current
        self.endpoint = chosen
        self.request = request
        self.assigned: assignment.Assignment | None = None
        self.served = chosen.control
        self.call: wire.Call | None = None
        self.fallback_cause: TurnoutError | None = None
        self._done = False

    @property
    def experiment(self) -> str:
        return self.endpoint.experiment

    @property
    def variant(self) -> str:
        """The assigned variant; "" without an experiment."""
        return self.assigned.variant if self.assigned is not None else ""

    def take(self, route: endpoint.Route, assigned: assignment.Assignment | None) -> None:
        """The route is chosen."""
        self.served = route
        self.assigned = assigned

    def expose(self) -> None:
        """The variant's pipeline is about to be called: log the exposure, once per unit and day."""
        assigned = self.assigned
        if assigned is None:
            return
        journal, chosen, request = self.journal, self.endpoint, self.request
        journal.assignments.labels(chosen.experiment, assigned.reason).inc()
        who = assigned.unit or request.id
        if not journal.exposures.first(chosen.experiment, chosen.phase, who, request.ts):
            return
        journal.exposed.labels(chosen.experiment, assigned.variant).inc()
        taken = journal.events.append(
            Exposure(
                event_id=journal.new_id(),
                ts=request.ts,
                revision=self.assembly.revision,
                endpoint=chosen.name,
                experiment=chosen.experiment,
                phase=chosen.phase,
                unit_type=assigned.unit_type,
                unit=assigned.unit or "",
                variant=assigned.variant,
                served=assigned.variant,
                reason=assigned.reason,
                propensity=assigned.propensity,
                sub_bucket=assigned.sub_bucket,
                request_id=request.id,
            )
        )
        if not taken:
            journal.exposures.forget(chosen.experiment, chosen.phase, who)

    def fall_back(self, route: endpoint.Route, cause: TurnoutError) -> None:
        """The chosen route failed; `route` answers in its place."""
        self.served = route
        self.fallback_cause = cause

    def answer(self, body: bytes) -> Answer:
        """The whole reply at once."""
        return Answer(body, self, b"application/json")

    def streaming(self, stream: runner.Stream) -> Answer:
        """The reply as it comes; the visit finishes with the last chunk, an error, or the client leaving."""
        return Answer(self._follow(stream), self, b"text/event-stream")

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
        if self._done:
            return
        self._done = True
        self.assembly.leave()
        latency_s = time.monotonic() - self.request.received
        status, message = _status(error if error is not None else self.fallback_cause, served=error is None)
        self._count(status, latency_s)
        assigned, route = self.assigned, self.served
        self.journal.events.append(
            Prediction(
                event_id=self.request.id,
                ts=self.request.ts,
                revision=self.assembly.revision,
                endpoint=self.endpoint.name,
                unit=(assigned.unit or "") if assigned is not None else "",
                experiment=self.endpoint.experiment,
                phase=self.endpoint.phase,
                variant=assigned.variant if assigned is not None else "",
                served=route.variant,
                sub_bucket=assigned.sub_bucket if assigned is not None else -1,
                pipeline=route.pipeline.name,
                models=route.pipeline.models,
                build=self.assembly.build,
                status=status,
                error=message,
                latency_s=latency_s,
                steps=self.call.steps if self.call is not None else [],
                fallback=self.fallback_cause is not None,
                worker=self.journal.worker,
            )
        )

    def _count(self, status: str, latency_s: float) -> None:
        journal, name = self.journal, self.endpoint.name
        journal.requests.labels(name, self.endpoint.experiment, self.variant, status).inc()
        journal.duration.labels(name, self.variant).observe(latency_s)
        if self.call is None:
            return
        pipeline = self.call.pipeline
        for step in self.call.steps:
            journal.steps.labels(pipeline, step.name, step.model).observe(step.duration_s)
            if step.error:
                journal.step_errors.labels(pipeline, step.name, step.model, step.error).inc()


def _status(error: BaseException | None, *, served: bool) -> tuple[str, str]:
    """Status and message of a prediction; a fallback that worked is "ok" and keeps the message of what failed."""
    if error is None:
        return "ok", ""
    message = str(error)[:MAX_ERROR_CHARACTERS]
    if served:
        return "ok", message
    if isinstance(error, asyncio.CancelledError | GeneratorExit):
        return "cancelled", "the caller left"
    if isinstance(error, TurnoutError):
        return error.code, message
    return "internal", f"{type(error).__name__}: {message}"
