"""From a Snapshot to an Assembly: import code, load and warm models, bind pipelines, check contracts.

All errors of a document come out together, each under its key path; on any error nothing
that was loaded for it stays loaded. Called by the gateway's Home and by `turnout check`.
"""

import asyncio
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from turnout import telemetry
from turnout.assembly import assembly, code, endpoint, meter, pool
from turnout.errors import DocumentError, SpecError, TurnoutError
from turnout.experiments import allocations, assignment, phases
from turnout.models import batcher, handle, host
from turnout.pipelines import binding, contracts, definition
from turnout.pipelines import catalog as pipeline_catalog
from turnout.runtimes import base
from turnout.runtimes import catalog as runtime_catalog
from turnout.spec import document, snapshot, tree


async def build(
    admitted: snapshot.Snapshot, *, user_code: code.Code, loaded: pool.Pool, registry: telemetry.Registry
) -> assembly.Assembly:
    """Make a Snapshot runnable. Models that the pool already holds are shared, new ones are loaded and warmed.

    Raises:
        DocumentError: Every error found; nothing new stays loaded.

    Cancellation: what was loaded for this build is released.
    """
    builder = _Builder(admitted, user_code, loaded, registry)
    try:
        return await builder.run()
    except BaseException:
        await builder.undo()
        raise


async def release(built: assembly.Assembly, loaded: pool.Pool) -> None:
    """Let go of an assembly's models; those that no other assembly uses are unloaded."""
    for identity in built.identities.values():
        await loaded.release(identity)


