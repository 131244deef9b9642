"""The other side of `report_at_scale.py`: plain pandas over the same files. `python report_pandas.py FOLDER`."""

import time
from pathlib import Path
from typing import Any

import numpy as np
import report_facts as facts
from pyarrow import dataset


def by_pandas(folder: str) -> dict[str, Any]:
    """The same with pandas, as one writes it in a notebook: columns that are needed, merges, group-bys."""
    started = time.monotonic()

    def read(table: str, *columns: str) -> Any:
        paths = [str(path) for path in sorted(Path(folder, table).glob("hour=*/*.parquet"))]
        return dataset.dataset(paths).to_table(columns=list(columns)).to_pandas()

    took: dict[str, float] = {}
    exposures = read("exposures", "experiment", "phase", "reason", "unit", "variant", "ts", "sub_bucket", "request_id")
    predictions = read(
        "predictions", "event_id", "experiment", "phase", "unit", "variant", "ts", "latency_s", "status", "fallback",
        "shadow", "build",
    )  # fmt: skip
    outcomes = read("outcomes", "event_id", "name", "value", "ts", "unit", "request_id", "correction_of", "ingested_at")
    took["read"] = round(time.monotonic() - started, 3)

    def analysed(frame: Any) -> Any:
        chosen = frame[(frame.experiment == facts.EXPERIMENT) & (frame.phase == facts.PHASE)]
        chosen = chosen[chosen.reason.isin(["SPLIT", "EXTERNAL"])]
        grouped = chosen.groupby("unit")
        found = grouped.agg(
            variant=("variant", "min"), other=("variant", "max"), t0=("ts", "min"), sub_bucket=("sub_bucket", "min")
        )
        return found[found.variant == found.other], int((found.variant != found.other).sum())

    here = exposures[(exposures.experiment == facts.EXPERIMENT)]
    phases = [
        [
            phase,
            int(group.unit.nunique()),
            float(group.ts.min()),
            float(group.ts.max()),
            sorted(predictions.build[predictions.phase == phase].unique()),
        ]
        for phase, group in here.groupby("phase")
    ]
    units, crossed = analysed(exposures)
    took["exposed"] = round(time.monotonic() - started, 3)

    corrections = outcomes[outcomes.correction_of != ""].sort_values(["ingested_at", "event_id"])
    last = corrections.groupby("correction_of").event_id.last()
    stands = ~outcomes.event_id.isin(corrections.correction_of) & (
        (outcomes.correction_of == "") | outcomes.event_id.isin(last)
    )
    standing = outcomes[stands & (outcomes.ts < facts.UNTIL)].copy()
    nameless = standing.unit == ""
    asked = standing.request_id[nameless]
    known = predictions[predictions.event_id.isin(asked)].set_index("event_id").unit
    exposed = exposures[exposures.request_id.isin(asked)].groupby("request_id").unit.min()
    standing.loc[nameless, "unit"] = asked.map(known).fillna(asked.map(exposed)).fillna(asked)
    joined = standing.merge(units[["t0"]], left_on="unit", right_index=True)
    units["bucket"] = (units.t0 // 86_400).astype(int)
    units["closed"] = units.t0 <= facts.UNTIL - facts.WINDOW_S - facts.LATENESS_S

    def per_unit(name: str, kind: str, cap: float, look_back: float) -> Any:
        chosen = joined[joined.name == name]
        inside = chosen[(chosen.ts >= chosen.t0) & (chosen.ts < chosen.t0 + facts.WINDOW_S)]
        before = chosen[(chosen.ts < chosen.t0) & (chosen.ts >= chosen.t0 - look_back)]
        frame = units[["variant", "bucket", "closed"]].copy()
        if kind == "conversion":
            frame["y"] = (inside.value != 0).groupby(inside.unit).max().astype(float).reindex(frame.index).fillna(0.0)
        else:
            frame["y"] = inside.groupby("unit").value.sum().reindex(frame.index).fillna(0.0).clip(upper=cap)
        frame["x"] = before.groupby("unit").value.sum().reindex(frame.index).fillna(0.0).clip(upper=cap)
        frame["n_x"] = frame.index.isin(before.unit)
        frame["yy"], frame["xx"], frame["xy"] = frame.y**2, frame.x**2, frame.x * frame.y
        sums = frame.groupby(["variant", "bucket", "closed"]).agg(
            n=("y", "size"), y=("y", "sum"), yy=("yy", "sum"), x=("x", "sum"), xx=("xx", "sum"), xy=("xy", "sum"),
            n_x=("n_x", "sum"),
        )  # fmt: skip
        return {f"{v} {b} {c}": list(map(float, row)) for (v, b, c), row in zip(sums.index, sums.values, strict=True)}

    kept = per_unit("kept_talking", "conversion", np.inf, 0.0)
    spent = per_unit("revenue", "mean", facts.CAP, facts.LOOK_BACK_S)
    took["outcomes"] = round(time.monotonic() - started, 3)

    requests = predictions[
        (predictions.experiment == facts.EXPERIMENT) & (predictions.phase == facts.PHASE) & ~predictions.shadow
    ].merge(units[["variant", "t0", "sub_bucket"]], left_on="unit", right_index=True, suffixes=("", "_of_unit"))
    requests = requests[(requests.variant == requests.variant_of_unit) & (requests.ts >= requests.t0)]
    requests["bucket"] = (requests.ts // 86_400).astype(int)
    requests["slow"] = requests.latency_s > facts.THRESHOLD_S
    requests["error"] = requests.status != "ok"
    requests["lost"] = requests.error | requests.fallback
    timely = requests[requests.ts < facts.UNTIL]
    cells = timely.groupby(["variant", "sub_bucket", "bucket"]).agg(
        slow=("slow", "sum"), lost=("lost", "sum"), c=("slow", "size")
    )
    keys = [f"{v} {s} {b}" for v, s, b in cells.index]
    by_variant = requests.groupby("variant")
    counts = by_variant.agg(n=("error", "size"), errors=("error", "sum"), fallbacks=("fallback", "sum"))
    latencies = by_variant.latency_s.quantile(facts.QUANTILES)
    took["requests"] = round(time.monotonic() - started, 3)

    names = {}
    for name, group in outcomes.groupby("name"):
        matched = (group.unit != "") & group.unit.isin(exposures.unit)
        left = group.request_id[~matched]
        matched[left.index] = left.isin(exposures.request_id) | left.isin(predictions.event_id)
        names[name] = [len(group), int((~matched).sum()), float(group.ts.min()), float(group.ts.max())]
    late = (outcomes.ingested_at - outcomes.ts)[outcomes.name == "kept_talking"].quantile([0.5, 0.99])
    flow = units.groupby(["bucket", "variant"]).size()
    return {
        "took_s": took,
        "result": {
            "phases": phases,
            "units": {name: int(count) for name, count in units.groupby("variant").size().items()},
            "crossed": crossed,
            "kept": {key: row[:3] for key, row in kept.items()},
            "spent": spent,
            "slow": {k: [float(s), int(c)] for k, s, c in zip(keys, cells.slow, cells.c, strict=True)},
            "errors": {k: [float(s), int(c)] for k, s, c in zip(keys, cells.lost, cells.c, strict=True)},
            "requests": {
                name: [int(value) for value in row] for name, row in zip(counts.index, counts.values, strict=True)
            },
            "latency_s": {name: [float(latencies[name, q]) for q in facts.QUANTILES] for name in counts.index},
            "days": {f"{b} {v}": int(count) for (b, v), count in flow.items()},
            "outcomes": names,
            "late_s": [float(value) for value in late],
        },
    }


if __name__ == "__main__":
    facts.answer(by_pandas)
