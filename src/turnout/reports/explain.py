"""Why one unit gets its variant, in words and numbers. Called by `turnout explain`; pure.

It tells what the document says now. What a unit was shown before is in the exposures.
"""

from msgspec import Struct

from turnout.experiments import allocations, assignment, phases, points
from turnout.reports import experiment
from turnout.spec import snapshot


class Explanation(Struct, frozen=True, kw_only=True):
    """One assignment taken apart.

    Attributes:
        words: Sentences, in the order in which the decision was made.
        points: Hash words, scores and ramp point; None without a unit that can be hashed.
        ramp_ppm: Millionths of the units that take part.
    """

    experiment: str
    endpoint: str
    phase: str
    revision: str
    unit_type: str
    unit: str
    variant: str
    pipeline: str
    reason: str
    analysed: bool
    propensity: float
    ramp_ppm: int
    seed: str
    words: tuple[str, ...]
    points: points.Points | None


def explain(admitted: snapshot.Snapshot, name: str, unit: str | int | None, *, request_id: str = "") -> Explanation:
    """Explain the variant of one unit.

    Args:
        unit: As requests carry it; None or "" for a request without one.
        request_id: Stands in for a missing unit where the document says so.

    Raises:
        NotFoundError: The document has no such experiment.
    """
    content = admitted.document
    spec = experiment.find(content, name)
    endpoint = content.endpoints[spec.endpoint]
    phase = phases.of(name, content, written=admitted.written, digests=admitted.digests)
    allocation = allocations.of(name, spec, phase=phase, unit_type=endpoint.unit or "")
    found = assignment.assign(unit, allocation, request_id=request_id)
    numbers = points.of(found.unit, allocation) if found.unit else None
    return Explanation(
        experiment=name,
        endpoint=spec.endpoint,
        phase=phase,
        revision=admitted.short,
        unit_type=found.unit_type,
        unit=found.unit,
        variant=found.variant,
        pipeline=spec.variants[found.variant].pipeline or endpoint.pipeline,
        reason=found.reason,
        analysed=found.reason in assignment.ANALYSED,
        propensity=found.propensity,
        ramp_ppm=allocation.ramp_ppm,
        seed=allocation.seed,
        words=tuple(_words(found, allocation, numbers)),
        points=numbers,
    )


def _words(found: assignment.Assignment, allocation: assignment.Allocation, numbers: points.Points | None) -> list[str]:
    reason, name = assignment.Reason, allocation.name
    lacking = allocation.unit_type or "unit"
    words = {
        reason.WINNER: f"The document names {found.variant} the winner of {name}: everybody gets it.",
        reason.DISABLED: f"{name} is switched off: everybody gets the control, {found.variant}.",
        reason.OVERRIDE: f"{found.unit} stands on the override list of {found.variant}; it is not analysed.",
        reason.NO_UNIT: f"The request has no {lacking}, so it gets the control, {found.variant}.",
        reason.ERROR: f"The unit cannot be used ({found.error}), so it gets the control, {found.variant}.",
    }
    if found.reason in words or numbers is None:
        return [words.get(found.reason, f"{found.variant}, because of {found.reason}.")]
    ramp = f"its ramp point is {numbers.ramp_point_ppm:,} of 1,000,000, the ramp ends at {allocation.ramp_ppm:,}"
    if found.reason == reason.NOT_IN_RAMP:
        return [f"{found.unit} does not take part: {ramp}. It gets the control, {found.variant}."]
    return [f"{found.unit} takes part: {ramp}.", _split(found, numbers)]


def _split(found: assignment.Assignment, numbers: points.Points) -> str:
    best = max(numbers.draws, key=lambda draw: draw.score)
    others = [draw for draw in numbers.draws if draw is not best and draw.weight > 0]
    against = ", ".join(f"{draw.variant} {draw.score:.6g}" for draw in others) or "nobody"
    chance = f"{100 * found.propensity:.4g} % of the units that take part get it"
    return f"{found.variant} has the highest score, {best.score:.6g} (against {against}); {chance}."
