"""Counters, gauges and histograms that merge over processes, and their text exposition.

Every process holds one `Registry`. A scrape takes each worker's `snapshot` over the control
channel, `merge`s them and `render`s the Prometheus text format 0.0.4. Metric names are
constants here, so that one file shows all of them.

Invariants: label sets per family are bounded (what comes beyond the limit goes to the label
value "other" and is counted); recording a value never raises and never waits. Values are
recorded without a lock: record on the event loop; two threads recording into one child at
the same instant may lose a count.
"""

import bisect
import itertools
import math
from collections.abc import Callable, Iterable, Sequence
from typing import Generic, Literal, TypeVar

from msgspec import Struct

REQUESTS = "turnout_requests_total"
REQUEST_DURATION = "turnout_request_duration_seconds"
STEP_DURATION = "turnout_step_duration_seconds"
STEP_ERRORS = "turnout_step_errors_total"
BATCH_ROWS = "turnout_batch_rows"
BATCH_RELEASED = "turnout_batch_released_total"
QUEUE_WAIT = "turnout_queue_wait_seconds"
QUEUE_DEPTH = "turnout_queue_depth"
SHED = "turnout_shed_total"
EXPOSURES = "turnout_exposures_total"
ASSIGNMENTS = "turnout_assignments_total"
ATTRIBUTES_MISSING = "turnout_attributes_missing_total"
OUTCOMES = "turnout_outcomes_total"
VARIANT_FAILURES = "turnout_variant_failures_total"
CIRCUIT_OPEN = "turnout_circuit_open"
SHADOW_SENT = "turnout_shadow_sent_total"
SHADOW_DONE = "turnout_shadow_done_total"
SHADOW_FAILED = "turnout_shadow_failed_total"
SHADOW_DROPPED = "turnout_shadow_dropped_total"
EVENTS_DROPPED = "turnout_events_dropped_total"
EVENT_WRITE_FAILURES = "turnout_event_write_failures_total"
SNAPSHOT_APPLIED = "turnout_snapshot_applied_timestamp_seconds"
SNAPSHOT_REJECTED = "turnout_snapshot_rejected_total"
SNAPSHOT_INFO = "turnout_snapshot_info"
REPLICAS = "turnout_replicas"
REPLICAS_CURRENT = "turnout_replicas_current"
CONVERGENCE = "turnout_convergence_seconds"
COMMITS_LATE = "turnout_commits_late_total"
OVERLAY_REFUSED = "turnout_overlay_refused"
CONTROL_FAILURES = "turnout_control_failures_total"
DOCUMENT_REFUSED = "turnout_document_refused"
RELOAD_FAILED = "turnout_reload_failed"
WORKERS_MISSING = "turnout_workers_missing"
WORKER_RESTARTS = "turnout_worker_restarts_total"
CONNECTIONS = "turnout_connections"
REQUESTS_IN_FLIGHT = "turnout_requests_in_flight"
REFUSALS = "turnout_refusals_total"
HANDLER_FAILURES = "turnout_handler_failures_total"
METRICS_OVERFLOW = "turnout_metrics_overflow_total"
METRICS_MISMATCHED = "turnout_metrics_mismatched_families"

DEFAULT: tuple[float, ...] = (
    0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0,
)  # fmt: skip
"""Upper bounds of duration buckets, in seconds."""

SIZES: tuple[float, ...] = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1024.0)
"""Upper bounds for counted things, such as rows of a batch."""

OTHER = "other"
LABEL_SETS = 1_000
"""Label sets a family holds before further ones are put under "other"; a scrape of one family stays below 200 kB."""

Merge = Literal["sum", "max", "min"]


class Sample(Struct, frozen=True, array_like=True):
    """One child's numbers at one moment.

    Attributes:
        labels: Label values, in the order of the family's label names.
        value: The count or level; for a histogram the sum of what was observed.
        counts: Observations per bucket, not cumulative, the last one above all bounds; empty unless a histogram.
    """

    labels: tuple[str, ...]
    value: float
    counts: tuple[int, ...] = ()


class FamilySnapshot(Struct, frozen=True, array_like=True):
    """One family's numbers at one moment; travels over the control channel."""

    name: str
    kind: str
    help: str
    labels: tuple[str, ...]
    merge: str
    buckets: tuple[float, ...]
    samples: tuple[Sample, ...]


