"""What one route counts (requests by status, latency, steps) and one experiment (assignments, exposures).

`routing` makes them with their labels filled in, so that counting on the request path is an
addition and no look-up of label sets. `visit` calls them.
"""

from turnout import telemetry, wire


class Families:
    """The metrics of the request path, defined once per process."""

    def __init__(self, registry: telemetry.Registry) -> None:
        self.requests = registry.counter(
            telemetry.REQUESTS, "Answered and refused requests.", ("endpoint", "experiment", "variant", "code")
        )
        self.duration = registry.histogram(
            telemetry.REQUEST_DURATION, "Seconds from complete request to reply.", ("endpoint", "variant")
        )
        self.steps = registry.histogram(
            telemetry.STEP_DURATION, "Seconds of one model call in a pipeline.", ("pipeline", "step", "model")
        )
        self.step_errors = registry.counter(
            telemetry.STEP_ERRORS, "Failed model calls.", ("pipeline", "step", "model", "kind")
        )
        self.assignments = registry.counter(telemetry.ASSIGNMENTS, "Assignments by reason.", ("experiment", "reason"))
        self.lacking = registry.counter(
            telemetry.ATTRIBUTES_MISSING,
            "Requests without an attribute on which targeting depended.",
            ("experiment", "attribute"),
        )
        self.exposures = registry.counter(telemetry.EXPOSURES, "Exposures logged.", ("experiment", "variant"))


class Tally:
    """The counters of one experiment or rollout."""

    __slots__ = ("_by_reason", "_by_variant", "_experiment", "_families")

    def __init__(self, families: Families, experiment: str) -> None:
        self._families = families
        self._experiment = experiment
        self._by_reason: dict[str, telemetry.Counter] = {}
        self._by_variant: dict[str, telemetry.Counter] = {}

    def assigned(self, reason: str) -> None:
        """A request was assigned."""
        counter = self._by_reason.get(reason)
        if counter is None:
            counter = self._by_reason[reason] = self._families.assignments.labels(self._experiment, reason)
        counter.inc()

    def lacked(self, attribute: str) -> None:
        """A request did not say what targeting needed; rare enough to look the label up."""
        self._families.lacking.labels(self._experiment, attribute).inc()

    def exposed(self, variant: str) -> None:
        """An exposure was logged."""
        counter = self._by_variant.get(variant)
        if counter is None:
            counter = self._by_variant[variant] = self._families.exposures.labels(self._experiment, variant)
        counter.inc()


class Meter:
    """The counters of one route; see the module's docstring."""

    __slots__ = ("_by_status", "_by_step", "_duration", "_families", "_labels", "_pipeline")

    def __init__(self, families: Families, *, endpoint: str, experiment: str, variant: str, pipeline: str) -> None:
        self._families = families
        self._labels = (endpoint, experiment, variant)
        self._pipeline = pipeline
        self._duration = families.duration.labels(endpoint, variant)
        self._by_status: dict[str, telemetry.Counter] = {}
        self._by_step: dict[str, telemetry.Histogram] = {}

    def finished(self, status: str, latency_s: float) -> None:
        """A request of this route ended."""
        counter = self._by_status.get(status)
        if counter is None:
            counter = self._by_status[status] = self._families.requests.labels(*self._labels, status)
        counter.inc()
        self._duration.observe(latency_s)

    def ran(self, steps: list[wire.Step]) -> None:
        """These steps were done by this route's pipeline."""
        for step in steps:
            histogram = self._by_step.get(step.name)
            if histogram is None:
                labels = (self._pipeline, step.name, step.model)
                histogram = self._by_step[step.name] = self._families.steps.labels(*labels)
            histogram.observe(step.duration_s)
            if step.error:
                self._families.step_errors.labels(self._pipeline, step.name, step.model, step.error).inc()
