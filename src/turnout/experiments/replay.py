"""A/A by replay: give logged units new variants at random, and see what a metric then claims. Pure; numpy.

Called by `turnout aa`. Nothing differs between the two sides, so every finding is a false one: a
metric whose fixed-horizon test finds more than alpha of them, or whose sequence errs in more than
alpha of the runs over all looks, is not to be used on this data. Rows that belong together (two accounts
of one person, requests taken for units) pass unnoticed: the draw takes them apart.

The randomisations are independent draws, as fresh seeds of the hash would give them. Sums of all
runs are one matrix product per look, in blocks, so memory is bounded whatever the number of runs.
"""

import itertools
from typing import Final, Literal, TypeAlias

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray
from scipy import special, stats

from turnout.experiments import samples, sequences
from turnout.experiments.samples import Interval

Array: TypeAlias = NDArray[np.float64]

BLOCK: Final = 4_000_000
"""Cells (runs × units) drawn at once: 32 MB as doubles."""

LOOKS: Final = 30

CERTAINTY: Final = 0.999
"""Of calling a metric unusable: a sound one is called so in one of 1,000 replays, by each test."""


class Replayed(Struct, frozen=True, kw_only=True):
    """What many randomisations of the same units claimed.

    Attributes:
        p_values: Of the fixed-horizon test at the end, one a run; 1 where there was no variation.
        false_ratio: Share of them below alpha.
        false_interval: Clopper-Pearson's 95 % for its probability.
        any_look_ratio: Share of runs in which the sequence excluded 0 at any look from which it may be read.
        any_look_interval: Likewise.
        uniform_p: Kolmogorov-Smirnov's, of "the p-values are uniform". A conversion with few events
            has few different p-values, and fails it without harm.
        verdict: `usable`; `alarms`: more false findings than alpha; `timid`: fewer, which costs only power.
    """

    runs: int
    units: int
    looks: int
    alpha: float
    p_values: tuple[float, ...]
    false_ratio: float
    false_interval: Interval
    any_look_ratio: float
    any_look_interval: Interval
    uniform_p: float
    verdict: Literal["usable", "alarms", "timid"]


class Columns(Struct, frozen=True, kw_only=True):
    """One row a unit, in the order of first exposure. Two rows of one unit would pass unnoticed.

    Attributes:
        y: Value, float64[units]; of a conversion 0 or 1.
        d: Denominator of a ratio, float64[units].
        x: Covariate, float64[units], NaN where a unit has none; None without CUPED.
    """

    y: Array
    d: Array | None = None
    x: Array | None = None


class Design(Struct, frozen=True, kw_only=True):
    """How to replay.

    Attributes:
        treatment_ratio: Share of the units in treatment, in (0, 1).
        tightest_at: N* of the sequence; None for the number of units.
    """

    runs: int = 1000
    looks: int = LOOKS
    alpha: float = 0.05
    treatment_ratio: float = 0.5
    tightest_at: float | None = None
    seed: int = 0


ORDINARY: Final = Design()


def replay(kind: samples.Kind, columns: Columns, design: Design = ORDINARY) -> Replayed:
    """Randomise the units `design.runs` times, and test each time.

    Args:
        kind: `conversion`, `mean`, `count` or `ratio`; with a covariate the first three are tested as adjusted means.
        columns: Units sorted by first exposure; the looks divide them into equal parts.

    Raises:
        ValueError: Fewer than two units for each look, or columns of different lengths.

    Complexity: O(runs × units); 1,000 runs of 100,000 units take a few seconds.
    """
    features = _features(kind, columns)
    units = len(features)
    if units < 2 * design.looks:
        raise ValueError(f"{units} units are too few for {design.looks} looks; at least {2 * design.looks} are needed.")
    ends = np.linspace(0, units, design.looks + 1).astype(np.int64)
    totals = np.array([features[:end].sum(axis=0) for end in ends[1:]])
    treated = _treated(features, ends, design)
    adjusted = columns.x is not None
    tested: samples.Kind = "mean" if adjusted and kind != "ratio" else kind
    ends_p, crossings = np.ones(design.runs), np.zeros(design.runs, dtype=bool)
    tightest_at = design.tightest_at or float(units)
    for look, total in enumerate(totals):
        t, c = _Sums(treated[:, look]), _Sums(total - treated[:, look])
        side_t, side_c = _sides(tested, t, c, adjusted=adjusted)
        crossings |= _excludes_zero(side_t, side_c, tightest_at, design.alpha)
        if look == design.looks - 1:
            ends_p = _fixed_p(tested, side_t, side_c)
    return _replayed(ends_p, crossings, units, design)


