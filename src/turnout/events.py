"""The records of the event log: exposures, predictions, outcomes, comparisons. Vocabulary only, no I/O.

Field order is the wire order of segment files (`array_like`): append new fields at the
end, with a default, and raise `SCHEMA_VERSION`.

Made by `assembly/visit`, `assembly/mirror` and `gateway/outcomes`, written by `eventlog`, kept by `stores`.
"""

from typing import Any

from msgspec import Struct

from turnout.wire import Step

SCHEMA_VERSION = 1


class Exposure(Struct, frozen=True, kw_only=True, array_like=True, tag="exposure"):
    """A unit meets a variant: logged when the variant's pipeline is about to be called.

    Attributes:
        event_id: 32 hex digits, time-ordered (UUIDv7 layout); the idempotency key.
        ts: Seconds since the epoch, UTC.
        variant: The assigned variant; analysis is by this one.
        served: The variant that answered; differs only after a fallback.
        fallback: Whether another variant than the assigned one was served from the start (an open circuit).
        layer: The layer that gave the unit to this experiment; "" for none.
        attributes: What targeting saw of the request.
        reason: One of `experiments.assignment.Reason`; only SPLIT and EXTERNAL are analysed.
        propensity: Probability of the assigned variant, in (0, 1]; 0 when unknown.
        sub_bucket: 0..99, for variances without per-unit state; -1 without a unit.
        also: Assignments of other layers on the same request, as (experiment, phase, variant).
    """

    event_id: str
    ts: float
    revision: str
    endpoint: str
    experiment: str
    phase: str
    unit_type: str
    unit: str
    variant: str
    served: str
    reason: str
    propensity: float
    sub_bucket: int
    request_id: str
    fallback: bool = False
    layer: str = ""
    also: tuple[tuple[str, str, str], ...] = ()
    attributes: dict[str, Any] = {}
    project: str = "default"
    schema_version: int = SCHEMA_VERSION


class Prediction(Struct, frozen=True, array_like=True, tag="prediction"):
    """One answered or refused request of an endpoint.

    Made once per request, hence by position: naming 20 fields costs 1.2 µs, placing them 0.1.

    Attributes:
        event_id: Equal to the request id: there is one prediction a request.
        unit: "" when the endpoint has none or the request carried none.
        experiment: "" when no experiment runs on the endpoint; phase and variant likewise.
        models: "alias@version" of every bound model of the pipeline that answered.
        build: Digest of the user code of this process.
        status: "ok" or the error's code.
        error: The error's message, cut to 500 characters; "" when fine.
        latency_s: From the complete request to the reply being ready.
        steps: The trace.
        also: Assignments of other layers on the same request, as (experiment, phase, variant).
    """

    event_id: str
    ts: float
    revision: str
    endpoint: str
    unit: str
    experiment: str
    phase: str
    variant: str
    served: str
    sub_bucket: int
    pipeline: str
    models: tuple[str, ...]
    build: str
    status: str
    error: str
    latency_s: float
    steps: list[Step]
    fallback: bool = False
    cached: bool = False
    shadow: bool = False
    cost: float = 0.0
    worker: str = ""
    project: str = "default"
    schema_version: int = SCHEMA_VERSION
    also: tuple[tuple[str, str, str], ...] = ()


class Comparison(Struct, frozen=True, kw_only=True, array_like=True, tag="comparison"):
    """A shadow's answer beside the answer that the caller got.

    Attributes:
        event_id: 32 hex digits, time-ordered.
        ts: Seconds since the epoch, UTC: when the request came.
        shadow: Its name in the document.
        unit: "" when the endpoint has none or the request carried none.
        pipeline: The mirrored pipeline; `status`, `error` and `latency_s` are about its run.
        status: "ok" or the error's code.
        error: The error's message, cut to 500 characters; "" when fine.
        latency_s: From the shadow's start to its reply being ready; the time it waited to start does not count.
        primary_pipeline: The pipeline whose reply the caller got.
        primary_latency_s: As in that request's prediction.
        agree: Whether both replies are equal as JSON (key order aside); None when the shadow gave none.
        difference: Greatest absolute difference of numbers at equal paths; None when no path has a number in both.
    """

    event_id: str
    ts: float
    revision: str
    endpoint: str
    shadow: str
    request_id: str
    unit: str
    pipeline: str
    status: str
    error: str
    latency_s: float
    primary_pipeline: str
    primary_latency_s: float
    agree: bool | None = None
    difference: float | None = None
    worker: str = ""
    project: str = "default"
    schema_version: int = SCHEMA_VERSION


class Outcome(Struct, frozen=True, kw_only=True, array_like=True, tag="outcome"):
    """What happened later. One of `unit` and `request_id` is enough.

    Attributes:
        event_id: The sender's; the idempotency key.
        ts: Seconds since the epoch when the fact happened, not when it was reported.
        value: 1.0 for a plain conversion.
        correction_of: event_id of an earlier outcome that this one replaces; "" for none.
    """

    event_id: str
    ts: float
    name: str
    value: float = 1.0
    unit: str = ""
    request_id: str = ""
    unit_type: str = ""
    source: str = ""
    correction_of: str = ""
    project: str = "default"
    schema_version: int = SCHEMA_VERSION


Event = Exposure | Prediction | Outcome | Comparison
