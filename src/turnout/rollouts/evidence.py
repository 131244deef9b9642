"""What one look at a rollout saw: numbers with their bounds, and nothing decided yet. Vocabulary only.

Made by `looks`, read by `states`, written out whole into the audit record.
"""

from typing import Literal

from msgspec import Struct

State = Literal["safe", "harmful", "inconclusive", "no data"]


class Reading(Struct, frozen=True, kw_only=True):
    """One guardrail or outcome: the new side against the old one that runs beside it.

    Attributes:
        n: What the sequence counts: units of both sides; requests where the unit is the request.
        new: Estimate on the new side; None without data. `old` likewise.
        harm: new − old, signed so that positive is worse; None without data.
        se: Its standard error.
        low: The harm is at least this, at the reading's alpha and at any look; None without data.
        high: The harm is at most this.
        margin: So much harm is acceptable.
        alpha: Of each bound; the rollout's, divided by the number of readings.
        p: Always-valid p-value against "the harm is within the margin".
        closed: Outcomes: share of the exposed units whose window has closed; 1 for signals.
    """

    name: str
    state: State
    n: int = 0
    new: float | None = None
    old: float | None = None
    harm: float | None = None
    se: float | None = None
    low: float | None = None
    high: float | None = None
    margin: float = 0.0
    alpha: float = 0.01
    p: float | None = None
    closed: float = 1.0
    unit: Literal["share", "seconds", "value"] = "share"

    @property
    def words(self) -> str:
        """For the audit record and for people."""
        if self.new is None or self.old is None or self.low is None or self.high is None:
            return f"{self.name}: no data"
        told = f"{self.name}: new {self._shown(self.new)}, old {self._shown(self.old)}"
        margin = self._shown(self.margin)
        if self.state == "harmful":
            return f"{told}; worse by {self._shown(self.low)} at least, margin {margin}"
        if self.state == "safe":
            return f"{told}; worse by {self._shown(self.high)} at most, margin {margin}"
        return f"{told}; worse by {self._shown(self.low)} to {self._shown(self.high)}, margin {margin}: not known yet"

    def _shown(self, value: float) -> str:
        if self.unit == "share":
            return f"{value * 100:.2f} %"
        return f"{value * 1000:.1f} ms" if self.unit == "seconds" else f"{value:.4g}"


class Evidence(Struct, frozen=True, kw_only=True):
    """Everything one look saw.

    Attributes:
        converged: Every worker of every server has what the overlay says.
        hard: A hard failure in words; "" for none.
        units: Units of (new, old) over the whole rollout; requests where the unit is the request.
        fresh: Requests on (new, old) since this step or the bake began.
        balanced: Whether both sides get the same number of units, as they should.
        ratio_ln_e: Logarithm of the sequential evidence against that.
        guardrails: A reading for each; in a bake, after against before.
    """

    converged: bool = True
    hard: str = ""
    units: tuple[int, int] = (0, 0)
    fresh: tuple[int, int] = (0, 0)
    balanced: bool = True
    ratio_ln_e: float = 0.0
    guardrails: tuple[Reading, ...] = ()
    outcomes: tuple[Reading, ...] = ()
