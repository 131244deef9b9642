"""`POST /v1/outcomes`: what happened later, one or many, idempotent by `event_id`.

All or nothing: a list with one bad outcome is refused whole, so the sender repeats it
whole, and repeating is harmless. The answer comes after the events are written to the
segment file, so an accepted outcome survives the process.
"""

import hashlib
import math
from collections.abc import Callable

import msgspec

from turnout.errors import InputError, UnavailableError
from turnout.events import Outcome
from turnout.pipelines import codec

MAX_OUTCOMES = 10_000
MAX_TEXT_BYTES = 1_024
MAX_AHEAD_S = 300.0
"""How far in the future an outcome may lie: clocks differ by seconds, not by more."""


class Posted(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One outcome as callers send it.

    Attributes:
        name: Which outcome, as the document's metrics name it.
        value: A finite number; 1 for "it happened".
        unit: The unit it belongs to, exactly as sent to the endpoint.
        request_id: The `Turnout-Request-Id` it belongs to. One of unit and request_id is enough.
        event_id: The sender's idempotency key. Without one, a digest of the other fields serves
            when `ts` is given; else every post counts.
        ts: Seconds since the epoch when it happened; default now.
        source: Which system says so, for people.
        correction_of: event_id of an earlier outcome that this one replaces.
    """

    name: str
    value: float = 1.0
    unit: str | int = ""
    request_id: str = ""
    event_id: str = ""
    ts: float | None = None
    source: str = ""
    correction_of: str = ""


_codec = codec.of(Posted | list[Posted], pipeline="outcomes")


def read(body: bytes, *, now: float, new_id: Callable[[], str]) -> list[Outcome]:
    """Outcomes of one request body, checked.

    Raises:
        InputError: Not JSON, not an outcome, or a value out of its range; the path says which one.
    """
    found = _codec.decode(body)
    single = isinstance(found, Posted)
    posted = [found] if single else found
    if len(posted) > MAX_OUTCOMES:
        raise InputError(
            f"{len(posted)} outcomes in one request; at most {MAX_OUTCOMES} are taken.", hint="Send them in parts."
        )
    return [
        _checked(item, now=now, new_id=new_id, path="" if single else f"[{index}].")
        for index, item in enumerate(posted)
    ]


def refused() -> UnavailableError:
    """Outcomes are answered when they are on disk; now nothing gets there."""
    return UnavailableError(
        "the disk takes no events now, so outcomes cannot be accepted.",
        hint="Send them again later; what carries an event_id, or a ts, counts once however often it is sent.",
        retry_after_s=5.0,
    )


def _checked(item: Posted, *, now: float, new_id: Callable[[], str], path: str) -> Outcome:
    unit = item.unit if isinstance(item.unit, str) else str(item.unit)
    texts = {
        "name": item.name,
        "unit": unit,
        "request_id": item.request_id,
        "event_id": item.event_id,
        "source": item.source,
        "correction_of": item.correction_of,
    }
    for field, text in texts.items():
        if len(text.encode("utf-8", "surrogatepass")) > MAX_TEXT_BYTES:
            raise InputError(
                f"{field} has {len(text)} characters; at most {MAX_TEXT_BYTES} bytes are taken.", path=path + field
            )
    if not item.name:
        raise InputError(
            "name is empty.", path=path + "name", hint="Use the outcome's name from the document's metrics."
        )
    if not unit and not item.request_id:
        raise InputError("neither unit nor request_id is given.", path=path + "unit", hint="Send one of the two.")
    if not math.isfinite(item.value):
        raise InputError(f"value is {item.value}; it must be a finite number.", path=path + "value")
    ts = now if item.ts is None else item.ts
    if not 0 <= ts <= now + MAX_AHEAD_S:
        raise InputError(
            f"ts is {ts}; it must lie between 1970 and now ({now:.0f}).",
            path=path + "ts",
            hint="Seconds since the epoch, not milliseconds.",
        )
    return Outcome(
        event_id=item.event_id or _event_id(item, unit, new_id),
        ts=ts,
        name=item.name,
        value=item.value,
        unit=unit,
        request_id=item.request_id,
        source=item.source,
        correction_of=item.correction_of,
    )


def _event_id(item: Posted, unit: str, new_id: Callable[[], str]) -> str:
    if item.ts is None:
        return new_id()
    text = "\0".join((item.name, repr(item.value), unit, item.request_id, repr(item.ts), item.correction_of))
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:32]
