"""One side of `report_at_scale.py`: Turnout's own store over the sealed events. `python report_turnout.py FOLDER`."""

import time
from collections.abc import Callable
from typing import Any

import report_facts as facts

from turnout.stores import base, catalog


def by_turnout(folder: str) -> dict[str, Any]:
    """All that a report of one experiment asks, by the store's verbs."""
    store = catalog.open_store(f"parquet:{folder}", read_only=True)
    names = {"experiment": facts.EXPERIMENT, "phase": facts.PHASE}
    took: dict[str, float] = {}

    def timed(name: str, ask: Callable[[], Any]) -> Any:
        started = time.monotonic()
        found = ask()
        took[name] = round(time.monotonic() - started, 3)
        return found

    phases = timed("phases", lambda: store.phases(facts.EXPERIMENT))
    exposed = timed("exposed", lambda: store.exposed(facts.EXPERIMENT, facts.PHASE))
    common = {**names, "window_s": facts.WINDOW_S, "as_of": facts.UNTIL, "lateness_s": facts.LATENESS_S}
    kept = timed("conversion", lambda: store.unit_sums(base.UnitQuery(outcome="kept_talking", **common)))
    spent = timed(
        "mean, cap, covariate",
        lambda: store.unit_sums(
            base.UnitQuery(outcome="revenue", kind="mean", cap=facts.CAP, covariate_s=facts.LOOK_BACK_S, **common)
        ),
    )
    slow = timed(
        "latency guardrail",
        lambda: store.signal_sums(
            base.SignalQuery(
                signal="latency", kind="share_over", threshold_s=facts.THRESHOLD_S, as_of=facts.UNTIL, **names
            )
        ),
    )
    errors = timed(
        "error rate", lambda: store.signal_sums(base.SignalQuery(signal="error", as_of=facts.UNTIL, **names))
    )
    serving = timed("serving", lambda: store.serving(facts.EXPERIMENT, facts.PHASE, facts.QUANTILES))
    days = timed("exposure flow", lambda: store.exposure_days(facts.EXPERIMENT, facts.PHASE))
    outcomes = timed("outcome names", store.outcome_names)
    late = timed("lateness", lambda: store.lateness("kept_talking"))
    store.close()
    sums = ("n", "y", "yy", "x", "xx", "xy", "n_x")
    return {
        "took_s": took,
        "result": {
            "phases": [[one.phase, one.units, one.first_ts, one.last_ts, list(one.builds)] for one in phases],
            "units": dict(exposed.units),
            "crossed": exposed.crossed,
            "kept": {f"{o.variant} {o.bucket} {o.closed}": [getattr(o, name) for name in sums[:3]] for o in kept},
            "spent": {f"{o.variant} {o.bucket} {o.closed}": [getattr(o, name) for name in sums] for o in spent},
            "slow": {f"{o.variant} {o.sub_bucket} {o.bucket}": [o.s, o.c] for o in slow},
            "errors": {f"{o.variant} {o.sub_bucket} {o.bucket}": [o.s, o.c] for o in errors},
            "requests": {name: [one.requests, one.errors, one.fallbacks] for name, one in serving.items()},
            "latency_s": {name: [one.latency_s[q] for q in facts.QUANTILES] for name, one in serving.items()},
            "days": {f"{one.bucket} {one.variant}": one.units for one in days},
            "outcomes": {one.name: [one.count, one.unmatched, one.first_ts, one.last_ts] for one in outcomes},
            "late_s": [late.p50_s, late.p99_s] if late else [],
        },
    }


if __name__ == "__main__":
    facts.answer(by_turnout)
