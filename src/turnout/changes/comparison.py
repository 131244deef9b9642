"""What a change of the document does: who gets something else, which phases end, what loads, whether callers break.

Called by `turnout diff`. Pure: two Snapshots and what was found out about them in, one `Change` out.
"""

from collections.abc import Iterator, Mapping
from typing import Any, Final

from turnout.changes import compatibility, journeys, loading, tables, traffic, written
from turnout.experiments import phases
from turnout.spec import document, snapshot, tree

NOTHING: Final = snapshot.Snapshot(revision="", document=document.Document(), digests={})
"""A document that is not there yet."""

NO_FACTS: Final = tables.Facts()
PLANNED: Final = ("metrics.primary", "metrics.guardrails", "plan")
"""What was decided before an experiment began; another value in a running phase is not confirmatory."""

PARTS: Final = {"rollouts": "rollout", "shadows": "shadow", "holdouts": "holdout"}
TOLD: Final = ("endpoints", "experiments", "models", *PARTS)
"""Sections whose keys the change tells with their parts."""


def change(
    before: snapshot.Snapshot,
    after: snapshot.Snapshot,
    *,
    facts: tuple[tables.Facts, tables.Facts] = (NO_FACTS, NO_FACTS),
    logged: Mapping[str, tables.Logged] | None = None,
) -> tables.Change:
    """Compare two documents.

    Args:
        facts: What code, files and a running server tell of either side.
        logged: Experiment to units of the exposure log, assigned by both.
    """
    keys = list(written.differences(before.root, after.root))
    endpoints = tuple(_endpoints(before, after, facts, keys))
    experiments = tuple(_experiments(before, after, keys, logged or {}))
    parts = tuple(_parts(before, after, keys))
    models, memory = loading.models(before, after, facts)
    findings = [finding for each in endpoints for finding in each.findings or ()]
    breaks = any(finding.breaks for finding in findings) or any(each.state == "removed" for each in endpoints)
    notes = tuple(_notes(before, after, facts))
    return tables.Change(
        revisions=(before.revision, after.revision),
        endpoints=endpoints,
        experiments=experiments,
        parts=parts,
        models=models,
        memory=memory,
        elsewhere=tuple(key for key in keys if key.path.partition(".")[0] not in TOLD or _of_model(key)),
        notes=notes,
        breaks=breaks,
        effect=before.revision != after.revision or bool(findings) or facts[0].build != facts[1].build,
    )


def _of_model(key: tables.Key) -> bool:
    """Keys of a model that both documents have: `models` says that it loads anew, not what is different."""
    return key.path.startswith("models.") and key.before is not None and key.after is not None


def _within(keys: list[tables.Key], *path: str) -> tuple[tables.Key, ...]:
    """The keys of one part, with paths that start below it."""
    start = tree.path_text(path)
    return tuple(key for key in keys if key.path == start or key.path.startswith((f"{start}.", f"{start}[")))


# -- endpoints


def _endpoints(
    before: snapshot.Snapshot,
    after: snapshot.Snapshot,
    facts: tuple[tables.Facts, tables.Facts],
    keys: list[tables.Key],
) -> Iterator[tables.Endpoint]:
    olds, news = before.document.endpoints, after.document.endpoints
    for name in dict.fromkeys((*olds, *news)):
        if name in olds and name in news:
            yield _endpoint(before, after, name, facts, _within(keys, "endpoints", name))
            continue
        yield tables.Endpoint(
            name=name,
            state="added" if name in news else "removed",
            moved=0.0,
            flows=(),
            shares={},
            keys=_within(keys, "endpoints", name),
            findings=(),
        )


def _endpoint(
    before: snapshot.Snapshot,
    after: snapshot.Snapshot,
    name: str,
    facts: tuple[tables.Facts, tables.Facts],
    keys: tuple[tables.Key, ...],
) -> tables.Endpoint:
    sides = (traffic.served(before, name), traffic.served(after, name))
    labels = _labels(sides)
    contents = [{place: seen.content for place, seen in side.seen.items()} for side in sides]
    found = journeys.regrouped(journeys.places(sides[0].traffic, sides[1].traffic), contents)
    flows = tuple(
        tables.Flow(source=labels[source], target=labels[target], share=share)
        for (source, target), share in journeys.largest(found)
    )
    findings = _findings(name, facts)
    targeted = sides[0].conditions != sides[1].conditions
    notes = tuple(_unknown(sides)) if keys or flows or targeted else ()
    changed = bool(keys or flows or findings or notes)
    return tables.Endpoint(
        name=name,
        state="changed" if changed else "same",
        moved=sum(flow.share for flow in flows),
        flows=flows,
        shares=_shares(found, labels),
        keys=keys,
        findings=findings,
        notes=notes,
    )


