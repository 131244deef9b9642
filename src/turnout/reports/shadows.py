"""What a shadow would have said: how often its reply was the caller's, how far apart, how fast, how often it failed.

Called by `turnout shadow`. Reads one store verb; pure otherwise.
"""

from collections.abc import Mapping
from typing import Final, Protocol

from msgspec import Struct

from turnout.errors import NotFoundError, did_you_mean
from turnout.experiments import estimates, samples, statistics
from turnout.spec import document, traffic
from turnout.stores import base

FEW_RUNS: Final = 100
LOST_RATIO: Final = 0.05
"""From this share of copies dropped on, those that ran may not be like those that did not."""


class Comparisons(Protocol):
    """What is read of an event store."""

    def comparisons(self, shadow: str, since: float) -> base.Compared:
        """Sums over what a shadow did."""


class Copies(Struct, frozen=True, kw_only=True):
    """What became of the copies, as the running server counted them."""

    sent: int = 0
    done: int = 0
    failed: int = 0
    dropped: int = 0


class ShadowReport(Struct, frozen=True, kw_only=True):
    """One shadow beside the answers that callers got.

    Attributes:
        pipeline: Its own; "" for the endpoint's, with other models or params.
        ratio: Share of the requests that is copied; None when the document has no such shadow any more.
        runs: Copies that were compared, in the store.
        agreement: Share of equal replies among those that could be compared.
        agreement_interval: 95 %, Wilson's; as if requests were independent of each other.
        difference_mean: Of the greatest absolute difference between numbers at equal paths of both replies.
        latency_s: Quantile to seconds, of copies that were answered; primary_latency_s of callers' answers.
        copies: None when no server runs.
        notes: What a reader must know, in plain words.
    """

    shadow: str
    endpoint: str
    pipeline: str
    ratio: float | None
    runs: int
    statuses: Mapping[str, int]
    agreed: int
    disagreed: int
    agreement: float | None
    agreement_interval: samples.Interval | None
    differences: int
    difference_mean: float | None
    difference_max: float | None
    latency_s: Mapping[float, float]
    primary_latency_s: Mapping[float, float]
    first_ts: float | None
    last_ts: float | None
    copies: Copies | None
    notes: tuple[str, ...] = ()


def report(
    store: Comparisons, content: document.Document, name: str, *, since: float = 0.0, copies: Copies | None = None
) -> ShadowReport:
    """Report on one shadow.

    Args:
        since: Epoch seconds; earlier copies are left out.

    Raises:
        NotFoundError: Neither the document nor the store knows it.
        StoreError: The store is out of reach.
    """
    spec = content.shadows.get(name)
    seen = store.comparisons(name, since)
    if spec is None and not seen.runs:
        known = ", ".join(sorted(content.shadows)) or "none"
        hint = did_you_mean(name, content.shadows, f"Shadows in the document: {known}.")
        raise NotFoundError(f"there is no shadow {name!r}, and the store has none of its runs.", hint=hint)
    compared = seen.agreed + seen.disagreed
    made = estimates.estimate("conversion", samples.Moments(n=compared, y=seen.agreed, yy=seen.agreed))
    return ShadowReport(
        shadow=name,
        endpoint=spec.endpoint if spec else "",
        pipeline=(spec.pipeline or "") if spec else "",
        ratio=spec.ratio if spec else None,
        runs=seen.runs,
        statuses=seen.statuses,
        agreed=seen.agreed,
        disagreed=seen.disagreed,
        agreement=made.m if made else None,
        agreement_interval=statistics.interval(made, "conversion") if made else None,
        differences=seen.differences,
        difference_mean=seen.difference_mean,
        difference_max=seen.difference_max,
        latency_s=seen.latency_s,
        primary_latency_s=seen.primary_latency_s,
        first_ts=seen.first_ts,
        last_ts=seen.last_ts,
        copies=copies,
        notes=tuple(_notes(spec, seen, copies)),
    )


def _notes(spec: traffic.ShadowSpec | None, seen: base.Compared, copies: Copies | None) -> list[str]:
    notes = []
    if spec is None:
        notes.append("The document has no such shadow any more.")
    if not seen.runs:
        notes.append("No copy was compared yet.")
    elif seen.runs < FEW_RUNS:
        notes.append(f"Only {seen.runs} copies: the numbers are rough.")
    offered = copies.sent + copies.dropped if copies else 0
    if copies and copies.dropped > LOST_RATIO * offered:
        notes.append(
            f"{copies.dropped / offered:.0%} of the copies were dropped, because the models were busy or too many "
            "were under way: those that ran come from quieter moments."
        )
    if copies and not copies.sent and seen.runs:
        notes.append("The running server has sent no copy since its start.")
    return notes
