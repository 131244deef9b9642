"""One request, from the endpoint's name to the encoded reply. No HTTP in here.

Called by every home (server, ASGI, in process, jobs, batch); calls assignment, the
event log and the pipeline runner, in this order. Reads top to bottom.
"""

import time

from turnout import wire
from turnout.assembly import assembly, endpoint, reading, visit
from turnout.errors import DeadlineError, ModelError, OverloadError, StepError, UnavailableError
from turnout.pipelines import runner

FALLBACK_SHARE = 0.6
"""With a fallback behind it, a variant gets this share of the remaining time, so that control still has some."""

RECOVERABLE = (DeadlineError, ModelError, OverloadError, StepError, UnavailableError)
"""Failures that another variant may not share; a request that does not fit fails everywhere."""


async def dispatch(current: assembly.Assembly, request: reading.Incoming, journal: visit.Journal) -> visit.Answer:
    """Answer one request on one assembly.

    Raises:
        NotFoundError, InputError, OverloadError, DeadlineError, UnavailableError, StepError.

    Cancellation: the pipeline is cancelled, the prediction is recorded as "cancelled".
    """
    chosen = current.endpoint(request.endpoint)
    limit_s = chosen.deadline_s if request.deadline_s is None else min(chosen.deadline_s, request.deadline_s)
    deadline = request.received + limit_s
    guest = journal.open(current, chosen, request)
    try:
        route = guest.take(chosen.choose(request))
        item = route.pipeline.request.decode(request.body)
        guest.expose()
        if route.fallback is None:
            result = await _run(guest, route, item, deadline)
        else:
            result = await _run_or_fall_back(guest, route, route.fallback, item, deadline)
    except BaseException as error:
        guest.finish(error)
        raise
    if isinstance(result, runner.Stream):
        return guest.streaming(result)
    guest.finish()
    return guest.answer(result)


async def _run_or_fall_back(
    guest: visit.Visit, route: endpoint.Route, fallback: endpoint.Route, item: object, deadline: float
) -> bytes | runner.Stream:
    now = time.monotonic()
    try:
        result = await _run(guest, route, item, now + FALLBACK_SHARE * (deadline - now))
    except RECOVERABLE as error:
        guest.fall_back(fallback, error)
        item = fallback.pipeline.request.decode(guest.request.body)
        result = await _run(guest, fallback, item, deadline)
        guest.blame(route, error)
        return result
    guest.credit(route)
    return result


async def _run(guest: visit.Visit, route: endpoint.Route, item: object, deadline: float) -> bytes | runner.Stream:
    call = guest.call = wire.Call(guest.request.id, route.pipeline.name, deadline, guest.request.received)
    value = await runner.run(route.pipeline, item, call)
    return value if isinstance(value, runner.Stream) else route.pipeline.encode(value)
