"""A circuit per variant that another one can answer for: hard failures in a row open it.

Per worker and per assembly: a new document closes all circuits. An open one sends the variant's
requests straight to what answers in its place, and tells the rollout controller (by `/status`)
that this rollout is over.

    counted       not ready, crash, invalid output, timeout, where the other variant then answered
    not counted   a request that does not fit, overload, time that the caller itself cut short, and
                  what the other variant could not answer either: a broken dependency blames nobody

Asked by `visit` before each run, told by `dispatch` after it.
"""

import math
from typing import Any

from turnout import telemetry
from turnout.errors import DeadlineError, ModelError, StepError, TurnoutError, UnavailableError

OPENS_AT = 5
"""Hard failures in a row. Two or three come by chance; five of them with 1 % errors once in ten billion requests."""

HARD = (DeadlineError, ModelError, StepError, UnavailableError)
QUEUE = "queue"


class Circuit:
    """Counts one variant's failures; see the module's docstring.

    Args:
        name: Rollout or experiment, for people.
        opens_at: Failures in a row that open it; infinity only counts.

    Attributes:
        open: Whether the variant is not asked any more.
        failures_in_a_row: Since its last success.
        total: Since the document came into force.
    """

    __slots__ = ("_failures", "_gauge", "_opens_at", "cause", "failures_in_a_row", "name", "open", "total", "variant")

    def __init__(
        self, registry: telemetry.Registry, *, endpoint: str, name: str, variant: str, opens_at: float = math.inf
    ) -> None:
        self.name = name
        self.variant = variant
        self.open = False
        self.failures_in_a_row = 0
        self.total = 0
        self.cause = ""
        self._opens_at = opens_at
        names, labels = ("endpoint", "experiment", "variant"), (endpoint, name, variant)
        failures = registry.counter(
            telemetry.VARIANT_FAILURES, "Hard failures of a variant that another one answered for.", names
        )
        self._failures = failures.labels(*labels)
        self._gauge: telemetry.Gauge | None = None
        if self.guards:
            opened = registry.gauge(
                telemetry.CIRCUIT_OPEN, "Workers in which a variant is not asked any more, after failures.", names
            )
            self._gauge = opened.labels(*labels)
            self._gauge.set(0.0)

    @property
    def guards(self) -> bool:
        """Whether it may open at all, or only counts."""
        return self._opens_at < math.inf

    def passed(self) -> None:
        """The variant answered."""
        self.failures_in_a_row = 0

    def failed(self, error: TurnoutError, *, hurried: bool = False) -> None:
        """The variant failed and the other one answered.

        Args:
            hurried: The caller gave less time than the endpoint does.
        """
        if not isinstance(error, HARD) or (isinstance(error, DeadlineError) and (hurried or error.stage == QUEUE)):
            return
        self.total += 1
        self.failures_in_a_row += 1
        self._failures.inc()
        if self.failures_in_a_row >= self._opens_at and not self.open:
            self.open = True
            self.diverted()
            self.cause = (
                f"{self.variant!r} of {self.name!r} is not asked since it failed "
                f"{self.failures_in_a_row} times in a row; last: {error.message}"
            )

    def diverted(self) -> str:
        """A request is sent past the open circuit; returns why."""
        if self._gauge is not None:
            self._gauge.set(1.0)  # here, not once: an assembly that was prepared and dropped has set it to 0
        return self.cause

    def describe(self) -> dict[str, Any]:
        """For `/status`."""
        told = {"variant": self.variant, "open": self.open, "total": self.total}
        return told | {"failures_in_a_row": self.failures_in_a_row, "cause": self.cause}
