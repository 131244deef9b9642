"""An endpoint made runnable: who is asked (the unit), which variants answer, and with what.

Made by `routing` once per document, walked by `dispatch` once per request, so everything
that can be done once has been done when these objects exist.

    groups      experiments that exclude each other (one layer), or one rollout, or one experiment alone
    first group its variants bring the pipeline; at most one experiment of it takes a request
    others      lay params over that pipeline, each independent of the first and of each other
"""

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from turnout.assembly import circuit, meter, reading
from turnout.experiments import allocations, assignment, overrides
from turnout.pipelines import binding, shadow
from turnout.spec import traffic

_CLAIM = {
    assignment.Reason.OVERRIDE: 0,
    assignment.Reason.WINNER: 2,
    assignment.Reason.NO_UNIT: 3,
    assignment.Reason.HOLDOUT: 3,
    assignment.Reason.NOT_IN_LAYER: 3,
    assignment.Reason.ERROR: 3,
}
"""How strongly a reason claims a request for its experiment among those of one layer; all others 1, lowest first.

Who tests gets what was asked for; then the owner of the slot; then an experiment that is decided.
"""

Picks = tuple[tuple[str, str], ...]
"""Experiment and variant that the groups after the first one chose."""


class Split:
    """One experiment or rollout of an endpoint, as requests meet it.

    Attributes:
        name: Of the experiment or rollout.
        phase: Of its allocation.
        layer: The layer's name; "" without one.
        rollout: In the document; None for an experiment.
        allocation: What decides.
        header: The header in which another system names the variant; None where the split decides.
        stand_in: Reads what stands in for a missing unit; None where nothing does.
        tally: Its counters.
        routes: Variant to route; empty outside of the first group.
        plain: Whether the unit and the attributes are all that it looks at.
    """

    __slots__ = ("allocation", "header", "layer", "name", "phase", "plain", "rollout", "routes", "stand_in", "tally")

    def __init__(
        self,
        allocation: assignment.Allocation,
        tally: meter.Tally,
        *,
        rollout: traffic.RolloutSpec | None = None,
        header: str | None = None,
        stand_in: tuple[str, reading.UnitReader] | None = None,
    ) -> None:
        self.name = allocation.name
        self.phase = allocation.phase
        self.layer = allocation.gates.layer.name if allocation.gates.layer is not None else ""
        self.allocation = allocation
        self.rollout = rollout
        self.header = header.lower().encode() if header else None
        self.stand_in = stand_in
        self.tally = tally
        self.routes: dict[str, Route] = {}
        self.plain = header is None and stand_in is None

    def assign(
        self,
        request: reading.Incoming,
        unit: str | None,
        attributes: Mapping[str, Any] | None,
        override: overrides.Override | None,
    ) -> assignment.Assignment:
        """The variant of this request, with the reason.

        Raises:
            InputError: What stands in for the unit is of the wrong type or too long.
        """
        if self.plain and override is None:
            return assignment.assign(unit, self.allocation, request_id=request.id, attributes=attributes)
        if unit is None and self.stand_in is not None:
            name, read = self.stand_in
            attributes = {**(attributes or {}), name: read(request)}
        named = request.header(self.header) if self.header is not None else None
        return assignment.assign(
            unit,
            self.allocation,
            request_id=request.id,
            attributes=attributes,
            external=named.decode("latin-1") if named is not None else None,
            override=override.of(self.name) if override is not None else None,
        )

    def exposes(self, assigned: assignment.Assignment) -> bool:
        """Whether an assignment is an exposure. Of an experiment each one is, whatever its reason.

        A rollout compares canary and control, and logs nobody else: units leave `rest` with every step, so they
        would be units that were seen in two variants.
        """
        if self.rollout is None:
            return True
        return assigned.reason in assignment.ANALYSED and assigned.variant != allocations.REST


class Route:
    """One way a request can go: a variant (or the endpoint's own pipeline) with everything bound.

    Attributes:
        variant: Name of the variant; "" without an experiment.
        pipeline: Its bound pipeline.
        meter: Its counters.
        split: Whose variant it is; None without an experiment.
        fallback: The route that answers when this one fails; None when nobody does.
        circuit: Counts its failures and may stop asking it; None where nobody answers in its place.
        also: What other groups laid over it, as (experiment, phase, variant).
        laid: The same variant with the params of other groups, by what those chose.
    """

    __slots__ = ("also", "circuit", "fallback", "laid", "meter", "pipeline", "split", "variant")

    def __init__(
        self,
        variant: str,
        pipeline: binding.BoundPipeline,
        counted: meter.Meter,
        *,
        split: Split | None = None,
        also: tuple[tuple[str, str, str], ...] = (),
    ) -> None:
        self.variant = variant
        self.meter = counted
        self.pipeline = pipeline
        self.split = split
        self.also = also
        self.fallback: Route | None = None
        self.circuit: circuit.Circuit | None = None
        self.laid: dict[Picks, Route] = {}


