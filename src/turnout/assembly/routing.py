"""Makes endpoints out of bound pipelines: who is asked, which variants there are, who answers when one fails.

Called by `building` once per endpoint of a document; calls `variants` for what there is and
`binder` for the pipelines.
"""

import math
from collections.abc import Mapping

from msgspec import Struct

from turnout import telemetry
from turnout.assembly import binder, circuit, doubts, endpoint, meter, reading, refusals, variants
from turnout.errors import SpecError
from turnout.experiments import allocations, assignment, phases
from turnout.expressions import catalog
from turnout.pipelines import binding, contracts, shadow
from turnout.spec import document, snapshot, traffic


class Tools(Struct, frozen=True, kw_only=True):
    """What routing works with, for one document.

    Attributes:
        groups: By endpoint, from `variants.groups`.
        conditions: Compiled targeting by experiment.
    """

    snapshot: snapshot.Snapshot
    binder: binder.Binder
    groups: Mapping[str, variants.Groups]
    conditions: Mapping[str, catalog.Condition]
    registry: telemetry.Registry
    families: meter.Families
    noted: refusals.Refusals


def rollout_phase(admitted: snapshot.Snapshot, endpoint_name: str) -> str:
    """The phase of an endpoint's rollout; "" without one."""
    found = admitted.document.rollout_on(endpoint_name)
    if found is None:
        return ""
    return phases.of_rollout(found[0], admitted.document, written=admitted.written, digests=admitted.digests)


