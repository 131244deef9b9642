"""What a report says, as data. Rendering for terminals and pages is elsewhere; JSON is `msgspec.json.encode`.

All ratios lie in [0, 1], all times are seconds, all points in time are seconds since the
epoch, UTC. Everything is by the variant a unit was *assigned*, whoever answered.

Made by `experiment` and `measures`, read by `verdict`, `notes` and the command.
"""

from collections.abc import Mapping
from typing import Literal, TypeAlias

from msgspec import Struct

from turnout.experiments import samples, sequences, statistics

Level: TypeAlias = Literal["info", "warning", "alarm"]
Role: TypeAlias = Literal["primary", "secondary", "guardrail"]
Kind: TypeAlias = Literal["conversion", "mean", "count", "ratio", "share", "share_over", "quantile"]
Reading: TypeAlias = Literal["higher", "lower", "unclear", "too-early", "hidden"]
Outcome: TypeAlias = Literal["INVALID", "HARMFUL", "BETTER", "WORSE", "EQUIVALENT", "UNDECIDED"]
Advice: TypeAlias = Literal["ship", "stop", "keep going", "broken"]
CheckState: TypeAlias = Literal["fine", "broken", "warning", "open", "unknown"]


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


class Check(Struct, frozen=True, kw_only=True):
    """One condition of trust.

    Attributes:
        code: Stable slug, such as "sample-ratio".
        state: "broken" makes the comparison invalid; "warning" weakens it; "open" is not fulfilled yet;
            "unknown" could not be looked at.
        text: What was found, with its numbers.
    """

    code: str
    state: CheckState
    text: str


class Needed(Struct, frozen=True, kw_only=True):
    """What would change an open verdict.

    Attributes:
        units_left: Planned units still to come; None without a plan.
        ends_ts: When the plan is expected to be complete at the present flow; None where it cannot be said.
        units_at_effect: Further units after which the always-valid interval would exclude 0, if the effect stays
            as it is now; None without an effect.
        days_left: From now to `ends_ts`. days_at_effect likewise, without the window's own length.
        words: The same, for people, and what else stands in the way.
    """

    units_left: int | None = None
    days_left: float | None = None
    ends_ts: float | None = None
    units_at_effect: int | None = None
    days_at_effect: float | None = None
    words: tuple[str, ...] = ()


class Verdict(Struct, frozen=True, kw_only=True):
    """What to do.

    Attributes:
        kind: The first that matched, in the order in which `Outcome` lists them.
        advice: The same, as people say it.
        variant: The variant it is about; "" when about all.
        headline: One sentence.
        reasons: Why, the weightiest first.
        by_variant: Each variant against control.
        checks: Every condition of trust, the failed ones first.
        needed: What would change it.
    """

    kind: Outcome
    advice: Advice
    variant: str
    headline: str
    reasons: tuple[str, ...]
    by_variant: Mapping[str, Outcome]
    checks: tuple[Check, ...]
    needed: Needed = Needed()


