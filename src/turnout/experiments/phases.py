"""The phase of an experiment: a digest of everything that allocates units or changes what a variant does.

Called by assembly (each exposure carries it) and by reports. No state: the document tells
the phase, so replicas agree and a document put back brings its phase back. Results are
never pooled over phases: a changed ratio over changing traffic is Simpson's paradox, and
it fakes a sample ratio mismatch.

In it: hash, seed, unit, layer slots and seed, targeting with the places of the attributes it
reads, the control's name, and per variant its name, weight, pipeline, models with versions,
params, policy. Not in it: ramp, holdout, overrides, metrics, plan, description, and how models
are run (batching, threads, ...). Of a rollout also not: steps, share and progress, so that it
has one phase from beginning to end.
"""

import hashlib
import json
import re
from collections.abc import Mapping
from typing import Any, Final, Protocol

from msgspec import Struct

from turnout.experiments import allocations, assignment
from turnout.spec import document

DIGITS: Final = 16


class VariantContent(Struct, frozen=True, kw_only=True):
    """What one variant is, with its pipeline's own bindings and params already merged in.

    Attributes:
        weight: As in the document; only ratios matter to units, yet every change is a phase.
        pipeline: Name of the pipeline in the document.
        code: "module:function" behind it.
        models: Keyword in the pipeline to what is bound there: alias and version.
        params: Effective params, as written: before `${NAME}` and `secret:` are filled in.
        policy: Effective policy; None without one.
    """

    weight: float
    pipeline: str
    code: str
    models: Mapping[str, tuple[str, str]]
    params: Mapping[str, Any]
    policy: Any = None


def phase(
    seed: str,
    unit: str | None,
    *,
    control: str,
    variants: Mapping[str, VariantContent],
    hashed: Any = assignment.V1,
    layer: Any = None,
    targeting: Any = None,
) -> str:
    """Digest what allocates: the first 16 hex digits of SHA-256 over canonical JSON.

    Args:
        unit: The endpoint's unit field; None without one.
        hashed: Name of the hash, with what else decides under it.
        layer: The layer's seed and slots; None without one.
        targeting: The condition's text and where its attributes come from; None without one.
    """
    content = {
        "hash": hashed,
        "seed": seed,
        "unit": unit,
        "layer": layer,
        "targeting": targeting,
        "control": control,
        "variants": {name: _content(variant) for name, variant in variants.items()},
    }
    return hashlib.sha256(canonical(content)).hexdigest()[:DIGITS]


def of(name: str, content: document.Document, *, written: Mapping[str, Any], digests: Mapping[str, str]) -> str:
    """The phase of one experiment of a document.

    Args:
        name: A key of its `experiments`.
        written: The merged document as people wrote it, before `${NAME}` and `secret:` were filled in:
            the phase must not differ between replicas, nor give a secret away.
        digests: Model to "sha256:..." of its artifact; models of code alone are not in it.

    Complexity: small; called once per document, not per request.
    """
    spec = content.experiments[name]
    endpoint = content.endpoints[spec.endpoint]
    raw = _at(written, "experiments", name, "variants")
    reader = _Reader(content, written, digests)
    return phase(
        spec.seed or name,
        endpoint.unit,
        control=spec.control,
        variants={
            key: reader.side(variant.pipeline or endpoint.pipeline, variant, _at(raw, key), variant.weight)
            for key, variant in spec.variants.items()
        },
        hashed=_hashed(spec),
        layer=_layer(spec),
        targeting=_targeting(spec, endpoint, _at(written, "experiments", name)),
    )


def of_rollout(name: str, content: document.Document, *, written: Mapping[str, Any], digests: Mapping[str, str]) -> str:
    """The phase of one rollout of a document; arguments as in `of`.

    Steps, guardrails, alpha and progress are not in it: a rollout adds its counts up over its steps.
    """
    spec = content.rollouts[name]
    endpoint = content.endpoints[spec.endpoint]
    reader = _Reader(content, written, digests)
    old = reader.side(endpoint.pipeline, None, {}, 1.0)
    new = reader.side(spec.to.pipeline or endpoint.pipeline, spec.to, _at(written, "rollouts", name, "to"), 1.0)
    return phase(
        spec.seed or name,
        endpoint.unit,
        control="old",
        variants={"old": old, "new": new},
        hashed={"rollout": spec.kind, "hash": assignment.V1},
    )


