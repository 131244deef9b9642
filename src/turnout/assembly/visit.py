"""The record of one request in the making: what was assigned, served, exposed and how it ended.

`dispatch.py` opens a Visit, tells it what happened, and finishes it exactly once; the
Journal behind it turns that into events and counters.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Callable

import msgspec

from turnout import wire
from turnout.assembly import assembly as assemblies
from turnout.assembly import endpoint as endpoints
from turnout.errors import TurnoutError
from turnout.eventlog import log, memory
from turnout.events import Exposure, Prediction
from turnout.experiments import assignment
from turnout.pipelines import runner

MAX_ERROR_CHARACTERS = 500


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

    def open(self, current: assemblies.Assembly, chosen: endpoints.Endpoint, request: endpoints.Incoming) -> "Visit":
        """Begin the record of one request; it counts as in flight until finished."""
        current.enter()
        return Visit(self, current, chosen, request, chosen.control, chosen.control)


class Visit(msgspec.Struct, gc=False):
    """One request on its way; see the module's docstring.

    Attributes:
        route: The assigned one; the endpoint's control until one is assigned.
        served: The one that answers; differs from `route` after a fallback.
        fallback_cause: Why `route` did not answer; None when it did. The text and not the error: an error's traceback
            holds the frames that hold this visit, and the collector does not look through it (`gc=False`).
    """

    journal: Journal
    assembly: assemblies.Assembly
    endpoint: endpoints.Endpoint
    request: endpoints.Incoming
    route: endpoints.Route
    served: endpoints.Route
    assigned: assignment.Assignment | None = None
    call: wire.Call | None = None
    fallback_cause: str | None = None
    done: bool = False

    def take(self, route: endpoints.Route, assigned: assignment.Assignment | None) -> None:
        """The route is chosen."""
        self.route = self.served = route
        self.assigned = assigned

    def expose(self) -> None:
        """The variant's pipeline is about to be called: log the exposure, once per unit and day."""
        assigned = self.assigned
        if assigned is None:
            return
        journal, chosen, request = self.journal, self.endpoint, self.request
        self.route.meter.assigned(assigned.reason)
        who = assigned.unit or request.id
        if not journal.exposures.first(chosen.experiment, chosen.phase, who, request.ts):
            return
        self.route.meter.exposed()
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

    def fall_back(self, route: endpoints.Route, cause: TurnoutError) -> None:
        """The chosen route failed; `route` answers in its place."""
        self.served = route
        self.fallback_cause = str(cause)[:MAX_ERROR_CHARACTERS]

    def answer(self, body: bytes) -> Answer:
        """The whole reply at once."""
        return Answer(body, self)

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
        request, chosen, served, assigned = self.request, self.endpoint, self.served, self.assigned
        latency_s = time.monotonic() - request.received
        status, message = _status(error, self.fallback_cause)
        self.route.meter.finished(status, latency_s)
        steps = [] if self.call is None else self.call.steps
        served.meter.ran(steps)
        self.journal.events.append(
            Prediction(  # by position, in the order of its fields
                request.id,  # event_id
                request.ts,
                self.assembly.revision,
                chosen.name,
                assigned.unit if assigned is not None else "",
                chosen.experiment,
                chosen.phase,
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
            )
        )


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
