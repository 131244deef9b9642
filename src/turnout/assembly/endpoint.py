"""An endpoint made runnable: who is asked (the unit), which variant answers, and with what.

Built by `assembly/building.py`, walked by `dispatch.py` once per request, so everything
that can be done once has been done when these objects exist.
"""

from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from turnout.assembly import meter
from turnout.errors import InputError
from turnout.experiments import assignment
from turnout.pipelines import binding

MAX_UNIT_BYTES = 1_024
"""A unit longer than this is refused: it is hashed, logged and indexed for every request."""

JSON_KINDS = {bool: "a boolean", float: "a fraction", list: "an array", dict: "an object"}
"""How people who send JSON call what is no unit."""

SHORT_UNIT_CHARACTERS = MAX_UNIT_BYTES // 4
"""Text of so few characters fits whatever they are: UTF-8 takes at most four bytes for one."""

HEADER = "header:"


def _no_header(name: bytes) -> None:
    """A request without headers."""


class Incoming(msgspec.Struct, frozen=True, gc=False):
    """One request as it enters dispatch, whatever home it came from.

    Attributes:
        endpoint: The endpoint's name.
        body: JSON text as bytes.
        header: Looks a header up by its lower-case name; None when absent.
        id: The request id, 32 hex digits.
        received: `time.monotonic()` when the request was complete.
        ts: Seconds since the epoch at the same moment.
        deadline_s: The caller's own time limit in seconds; None for the endpoint's.
    """

    endpoint: str
    body: bytes
    id: str
    received: float
    ts: float
    header: Callable[[bytes], bytes | None] = _no_header
    deadline_s: float | None = None


class Route:
    """One way a request can go: a variant (or the endpoint's own pipeline) with everything bound.

    Attributes:
        variant: Name of the variant; "" without an experiment.
        pipeline: Its bound pipeline.
        meter: Its counters.
        fallback: The route that answers when this one fails; None when nobody does.
    """

    __slots__ = ("fallback", "meter", "pipeline", "variant")

    def __init__(
        self, variant: str, pipeline: binding.BoundPipeline, counted: meter.Meter, fallback: "Route | None" = None
    ) -> None:
        self.variant = variant
        self.meter = counted
        self.pipeline = pipeline
        self.fallback = fallback


class UnitReader:
    """Finds the unit of a request by its declared path: "user_id", "user.id" or "header:X-User"."""

    def __init__(self, path: str) -> None:
        self.path = path
        self._header = path[len(HEADER) :].lower().encode() if path.startswith(HEADER) else None
        keys = () if self._header else tuple(path.split("."))
        self._keys = tuple(_field(key) for key in keys)
        self._decode = msgspec.json.Decoder(_probe(keys)).decode

    def __call__(self, request: Incoming) -> str | None:
        """The unit as text; None when the request carries none.

        Raises:
            InputError: It is neither text nor an integer, or longer than `MAX_UNIT_BYTES`.

        Complexity: 0.9 µs for a body of 32 numbers; what is not on the path is skipped unread.
        """
        found = self._find(request)
        if type(found) is str and 0 < len(found) <= SHORT_UNIT_CHARACTERS:
            return found
        return self._checked(found)

    def _find(self, request: Incoming) -> Any:
        if self._header is not None:
            raw = request.header(self._header)
            return raw.decode("utf-8", "replace") if raw is not None else None
        try:
            found: Any = self._decode(request.body)
            for field in self._keys:
                found = getattr(found, field)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, AttributeError):
            return None  # decoding the whole body says what is wrong, better than we could here
        return found

    def _checked(self, found: Any) -> str | None:
        if found is None or found == "":
            return None
        if isinstance(found, bool) or not isinstance(found, str | int):
            raise InputError(
                f"the unit {self.path!r} is {JSON_KINDS[type(found)]}; it must be text or an integer.",
                path=self.path,
                hint="Send the user's id as text.",
            )
        unit = found if isinstance(found, str) else str(found)
        if len(unit) > MAX_UNIT_BYTES or len(unit.encode("utf-8", "surrogatepass")) > MAX_UNIT_BYTES:
            raise InputError(
                f"the unit {self.path!r} has {len(unit)} characters; at most {MAX_UNIT_BYTES} bytes are taken.",
                path=self.path,
                hint="Send an id, not content; hash it if it is long.",
            )
        return unit


def _field(key: str) -> str:
    return f"f_{key}" if not key.isidentifier() else key


def _probe(keys: tuple[str, ...]) -> Any:
    """A Struct that decodes nothing but the path `keys`; everything else is skipped unread."""
    inner: Any = Any
    for key in reversed(keys):
        inner = msgspec.defstruct(
            "Unit", [(_field(key), inner | None if inner is not Any else Any, None)], rename={_field(key): key}
        )
    return inner


class Endpoint:
    """The stable public name, ready to answer.

    Attributes:
        name: As in the path `/v1/endpoints/{name}`.
        deadline_s: Seconds a request may take in all.
        experiment: Name of the running experiment; "" for none.
        phase: Its phase; "" for none.
        routes: Variant name to route; without an experiment the one key is "".
        control: The route that answers when nothing else is chosen.
        request: Codec of the contract's request.
        reply: Codec of the contract's reply.
    """

    def __init__(  # noqa: PLR0913 - a record; building fills it
        self,
        name: str,
        *,
        deadline_s: float,
        routes: Mapping[str, Route],
        control: Route,
        unit: UnitReader | None = None,
        allocation: assignment.Allocation | None = None,
        attribute: UnitReader | None = None,
        description: str = "",
    ) -> None:
        self.name = name
        self.deadline_s = deadline_s
        self.routes = dict(routes)
        self.control = control
        self.unit = unit
        self.allocation = allocation
        self.attribute = attribute
        self.description = description
        self.experiment = allocation.name if allocation else ""
        self.phase = allocation.phase if allocation else ""
        self.unit_type = unit.path if unit else ""

    @property
    def contract(self) -> binding.BoundPipeline:
        """The pipeline whose request and reply types are the endpoint's contract."""
        return self.control.pipeline

    def assign(self, request: Incoming) -> assignment.Assignment | None:
        """The variant for this request, with the reason; None when no experiment runs here.

        Raises:
            InputError: The unit is of the wrong type or too long.
        """
        unit = self.unit(request) if self.unit is not None else None
        if self.allocation is None:
            return None
        attributes = None
        if unit is None and self.attribute is not None:
            attributes = {self.attribute.path: self.attribute(request)}
        return assignment.assign(unit, self.allocation, request_id=request.id, attributes=attributes)
