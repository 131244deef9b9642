"""Why one unit gets its variant, in words and numbers. Called by `turnout explain`; pure.

It tells what the document says now. What a unit was shown before is in the exposures.
"""

from collections.abc import Iterator, Mapping

from msgspec import Struct

from turnout.errors import NotFoundError, did_you_mean
from turnout.experiments import allocations, assignment, phases, points
from turnout.expressions import catalog
from turnout.spec import document, snapshot, traffic


class Explanation(Struct, frozen=True, kw_only=True):
    """One assignment taken apart.

    Attributes:
        words: Sentences, in the order in which the decision was made.
        points: Hash words, scores, ramp point, slot and holdout point; None without a unit that can be hashed.
        ramp_ppm: Millionths of the units that take part.
        attributes: What targeting was told.
        missing: The attribute that targeting needed and was not told; "" for none.
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
    attributes: Mapping[str, object] = {}
    missing: str = ""


class Asked(Struct, frozen=True, kw_only=True):
    """What a request would say.

    Attributes:
        unit: As requests carry it; None or "" for a request without one.
        request_id: Stands in for a missing unit where the document says so.
        attributes: By their declared names; also what stands in for a unit under `on_missing_unit: attribute:NAME`.
        external: What the header says with `assign: external`; None without it.
    """

    unit: str | int | None
    request_id: str = ""
    attributes: Mapping[str, object] = {}
    external: str | None = None


def explain(admitted: snapshot.Snapshot, name: str, asked: Asked) -> Explanation:
    """Explain the variant of one unit in an experiment or a rollout.

    Raises:
        NotFoundError: The document has no such experiment or rollout, or its endpoint no such attribute.
        SpecError: The targeting condition does not compile, or CEL is not installed.
    """
    spec = find(admitted.document, name)
    endpoint = admitted.document.endpoints[spec.endpoint]
    if isinstance(spec, document.ExperimentSpec):
        _declared(spec, endpoint, asked.attributes)
    allocation = _allocation(admitted, name, spec)
    found = assignment.assign(
        asked.unit,
        allocation,
        request_id=asked.request_id,
        attributes=asked.attributes,
        external=asked.external,
    )
    numbers = points.of(found.unit, allocation) if found.unit else None
    return Explanation(
        experiment=name,
        endpoint=spec.endpoint,
        phase=allocation.phase,
        revision=admitted.short,
        unit_type=found.unit_type,
        unit=found.unit,
        variant=found.variant,
        pipeline=_pipeline(spec, found.variant) or endpoint.pipeline,
        reason=found.reason,
        analysed=found.reason in assignment.ANALYSED,
        propensity=found.propensity,
        ramp_ppm=allocation.ramp_ppm,
        seed=allocation.seed,
        words=tuple(_words(found, allocation, numbers, spec)),
        points=numbers,
        attributes=asked.attributes,
        missing=found.missing,
    )


Spec = document.ExperimentSpec | traffic.RolloutSpec


def find(content: document.Document, name: str) -> Spec:
    """The experiment or rollout of this name.

    Raises:
        NotFoundError: There is neither; the nearest name is given.
    """
    spec = content.experiments.get(name) or content.rollouts.get(name)
    if spec is None:
        known = sorted([*content.experiments, *content.rollouts])
        hint = did_you_mean(name, known, f"Experiments in the document: {', '.join(known) or 'none'}.")
        raise NotFoundError(f"the document has no experiment {name!r}.", hint=hint)
    return spec


def _allocation(admitted: snapshot.Snapshot, name: str, spec: Spec) -> assignment.Allocation:
    """As the endpoint has it."""
    content = admitted.document
    endpoint = content.endpoints[spec.endpoint]
    known = {"written": admitted.written, "digests": admitted.digests}
    if isinstance(spec, traffic.RolloutSpec):
        phase = phases.of_rollout(name, content, **known)
        return allocations.of_rollout(name, spec, phase=phase, unit_type=endpoint.unit or "")
    return allocations.of(
        name,
        spec,
        phase=phases.of(name, content, **known),
        unit_type=endpoint.unit or "",
        holdout=allocations.holdout_on(content, spec.endpoint),
        targeting=catalog.compile(spec.targeting, endpoint.attributes) if spec.targeting else None,
    )


def _declared(spec: document.ExperimentSpec, endpoint: document.EndpointSpec, attributes: Mapping[str, object]) -> None:
    """Refuse an attribute that nothing would look at: its value would seem to make no difference."""
    known = {*endpoint.attributes, spec.on_missing_unit.removeprefix(assignment.ATTRIBUTE)} - {"control", "request"}
    for name in attributes:
        if name not in known:
            hint = did_you_mean(name, known, f"There are {', '.join(sorted(known)) or 'none'}.")
            raise NotFoundError(f"endpoint {spec.endpoint!r} declares no attribute {name!r}.", hint=hint)


def _pipeline(spec: Spec, variant: str) -> str | None:
    if isinstance(spec, document.ExperimentSpec):
        return spec.variants[variant].pipeline
    return spec.to.pipeline if variant in (allocations.CANARY, allocations.GREEN) else None


def _words(
    found: assignment.Assignment, allocation: assignment.Allocation, numbers: points.Points | None, spec: Spec
) -> Iterator[str]:
    """One sentence per step, until the one that decided."""
    reason, name, control = assignment.Reason, allocation.name, allocation.control
    subject = found.unit or "the request"
    decided = {
        reason.WINNER: f"The document names {found.variant} the winner of {name}: everybody gets it.",
        reason.DISABLED: f"{name} is switched off: everybody gets the control, {found.variant}.",
        reason.OVERRIDE: f"{subject} stands on the override list of {found.variant}; it is not analysed.",
        reason.EXTERNAL: f"The header {_header(spec)} names {found.variant}; another system chose it.",
        reason.EXTERNAL_UNKNOWN: f"The header {_header(spec)} names no variant, so it gets the control, {control}.",
        reason.NO_UNIT: f"The request has no {allocation.unit_type or 'unit'}, so it gets the control, {control}.",
    }
    if isinstance(spec, traffic.RolloutSpec) and found.reason in (reason.WINNER, reason.DISABLED):
        yield _rollout(allocation, spec, found)
    elif found.reason in decided:
        yield decided[found.reason]
    elif found.reason == reason.ERROR and not found.unit:
        yield f"The unit cannot be used ({found.error}), so it gets the control, {control}."
    else:
        assert numbers is not None, f"reason {found.reason} without a unit"
        yield from _steps(found, allocation, numbers)


def _header(spec: Spec) -> str:
    return (spec.header or "") if isinstance(spec, document.ExperimentSpec) else ""


def _rollout(allocation: assignment.Allocation, spec: traffic.RolloutSpec, found: assignment.Assignment) -> str:
    progress = spec.progress
    state = progress.state if progress and progress.phase == allocation.phase else "pending"
    return f"Rollout {allocation.name} is {state.replace('_', ' ')}: everybody gets {found.variant}."


def _steps(found: assignment.Assignment, allocation: assignment.Allocation, numbers: points.Points) -> Iterator[str]:
    """Holdout, layer, targeting, ramp, split: those that the experiment has, until one stops the unit."""
    gates, unit, reason = allocation.gates, found.unit, assignment.Reason
    stops = f"It gets the control, {allocation.control}."
    if gates.holdout is not None:
        held = found.reason == reason.HOLDOUT
        point = f"its point is {numbers.holdout_point_ppm:,} of 1,000,000"
        ends = f"the holdout {gates.holdout.name!r} ends at {gates.holdout.ratio_ppm:,}"
        yield f"{unit} is {'held out' if held else 'not held out'}: {point}, {ends}.{f' {stops}' if held else ''}"
        if held:
            return
    if gates.layer is not None:
        outside = found.reason == reason.NOT_IN_LAYER
        slots = ", ".join(f"{first}-{last}" for first, last in gates.layer.slots)
        place = f"{unit} stands in slot {numbers.slot} of layer {gates.layer.name!r}, {allocation.name} owns {slots}."
        yield f"{place} {stops}" if outside else place
        if outside:
            return
    if gates.targeting is not None:
        yield _targeting(found, gates.targeting, stops)
        if found.reason in (reason.TARGETING, reason.ERROR):
            return
    if numbers.number is not None:
        yield from _drawn(found, allocation, numbers, stops)
        return
    ramp = f"its ramp point is {numbers.ramp_point_ppm:,} of 1,000,000, the ramp ends at {allocation.ramp_ppm:,}"
    if found.reason == reason.NOT_IN_RAMP:
        yield f"{unit} does not take part: {ramp}. {stops}"
        return
    yield f"{unit} takes part: {ramp}."
    yield _split(found, numbers)


def _targeting(found: assignment.Assignment, condition: assignment.Condition, stops: str) -> str:
    text = getattr(condition, "text", condition)
    if found.missing:
        return (
            f"Targeting ({text}) needs {found.missing}, which the request does not say: that counts as false. {stops}"
        )
    if found.reason == assignment.Reason.ERROR:
        return f"Targeting ({text}) failed: {found.error}. {stops}"
    if found.reason == assignment.Reason.TARGETING:
        return f"Targeting ({text}) is false. {stops}"
    return f"Targeting ({text}) is true."


def _drawn(
    found: assignment.Assignment, allocation: assignment.Allocation, numbers: points.Points, stops: str
) -> Iterator[str]:
    ranges = ", ".join(f"{name} [{start:.6g}, {end:.6g})" for name, (start, end) in allocation.ranges.items())
    where = f"{found.unit} stands at {numbers.number:.4f} under {allocation.gates.hash}; the variants own {ranges}."
    yield f"{where} {stops}" if found.reason == assignment.Reason.NOT_IN_RAMP else where
    if not found.unit.isascii():
        yield "It is not plain ASCII: GrowthBook's SDKs disagree on such ids, and this is its JavaScript SDK's way."


def _split(found: assignment.Assignment, numbers: points.Points) -> str:
    best = max(numbers.draws, key=lambda draw: draw.score)
    others = [draw for draw in numbers.draws if draw is not best and draw.weight > 0]
    against = ", ".join(f"{draw.variant} {draw.score:.6g}" for draw in others) or "nobody"
    chance = f"{100 * found.propensity:.4g} % of the units that take part get it"
    return f"{found.variant} has the highest score, {best.score:.6g} (against {against}); {chance}."