def _features(kind: samples.Kind, columns: Columns) -> Array:
    """Columns whose sums are the sufficient statistics: 1, y, yy, d, dd, yd, x, xx, xy, xd.

    Values whose differences alone matter are centred first: their sums of squares then lose no digits.
    """
    if kind not in ("conversion", "mean", "count", "ratio"):
        raise ValueError(f"{kind} cannot be replayed: it has no value per unit.")
    y = np.asarray(columns.y, dtype=np.float64)
    d = np.ones_like(y) if columns.d is None else np.asarray(columns.d, dtype=np.float64)
    x = np.zeros_like(y) if columns.x is None else np.asarray(columns.x, dtype=np.float64)
    if not len(y) == len(d) == len(x):
        raise ValueError(f"columns differ in length: y {len(y)}, d {len(d)}, x {len(x)}.")
    if kind in ("mean", "count") and len(y):
        y = y - y.mean()
    known = ~np.isnan(x)
    x = np.where(known, x - (x[known].mean() if known.any() else 0.0), 0.0)  # the mean of the others for the missing
    one = np.ones_like(y)
    return np.column_stack([one, y, y * y, d, d * d, y * d, x, x * x, x * y, x * d])


def _treated(features: Array, ends: NDArray[np.int64], design: Design) -> Array:
    """Sums over the treated units up to each look: float64[runs, looks, features]."""
    rng = np.random.default_rng(design.seed)
    out = np.empty((design.runs, design.looks, features.shape[1]))
    for look, (start, end) in enumerate(itertools.pairwise(ends.tolist())):
        part = features[start:end]
        rows = max(1, BLOCK // len(part))
        for first in range(0, design.runs, rows):
            count = min(rows, design.runs - first)
            out[first : first + count, look] = draw(rng, (count, len(part)), design.treatment_ratio) @ part
    return np.cumsum(out, axis=1)


def draw(rng: np.random.Generator, shape: tuple[int, int], ratio: float) -> Array:
    """1 where a unit is treated, else 0: float64[runs, units]."""
    if ratio == 0.5:
        cells = shape[0] * shape[1]
        bits = np.unpackbits(np.frombuffer(rng.bytes((cells + 7) // 8), dtype=np.uint8), count=cells)
        return bits.reshape(shape).astype(np.float64)
    return (rng.random(shape, dtype=np.float32) < ratio).astype(np.float64)


class _Sums:
    """Sufficient statistics of one side, each float64[runs]."""

    def __init__(self, sums: Array) -> None:
        self.n, self.y, self.yy, self.d, self.dd, self.yd, self.x, self.xx, self.xy, self.xd = sums.T


class _Side(Struct, frozen=True):
    """Estimates of one side, each float64[runs]; `estimates.Estimate` for all runs at once."""

    m: Array
    v: Array
    v_always: Array
    n: Array


def _sides(kind: samples.Kind, t: _Sums, c: _Sums, *, adjusted: bool) -> tuple[_Side, _Side]:
    with np.errstate(divide="ignore", invalid="ignore"):
        if not adjusted:
            return _plain(kind, t), _plain(kind, c)
        both = _Sums(np.array([getattr(t, name) + getattr(c, name) for name in _NAMES]).T)
        _, xy, xx = _centered(kind, both)
        theta = np.where(xx > 0, xy / np.where(xx > 0, xx, 1.0), 0.0)
        mean_x = both.x / both.n
        return _after(kind, t, theta, mean_x), _after(kind, c, theta, mean_x)


_NAMES: Final = ("n", "y", "yy", "d", "dd", "yd", "x", "xx", "xy", "xd")


def _plain(kind: samples.Kind, s: _Sums) -> _Side:
    if kind == "conversion":
        p, smooth = s.y / s.n, (s.y + 0.5) / (s.n + 1)
        return _Side(p, p * (1 - p) / s.n, smooth * (1 - smooth) / s.n, s.n)
    yy, _, _ = _centered(kind, s)
    v = np.maximum(0.0, yy) / (s.n - 1) / s.n
    return _Side(s.y / s.d if kind == "ratio" else s.y / s.n, v, v, s.n)


def _after(kind: samples.Kind, s: _Sums, theta: Array, mean_x: Array) -> _Side:
    yy, xy, xx = _centered(kind, s)
    v = np.maximum(0.0, yy - 2 * theta * xy + theta * theta * xx) / (s.n - 1) / s.n
    m = s.y / s.d if kind == "ratio" else s.y / s.n
    return _Side(m - theta * (s.x / s.n - mean_x), v, v, s.n)


def _centered(kind: samples.Kind, s: _Sums) -> tuple[Array, Array, Array]:
    """Σ of squares of the value, of its products with x, of squares of x, about the means; a ratio is linearised."""
    xx = s.xx - s.x * s.x / s.n
    if kind != "ratio":
        return s.yy - s.y * s.y / s.n, s.xy - s.x * s.y / s.n, xx
    r, mean_d = s.y / s.d, s.d / s.n
    return (s.yy - 2 * r * s.yd + r * r * s.dd) / mean_d**2, (s.xy - r * s.xd) / mean_d, xx


def _fixed_p(kind: samples.Kind, t: _Side, c: _Side) -> Array:
    """As `statistics.compare`, for all runs at once."""
    with np.errstate(divide="ignore", invalid="ignore"):
        if kind == "conversion":
            pooled = (t.m * t.n + c.m * c.n) / (t.n + c.n)
            se = np.sqrt(pooled * (1 - pooled) * (1 / t.n + 1 / c.n))
            p = 2 * special.ndtr(-np.abs(t.m - c.m) / se)
        else:
            share = t.v / (t.v + c.v)
            df = 1 / (share**2 / (t.n - 1) + (1 - share) ** 2 / (c.n - 1))
            p = 2 * special.stdtr(df, -np.abs(t.m - c.m) / np.sqrt(t.v + c.v))
    found: Array = np.where(np.isfinite(p), p, 1.0)
    return found


def _excludes_zero(t: _Side, c: _Side, tightest_at: float, alpha: float) -> NDArray[np.bool_]:
    """Whether the always-valid interval of a look excludes 0; not before each side has the units it needs."""
    n = float(t.n[0] + c.n[0])
    half = np.sqrt(t.v_always + c.v_always) * sequences.width(n, tightest_at=tightest_at, alpha=alpha)
    ready = np.minimum(t.n, c.n) >= sequences.MIN_UNITS
    found: NDArray[np.bool_] = ready & (half > 0) & (np.abs(t.m - c.m) > half)
    return found


def _replayed(p_values: Array, crossings: NDArray[np.bool_], units: int, design: Design) -> Replayed:
    false, crossed = int((p_values < design.alpha).sum()), int(crossings.sum())
    sure = binomial_interval(false, design.runs, confidence=CERTAINTY)
    sure_any = binomial_interval(crossed, design.runs, confidence=CERTAINTY)
    verdict: Literal["usable", "alarms", "timid"] = "usable"
    if sure.low > design.alpha or sure_any.low > design.alpha:
        verdict = "alarms"
    elif sure.high < design.alpha:
        verdict = "timid"
    return Replayed(
        runs=design.runs,
        units=units,
        looks=design.looks,
        alpha=design.alpha,
        p_values=tuple(p_values.tolist()),
        false_ratio=false / design.runs,
        false_interval=binomial_interval(false, design.runs),
        any_look_ratio=crossed / design.runs,
        any_look_interval=binomial_interval(crossed, design.runs),
        uniform_p=float(stats.kstest(p_values, "uniform").pvalue),
        verdict=verdict,
    )


def binomial_interval(hits: int, runs: int, *, confidence: float = 0.95) -> Interval:
    """Clopper and Pearson's interval of a probability.

    >>> found = binomial_interval(50, 1000)
    >>> round(found.low, 4), round(found.high, 4)
    (0.0373, 0.0654)
    """
    tail = (1 - confidence) / 2
    low = float(special.betaincinv(hits, runs - hits + 1, tail)) if hits else 0.0
    high = float(special.betaincinv(hits + 1, runs - hits, 1 - tail)) if hits < runs else 1.0
    return Interval(low, high)
