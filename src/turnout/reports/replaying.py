"""A/A on logged units: give them new variants at random, many times, and count what each metric then claims.

Called by `turnout aa`; reads each metric's units once and leaves the arithmetic to `experiments/replay.py`.
"""

from collections.abc import Iterator
from typing import Final, Protocol

import numpy as np
from msgspec import Struct

from turnout.errors import NotFoundError, did_you_mean
from turnout.experiments import replay
from turnout.reports import evidence, experiment, planning, tables
from turnout.spec import document, measures, snapshot
from turnout.stores import base

BINS: Final = 10

TRUSTED: Final = "this metric on this data can be trusted"
WORDS: Final = {
    "usable": TRUSTED,
    "timid": f"{TRUSTED}; it finds less than it could",
    "alarms": "this metric on this data cannot be trusted: it finds differences where there are none",
}


class Units(evidence.Evidence, Protocol):
    """What a replay asks of a store."""

    def unit_values(self, query: base.UnitQuery, limit: int) -> base.UnitValues: ...


class Wish(Struct, frozen=True, kw_only=True):
    """How to replay.

    Attributes:
        units: At most so many are read.
        metric: Its name; "" for all.
    """

    runs: int = 1_000
    looks: int = replay.LOOKS
    seed: int = 0
    units: int = 100_000
    metric: str = ""
    phase: str = ""


class Answer(Struct, frozen=True, kw_only=True):
    """One metric.

    Attributes:
        trusted: None when it could not be replayed; `words` say why.
        total: Units logged, of which `replayed.units` were taken.
        histogram: p-values of the fixed-horizon test in ten equal bins; flat when all is well.
    """

    name: str
    role: tables.Role
    label: str
    trusted: bool | None
    words: str
    total: int = 0
    histogram: tuple[int, ...] = ()
    replayed: replay.Replayed | None = None


def names(admitted: snapshot.Snapshot, name: str, metric: str = "") -> list[str]:
    """The metrics that would be replayed.

    Raises:
        NotFoundError: No such experiment, or no such metric.
    """
    found = [key for key, _, _ in experiment.declared(experiment.find(admitted.document, name).metrics)]
    if metric and metric not in found:
        listed = f"Metrics of {name}: {', '.join(found) or 'none'}."
        raise NotFoundError(f"experiment {name!r} has no metric {metric!r}.", hint=did_you_mean(metric, found, listed))
    return [metric] if metric else found


def run(store: Units, admitted: snapshot.Snapshot, name: str, wish: Wish, *, now: float) -> Iterator[Answer]:
    """Replay each metric in turn.

    Raises:
        NotFoundError: No such experiment, metric, or phase, or nothing was logged.
    """
    wanted = names(admitted, name, wish.metric)
    spec = experiment.find(admitted.document, name)
    log = planning.find_log(store, admitted, name, now=now, phase=wish.phase)
    if log is None:
        text = f"no units are logged for {name!r}{f' in phase {wish.phase}' if wish.phase else ''}."
        raise NotFoundError(text, hint="An A/A replays units of the past: send requests first, or give --events URL.")
    for key, role, metric in experiment.declared(spec.metrics):
        if key in wanted:
            yield _answer(store, spec, log, wish, key, role, metric)


def _answer(
    store: Units,
    spec: document.ExperimentSpec,
    log: planning.Log,
    wish: Wish,
    name: str,
    role: tables.Role,
    metric: measures.MetricSpec,
) -> Answer:
    label = evidence.label(metric)
    if metric.outcome is None:
        words = "signals have no value per unit in the log; their variance comes from sub-buckets"
        return Answer(name=name, role=role, label=label, trusted=None, words=words)
    values = store.unit_values(evidence.query(metric, log.span), wish.units)
    columns = _columns(values, metric)
    if len(columns.y) < 2 * wish.looks:
        words = f"{len(columns.y)} units with a closed window are too few for {wish.looks} looks"
        return Answer(name=name, role=role, label=label, trusted=None, words=words, total=values.total)
    design = replay.Design(
        runs=wish.runs,
        looks=wish.looks,
        alpha=spec.plan.alpha,
        treatment_ratio=_treated(spec),
        tightest_at=experiment.tightest_at(spec.plan),
        seed=wish.seed,
    )
    made = replay.replay(metric.kind, columns, design)
    counts, _ = np.histogram(made.p_values, bins=BINS, range=(0.0, 1.0))
    return Answer(
        name=name,
        role=role,
        label=label,
        trusted=made.verdict != "alarms",
        words=WORDS[made.verdict],
        total=values.total,
        histogram=tuple(int(count) for count in counts),
        replayed=made,
    )


def _columns(values: base.UnitValues, metric: measures.MetricSpec) -> replay.Columns:
    """Closed units, in the order of first exposure."""
    order = np.argsort(np.asarray(values.t0, dtype=np.float64), kind="stable")
    kept = order[np.asarray(values.closed, dtype=bool)[order]] if len(order) else order

    def column(of: object) -> replay.Array:
        found: replay.Array = np.asarray(of, dtype=np.float64)[kept]
        return found

    return replay.Columns(
        y=column(values.y),
        d=column(values.d) if metric.kind == "ratio" else None,
        x=column(values.x) if metric.covariate_s is not None else None,
    )


def _treated(spec: document.ExperimentSpec) -> float:
    """Share of the smallest treatment in its comparison with control."""
    own = spec.variants[spec.control].weight
    others = [each.weight for name, each in spec.variants.items() if each.weight > 0 and name != spec.control]
    return min(others) / (min(others) + own) if others and own else 0.5