class Serving(Struct, frozen=True, kw_only=True):
    """Requests of a variant's units.

    Attributes:
        requests: All, failed ones included.
        errors: Those whose status is not "ok".
        error_ratio: errors / requests; None without requests.
        fallbacks: Those that control answered in its place. fallback_ratio likewise.
        p50_s: Median latency in seconds; None without requests. p95_s and p99_s likewise.
    """

    requests: int = 0
    errors: int = 0
    error_ratio: float | None = None
    fallbacks: int = 0
    fallback_ratio: float | None = None
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
        units: Units seen so far, whether or not their window is over.
        total: Σ over them: units that converted, or the sum of values; requests that were slow or failed.
        mean: total / units (for ratios and shares: by their denominator); None without any.
        closed: Units whose window is over; only they are compared.
        value: The metric over the closed units; None without any.
        interval: Of that value alone; to compare variants use the comparison's.
    """

    variant: str
    units: int
    total: float
    mean: float | None
    closed: int = 0
    value: float | None = None
    interval: samples.Interval | None = None


class Point(Struct, frozen=True, kw_only=True):
    """The effect as it stood when the units first exposed before a moment had closed their windows.

    Attributes:
        ts: That moment plus the window.
        units: Closed units of both variants.
        low: Of the always-valid interval; None below 100 units a variant. high likewise.
    """

    ts: float
    units: int
    estimate: float
    low: float | None
    high: float | None


class Cohort(Struct, frozen=True, kw_only=True):
    """The effect on the units first exposed in one period: a novelty shows as a trend.

    Attributes:
        start: Of the period.
        low: Of an ordinary 95 % interval, exploratory; None with too few units. high likewise.
    """

    start: float
    units: int
    estimate: float
    low: float | None
    high: float | None


class Harm(Struct, frozen=True, kw_only=True):
    """A guardrail's answer for one variant.

    Attributes:
        state: "safe": surely within the margin. "harmful": surely beyond. "inconclusive" is not safe.
        estimate: The effect signed so that positive is worse; None with too little data.
        low: Lower one-sided bound of it. high: the upper one. None likewise.
    """

    state: Literal["safe", "harmful", "inconclusive"]
    margin: float
    estimate: float | None = None
    low: float | None = None
    high: float | None = None
    p_value: float | None = None


class Adjustment(Struct, frozen=True, kw_only=True):
    """CUPED: what the covariate did to the estimate, and the estimate without it.

    Attributes:
        theta: Slope of the metric on the covariate.
        reduction: Share of the variance that is gone.
        covariate_ratio: Share of the closed units that have a covariate; the others count with the mean.
        estimate: The effect without the covariate; interval: its always-valid interval.
    """

    theta: float
    reduction: float
    covariate_ratio: float
    estimate: float
    interval: samples.Interval | None


class Comparison(Struct, frozen=True, kw_only=True):
    """One variant against control on one metric. The effect is variant − control.

    Attributes:
        estimate: The effect over closed units; None with too few.
        lift: Relative to control; None when a mean is not above 0.
        fixed: The same with its standard error; interval and p-value are there only once the plan is complete:
            they are right for one look at the planned end, too narrow for looking again and again.
        always_valid: Interval and p-value that hold at every look. None below 100 units a variant.
        reading: Where the deciding interval lies: "higher" or "lower" than 0, "unclear" when it
            holds 0, "too-early" when there is none yet, "hidden" when it must not be shown.
        better: The reading in the metric's direction; None when it says nothing.
        adjusted_p: Over several variants (Holm, primary metric) or metrics (Benjamini-Hochberg, secondary ones).
        harm: The guardrail's answer; None for other metrics.
        adjustment: With CUPED, what it did; None without.
        curve: The effect over time with its confidence sequence.
        cohorts: The effect by period of first exposure.
        trend_p: Of the effect's trend over the cohorts, exploratory; None with fewer than three.
    """

    variant: str
    fixed: statistics.Difference | None
    always_valid: sequences.Sequence | None
    reading: Reading
    estimate: float | None = None
    lift: float | None = None
    better: bool | None = None
    adjusted_p: float | None = None
    harm: Harm | None = None
    adjustment: Adjustment | None = None
    curve: tuple[Point, ...] = ()
    cohorts: tuple[Cohort, ...] = ()
    trend_p: float | None = None


class MetricTable(Struct, frozen=True, kw_only=True):
    """One metric over all variants.

    Attributes:
        name: "primary", or its key in the document.
        role: Only the primary metric confirms; secondary ones explore; guardrails forbid.
        outcome: The outcome's name; "" for a signal.
        signal: "latency", "error" or "fallback"; "" for an outcome.
        label: What is measured, for people: "kept_talking", "click per view", "latency over 800 ms".
        scale: How numbers read: "ratio" in per cent, "seconds" as times, "number" as they are.
        direction: Which way is better.
        window_s: Outcomes count from a unit's first exposure for so long; 0 for signals.
        closed_ratio: Share of the units whose window is over; the others may still convert.
        outcomes: Outcomes of this name that were reported at all.
        effect: Smallest absolute effect that matters; None where the document says none.
        margin: Of a guardrail.
        alpha: Two-sided error of each comparison (one-sided for guardrails), after sharing.
    """

    name: str
    role: Role
    outcome: str
    kind: Kind
    window_s: float
    closed_ratio: float | None
    outcomes: int
    estimates: tuple[Estimate, ...]
    comparisons: tuple[Comparison, ...]
    signal: str = ""
    label: str = ""
    scale: Literal["ratio", "seconds", "number"] = "number"
    direction: Literal["up", "down"] = "up"
    effect: float | None = None
    margin: float | None = None
    alpha: float = 0.05


class SampleRatio(Struct, frozen=True, kw_only=True):
    """Whether units arrived as the weights say.

    Attributes:
        p_value: Chi-square, right for one look.
        sequential_p: Right for any number of looks.
        verdict: "mismatch": stop and find the cause, the effect cannot be read. "suspect": the
            chi-square alone is below 0.001, before the planned end.
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
        horizon: "fixed" hides the result until the plan is complete.
        min_duration_s: Shortest run before a verdict; None where the document says none.
        left_s: Of the shortest planned duration, what is still to come; 0 when it has passed, or without one.
        complete: Planned units are in, their windows closed, the duration passed; None without planned units.
        filled_ts: When the planned units were there; None while they are not.
    """

    units: int | None
    alpha: float
    tightest_at: float
    horizon: Literal["always", "fixed"] = "always"
    power: float = 0.8
    min_duration_s: float | None = None
    left_s: float = 0.0
    complete: bool | None
    filled_ts: float | None = None


class Flow(Struct, frozen=True, kw_only=True):
    """New units of one period, by variant."""

    start: float
    units: Mapping[str, int]


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
        crossed_from: The same by the variant each was first seen in; {} where another system assigns.
        metrics: The primary metric, then the secondary ones. guardrails: those that forbid.
        dropped: Events lost before they were logged, by type and variant, where the caller knows.
        ramps: (moment, share of units that took part) of each change in the phase, where the caller knows.
        changed: What the plan, the primary metric or a guardrail said when the first unit came, where it says
            something else now: only what was said then confirms.
        late_s: Outcomes that arrive later than windows wait for, by name: the 99th percentile.
        bucket_s: Length of the periods in `flow`, curves and cohorts.
        hidden: Why effect numbers are left out; "" when they are there.
        verdict: What to do; None only while the report is being made.
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
    plan: Plan
    outcomes: tuple[OutcomeCount, ...]
    other_phases: tuple[OtherPhase, ...]
    dropped: Mapping[str, int]
    guardrails: tuple[MetricTable, ...] = ()
    crossed_from: Mapping[str, int] = {}
    ramps: tuple[tuple[float, float], ...] = ()
    changed: tuple[str, ...] = ()
    flow: tuple[Flow, ...] = ()
    late_s: Mapping[str, float] = {}
    bucket_s: float = 86_400.0
    hidden: str = ""
    verdict: Verdict | None = None
    notes: tuple[Note, ...] = ()

    @property
    def primary(self) -> MetricTable | None:
        """The metric that decides."""
        return next((metric for metric in self.metrics if metric.role == "primary"), None)
