"""Which models a change loads and unloads, and what memory that needs. Called by `change`; pure."""

from collections.abc import Mapping
from typing import Any

from turnout.changes import tables
from turnout.spec import document, snapshot


def models(
    before: snapshot.Snapshot, after: snapshot.Snapshot, facts: tuple[tables.Facts, tables.Facts]
) -> tuple[tuple[tables.Model, ...], tables.Memory]:
    """Models that load, unload or load anew, and the memory of all."""
    olds, news = used(before.document), used(after.document)
    found, anew = [], set()
    for name in sorted(olds | news):
        why = _why(before, after, name, facts) if name in olds and name in news else ()
        if name in olds and name in news and not why:
            continue
        anew.add(name)
        side = facts[1] if name in news else facts[0]
        found.append(
            tables.Model(
                name=name,
                state="reloads" if why else "loads" if name in news else "unloads",
                why=why,
                artifact_bytes=side.artifact_bytes.get(name),
                memory_bytes=facts[0].memory_bytes.get(name) if name in olds else None,
            )
        )
    return tuple(found), _memory(olds, news, anew, facts)


def used(content: document.Document) -> set[str]:
    """Models that some endpoint can reach: the others are not loaded."""
    found: set[str] = set()

    def bound(pipeline: str, over: Mapping[str, str]) -> None:
        found.update({**content.pipelines[pipeline].models, **over}.values())

    for name, spec in content.endpoints.items():
        for pipeline in filter(None, (spec.pipeline, spec.fallback)):
            bound(pipeline, {})
        lone = content.experiment_on(name)
        for experiment in content.experiments_on(name).values() or ((lone[1],) if lone else ()):
            for variant in experiment.variants.values():
                bound(variant.pipeline or spec.pipeline, variant.models)
        rollout = content.rollout_on(name)
        if rollout is not None:
            bound(rollout[1].to.pipeline or spec.pipeline, rollout[1].to.models)
        for shadow in content.shadows_on(name).values():
            bound(shadow.pipeline or spec.pipeline, shadow.models)
    return found


def _why(
    before: snapshot.Snapshot,
    after: snapshot.Snapshot,
    name: str,
    facts: tuple[tables.Facts, tables.Facts],
) -> tuple[str, ...]:
    """What of a model is different, so that the loaded one cannot be kept."""
    old, new = (_content(side.document.models[name]) for side in (before, after))
    keys = [key for key in sorted(old.keys() | new.keys()) if old.get(key) != new.get(key)]
    digests = [side.digests.get(name, "") for side in (before, after)]
    if digests[0] != digests[1] and "digest" not in keys:
        keys.append("artifact")
    builds = [side.build for side in facts]
    if after.document.models[name].code and all(builds) and builds[0] != builds[1]:
        keys.append("code")
    return tuple(keys)


def _content(spec: document.ModelSpec) -> dict[str, Any]:
    return spec.model_dump(mode="json", by_alias=True)


def _memory(olds: set[str], news: set[str], anew: set[str], facts: tuple[tables.Facts, tables.Facts]) -> tables.Memory:
    """Before, after and meanwhile: the old models stay until the last request on them is answered."""
    workers = max(facts[0].workers, 1)

    def of(name: str, side: tables.Facts, runs: bool) -> int | None:
        if runs and name in facts[0].memory_bytes:
            return facts[0].memory_bytes[name]
        artifact = side.artifact_bytes.get(name)
        return None if artifact is None else artifact * workers

    sizes = {
        "old": {name: of(name, facts[0], True) for name in olds},
        "new": {name: of(name, facts[1], name in olds and name not in anew) for name in news},
    }
    totals = {side: sum(size or 0 for size in known.values()) for side, known in sizes.items()}
    added = sum(size or 0 for name, size in sizes["new"].items() if name in anew)
    unknown = sorted({name for known in sizes.values() for name, size in known.items() if size is None})
    running = facts[0].memory_bytes
    return tables.Memory(
        before_bytes=totals["old"],
        after_bytes=totals["new"],
        during_bytes=totals["old"] + added,
        measured=all(name in running for name in olds) and not (news & anew),
        unknown=tuple(unknown),
    )