def _labels(sides: tuple[traffic.Served, traffic.Served]) -> dict[str, str]:
    """A name for each content: that of the later document; what only the earlier had is told apart from it."""
    shortest = [sorted(side.seen.values(), key=lambda seen: len(seen.label), reverse=True) for side in sides]
    old, new = ({seen.content: seen.label for seen in each} for each in shortest)
    taken = set(new.values())
    gone = {content: f"{label} as it was" if label in taken else label for content, label in old.items()}
    return {**gone, **new}


def _shares(found: Mapping[tuple[str, str], float], labels: Mapping[str, str]) -> dict[str, tuple[float, float]]:
    shares: dict[str, tuple[float, float]] = {}
    for pair, share in found.items():
        for index, content in enumerate(pair):
            old, new = shares.get(labels[content], (0.0, 0.0))
            shares[labels[content]] = (old + share, new) if index == 0 else (old, new + share)
    return dict(sorted(shares.items()))


def _findings(name: str, facts: tuple[tables.Facts, tables.Facts]) -> tuple[compatibility.Finding, ...] | None:
    old, new = (side.contracts.get(name) for side in facts)
    if old is None or new is None:
        return None
    found = [*compatibility.request(old.request, new.request), *compatibility.reply(old.reply, new.reply)]
    if old.streams != new.streams:
        text = "streams now" if new.streams else "comes at once now, it streamed"
        found.insert(0, compatibility.Finding(side="reply", path="", text=text, breaks=True))
    return tuple(found)


def _unknown(sides: tuple[traffic.Served, traffic.Served]) -> Iterator[str]:
    """What the shares of an endpoint leave open."""
    old, new = sides
    conditions = {text for side in sides for text in side.conditions.values() if text}
    if conditions:
        listed = " and ".join(sorted(conditions))
        yield f"Shares are of the units that meet {listed}; how many do, the document does not tell."
        if set(old.conditions.values()) != set(new.conditions.values()):
            yield "The condition is another one: units that meet only one of the two change sides as well."
    for name in dict.fromkeys((*old.external, *new.external)):
        yield f"Another system assigns {name}: shares are those of its weights, who moves it alone knows."
    for name in dict.fromkeys((*old.beside, *new.beside)):
        yield f"Experiment {name} lays its params over whatever a unit gets; it is counted by itself."


# -- experiments


def _experiments(
    before: snapshot.Snapshot,
    after: snapshot.Snapshot,
    keys: list[tables.Key],
    logged: Mapping[str, tables.Logged],
) -> Iterator[tables.Experiment]:
    for name in dict.fromkeys((*before.document.experiments, *after.document.experiments)):
        found = _experiment(before, after, name, _within(keys, "experiments", name), logged.get(name))
        if found.keys or found.moved or found.phases[0] != found.phases[1] or _differ(found.taking_part):
            yield found


def _differ(pair: tuple[float, float]) -> bool:
    return abs(pair[0] - pair[1]) > journeys.ROUNDING


def _experiment(
    before: snapshot.Snapshot,
    after: snapshot.Snapshot,
    name: str,
    keys: tuple[tables.Key, ...],
    logged: tables.Logged | None,
) -> tables.Experiment:
    ran = (_phase(before, name), _phase(after, name))
    sides = [_side(admitted, name) for admitted in (before, after)]
    part = tuple(journeys.taking_part(side) if side else 0.0 for side in sides)
    flows: tuple[tables.Flow, ...] = ()
    if sides[0] is not None and sides[1] is not None:
        found = journeys.places(sides[0], sides[1])
        flows = tuple(
            tables.Flow(source=source[1], target=target[1], share=share)
            for (source, target), share in journeys.largest(found)
        )
    state: tables.State = "continues"
    if not ran[0] or not ran[1]:
        state = "begins" if ran[1] else "ends" if ran[0] else "continues"
    elif ran[0] != ran[1]:
        state = "new phase"
    there = after if name in after.document.experiments else before
    plan = tuple(key.path for key in keys if _planned(key.path, name)) if ran[0] and ran[0] == ran[1] else ()
    return tables.Experiment(
        name=name,
        endpoint=there.document.experiments[name].endpoint,
        state=state,
        phases=ran,
        taking_part=(part[0], part[1]),
        moved=sum(flow.share for flow in flows),
        flows=flows,
        keys=keys,
        plan=plan,
        notes=tuple(_experiment_notes(before, after, name)),
        logged=logged,
    )


def _phase(admitted: snapshot.Snapshot, name: str) -> str:
    """The phase of an experiment that runs; "" when it does not."""
    spec = admitted.document.experiments.get(name)
    if spec is None or not spec.enabled or spec.winner:
        return ""
    return phases.of(name, admitted.document, written=admitted.written, digests=admitted.digests)


def _side(admitted: snapshot.Snapshot, name: str) -> journeys.Traffic | None:
    content = admitted.document
    if name not in content.experiments:
        return None
    return journeys.alone(traffic.split(content, name), traffic.holdout(content, content.experiments[name].endpoint))