class Choice(msgspec.Struct, frozen=True, gc=False):
    """What was decided about one request before anything ran.

    Attributes:
        route: The way it goes.
        unit: "" without one.
        assigned: By the first group; None without an experiment.
        also: By the other groups.
        attributes: What targeting saw; None where nothing looks.
    """

    route: Route
    unit: str = ""
    assigned: assignment.Assignment | None = None
    also: tuple[tuple[Split, assignment.Assignment], ...] = ()
    attributes: Mapping[str, Any] | None = None


class Endpoint:
    """The stable public name, ready to answer.

    Attributes:
        name: As in the path `/v1/endpoints/{name}`.
        deadline_s: Seconds a request may take in all.
        control: The route that answers when nothing else is chosen.
        contract: The pipeline whose request and reply types are the endpoint's.
        groups: See the module's docstring; empty without experiment and rollout.
        shadows: Pipelines that get a copy of what it answers.
        unit_type: The unit's path; "" without one.
    """

    def __init__(  # noqa: PLR0913 - a record; routing fills it
        self,
        name: str,
        *,
        deadline_s: float,
        control: Route,
        contract: binding.BoundPipeline,
        subject: "Subject",
        groups: Sequence[tuple[Split, ...]] = (),
        shadows: Sequence[shadow.Shadow] = (),
        description: str = "",
    ) -> None:
        self.name = name
        self.deadline_s = deadline_s
        self.control = control
        self.contract = contract
        self.groups = tuple(groups)
        self.shadows = tuple(shadows)
        self.description = description
        self.unit_type = subject.unit
        self.nothing = Choice(control)
        self._only = self.groups[0][0] if len(self.splits) == 1 else None
        self._override_key = subject.override_key
        self._read_unit = reading.UnitReader(subject.unit) if subject.unit else None
        self._read = reading.SubjectReader(subject.unit, subject.attributes) if subject.attributes else None

    @property
    def splits(self) -> list[Split]:
        """All experiments and rollouts on it."""
        return [split for group in self.groups for split in group]

    def choose(self, request: reading.Incoming) -> Choice:
        """The route of this request, and why.

        Raises:
            InputError: The unit is of the wrong type or too long, or an override is not valid.
        """
        attributes = None
        if self._read is not None:
            unit, attributes = self._read(request)
        else:
            unit = self._read_unit(request) if self._read_unit is not None else None
        if not self.groups:
            return Choice(self.control, unit or "")
        override = self._override(request) if self._override_key is not None else None
        split = self._only
        if split is not None:
            assigned = split.assign(request, unit, attributes, override)
            return Choice(split.routes[assigned.variant], assigned.unit, assigned, (), attributes)
        split, assigned = _claimed(self.groups[0], request, unit, attributes, override)
        route = split.routes[assigned.variant]
        if len(self.groups) == 1:
            return Choice(route, assigned.unit, assigned, (), attributes)
        also = tuple(_claimed(group, request, unit, attributes, override) for group in self.groups[1:])
        picks = tuple([(other.name, chosen.variant) for other, chosen in also])
        return Choice(route.laid[picks], assigned.unit, assigned, also, attributes)

    def _override(self, request: reading.Incoming) -> overrides.Override | None:
        signed = request.header(overrides.HEADER)
        if signed is None:
            return None
        override = overrides.verify(signed, self._override_key, now=request.ts)
        for split in self.splits:
            override.check(split.name, [share.name for share in split.allocation.shares])
        return override


class Subject(msgspec.Struct, frozen=True, kw_only=True):
    """What an endpoint reads of a request before it chooses.

    Attributes:
        unit: The unit's path; "" without one.
        attributes: Name to path; only where something targets by them.
        override_key: Checks signed overrides; None where none are taken.
    """

    unit: str = ""
    attributes: Mapping[str, str] = {}
    override_key: str | None = None


def _claimed(
    group: tuple[Split, ...],
    request: reading.Incoming,
    unit: str | None,
    attributes: Mapping[str, Any] | None,
    override: overrides.Override | None,
) -> tuple[Split, assignment.Assignment]:
    """The experiment of a group that takes this request, and its assignment; the first one where none claims it."""
    if len(group) == 1:
        return group[0], group[0].assign(request, unit, attributes, override)
    found = [(split, split.assign(request, unit, attributes, override)) for split in group]
    return min(found, key=lambda each: _CLAIM.get(each[1].reason, 1))
