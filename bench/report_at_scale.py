"""`make bench-report`: one report over 10 M predictions and 2 M outcomes in sealed Parquet, beside plain pandas.

Both sides read the same files, each in a process of its own on the same two cores, and give the same sums (checked).
Wall time is from the start of the process to its answer; memory is the peak of the resident set. Only the ratio is
worth quoting. The folder is made first, by `report_data.py`, and kept with --folder.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import report_data

HERE = Path(__file__).parent
RESULTS = HERE / "results"

TOLERANCE = 1e-9


def differences(ours: Any, theirs: Any, path: str = "", tolerance: float = TOLERANCE) -> list[str]:
    """Where two results differ; rounded quantiles may by a hundredth, lateness by a twentieth."""
    if path.endswith(("/latency_s", "/late_s")):
        tolerance = 0.05 if path.endswith("late_s") else 0.011
    if isinstance(ours, dict) and isinstance(theirs, dict):
        found = [] if ours.keys() == theirs.keys() else [f"{path}: {sorted(ours.keys() ^ theirs.keys())[:4]}"]
        for key in ours.keys() & theirs.keys():
            found += differences(ours[key], theirs[key], f"{path}/{key}", tolerance)
        return found
    if isinstance(ours, list) and isinstance(theirs, list) and len(ours) == len(theirs):
        return [
            line
            for at, pair in enumerate(zip(ours, theirs, strict=True))
            for line in differences(*pair, f"{path}[{at}]", tolerance)
        ]
    if isinstance(ours, float | int) and isinstance(theirs, float | int):
        near = abs(ours - theirs) <= tolerance * max(abs(ours), abs(theirs), 1e-9)
        return [] if near else [f"{path}: {ours} and {theirs}"]
    return [] if ours == theirs else [f"{path}: {ours!r} and {theirs!r}"]


def measure(side: str, folder: Path, cores: list[int]) -> dict[str, Any]:
    """One side in a process of its own."""
    started = time.monotonic()
    run = subprocess.run(
        [sys.executable, str(HERE / f"report_{side}.py"), str(folder), *map(str, cores)],
        capture_output=True,
        text=True,
        timeout=1_800,
        check=False,
        env={name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"},
    )
    if run.returncode != 0:
        raise SystemExit(f"{side} failed: {run.stderr.strip()[-2000:]}")
    made: dict[str, Any] = json.loads(run.stdout)
    return {**made, "wall_s": round(time.monotonic() - started, 2)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, help="where the sealed events are or shall be; default a temporary one")
    parser.add_argument("--units", type=int, default=1_000_000)
    parser.add_argument("--predictions", type=int, default=10_000_000)
    parser.add_argument("--outcomes", type=int, default=2_000_000)
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    cores = sorted(os.sched_getaffinity(0))[:2]
    with tempfile.TemporaryDirectory(prefix="turnout-bench-") as temporary:
        folder = given.folder or Path(temporary) / "sealed"
        made = generate(folder, given)
        rounds = [{side: measure(side, folder, cores) for side in ("turnout", "pandas")} for _ in range(given.rounds)]
        size = sum(path.stat().st_size for path in folder.rglob("*.parquet"))
    publish(rounds, {**made, "parquet_mb": round(size / 1e6), "cores": len(cores)})


def generate(folder: Path, given: argparse.Namespace) -> dict[str, Any]:
    note = folder / "made.json"
    if not note.exists():
        made = report_data.write(folder, units=given.units, requests=given.predictions, outcomes_count=given.outcomes)
        note.write_text(json.dumps(made))
    found: dict[str, Any] = json.loads(note.read_text())
    return found


def publish(rounds: list[dict[str, Any]], about: dict[str, Any]) -> None:
    unequal = differences(rounds[0]["turnout"]["result"], rounds[0]["pandas"]["result"])
    if unequal:
        raise SystemExit("the two sides differ:\n" + "\n".join(unequal[:20]))
    summary: dict[str, Any] = {"about": about, "equal": True}
    for side in ("turnout", "pandas"):
        summary[side] = {
            "wall_s": statistics.median(one[side]["wall_s"] for one in rounds),
            "peak_mb": statistics.median(one[side]["peak_mb"] for one in rounds),
            "took_s": rounds[-1][side]["took_s"],
        }
    summary["pandas_per_turnout"] = {
        name: round(statistics.median(one["pandas"][name] / one["turnout"][name] for one in rounds), 2)
        for name in ("wall_s", "peak_mb")
    }
    ratio = summary["pandas_per_turnout"]
    lines = [
        f"One report over {about['predictions']:,} predictions, {about['exposures']:,} exposures of {about['units']:,} "
        f"units and {about['outcomes']:,} outcomes in {about['parquet_mb']:,} MB of sealed Parquet, "
        f"{about['cores']} cores, median of {len(rounds)} rounds; results equal.",
        "",
        "| | wall time | peak memory |",
        "|---|--:|--:|",
        *(
            f"| {side} | {summary[side]['wall_s']:.1f} s | {summary[side]['peak_mb']:,} MB |"
            for side in ("turnout", "pandas")
        ),
        f"| pandas / turnout | {ratio['wall_s']:.1f} | {ratio['peak_mb']:.1f} |",
    ]
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "report.json").write_text(json.dumps(summary, indent=1) + "\n")
    (RESULTS / "report.md").write_text("\n".join(lines) + "\n")
    print("\n".join(lines))
    print(json.dumps(summary))


if __name__ == "__main__":
    main()