class _Builder:
    def __init__(
        self, admitted: snapshot.Snapshot, user_code: code.Code, loaded: pool.Pool, registry: telemetry.Registry
    ) -> None:
        self.snapshot = admitted
        self.document = admitted.document
        self.code = user_code
        self.pool = loaded
        self.registry = registry
        self.families = meter.Families(registry)
        self.errors: list[SpecError] = []
        self.hosts: dict[str, host.Host] = {}
        self.identities: dict[str, str] = {}

    async def run(self) -> assembly.Assembly:
        definitions = await asyncio.to_thread(self._definitions)
        classes = await asyncio.to_thread(self._classes)
        await self._load(classes)
        endpoints = {name: self._endpoint(name, spec, definitions) for name, spec in self.document.endpoints.items()}
        if self.errors:
            raise DocumentError(self.snapshot.located(error) for error in self.errors)
        return assembly.Assembly(
            self.snapshot,
            build=self.code.build,
            endpoints={name: each for name, each in endpoints.items() if each is not None},
            hosts=self.hosts,
            identities=self.identities,
        )

    async def undo(self) -> None:
        for identity in self.identities.values():
            await self.pool.release(identity)

    def _fail(self, path: str, error: TurnoutError) -> None:
        """Note one error under a key path; an error's own path is taken as relative to it."""
        for each in error.errors if isinstance(error, DocumentError) else (error,):
            inner = each.path if isinstance(each, SpecError) else ""
            full = f"{path}.{inner}" if inner else path
            self.errors.append(SpecError(each.message, path=full, hint=each.hint))

    # -- code

    def _definitions(self) -> dict[str, definition.Definition]:
        found = {}
        for name, spec in self.document.pipelines.items():
            try:
                marked = self.code.load(pipeline_catalog.PIPELINES.get(spec.code, spec.code))
                found[name] = definition.define(marked)
            except TurnoutError as error:
                self._fail(f"pipelines.{name}.code", error)
        return found

    def _classes(self) -> dict[str, Any]:
        found = {}
        for alias, spec in self.document.models.items():
            if spec.code:
                try:
                    found[alias] = self.code.load(spec.code)
                except TurnoutError as error:
                    self._fail(f"models.{alias}.code", error)
        return found

    # -- models

    def _used(self) -> set[str]:
        """Aliases that some endpoint can reach; only these are loaded."""
        used: set[str] = set()
        for name, spec in self.document.endpoints.items():
            for pipeline_name in filter(None, (spec.pipeline, spec.fallback)):
                used.update(self._bound(pipeline_name, {}).values())
            for variant in self._variants(name).values():
                used.update(self._bound(variant.pipeline or spec.pipeline, variant.models).values())
        return used & set(self.document.models)

    def _bound(self, pipeline_name: str, overrides: Mapping[str, str]) -> dict[str, str]:
        spec = self.document.pipelines.get(pipeline_name)
        return {**(spec.models if spec else {}), **overrides}

    def _variants(self, endpoint_name: str) -> Mapping[str, document.VariantSpec]:
        found = self.document.experiment_on(endpoint_name)
        return found[1].variants if found else {}

    async def _load(self, classes: Mapping[str, Any]) -> None:
        wanted = [alias for alias in sorted(self._used()) if not self.document.models[alias].code or alias in classes]
        await asyncio.gather(*(self._acquire(alias, classes.get(alias)) for alias in wanted))

    async def _acquire(self, alias: str, user_class: Any) -> None:
        spec = self.document.models[alias]
        identity = self._identity(alias, spec)
        try:
            runtime = await asyncio.to_thread(self._runtime, spec)
            artifact = self._artifact(alias, spec, user_class)
            loaded = await self.pool.acquire(identity, lambda: self._host(spec, runtime, artifact))
        except TurnoutError as error:
            self._fail(f"models.{alias}", error)
            return
        self.hosts[alias] = loaded
        self.identities[alias] = identity

    def _runtime(self, spec: document.ModelSpec) -> Any:
        if ":" in spec.runtime:
            return self.code.load(spec.runtime)
        return runtime_catalog.load(spec.runtime)

    def _identity(self, alias: str, spec: document.ModelSpec) -> str:
        """Digest of all that decides how the model loads and behaves; equal identity, same loaded model."""
        content = {
            "alias": alias,
            "spec": spec.model_dump(mode="json"),
            "digest": self.snapshot.digests.get(alias, ""),
            "build": self.code.build if spec.code else "",
        }
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()

    def _artifact(self, alias: str, spec: document.ModelSpec, user_class: Any) -> base.Artifact:
        known = {"written": self.snapshot.written, "digests": self.snapshot.digests}
        return base.Artifact(
            alias=alias,
            version=phases.version(alias, self.document, **known),
            path=str(Path(self.snapshot.directory) / spec.source) if spec.source else None,
            digest=self.snapshot.digests.get(alias, ""),
            pinned=spec.digest or "",
            code=user_class,
            options=spec.runtime_options(),
            threads=spec.threads,
        )

    def _host(self, spec: document.ModelSpec, runtime: Any, artifact: base.Artifact) -> host.Host:
        return host.Host(
            alias=artifact.alias,
            factory=lambda: runtime(artifact),
            batching=batcher.Batching(
                max_rows=spec.batching.max_rows,
                max_delay_s=spec.batching.max_delay_s,
                max_queue_rows=spec.batching.max_queue_rows,
            ),
            execution=spec.execution,
            instances=spec.instances,
            timeout_s=spec.timeout_s,
            registry=self.registry,
            warmup=spec.warmup,
        )

    # -- pipelines and endpoints

    def _endpoint(
        self, name: str, spec: document.EndpointSpec, definitions: Mapping[str, definition.Definition]
    ) -> endpoint.Endpoint | None:
        unit_field = spec.unit.partition(".")[0] if spec.unit and not spec.unit.startswith(endpoint.HEADER) else ""

        def bind(
            pipeline_name: str, path: str, variant: document.VariantSpec | None = None
        ) -> binding.BoundPipeline | None:
            return self._bind(pipeline_name, path, definitions, spec, unit_field, variant)

        own = bind(spec.pipeline, f"pipelines.{spec.pipeline}")
        spare = bind(spec.fallback, f"pipelines.{spec.fallback}") if spec.fallback else None
        if own is None or (spec.fallback and spare is None):
            return None
        last = self._route(name, "", "", spare) if spare else None
        if spare:
            self._same_contract(own, spare, f"endpoints.{name}.fallback")
        found = self.document.experiment_on(name)
        if found is None:
            route = self._route(name, "", "", own, last)
            return self._made(name, spec, {"": route}, route)
        experiment_name, experiment = found
        routes = {}
        for variant_name, variant in experiment.variants.items():
            path = f"experiments.{experiment_name}.variants.{variant_name}"
            bound = bind(variant.pipeline or spec.pipeline, path, variant)
            if bound is None:
                continue
            self._same_contract(own, bound, path)
            routes[variant_name] = self._route(name, experiment_name, variant_name, bound, last)
        if len(routes) < len(experiment.variants):
            return None
        control = routes[experiment.control]
        if experiment.fallback == "control":
            for route in routes.values():
                route.fallback = control if route is not control else last
        return self._made(name, spec, routes, control, self._allocation(experiment_name, experiment, spec), experiment)

    def _route(
        self,
        endpoint_name: str,
        experiment: str,
        variant: str,
        bound: binding.BoundPipeline,
        fallback: endpoint.Route | None = None,
    ) -> endpoint.Route:
        counted = meter.Meter(
            self.families, endpoint=endpoint_name, experiment=experiment, variant=variant, pipeline=bound.name
        )
        return endpoint.Route(variant, bound, counted, fallback)

    def _made(
        self,
        name: str,
        spec: document.EndpointSpec,
        routes: Mapping[str, endpoint.Route],
        control: endpoint.Route,
        allocation: assignment.Allocation | None = None,
        experiment: document.ExperimentSpec | None = None,
    ) -> endpoint.Endpoint:
        attribute = None
        if experiment and experiment.on_missing_unit.startswith("attribute:"):
            attribute = endpoint.UnitReader(experiment.on_missing_unit.removeprefix("attribute:"))
        return endpoint.Endpoint(
            name,
            deadline_s=spec.deadline_s,
            routes=routes,
            control=control,
            unit=endpoint.UnitReader(spec.unit) if spec.unit else None,
            allocation=allocation,
            attribute=attribute,
            description=spec.description,
        )

    def _bind(
        self,
        pipeline_name: str,
        path: str,
        definitions: Mapping[str, definition.Definition],
        spec: document.EndpointSpec,
        unit_field: str,
        variant: document.VariantSpec | None,
    ) -> binding.BoundPipeline | None:
        """One pipeline with its models and params, a variant's overrides on top."""
        defined = definitions.get(pipeline_name)
        pipeline = self.document.pipelines.get(pipeline_name)
        if defined is None or pipeline is None:
            return None
        aliases = self._bound(pipeline_name, variant.models if variant else {})
        if any(alias not in self.hosts for alias in aliases.values()):
            return None  # the model's own error is noted already
        params = {**pipeline.params, **(variant.params if variant else {})}
        raw = [_written(self.snapshot, f"pipelines.{pipeline_name}"), _written(self.snapshot, path)]
        as_written = {**raw[0].get("params", {}), **raw[1].get("params", {})}
        try:
            return binding.bind(
                pipeline_name,
                defined,
                {port: handle.Handle(port, self.hosts[alias]) for port, alias in aliases.items()},
                params=params,
                filled=frozenset(name for name, value in params.items() if as_written.get(name) != value),
                signatures={port: self.hosts[alias].signature for port, alias in aliases.items()},
                extra_request_fields=frozenset({unit_field} if unit_field else ()),
                extra_fields=spec.extra_fields,
            )
        except SpecError as error:
            self._fail(path, error)
            return None

    def _same_contract(self, own: binding.BoundPipeline, other: binding.BoundPipeline, path: str) -> None:
        """Every pipeline behind an endpoint takes its request and gives its reply."""
        reason = contracts.mismatch(own, other)
        if reason:
            self.errors.append(
                SpecError(f"{reason}.", path=path, hint="All pipelines of an endpoint share one contract.")
            )

    def _allocation(self, name: str, spec: document.ExperimentSpec, of: document.EndpointSpec) -> assignment.Allocation:
        phase = phases.of(name, self.document, written=self.snapshot.written, digests=self.snapshot.digests)
        return allocations.of(name, spec, phase=phase, unit_type=of.unit or "")