def _planned(path: str, name: str) -> bool:
    inside = path.removeprefix(f"experiments.{name}.")
    return any(inside == planned or inside.startswith(f"{planned}.") for planned in PLANNED)


def _experiment_notes(before: snapshot.Snapshot, after: snapshot.Snapshot, name: str) -> Iterator[str]:
    old, new = (side.document.experiments.get(name) for side in (before, after))
    spec = new or old
    assert spec is not None
    if new is not None and new.winner and (old is None or old.winner != new.winner):
        yield f"{new.winner} is named the winner: everybody gets it."
    if new is not None and not new.enabled and (old is None or old.enabled):
        yield f"It is switched off: everybody gets the control, {new.control}."
    if old is not None and new is not None:
        yield from _both_notes(before, after, old, new)
    there = after if new is not None else before
    if not there.document.endpoints[spec.endpoint].unit and spec.on_missing_unit == "control":
        yield f"Endpoint {spec.endpoint} has no unit, so every request gets the control, {spec.control}."


def _both_notes(
    before: snapshot.Snapshot, after: snapshot.Snapshot, old: document.ExperimentSpec, new: document.ExperimentSpec
) -> Iterator[str]:
    if old.endpoint != new.endpoint:
        yield f"It moves from endpoint {old.endpoint} to {new.endpoint}: other requests, under the same split."
    if (old.targeting or "") != (new.targeting or ""):
        texts = [f"'{each.targeting}'" if each.targeting else "nobody left out" for each in (old, new)]
        yield f"Targeting goes from {texts[0]} to {texts[1]}; shares are of units that take part under both."
    elif new.targeting:
        yield f"Shares are of the units that meet '{new.targeting}'."
    if new.ramp < old.ramp and not new.winner and new.enabled:
        yield "The ramp is lowered: units that leave it get control, stay in the analysis, and dilute the effect."
    listed = [{unit: name for name, each in spec.variants.items() for unit in each.overrides} for spec in (old, new)]
    sent = sum(listed[0].get(unit) != listed[1].get(unit) for unit in listed[0].keys() | listed[1].keys())
    if sent:
        yield f"{sent} unit{'s' if sent != 1 else ''} on the override lists are told another variant, or none."
    units = [side.document.endpoints[spec.endpoint].unit for side, spec in ((before, old), (after, new))]
    if units[0] != units[1]:
        yield f"The unit is {units[1] or 'nothing'}, it was {units[0] or 'nothing'}: everybody is split anew."
    elif (old.seed, old.hash) != (new.seed, new.hash):
        yield "The seed or the hash is another one: everybody is split anew."


# -- rollouts, shadows, holdouts


def _parts(before: snapshot.Snapshot, after: snapshot.Snapshot, keys: list[tables.Key]) -> Iterator[tables.Part]:
    for section, kind in PARTS.items():
        olds: Mapping[str, Any] = getattr(before.document, section)
        news: Mapping[str, Any] = getattr(after.document, section)
        for name in dict.fromkeys((*olds, *news)):
            inside = _within(keys, section, name)
            if not inside:
                continue
            there, spec = (after, news[name]) if name in news else (before, olds[name])
            yield tables.Part(
                kind=kind,  # type: ignore[arg-type]  # the values of PARTS
                name=name,
                state="changes" if name in olds and name in news else "begins" if name in news else "ends",
                endpoint=", ".join(spec.endpoints) or "every endpoint" if kind == "holdout" else spec.endpoint,
                text=_told(there, kind, name),
                keys=inside if name in olds and name in news else (),
            )


def _told(admitted: snapshot.Snapshot, kind: str, name: str) -> str:
    """What a part is about, in a few words."""
    content = admitted.document
    if kind == "rollout":
        rollout = content.rollouts[name]
        target = traffic.target_look(admitted, rollout.endpoint, rollout.to, f"rollouts.{name}.to").label
        if rollout.kind == "blue-green":
            return f"blue-green to {target}"
        return f"canary to {target} in steps of {', '.join(f'{100 * step:g} %' for step in rollout.steps)}"
    if kind == "shadow":
        shadow = content.shadows[name]
        target = traffic.target_look(admitted, shadow.endpoint, shadow, f"shadows.{name}").label
        return f"copies {100 * shadow.ratio:g} % of the requests to {target}"
    held = content.holdouts[name]
    return f"keeps {100 * held.ratio:g} % of the units out of experiments" + ("" if held.enabled else ", switched off")


def _notes(
    before: snapshot.Snapshot, after: snapshot.Snapshot, facts: tuple[tables.Facts, tables.Facts]
) -> Iterator[str]:
    builds = [side.build for side in facts]
    if all(builds) and builds[0] != builds[1]:
        yield (
            f"The code is another build ({builds[0]} to {builds[1]}): a running server needs `turnout reload` for it, "
            "and phases that go on are of mixed builds."
        )
    if before.revision == after.revision:
        yield "Both documents are the same revision."
