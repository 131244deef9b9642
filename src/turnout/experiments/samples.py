"""Sufficient statistics: what a store sums up, and what every estimate is computed from. Pure.

Called by reports and rollouts, which fill them from a store's sums. All add up: over days,
over replicas, over the steps of a rollout. Nothing here imports more than msgspec.
"""

import math
from collections.abc import Iterable
from typing import Final, Literal

from msgspec import Struct

Kind = Literal["conversion", "mean", "count", "ratio", "share", "share_over", "quantile"]

Direction = Literal["up", "down"]
"""Which way a metric gets better."""

SUB_BUCKETS: Final = 100
"""Cells that units fall into by a word of their own; enough for a variance, few enough to keep in memory."""


class Moments(Struct, frozen=True, kw_only=True):
    """Sums over the units of one variant.

    Attributes:
        n: Units.
        y: Σ of the units' values. For a conversion a value is 0 or 1, so `yy` equals `y`.
        d: Σ of the denominators of a ratio.
        x: Σ of the covariate over the `n_x` units that have one; a unit without one adds 0 to x, xx, xy and xd.
        y_x: Σ of the values of those `n_x` units; None where nobody counted it, which matters only if n_x < n.
        d_x: Σ of their denominators; None likewise.
    """

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
    y_x: float | None = None
    d_x: float | None = None

    def __add__(self, other: "Moments") -> "Moments":
        return Moments(
            n=self.n + other.n,
            y=self.y + other.y,
            yy=self.yy + other.yy,
            d=self.d + other.d,
            dd=self.dd + other.dd,
            yd=self.yd + other.yd,
            x=self.x + other.x,
            xx=self.xx + other.xx,
            xy=self.xy + other.xy,
            xd=self.xd + other.xd,
            n_x=self.n_x + other.n_x,
            y_x=_both(self.y_x, other.y_x),
            d_x=_both(self.d_x, other.d_x),
        )

    @property
    def mean(self) -> float:
        """Σy / n; NaN without units."""
        return self.y / self.n if self.n else math.nan


NOTHING: Final = Moments(n=0, y=0.0, yy=0.0, y_x=0.0, d_x=0.0)
"""No units: where sums begin."""


class Buckets(Struct, frozen=True, kw_only=True):
    """Sums and counts of requests per sub-bucket of their units, `SUB_BUCKETS` of each.

    A unit's requests resemble each other, so requests are no sample of their own. Units fall
    into sub-buckets by chance, hence the sub-buckets are one, and no unit need be remembered.

    Attributes:
        sums: Σ of the requests' values: errors, slow requests, seconds.
        counts: Requests.
    """

    sums: tuple[float, ...]
    counts: tuple[float, ...]

    def __add__(self, other: "Buckets") -> "Buckets":
        """Cell by cell; both have the same number of cells."""
        return Buckets(
            sums=tuple(a + b for a, b in zip(self.sums, other.sums, strict=True)),
            counts=tuple(a + b for a, b in zip(self.counts, other.counts, strict=True)),
        )

    @property
    def requests(self) -> float:
        """Of all sub-buckets."""
        return math.fsum(self.counts)


EMPTY: Final = Buckets(sums=(0.0,) * SUB_BUCKETS, counts=(0.0,) * SUB_BUCKETS)
"""No requests: where sums begin."""


def buckets(cells: Iterable[tuple[int, float, float]]) -> Buckets:
    """Add up (sub-bucket, Σ of values, requests), as a store gives them, several to a sub-bucket.

    >>> buckets([(0, 1.0, 10), (99, 2.0, 10), (0, 1.0, 10)]).requests
    30.0
    """
    sums, counts = [0.0] * SUB_BUCKETS, [0.0] * SUB_BUCKETS
    for at, total, requests in cells:
        sums[at] += total
        counts[at] += requests
    return Buckets(sums=tuple(sums), counts=tuple(counts))


class Ranked(Struct, frozen=True, kw_only=True):
    """Three order statistics of the units' values, around a quantile.

    Attributes:
        low: The value at the lower of `estimates.quantile_ranks`.
        value: The quantile itself.
        high: The value at the upper rank.
    """

    n: int
    low: float
    value: float
    high: float


Sample = Moments | Buckets | Ranked


class Interval(Struct, frozen=True):
    """Both ends belong to it."""

    low: float
    high: float


class Estimate(Struct, frozen=True, kw_only=True):
    """One variant's metric.

    Attributes:
        m: The estimate.
        v: Its variance (the squared standard error).
        n: Units, or requests where only requests were counted.
        df: Degrees of freedom of `v`; infinite where the normal distribution is used.
        v_always: The variance for always-valid intervals. A share has half an event added there,
            so that no events never give 0; else as `v`.
        bucketed: `v` comes from sub-buckets, so always-valid intervals are widened for its few degrees of freedom.
    """

    m: float
    v: float
    n: int
    df: float
    v_always: float
    bucketed: bool = False


class Effect(Struct, frozen=True, kw_only=True):
    """Treatment − control.

    Attributes:
        n: Of both variants together.
        df: Welch's degrees of freedom; infinite where the normal distribution is used.
    """

    d: float
    se: float
    n: int
    df: float


def _both(a: float | None, b: float | None) -> float | None:
    return None if a is None or b is None else a + b