class Counter:
    """A number that only grows."""

    __slots__ = ("value",)

    def __init__(self) -> None:
        self.value: float = 0

    def inc(self, n: float = 1) -> None:
        """Add `n`, which must not be negative."""
        self.value += n

    def sample(self, labels: tuple[str, ...]) -> Sample:
        return Sample(labels, self.value)


class Gauge:
    """A level that rises and falls."""

    __slots__ = ("_read", "value")

    def __init__(self) -> None:
        self.value: float = 0
        self._read: Callable[[], float] | None = None

    def set(self, x: float) -> None:
        self.value = x

    def inc(self, n: float = 1) -> None:
        self.value += n

    def follow(self, read: Callable[[], float]) -> None:
        """Take the level from `read` at each snapshot instead of being told about every change."""
        self._read = read

    def sample(self, labels: tuple[str, ...]) -> Sample:
        return Sample(labels, self.value if self._read is None else self._read())


class Histogram:
    """Observations counted into fixed buckets."""

    __slots__ = ("_bounds", "counts", "total")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self._bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0

    def observe(self, x: float) -> None:
        """Count `x` into the first bucket whose bound it does not exceed."""
        self.counts[bisect.bisect_left(self._bounds, x)] += 1
        self.total += x

    def sample(self, labels: tuple[str, ...]) -> Sample:
        return Sample(labels, self.total, tuple(self.counts))


Child = TypeVar("Child", Counter, Gauge, Histogram)


class Family(Generic[Child]):
    """All children of one metric name, one per set of label values."""

    def __init__(
        self, head: FamilySnapshot, make: Callable[[], Child], overflow: Callable[[str], None], limit: int
    ) -> None:
        self.head = head
        self._make: Callable[[], Child] = make
        self._overflow = overflow
        self._limit = limit
        self._children: dict[tuple[str, ...], Child] = {}

    def labels(self, *values: str) -> Child:
        """The child for these label values; hold on to it where it is used often.

        Raises:
            ValueError: Another number of values than the family has label names.
        """
        child = self._children.get(values)
        return self._add(values) if child is None else child

    def remove(self, *values: str) -> None:
        """Forget the child for these label values, if there is one."""
        self._children.pop(values, None)

    def clear(self) -> None:
        """Forget all children; who still holds one records into nothing."""
        self._children.clear()

    def snapshot(self) -> FamilySnapshot:
        head = self.head
        samples = tuple(child.sample(values) for values, child in self._children.copy().items())
        return FamilySnapshot(head.name, head.kind, head.help, head.labels, head.merge, head.buckets, samples)

    def _add(self, values: tuple[str, ...]) -> Child:
        names = self.head.labels
        if len(values) != len(names):
            raise ValueError(f"metric {self.head.name} has the labels {names}, got {len(values)} values: {values}")
        if len(self._children) >= self._limit and values:
            self._overflow(self.head.name)
            values = (OTHER,) * len(names)
        return self._children.setdefault(values, self._make())


class Registry:
    """The metrics of one process."""

    def __init__(self, *, label_sets: int = LABEL_SETS) -> None:
        self._label_sets = label_sets
        self._families: dict[str, Family[Counter] | Family[Gauge] | Family[Histogram]] = {}
        self._overflows = self.counter(
            METRICS_OVERFLOW, "Label sets beyond the limit of their metric, recorded under 'other'.", ("metric",)
        )

    def counter(self, name: str, help: str, labels: tuple[str, ...] = ()) -> Family[Counter]:  # noqa: A002
        """The counter family of that name; made when it is asked for first."""
        return self._family(FamilySnapshot(name, "counter", help, labels, "sum", (), ()), Counter)

    def gauge(
        self,
        name: str,
        help: str,  # noqa: A002
        labels: tuple[str, ...] = (),
        merge: Merge = "sum",
    ) -> Family[Gauge]:
        """The gauge family of that name; `merge` says what the levels of several processes make together."""
        return self._family(FamilySnapshot(name, "gauge", help, labels, merge, (), ()), Gauge)

    def histogram(
        self,
        name: str,
        help: str,  # noqa: A002
        labels: tuple[str, ...] = (),
        buckets: Sequence[float] = DEFAULT,
    ) -> Family[Histogram]:
        """The histogram family of that name; `buckets` are upper bounds in rising order, without infinity."""
        bounds = tuple(buckets)
        if not bounds or any(a >= b for a, b in itertools.pairwise(bounds)) or not math.isfinite(bounds[-1]):
            raise ValueError(f"metric {name}: buckets must be finite and rise, got {bounds}")
        head = FamilySnapshot(name, "histogram", help, labels, "sum", bounds, ())
        return self._family(head, lambda: Histogram(bounds))

    def snapshot(self) -> list[FamilySnapshot]:
        """All families that have children, as plain values."""
        snapshots = [family.snapshot() for family in list(self._families.values())]
        return [family for family in snapshots if family.samples]

    def _family(self, head: FamilySnapshot, make: Callable[[], Child]) -> Family[Child]:
        known = self._families.get(head.name)
        if known is None:
            known = self._families[head.name] = Family(head, make, self._overflowed, self._label_sets)
        elif known.head != head:
            raise ValueError(f"metric {head.name} is already defined otherwise: {known.head}")
        return known  # type: ignore[return-value]  # same head, hence same kind

    def _overflowed(self, name: str) -> None:
        self._overflows.labels(name).inc()


