"""What revisions of the past said of an experiment: the ramp's way, and a plan that was changed after the start.

Called by `experiment` with what the caller read from the history of revisions. Pure.
"""

from collections.abc import Iterator, Sequence

from msgspec import Struct

from turnout.spec import document, measures


class Past(Struct, frozen=True, kw_only=True):
    """An experiment as one revision had it, from the moment it came into force."""

    at: float
    spec: document.ExperimentSpec


def ramps(found: Sequence[Past], first_ts: float | None, last_ts: float | None) -> tuple[tuple[float, float], ...]:
    """(moment, share) of each change of the ramp while the phase lasted, with the share it began with.

    Args:
        found: Oldest first.
    """
    if first_ts is None or last_ts is None:
        return ()
    shares: list[tuple[float, float]] = []
    for each in found:
        share = each.spec.ramp if each.spec.enabled else 0.0
        if each.at <= first_ts:
            shares = [(each.at, share)]
        elif each.at <= last_ts and (not shares or shares[-1][1] != share):
            shares.append((each.at, share))
    return tuple(shares)


def changed(found: Sequence[Past], spec: document.ExperimentSpec, first_ts: float | None) -> tuple[str, ...]:
    """What the plan said when the first unit was exposed, where it says something else now."""
    before = [each for each in found if first_ts is not None and each.at <= first_ts]
    return tuple(_changes(before[-1].spec, spec)) if before else ()


def _changes(then: document.ExperimentSpec, now: document.ExperimentSpec) -> Iterator[str]:
    for key in ("alpha", "units", "horizon", "min_duration_s"):
        old, new = getattr(then.plan, key), getattr(now.plan, key)
        if old != new:
            yield f"plan.{key.removesuffix('_s')} was {_told(old)}, is {_told(new)}"
    if then.plan.tightest_at != now.plan.tightest_at:
        yield f"plan.tightest_at was {_told(then.plan.tightest_at)}, is {_told(now.plan.tightest_at)}"
    if _meaning(then.metrics.primary) != _meaning(now.metrics.primary):
        yield f"the primary metric was {_metric(then.metrics.primary)}, is {_metric(now.metrics.primary)}"
    for name in sorted({*then.metrics.guardrails, *now.metrics.guardrails}):
        old_guard, new_guard = then.metrics.guardrails.get(name), now.metrics.guardrails.get(name)
        if old_guard is None or new_guard is None:
            yield f"the guardrail {name} was {'added' if old_guard is None else 'removed'}"
        elif _meaning(old_guard) != _meaning(new_guard):
            yield f"the guardrail {name} was changed (margin {_told(old_guard.margin)}, is {_told(new_guard.margin)})"


def _meaning(metric: measures.MetricSpec | None) -> object:
    return metric.model_dump(exclude={"description"}) if metric is not None else None


def _metric(metric: measures.MetricSpec | None) -> str:
    return "none" if metric is None else f"{metric.outcome or metric.signal} ({metric.kind})"


def _told(value: object) -> str:
    return "not said" if value is None else f"{value:g}" if isinstance(value, float) else str(value)
