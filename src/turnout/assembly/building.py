"""From a Snapshot to an Assembly: import code, load and warm models, bind pipelines, check contracts.

All errors of a document come out together, each under its key path; on any error nothing
that was loaded for it stays loaded. Called by the gateway's Home, `turnout check`
and `turnout diff`.
"""

import asyncio
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from turnout import telemetry
from turnout.assembly import assembly, binder, code, meter, pool, refusals, routing, variants
from turnout.errors import DocumentError, TurnoutError
from turnout.experiments import phases
from turnout.expressions import catalog as conditions
from turnout.expressions import targeting
from turnout.models import batcher, host
from turnout.pipelines import catalog as pipeline_catalog
from turnout.pipelines import definition
from turnout.runtimes import base
from turnout.runtimes import catalog as runtime_catalog
from turnout.spec import document, snapshot


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
    """End an assembly's shadows and let go of its models; those that no other assembly uses are unloaded."""
    await built.stop_shadows()
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
        self.noted = refusals.Refusals()
        self.groups = {
            name: variants.groups(self.document, name, routing.rollout_phase(admitted, name))
            for name in self.document.endpoints
        }
        self.hosts: dict[str, host.Host] = {}
        self.identities: dict[str, str] = {}

    async def run(self) -> assembly.Assembly:
        definitions = await asyncio.to_thread(self._definitions)
        classes = await asyncio.to_thread(self._classes)
        await self._load(classes)
        compiled = await asyncio.to_thread(self._conditions)
        tools = routing.Tools(
            snapshot=self.snapshot,
            binder=binder.Binder(self.snapshot, definitions, self.hosts, self.noted),
            groups=self.groups,
            conditions=compiled,
            registry=self.registry,
            families=meter.Families(self.registry),
            noted=self.noted,
        )
        # in a thread: one pipeline takes 5 ms to bind, an endpoint may have 64, and requests run meanwhile
        endpoints = await asyncio.to_thread(
            lambda: {name: routing.Routing(tools, name).build() for name in self.document.endpoints}
        )
        if self.noted.errors:
            raise DocumentError(self.snapshot.located(error) for error in self.noted.errors)
        return assembly.Assembly(
            self.snapshot,
            build=self.code.build,
            endpoints={name: each for name, each in endpoints.items() if each is not None},
            hosts=self.hosts,
            identities=self.identities,
            warnings=[*self.snapshot.warnings, *map(self.snapshot.located, self.noted.warnings)],
        )

    async def undo(self) -> None:
        for identity in self.identities.values():
            await self.pool.release(identity)

    # -- code

    def _definitions(self) -> dict[str, definition.Definition]:
        found = {}
        for name, spec in self.document.pipelines.items():
            try:
                marked = self.code.load(pipeline_catalog.PIPELINES.get(spec.code, spec.code))
                found[name] = definition.define(marked)
            except TurnoutError as error:
                self.noted.note(f"pipelines.{name}.code", error)
        return found

    def _classes(self) -> dict[str, Any]:
        found = {}
        for alias, spec in self.document.models.items():
            if spec.code:
                try:
                    found[alias] = self.code.load(spec.code)
                except TurnoutError as error:
                    self.noted.note(f"models.{alias}.code", error)
        return found

    def _conditions(self) -> dict[str, conditions.Condition]:
        found, errors = targeting.compiled(self.document, self.snapshot.written)
        for error in errors:
            self.noted.note("", error)
        return found

    # -- models

    def _used(self) -> set[str]:
        """Aliases that some endpoint can reach; only these are loaded."""
        return {alias for name, found in self.groups.items() for alias in variants.models(self.document, name, found)}

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
            self.noted.note(f"models.{alias}", error)
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