class Routing:
    """One endpoint in the making."""

    def __init__(self, tools: Tools, name: str) -> None:
        self._tools = tools
        self._name = name
        self._spec = tools.snapshot.document.endpoints[name]
        self._groups = tools.groups[name]
        self._spare: endpoint.Route | None = None
        self._phases: dict[str, str] = {}
        self._contracts: list[tuple[str, binding.BoundPipeline]] = []
        self._complete = True

    def build(self) -> endpoint.Endpoint | None:
        """The endpoint, ready to answer; None when something is wrong, which is noted."""
        spec, path = self._spec, f"pipelines.{self._spec.pipeline}"
        clashes = list(variants.clashes(self._name, self._groups))
        for error in clashes:
            self._tools.noted.note("", error)
        if clashes:
            return None
        own = None
        if not (self._groups and self._groups[0][0].over):
            own = self._bind(variants.Side(pipeline=spec.pipeline, path=path), path)
        if spec.fallback:
            side = variants.Side(pipeline=spec.fallback, path=f"pipelines.{spec.fallback}")
            bound = self._bind(side, f"endpoints.{self._name}.fallback")
            self._spare = None if bound is None else self._route(None, "", bound)
        groups = tuple(tuple(map(self._split, group)) for group in self._groups)
        self._phases = {split.name: split.phase for group in groups for split in group}
        shadows = [self._shadow(name, each) for name, each in self._document.shadows_on(self._name).items()]
        control = self._routes(groups[0]) if groups else self._plain(own)
        if not self._complete or control is None:
            return None
        contract = own or control.pipeline
        self._same_contract(contract)
        self._tools.noted.warnings += doubts.doubts(self._name, spec, contract)
        return endpoint.Endpoint(
            self._name,
            deadline_s=spec.deadline_s,
            control=control,
            contract=contract,
            subject=self._subject(),
            groups=groups,
            shadows=[each for each in shadows if each is not None],
            description=spec.description,
        )

    @property
    def _document(self) -> document.Document:
        return self._tools.snapshot.document

    def _bind(
        self, side: variants.Side, path: str, laid: variants.Chosen = (), *, shy: bool = False
    ) -> binding.BoundPipeline | None:
        """A bound pipeline; its contract is compared with the endpoint's under `path`."""
        bound = self._tools.binder.bind(self._spec, side, laid, shy=shy)
        if bound is None:
            self._complete = False
        elif not laid:  # params change no contract
            self._contracts.append((path, bound))
        return bound

    def _same_contract(self, own: binding.BoundPipeline) -> None:
        """Every pipeline behind an endpoint takes its request and gives its reply."""
        for path, bound in self._contracts:
            reason = contracts.mismatch(own, bound) if bound is not own else ""
            if reason:
                hint = "All pipelines of an endpoint share one contract."
                self._tools.noted.note(path, SpecError(f"{reason}.", hint=hint))

    # -- who decides

    def _split(self, part: variants.Part) -> endpoint.Split:
        tools, spec, name, unit = self._tools, part.spec, part.name, self._spec.unit or ""
        tally = meter.Tally(tools.families, name)
        if isinstance(spec, traffic.RolloutSpec):
            phase = rollout_phase(tools.snapshot, self._name)
            allocation = allocations.of_rollout(name, spec, phase=phase, unit_type=unit)
            return endpoint.Split(allocation, tally, rollout=spec)
        phase = phases.of(name, self._document, written=tools.snapshot.written, digests=tools.snapshot.digests)
        allocation = allocations.of(
            name,
            spec,
            phase=phase,
            unit_type=unit,
            holdout=allocations.holdout_on(self._document, self._name),
            targeting=tools.conditions.get(name),
        )
        stand_in = None
        if spec.on_missing_unit.startswith(assignment.ATTRIBUTE):
            attribute = spec.on_missing_unit.removeprefix(assignment.ATTRIBUTE)
            stand_in = attribute, reading.UnitReader(self._spec.attributes.get(attribute, attribute))
        return endpoint.Split(allocation, tally, header=spec.header, stand_in=stand_in)

    def _subject(self) -> endpoint.Subject:
        """Attributes are read where some condition looks at them, and only those."""
        conditions = [self._tools.conditions.get(part.name) for group in self._groups for part in group]
        names = {name for condition in conditions if condition is not None for name in condition.names}
        return endpoint.Subject(
            unit=self._spec.unit or "",
            attributes={name: path for name, path in self._spec.attributes.items() if name in names},
            override_key=self._document.override_key,
        )

    # -- who answers

    def _route(
        self,
        split: endpoint.Split | None,
        variant: str,
        bound: binding.BoundPipeline,
        counted: meter.Meter | None = None,
        also: tuple[tuple[str, str, str], ...] = (),
    ) -> endpoint.Route:
        experiment = split.name if split else ""
        counted = counted or meter.Meter(
            self._tools.families, endpoint=self._name, experiment=experiment, variant=variant, pipeline=bound.name
        )
        return endpoint.Route(variant, bound, counted, split=split, also=also)

    def _plain(self, own: binding.BoundPipeline | None) -> endpoint.Route | None:
        """Without any experiment."""
        if own is None:
            return None
        route = self._route(None, "", own)
        self._answer_for(route, self._spare)
        return route

    def _routes(self, splits: tuple[endpoint.Split, ...]) -> endpoint.Route | None:
        """The routes of the first group's variants; returns the one of requests that take no part."""
        for split, part in zip(splits, self._groups[0], strict=True):
            for variant, side in part.sides.items():
                bound = self._bind(side, side.path)
                if bound is not None:
                    split.routes[variant] = self._laid(self._route(split, variant, bound), side)
            if len(split.routes) < len(part.sides):
                return None
        if not self._complete:
            return None
        for split, part in zip(splits, self._groups[0], strict=True):
            for variant, route in split.routes.items():
                stable = split.routes[part.stable] if variant in part.covered else None
                self._answer_for(route, stable or self._spare, guarded=stable is not None and part.guarded)
        return splits[0].routes[self._groups[0][0].default]

    def _laid(self, route: endpoint.Route, side: variants.Side) -> endpoint.Route:
        """The route with every combination of other groups' params on it."""
        others = self._groups[1:]
        for chosen in variants.combinations(others) if others else ():
            bound = self._bind(side, side.path, chosen)
            if bound is None:
                continue
            picks = tuple((part.name, variant) for part, variant in chosen)
            also = tuple((part.name, self._phases[part.name], variant) for part, variant in chosen)
            route.laid[picks] = self._route(route.split, route.variant, bound, route.meter, also)
        return route

    def _answer_for(self, route: endpoint.Route, fallback: endpoint.Route | None, *, guarded: bool = False) -> None:
        """Let `fallback` answer where `route` fails, also with other groups' params on both; count its failures."""
        if fallback is None:
            return
        broken = circuit.Circuit(
            self._tools.registry,
            endpoint=self._name,
            name=route.split.name if route.split else "",
            variant=route.variant,
            opens_at=circuit.OPENS_AT if guarded else math.inf,
        )
        for picks, each in ((None, route), *route.laid.items()):
            each.circuit = broken
            each.fallback = fallback if picks is None else fallback.laid.get(picks, fallback)

    # -- who only listens

    def _shadow(self, name: str, spec: traffic.ShadowSpec) -> shadow.Shadow | None:
        path = f"shadows.{name}"
        pipeline = spec.pipeline or self._spec.pipeline
        side = variants.Side(pipeline=pipeline, models=spec.models, params=spec.params, path=path)
        bound = self._bind(side, path, shy=True)
        if bound is None:
            return None
        if bound.streams:
            hint = "Shadow a pipeline that answers at once."
            told = f"pipeline {pipeline!r} answers in a stream, which cannot be compared."
            self._tools.noted.note(path, SpecError(told, hint=hint))
        return shadow.Shadow(
            name,
            bound,
            endpoint=self._name,
            ratio=spec.ratio,
            max_in_flight=spec.max_in_flight,
            deadline_s=spec.deadline_s,
            registry=self._tools.registry,
        )
