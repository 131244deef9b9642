"""Counts that outlive the worker that made them: counters of a server only grow, whoever is replaced.

Kept by the fleet, read by the status. Of a worker that drained its last word is kept; of one that was killed, what
it had said when it was asked last.
"""

from collections.abc import Collection, Iterable

from turnout import telemetry

SAMPLES = 4_000
"""Label sets of one metric that are kept of workers that are gone; a long life sees many experiments."""


class Tally:
    """What workers counted.

    >>> def counted(n):
    ...     return [telemetry.FamilySnapshot("t", "counter", "", (), "sum", (), (telemetry.Sample((), n),))]
    >>> tally = Tally()
    >>> tally.heard("w0.1", counted(3)), tally.ended("w0.1"), tally.heard("w0.2", counted(2))
    (None, None, None)
    >>> [family.samples[0].value for family in tally.beside(["w0.2"])]
    [3]
    """

    def __init__(self) -> None:
        self._alive: dict[str, list[telemetry.FamilySnapshot]] = {}
        self._gone: list[telemetry.FamilySnapshot] = []

    def heard(self, worker: str, families: list[telemetry.FamilySnapshot]) -> None:
        """Keep what a worker says it has counted since its start."""
        self._alive[worker] = _lasting(families)

    def ended(self, worker: str, families: list[telemetry.FamilySnapshot] | None = None) -> None:
        """The worker is gone; `families` is its last word, if it had one."""
        last = self._alive.pop(worker, [])
        if families:
            last = _lasting(families)
        if last:
            self._gone = [_bounded(family) for family in telemetry.merge([self._gone, last])]

    def beside(self, workers: Collection[str]) -> list[telemetry.FamilySnapshot]:
        """What all others have counted: those that are gone, that drain, or that did not answer now."""
        rest = [families for worker, families in self._alive.items() if worker not in workers]
        return telemetry.merge([self._gone, *rest])


def _lasting(families: Iterable[telemetry.FamilySnapshot]) -> list[telemetry.FamilySnapshot]:
    """Without levels, which end with their process."""
    return [family for family in families if family.kind != "gauge"]


def _bounded(family: telemetry.FamilySnapshot) -> telemetry.FamilySnapshot:
    if len(family.samples) <= SAMPLES:
        return family
    head = (family.name, family.kind, family.help, family.labels, family.merge, family.buckets)
    return telemetry.FamilySnapshot(*head, family.samples[-SAMPLES:])
