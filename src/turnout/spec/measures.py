"""What success and harm mean: metrics, guardrails, and the plan an experiment is judged by.

Part of the document's classes; `metric_checks` says which keys belong to which kind of metric.
"""

from collections.abc import Collection
from typing import Annotated, Literal, TypeAlias

from pydantic import BeforeValidator, Field

from turnout.spec import fields
from turnout.spec.part import Part

Kind: TypeAlias = Literal["conversion", "mean", "count", "ratio", "share", "share_over", "quantile"]
Signal: TypeAlias = Literal["latency", "error", "fallback"]

OUTCOME_KINDS = ("conversion", "mean", "count", "ratio")
"""Kinds that count outcomes per unit."""
SIGNAL_KINDS = {"latency": ("mean", "share_over", "quantile"), "error": ("share",), "fallback": ("share",)}
"""Signal to the kinds that read it from predictions."""

DAY_S = 86_400.0


def implied_kind(signal: str | None, keys: Collection[str]) -> Kind:
    """The kind of a metric that names none.

    Args:
        signal: None for a metric of outcomes.
        keys: The metric's other keys, as written in documents.
    """
    if signal is None:
        return "ratio" if "per" in keys else "conversion"
    if signal != "latency":
        return "share"
    if "threshold" in keys:
        return "share_over"
    return "quantile" if "quantile" in keys else "mean"


class MetricSpec(Part):
    """A number per variant, from outcomes or from what the server saw itself."""

    outcome: fields.Name | None = Field(
        default=None, description="The outcome's name, as posted to /v1/outcomes. Either this or `signal`."
    )
    signal: Signal | None = Field(
        default=None, description="What the server saw itself: latency, error or fallback of each request."
    )
    written_kind: Kind | None = Field(
        default=None,
        alias="kind",
        description="conversion: share of units with the outcome; mean: sum of its values per unit; count: how often "
        "per unit; ratio: one outcome per another; share: of requests; share_over: of requests slower than "
        "`threshold`; quantile: of a unit's mean latency. Left out, the other keys tell.",
    )
    per: fields.Name | None = Field(default=None, description="The outcome a ratio divides by.")
    window_written_s: fields.Duration | None = Field(
        default=None,
        alias="window",
        gt=0,
        le=366 * DAY_S,
        description="How long after a unit's first exposure outcomes count; default 1d.",
    )
    written_direction: Literal["up", "down"] | None = Field(
        default=None, alias="direction", description="Which way is better; default: up for outcomes, down for signals."
    )
    threshold_s: fields.Duration | None = Field(
        default=None, alias="threshold", gt=0, le=3600.0, description="share_over: slower than this counts."
    )
    quantile: float | None = Field(
        default=None, strict=True, gt=0, lt=1, description="quantile: which one, such as 0.95."
    )
    cap: float | None = Field(
        default=None, gt=0, le=1e15, description="A unit's value above this counts as this (winsorising)."
    )
    covariate_s: fields.Duration | None = Field(
        default=None,
        alias="covariate",
        ge=3600.0,
        le=90 * DAY_S,
        description="CUPED: the same metric in so long before a unit's first exposure narrows the interval.",
    )
    margin: float | None = Field(
        default=None, ge=0, le=1e15, description="Guardrail: so much worse than control is acceptable, absolute."
    )
    effect: float | None = Field(
        default=None, gt=0, le=1e15, description="The smallest absolute effect worth knowing about."
    )
    description: str = Field(default="", strict=True, max_length=4096, description="For people.")

    @property
    def kind(self) -> Kind:
        """As written, else what the other keys tell."""
        written = {"threshold": self.threshold_s, "quantile": self.quantile, "per": self.per}
        return self.written_kind or implied_kind(
            self.signal, {key for key, value in written.items() if value is not None}
        )

    @property
    def direction(self) -> Literal["up", "down"]:
        """Which way is better."""
        return self.written_direction or ("up" if self.signal is None else "down")

    @property
    def window_s(self) -> float:
        """Seconds after the first exposure in which outcomes count; of signals all time since counts."""
        return self.window_written_s or DAY_S


class MetricsSpec(Part):
    """How an experiment is judged."""

    primary: MetricSpec | None = Field(default=None, description="The one metric that decides.")
    secondary: Annotated[dict[fields.NewName, MetricSpec], BeforeValidator(fields.none_is_empty)] = Field(
        default_factory=dict, description="Further metrics, marked exploratory."
    )
    guardrails: Annotated[dict[fields.NewName, MetricSpec], BeforeValidator(fields.none_is_empty)] = Field(
        default_factory=dict, description="What must not get worse by more than its margin."
    )


class PlanSpec(Part):
    """What was decided before the experiment began."""

    units: fields.Count | None = Field(default=None, description="Planned number of units over all variants.")
    alpha: float = Field(default=0.05, strict=True, gt=0, lt=0.5, description="Accepted rate of false positives.")
    power: float = Field(
        default=0.8, strict=True, gt=0, lt=1, description="Wanted probability to find the primary metric's `effect`."
    )
    tightest_at: fields.Count | None = Field(
        default=None, description="Units at which the always-valid interval is tightest; default: units."
    )
    min_duration_s: fields.Duration | None = Field(
        default=None, alias="min_duration", le=366 * DAY_S, description="Shortest run before a verdict."
    )
    horizon: Literal["always", "fixed"] = Field(
        default="always", description="fixed hides the result until the planned units are complete."
    )