def merge(snapshots: Iterable[list[FamilySnapshot]]) -> list[FamilySnapshot]:
    """Put the snapshots of several processes together.

    Counters and histograms are added; gauges follow their own `merge`. A family that a later
    snapshot defines otherwise (another build while workers are replaced) is left out of the
    sum, and the number of such families is reported as a metric.
    """
    heads: dict[str, FamilySnapshot] = {}
    sums: dict[str, dict[tuple[str, ...], Sample]] = {}
    mismatched = 0
    for snapshot in snapshots:
        for family in snapshot:
            head = heads.setdefault(family.name, family)
            if (head.kind, head.labels, head.merge, head.buckets) != (
                family.kind,
                family.labels,
                family.merge,
                family.buckets,
            ):
                mismatched += 1
                continue
            into = sums.setdefault(family.name, {})
            for sample in family.samples:
                known = into.get(sample.labels)
                into[sample.labels] = sample if known is None else _combine(head.merge, known, sample)
    merged = [
        FamilySnapshot(h.name, h.kind, h.help, h.labels, h.merge, h.buckets, tuple(sums[h.name].values()))
        for h in heads.values()
    ]
    if mismatched:
        text = "Families left out of the sum because two processes define them differently."
        merged.append(FamilySnapshot(METRICS_MISMATCHED, "gauge", text, (), "sum", (), (Sample((), mismatched),)))
    return merged


def _combine(how: str, a: Sample, b: Sample) -> Sample:
    if how == "sum":
        counts = tuple(x + y for x, y in zip(a.counts, b.counts, strict=True))
        return Sample(a.labels, a.value + b.value, counts)
    return Sample(a.labels, max(a.value, b.value) if how == "max" else min(a.value, b.value))


def render(families: Iterable[FamilySnapshot]) -> bytes:
    """The Prometheus text exposition, format 0.0.4, UTF-8.

    Source: https://prometheus.io/docs/instrumenting/exposition_formats/
    """
    lines: list[str] = []
    for family in families:
        text = family.help.replace("\\", "\\\\").replace("\n", "\\n")
        lines.append(f"# HELP {family.name} {text}")
        lines.append(f"# TYPE {family.name} {family.kind}")
        for sample in family.samples:
            pairs = [f'{name}="{_escape(value)}"' for name, value in zip(family.labels, sample.labels, strict=True)]
            if family.kind == "histogram":
                lines.extend(_histogram_lines(family, sample, pairs))
            else:
                lines.append(f"{family.name}{_braces(pairs)} {_number(sample.value)}")
    lines.append("")
    return "\n".join(lines).encode()


def _histogram_lines(family: FamilySnapshot, sample: Sample, pairs: list[str]) -> Iterable[str]:
    reached = 0
    for bound, count in zip((*family.buckets, math.inf), sample.counts, strict=True):
        reached += count
        bucket = _braces([*pairs, f'le="{_number(bound)}"'])
        yield f"{family.name}_bucket{bucket} {reached}"
    yield f"{family.name}_sum{_braces(pairs)} {_number(sample.value)}"
    yield f"{family.name}_count{_braces(pairs)} {reached}"


def _braces(pairs: list[str]) -> str:
    return "{" + ",".join(pairs) + "}" if pairs else ""


def _escape(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def _number(x: float) -> str:
    if math.isnan(x):
        return "NaN"
    if math.isinf(x):
        return "+Inf" if x > 0 else "-Inf"
    return str(int(x)) if x == int(x) and abs(x) < 1e15 else repr(float(x))
