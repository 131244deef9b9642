"""The port to where events end up: what the recorder writes through and reports read through.

`catalog.py` opens an adapter by URL; `tests/contracts/test_store_events.py` holds every adapter to
what stands here. All methods block: the recorder and the reports run outside of any event loop.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Literal, Protocol

from msgspec import Struct

from turnout.errors import StoreError
from turnout.events import Event

ANALYSED = ("SPLIT", "EXTERNAL")
"""Reasons of exposures that count; units with any other reason were not randomised."""

Subject = Callable[[str], str]
"""Turns a unit into its keyed hash; "" stays ""."""


class RefusedError(StoreError):
    """The store works, but will never take this: a value no column can hold."""

    code = "store-refused"


class Checkpoint(Struct, frozen=True):
    """How far one segment has been shipped.

    Attributes:
        segment: The segment's file name; never used twice.
        offset: First byte that is not in the store.
    """

    segment: str
    offset: int


class Phase(Struct, frozen=True, kw_only=True):
    """One phase of an experiment as the exposures show it."""

    experiment: str
    phase: str
    first_ts: float
    last_ts: float
    units: int
    builds: tuple[str, ...] = ()


class Exposed(Struct, frozen=True, kw_only=True):
    """Units of one phase.

    Attributes:
        units: Analysed units per variant.
        crossed: Units that were seen in more than one variant; they are in no count.
        reasons: Units per reason, analysed or not (a unit may stand under several); requests where there is no unit.
    """

    units: Mapping[str, int]
    crossed: int
    reasons: Mapping[str, int]


class MetricQuery(Struct, frozen=True, kw_only=True):
    """What to sum up per unit.

    Attributes:
        name: Name of the outcome.
        kind: "conversion": 1 when any outcome with a value other than 0 lies in the window; "mean": sum of values.
        window_s: Outcomes count from the unit's first exposure (included) to so many seconds later (excluded).
        as_of: Ignore what happened at or after this time; None takes everything.
        closed_only: Only units whose window had closed at `as_of`.
    """

    experiment: str
    phase: str
    name: str
    kind: Literal["conversion", "mean"] = "conversion"
    window_s: float = 604_800.0
    as_of: float | None = None
    closed_only: bool = False


class MetricSum(Struct, frozen=True, kw_only=True):
    """Sufficient statistics of one variant: units, Σx and Σx² over units."""

    n: int
    x: float
    xx: float


class Serving(Struct, frozen=True, kw_only=True):
    """Requests that one variant answered.

    Attributes:
        errors: Requests whose status is not "ok".
        fallbacks: Requests this variant answered in place of the assigned one.
        latency_s: Quantile -> seconds, of all requests.
    """

    requests: int
    errors: int
    fallbacks: int
    latency_s: Mapping[float, float]


class OutcomeName(Struct, frozen=True, kw_only=True):
    """One kind of outcome that was reported.

    Attributes:
        count: Different outcomes (repeats are not counted).
        unmatched: Outcomes whose unit and request nobody has seen in any experiment or prediction.
    """

    name: str
    count: int
    unmatched: int
    first_ts: float
    last_ts: float


class EventStore(Protocol):
    """Keeps events once each, and sums them up for reports. Raises StoreError, and nothing else, for trouble."""

    def append(
        self,
        events: Sequence[Event],
        checkpoint: Checkpoint | None,
        *,
        ingested_at: float,
        subject: Subject,
    ) -> None:
        """Keep events and the checkpoint in one transaction; an event whose id is known is ignored.

        Raises:
            RefusedError: The store is fine, but will never take these events; nothing was kept.
            StoreError: Not now; nothing was kept.
        """

    def checkpoints(self) -> dict[str, int]:
        """Segment name -> first byte not shipped."""

    def forget(self, segments: Sequence[str]) -> None:
        """Drop the checkpoints of segments that are deleted."""

    def phases(self, experiment: str) -> list[Phase]:
        """Phases seen, the one last seen first."""

    def exposed(self, experiment: str, phase: str) -> Exposed:
        """Counts of units."""

    def metric(self, query: MetricQuery) -> dict[str, MetricSum]:
        """Sufficient statistics by assigned variant."""

    def serving(
        self, experiment: str, phase: str, quantiles: Sequence[float] = (0.5, 0.95, 0.99)
    ) -> dict[str, Serving]:
        """Requests by the variant that served them."""

    def outcome_names(self) -> list[OutcomeName]:
        """Names of outcomes seen, by name."""

    def close(self) -> None:
        """Release connections."""
