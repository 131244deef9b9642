"""A store of numbers alone, so that thousands of reports can be made: units of one phase with a conversion each.

It answers as a store would that was given their exposures and outcomes; `honest.Log` goes through a real one.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from tests.reports.honest import START

from turnout.experiments import phases
from turnout.reports import experiment, tables
from turnout.spec import snapshot
from turnout.stores import base

Floats = NDArray[np.float64]


class Counted:
    """See the module's docstring.

    Args:
        t0: First exposures, ascending, in seconds after `START`.
        variants: Index of each unit's variant among `names`.
        outcomes: Name to each unit's value, which arrives at once.
    """

    def __init__(
        self,
        document: snapshot.Snapshot,
        t0: Floats,
        variants: NDArray[np.int64],
        outcomes: dict[str, Floats],
        names: Sequence[str] = ("old", "new"),
    ) -> None:
        self.document = document
        self.phase = phases.of("e", document.document, written=document.written, digests=document.digests)
        self.t0, self.variants, self.outcomes, self.names = t0 + START, variants, outcomes, names
        self.upto = 0

    def report(self, now: float) -> tables.Report:
        """As of `now`, an epoch time."""
        self.upto = int(np.searchsorted(self.t0, now))
        return experiment.report(self, self.document, "e", now=now)

    def phases(self, experiment: str) -> list[base.Phase]:
        seen = self.t0[: self.upto]
        if not len(seen):
            return []
        first, last = float(seen[0]), float(seen[-1])
        return [base.Phase(experiment="e", phase=self.phase, first_ts=first, last_ts=last, units=len(seen))]

    def exposed(self, experiment: str, phase: str) -> base.Exposed:
        counts = np.bincount(self.variants[: self.upto], minlength=len(self.names)).tolist()
        return base.Exposed(units=dict(zip(self.names, counts, strict=True)), crossed=0, reasons={"SPLIT": self.upto})

    def serving(self, experiment: str, phase: str, quantiles: Sequence[float]) -> dict[str, base.Serving]:
        return {}

    def outcome_names(self) -> list[base.OutcomeName]:
        return []

    def unit_sums(self, query: base.UnitQuery) -> list[base.UnitSums]:
        assert query.as_of is not None
        upto = int(np.searchsorted(self.t0, query.as_of))
        closed = self.t0[:upto] <= query.as_of - query.window_s - query.lateness_s
        y = self.outcomes[query.outcome][:upto]
        buckets = (self.t0[:upto] // query.bucket_s).astype(np.int64)
        first = int(buckets[0]) if upto else 0
        cells = ((buckets - first) * 2 + closed) * len(self.names) + self.variants[:upto]
        n, sums, squares = (np.bincount(cells, weights).tolist() for weights in (None, y, y * y))
        rows = []
        for cell, count in enumerate(n):
            if count:
                rest, variant = divmod(cell, len(self.names))
                row = base.UnitSums(
                    variant=self.names[variant],
                    bucket=first + rest // 2,
                    closed=bool(rest % 2),
                    n=int(count),
                    y=sums[cell],
                    yy=squares[cell],
                )
                rows.append(row)
        return rows

    def signal_sums(self, query: base.SignalQuery) -> list[base.SignalSums]:
        return []

    def signal_ranks(
        self, experiment: str, phase: str, quantile: float, alpha: float, as_of: float | None
    ) -> dict[str, base.Ranks]:
        return {}

    def exposure_days(self, experiment: str, phase: str, bucket_s: float) -> list[base.ExposureDay]:
        buckets = (self.t0[: self.upto] // bucket_s).astype(np.int64)
        pairs, counts = np.unique(np.stack([buckets, self.variants[: self.upto]]), axis=1, return_counts=True)
        return [
            base.ExposureDay(bucket=bucket, variant=self.names[variant], units=count)
            for (bucket, variant), count in zip(pairs.T.tolist(), counts.tolist(), strict=True)
        ]

    def lateness(self, name: str) -> base.Lateness | None:
        return None
