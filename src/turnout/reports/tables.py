"""What a report says, as data. Rendering for terminals and pages is elsewhere; JSON is `msgspec.json.encode`.

All ratios lie in [0, 1], all times are seconds, all points in time are seconds since the
epoch, UTC. Analysis is by the variant a unit was *assigned*; requests, errors and latency
are by the variant that *served*.

Made by `experiment`, read by `notes` and by the command.
"""

from collections.abc import Mapping
from typing import Literal

from msgspec import Struct

from turnout.experiments import statistics

Level = Literal["info", "warning", "alarm"]


class Note(Struct, frozen=True, kw_only=True):
    """One remark in plain words.

    Attributes:
        code: Stable slug, such as "too-early".
        level: "alarm" means: do not read the effect.
        text: What is the case, and what to do about it.
    """

    code: str
    level: Level
    text: str


class Serving(Struct, frozen=True, kw_only=True):
    """Requests that a variant answered.

    Attributes:
        requests: All, failed ones included.
        errors: Those whose status is not "ok".
        error_ratio: errors / requests; None without requests.
        stood_in: Those it answered in place of another variant that failed.
        p50_s: Median latency in seconds; None without requests. p95_s and p99_s likewise.
    """

    requests: int = 0
    errors: int = 0
    error_ratio: float | None = None
    stood_in: int = 0
    p50_s: float | None = None
    p95_s: float | None = None
    p99_s: float | None = None


class VariantRow(Struct, frozen=True, kw_only=True):
    """One variant.

    Attributes:
        weight: As in the document; None for a phase that is no longer in it.
        units: Units assigned by the split, without those seen in two variants.
        unit_ratio: Share of all such units; None without any.
        expected_units: What the weights promise; None where they are unknown.
    """

    name: str
    control: bool
    weight: float | None
    units: int
    unit_ratio: float | None
    expected_units: float | None
    serving: Serving


class Estimate(Struct, frozen=True, kw_only=True):
    """One variant on one metric.

    Attributes:
        units: n.
        total: Σx: units that converted, or the sum of values.
        mean: total / units; None without units.
        interval: Of the mean alone; to compare variants use the comparison's.
    """

    variant: str
    units: int
    total: float
    mean: float | None
    interval: statistics.Interval | None


class Comparison(Struct, frozen=True, kw_only=True):
    """One variant against control on one metric. The effect is variant − control.

    Attributes:
        fixed: Fixed-horizon interval, lift and p-value: right for one look at the planned end, too
            narrow for looking again and again. None with too few units.
        always_valid: Interval and p-value that hold at every look. None below 100 units a variant.
        reading: Where the always-valid interval lies: "higher" or "lower" than 0, "unclear" when it
            holds 0, "too-early" when there is none yet.
    """

    variant: str
    fixed: statistics.Difference | None
    always_valid: statistics.Sequence | None
    reading: Literal["higher", "lower", "unclear", "too-early"]


class MetricTable(Struct, frozen=True, kw_only=True):
    """One metric over all variants.

    Attributes:
        name: "primary", or its key in the document.
        role: Only the primary metric confirms; others explore.
        window_s: Outcomes count from a unit's first exposure for so long.
        closed_ratio: Share of the units whose window is over; the others may still convert.
        outcomes: Outcomes of this name that were reported at all.
    """

    name: str
    role: Literal["primary", "secondary"]
    outcome: str
    kind: statistics.Kind
    window_s: float
    closed_ratio: float | None
    outcomes: int
    estimates: tuple[Estimate, ...]
    comparisons: tuple[Comparison, ...]


class SampleRatio(Struct, frozen=True, kw_only=True):
    """Whether units arrived as the weights say.

    Attributes:
        p_value: Chi-square, right for one look.
        sequential_p: Right for any number of looks.
        verdict: "mismatch": stop and find the cause, the effect cannot be read. "suspect": the
            chi-square alone is below 0.001.
    """

    chi2: float
    df: int
    p_value: float
    sequential_p: float
    verdict: Literal["fine", "suspect", "mismatch"]


class OutcomeCount(Struct, frozen=True, kw_only=True):
    """A name of outcomes that was reported.

    Attributes:
        unmatched: Those whose unit and request nobody has seen.
    """

    name: str
    count: int
    unmatched: int


class OtherPhase(Struct, frozen=True, kw_only=True):
    """A phase beside the reported one; results are never pooled over phases."""

    phase: str
    units: int
    first_ts: float
    last_ts: float


class Plan(Struct, frozen=True, kw_only=True):
    """What was decided before the start.

    Attributes:
        units: Planned, over all variants; None without a plan.
        alpha: Two-sided error of every interval.
        tightest_at: Units at which the always-valid interval is tightest for its error.
        left_s: Of the shortest planned duration, what is still to come; 0 when it has passed, or without one.
        complete: Planned units are in, their windows closed, the duration passed; None without planned units.
    """

    units: int | None
    alpha: float
    tightest_at: float
    left_s: float = 0.0
    complete: bool | None


class Report(Struct, frozen=True, kw_only=True):
    """One phase of one experiment, as of one moment.

    Attributes:
        state: What the document says now: "running", "disabled" or "winner".
        winner: The winner's name; "" for none.
        unit: The endpoint's unit field; "" without one.
        ramp_ratio: Share of units that take part.
        revision: Of the document that was read.
        as_of: What happened later is not in it.
        current: The phase is the document's own.
        first_ts: First exposure; None without any. last_ts likewise.
        builds: Digests of user code that served it; more than one is a mixture.
        reasons: Units per reason of assignment; requests for those without a unit.
        units: Sum over the variants.
        crossed: Units seen in more than one variant; they are in no count.
        guardrails: Names of those the document declares.
        dropped: Events lost before they were logged, by type and variant, where the caller knows.
        notes: What a reader must know, the gravest first.
    """

    experiment: str
    endpoint: str
    description: str
    state: Literal["running", "disabled", "winner"]
    winner: str
    unit: str
    control: str
    ramp_ratio: float
    revision: str
    phase: str
    current: bool
    as_of: float
    first_ts: float | None
    last_ts: float | None
    builds: tuple[str, ...]
    variants: tuple[VariantRow, ...]
    units: int
    crossed: int
    reasons: Mapping[str, int]
    sample_ratio: SampleRatio | None
    metrics: tuple[MetricTable, ...]
    guardrails: tuple[str, ...]
    plan: Plan
    outcomes: tuple[OutcomeCount, ...]
    other_phases: tuple[OtherPhase, ...]
    dropped: Mapping[str, int]
    notes: tuple[Note, ...] = ()