class Laid(Protocol):
    """What a variant or a rollout's target lays over a pipeline."""

    @property
    def models(self) -> Mapping[str, str]: ...
    @property
    def params(self) -> Mapping[str, Any]: ...


class _Reader:
    """Reads what the sides of one document are."""

    def __init__(self, content: document.Document, written: Mapping[str, Any], digests: Mapping[str, str]) -> None:
        self._content = content
        self._written = written
        self._digests = digests

    def side(self, pipeline: str, laid: Laid | None, raw: Mapping[str, Any], weight: float) -> VariantContent:
        """One side: a pipeline, with models and params laid over it; `raw` is the same part as written."""
        bound = self._content.pipelines[pipeline]
        aliases = {**bound.models, **(laid.models if laid else {})}
        return VariantContent(
            weight=weight,
            pipeline=pipeline,
            code=bound.code,
            models={keyword: (alias, self._version(alias)) for keyword, alias in aliases.items()},
            params={
                **bound.params,
                **_at(self._written, "pipelines", pipeline, "params"),
                **(laid.params if laid else {}),
                **_at(raw, "params"),
            },
        )

    def _version(self, alias: str) -> str:
        return version(alias, self._content, written=self._written, digests=self._digests)


def _hashed(spec: document.ExperimentSpec) -> Any:
    """The hash's name, with what else decides under it: the header, or the order that GrowthBook's ranges follow."""
    if spec.assign == "external":
        return {"external": (spec.header or "").lower()}
    return spec.hash if spec.hash == assignment.V1 else {"hash": spec.hash, "order": list(spec.variants)}


def _layer(spec: document.ExperimentSpec) -> Any:
    layer = allocations.layer_of(spec)
    return {"seed": layer.seed, "slots": layer.slots} if layer else None


def _targeting(spec: document.ExperimentSpec, endpoint: document.EndpointSpec, raw: Mapping[str, Any]) -> Any:
    if spec.targeting is None:
        return None
    text = raw.get("targeting", spec.targeting)
    words = set(re.findall(r"\w+", str(text)))
    return {
        "condition": text,
        "attributes": {name: path for name, path in endpoint.attributes.items() if name in words},
    }


def version(alias: str, content: document.Document, *, written: Mapping[str, Any], digests: Mapping[str, str]) -> str:
    """What a model predicts with: runtime, artifact, class and options, as 12 hex digits.

    How it is run (batching, threads, timeout, ...) and where its file lies are not in it, nor is the
    code behind the class: that is the build.
    """
    spec = content.models[alias]
    raw = _at(written, "models", alias)
    identity = {
        "runtime": spec.runtime,
        "artifact": digests.get(alias) or spec.source,
        "code": spec.code,
        "options": {**spec.runtime_options(), **_at(raw, "params"), **_at(raw, "options")},
    }
    return hashlib.sha256(canonical(identity)).hexdigest()[:12]


def _at(tree: Mapping[str, Any], *path: str) -> Mapping[str, Any]:
    """The mapping at a key path; empty where there is none."""
    for key in path:
        found = tree.get(key)
        tree = found if isinstance(found, Mapping) else {}
    return tree


def canonical(value: Any) -> bytes:
    """JSON with sorted keys, no spaces, UTF-8 as it is; the same bytes in every process.

    Raises:
        TypeError: A value that JSON has no form for.
        ValueError: NaN or infinity.
    """
    text = json.dumps(_plain(value), sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return text.encode()


def _content(variant: VariantContent) -> dict[str, Any]:
    return {
        "weight": float(variant.weight),
        "pipeline": [variant.pipeline, variant.code],
        "models": {keyword: list(bound) for keyword, bound in variant.models.items()},
        "params": variant.params,
        "policy": variant.policy,
    }


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value
