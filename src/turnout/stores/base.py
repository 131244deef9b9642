"""The port to where events end up: what the recorder writes through and reports read through.

`catalog.py` opens an adapter by URL; `tests/contracts/test_store_events.py` holds every adapter to
what stands here. All methods block: the recorder and the reports run outside of any event loop.
"""

import math
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Literal, Protocol

import msgspec
from msgspec import Struct

from turnout.errors import StoreError
from turnout.events import Event

ANALYSED = ("SPLIT", "EXTERNAL")
"""Reasons of exposures that count; units with any other reason were not randomised."""

DAY_S = 86_400.0

HOUR_S = 3600.0

LAST_HOUR = 253_402_300_800 // 3600 - 1
"""The last hour of the year 9999, since the epoch."""

LATENCY_QUANTILES = (0.5, 0.95, 0.99)

UnitKind = Literal["conversion", "mean", "count", "ratio"]
Signal = Literal["latency", "error", "fallback"]
SignalKind = Literal["mean", "share", "share_over"]

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
        crossed_from: The crossed units by the variant they were first seen in.
    """

    units: Mapping[str, int]
    crossed: int
    reasons: Mapping[str, int]
    crossed_from: Mapping[str, int] = {}


class UnitQuery(Struct, frozen=True, kw_only=True):
    """What to sum up per analysed unit, from its first exposure t0 on.

    Attributes:
        outcome: Name of the outcome.
        kind: Value y of a unit: "conversion" 1 when any outcome with a value other than 0 lies in the window, else 0;
            "mean" the sum of values; "count" the number of outcomes; "ratio" the sum of values, with the sum of
            `per`'s values as the unit's denominator d.
        per: Name of the denominator's outcome; for "ratio" alone.
        window_s: Outcomes count from t0 (included) to so many seconds later (excluded).
        cap: Greatest value of a unit (winsorising), for y and for the covariate; None for no limit.
        covariate_s: Look-back: outcomes from so many seconds before the unit's first analysed exposure in any phase of
            the experiment (included) to that (excluded) give its covariate x; None for no covariate.
        as_of: Ignore what happened at or after this time; None takes everything, and every window counts as closed.
        lateness_s: A window closes so many seconds after its end, because outcomes arrive late (see `lateness`).
        bucket_s: Length of the time buckets of first exposures.
    """

    experiment: str
    phase: str
    outcome: str
    kind: UnitKind = "conversion"
    per: str | None = None
    window_s: float = 86_400.0
    cap: float | None = None
    covariate_s: float | None = None
    as_of: float | None = None
    lateness_s: float = 0.0
    bucket_s: float = DAY_S


class UnitSums(Struct, frozen=True, kw_only=True):
    """Sums over the units of one variant that were first exposed in one bucket.

    Units seen in two variants are in no sum. Curves are running sums over `bucket` of what is closed.

    Attributes:
        bucket: floor(t0 / bucket_s).
        closed: Whether these units' windows had closed at `as_of`.
        n: Units; a unit without outcomes has y = d = x = 0.
        y: Σy over units; yy Σy²; yd Σy·d and so on. d is 0 but for ratios, x but with `covariate_s`.
        x: Covariates; of a ratio the unit's y − r·d before t0, r that of all units then. A unit without outcomes
            in the look-back has x = 0, which is its value there (for ratios: the mean of the others).
        n_x: Units that had outcomes in the look-back: how far the covariate reaches, to be shown.
    """

    variant: str
    bucket: int
    closed: bool
    n: int
    y: float
    yy: float
    d: float = 0.0
    dd: float = 0.0
    yd: float = 0.0
    x: float = 0.0
    xx: float = 0.0
    xy: float = 0.0
    xd: float = 0.0
    n_x: int = 0


class UnitValues(Struct, frozen=True, kw_only=True):
    """Columns of equal length, a place per analysed unit, in the order of `subjects`.

    Attributes:
        subjects: Keyed hashes of the units.
        t0: First exposures, seconds since the epoch.
        closed, y, d, x: As in `UnitSums`.
        total: Units there are, of which these are the first by hash: a fixed random sample.
    """

    subjects: Sequence[str]
    variants: Sequence[str]
    sub_buckets: Sequence[int]
    t0: Sequence[float]
    closed: Sequence[bool]
    y: Sequence[float]
    d: Sequence[float]
    x: Sequence[float]
    total: int


class SignalQuery(Struct, frozen=True, kw_only=True):
    """What to sum up over requests of analysed units, from their first exposure on, by assigned variant.

    Attributes:
        signal: "latency" in seconds; "error" requests that the assigned variant did not answer (a status other than
            "ok", or control answered in its place); "fallback" those that control answered in its place.
        kind: "mean" of latencies; "share" of requests with an error or a fallback; "share_over" of requests slower
            than `threshold_s`.
        threshold_s: For "share_over" alone.
        as_of: Ignore requests at or after this time; None for none.
        since: Ignore requests before this time (exposures still count): for sums that go on; None for none.
        bucket_s: Length of the time buckets of requests.
        whole: All requests of these units in the phase, also those after a unit left the split and got control
            (intention to treat); else only those under its variant, which suits a rollout, whose control is a side
            of its own.
    """

    experiment: str
    phase: str
    signal: Signal
    kind: SignalKind = "share"
    threshold_s: float | None = None
    as_of: float | None = None
    since: float | None = None
    bucket_s: float = DAY_S
    whole: bool = False


class SignalSums(Struct, frozen=True, kw_only=True):
    """Requests of one variant's units in one of 100 sub-buckets and one bucket of time.

    Attributes:
        bucket: floor(ts / bucket_s).
        s: Sum of the values: seconds, or how many requests fit.
        c: Requests.
    """

    variant: str
    sub_bucket: int
    bucket: int
    s: float
    c: int


class Ranks(Struct, frozen=True, kw_only=True):
    """Order statistics of the units' mean latencies: the quantile and its interval.

    Attributes:
        n: Units with a request.
        low: Seconds at rank ⌊n·a⌋; high at ⌈n·b⌉; a, b = q ∓ z·√(q(1−q)/n) (EXPERIMENTS.md §3.1).
        value: Seconds at rank ⌈n·q⌉.
    """

    n: int
    low: float
    value: float
    high: float


class ExposureDay(Struct, frozen=True, kw_only=True):
    """Analysed units of one variant that were first exposed in one bucket of time; crossed ones in none."""

    bucket: int
    variant: str
    units: int


class SeenUnit(Struct, frozen=True, kw_only=True):
    """One unit of the exposure log.

    Attributes:
        attributes: What targeting saw in one of its exposures, as a JSON object.
    """

    unit: str
    attributes: str


class Compared(Struct, frozen=True, kw_only=True):
    """What a shadow did beside the answers that callers got.

    Attributes:
        runs: Mirrored requests.
        statuses: Status -> runs; "ok" when the shadow answered.
        agreed: Runs whose reply was the same; disagreed: another one; neither where it could not be told.
        differences: Runs with numbers at equal paths; mean and maximum of their greatest absolute differences.
        latency_s: Quantile -> seconds, of the shadow; primary_latency_s of the answers callers got, same requests.
        first_ts: Of the first run; None without runs.
    """

    runs: int
    statuses: Mapping[str, int]
    agreed: int
    disagreed: int
    differences: int
    difference_mean: float | None
    difference_max: float | None
    latency_s: Mapping[float, float]
    primary_latency_s: Mapping[float, float]
    first_ts: float | None
    last_ts: float | None


class Lateness(Struct, frozen=True, kw_only=True):
    """How long after the fact outcomes of one name arrived (`ingested_at` − `ts`, at least 0), in seconds."""

    count: int
    p50_s: float
    p99_s: float


class Serving(Struct, frozen=True, kw_only=True):
    """Requests of the units that were assigned one variant, from their first exposure on.

    Attributes:
        errors: Requests whose status is not "ok".
        fallbacks: Requests that control answered in place of this variant.
        latency_s: Quantile -> seconds, of all requests.
    """

    requests: int
    errors: int
    fallbacks: int
    latency_s: Mapping[float, float]


class Answered(Struct, frozen=True, kw_only=True):
    """Requests of one variant, whoever sent them and why it got them.

    Attributes:
        lost: Requests that it did not answer: a status other than "ok", or another variant answered in its place.
    """

    requests: int
    lost: int


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


def hour_of(ts: float) -> int:
    """The UTC hour since the epoch; what lies outside of 0 and `LAST_HOUR` belongs to these."""
    return min(max(int(ts // HOUR_S), 0), LAST_HOUR)


def threshold(query: SignalQuery) -> float:
    """Its threshold; having none is the caller's mistake."""
    assert query.threshold_s is not None, "share_over needs threshold_s"
    return query.threshold_s