def _written(admitted: snapshot.Snapshot, path: str) -> Mapping[str, Any]:
    """The mapping at a key path, before references were filled in; empty where there is none."""
    found: Any = admitted.written
    for key in tree.path_from(path):
        found = found.get(key) if isinstance(found, Mapping) else None
    return found if isinstance(found, Mapping) else {}


def describe(each: endpoint.Endpoint) -> dict[str, Any]:
    """An endpoint for `/status`: contract, variants, and an example body that works."""
    described: dict[str, Any] = {
        "pipeline": each.contract.name,
        "deadline_s": each.deadline_s,
        "unit": each.unit_type or None,
        "experiment": each.experiment or None,
        "phase": each.phase or None,
        "example": each.contract.request.example(),
    }
    if each.allocation is not None:
        described["variants"] = {
            share.name: {
                "weight": share.weight,
                "pipeline": each.routes[share.name].pipeline.name,
                "models": list(each.routes[share.name].pipeline.models),
                "control": share.name == each.allocation.control,
            }
            for share in each.allocation.shares
        }
    return described


def summary(built: assembly.Assembly) -> dict[str, Any]:
    """What a worker tells the supervisor about a prepared document."""
    return {
        "endpoints": {name: describe(each) for name, each in sorted(built.endpoints.items())},
        "models": {alias: loaded.version for alias, loaded in sorted(built.hosts.items())},
        "warnings": [str(warning) for warning in built.snapshot.warnings],
    }