def ranks(n: int, quantile: float, alpha: float) -> tuple[int, int, int]:
    """Ranks from 1 to n of a quantile's lower end, itself and its upper end.

    Source: EXPERIMENTS.md §3.1; `experiments/estimates.quantile_ranks` is the same, on a higher floor.
    """
    half = statistics.NormalDist().inv_cdf(1 - alpha / 2) * math.sqrt(quantile * (1 - quantile) / n)
    low, high = math.floor(n * (quantile - half)), math.ceil(n * (quantile + half))
    return max(low, 1), min(max(math.ceil(n * quantile), 1), n), min(high, n)


def also_prefix(experiment: str, phase: str) -> str:
    """How an assignment to this phase begins in the JSON text of an event's `also`; the variant's name follows."""
    return msgspec.json.encode([experiment, phase, ""]).decode().removesuffix('"]')


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

    @property
    def known_until(self) -> float | None:
        """What arrived at this time or later is in no answer, and `as_of` is cut to it; None where all is known."""

    def phases(self, experiment: str) -> list[Phase]:
        """Phases seen, the one last seen first."""

    def exposed(self, experiment: str, phase: str) -> Exposed:
        """Counts of units."""

    def serving(
        self, experiment: str, phase: str, quantiles: Sequence[float] = LATENCY_QUANTILES
    ) -> dict[str, Serving]:
        """All requests of analysed units in the phase by assigned variant; shadow requests are in none."""

    def answered(self, experiment: str, phase: str, since: float = 0.0) -> dict[str, Answered]:
        """Requests since then by assigned variant, of everybody: to watch, not to compare."""

    def unit_sums(self, query: UnitQuery) -> list[UnitSums]:
        """Sufficient statistics by assigned variant, bucket and whether the window closed, in that order."""

    def unit_values(self, query: UnitQuery, limit: int) -> UnitValues:
        """The values of at most so many units."""

    def signal_sums(self, query: SignalQuery) -> list[SignalSums]:
        """Sums by assigned variant, sub-bucket and bucket, in that order; shadow requests are in none."""

    def signal_ranks(
        self, experiment: str, phase: str, quantile: float, alpha: float, as_of: float | None = None
    ) -> dict[str, Ranks]:
        """Latency per unit (the mean of all its requests in the phase) at a quantile in (0, 1), by assigned variant."""

    def exposure_days(self, experiment: str, phase: str, bucket_s: float = DAY_S) -> list[ExposureDay]:
        """New units by bucket and variant, in that order."""

    def units(self, experiment: str, phase: str, limit: int) -> list[SeenUnit]:
        """The first units of a phase in their own order, whatever the reason; request ids are none."""

    def comparisons(self, shadow: str, since: float = 0.0) -> Compared:
        """What a shadow did since then."""

    def lateness(self, name: str) -> Lateness | None:
        """How late outcomes of this name arrived; None when there is none."""

    def outcome_names(self) -> list[OutcomeName]:
        """Names of outcomes seen, by name."""

    def close(self) -> None:
        """Release connections."""


class Sealable(Protocol):
    """A store whose events can be sealed by the time they arrived. `sql.SqlStore` is one. Raises StoreError."""

    def first_arrival(self, since: float) -> float | None:
        """The smallest `ingested_at` from a time on; None when nothing arrived since."""

    def arrived_hours(self, table: str, start: float, end: float) -> dict[int, int]:
        """Rows of a table that arrived in [start, end), counted by the hour they happened in, as `hour_of` says it."""

    def arrived(
        self, table: str, start: float, end: float, *, happened: tuple[float, float] | None = None
    ) -> Iterator[Sequence[Sequence[Any]]]:
        """The rows themselves, in batches, values in the order of the table's columns.

        Args:
            happened: Only those with `ts` in [first, last) of it.
        """

    def close(self) -> None:
        """Release connections."""
