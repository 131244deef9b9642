"""What `change` tells of two documents: states, phases, plans, models, memory, parts."""

from collections.abc import Callable
from typing import Any

import pytest

from turnout.changes import comparison, tables
from turnout.spec import snapshot

BASE = """\
models:
  rank: {source: rank.onnx}
  rank-v2: {source: rank-v2.onnx}
pipelines:
  retrieval: {code: "chat:retrieve", models: {rank: rank}, params: {top_k: 20}}
  generation: {code: "chat:generate", models: {rank: rank}}
endpoints:
  reply: {pipeline: retrieval, unit: user_id, attributes: {country: country}}
"""
EXPERIMENT = """\
experiments:
  structure:
    endpoint: reply
    variants:
      generation: {pipeline: generation, weight: 50}
      retrieval: {weight: 50, control: true}
    metrics:
      primary: {outcome: kept_talking, kind: conversion, window: 1d}
      guardrails: {errors: {signal: error, margin: 0.005}}
    plan: {units: 2000}
"""
ROLLOUT = """\
rollouts:
  new-ranker: {endpoint: reply, to: {models: {rank: rank-v2}}}
"""
HALF = (("generation", "retrieval", 0.5),)

Compare = Callable[..., tables.Change]


@pytest.fixture
def compare() -> Compare:
    def admit(text: str, digests: dict[str, str]) -> snapshot.Snapshot:
        return snapshot.admit(
            {"turnout.yaml": text}, environment={}, digests=lambda source: digests.get(source, "sha256:" + "0" * 64)
        )

    def run(before: str, after: str, digests: dict[str, str] | None = None, **options: Any) -> tables.Change:
        return comparison.change(admit(before, {}), admit(after, digests or {}), **options)

    return run


def flows(found: tables.Endpoint | tables.Experiment) -> tuple[tuple[str, str, float], ...]:
    return tuple((flow.source, flow.target, round(flow.share, 9)) for flow in found.flows)


def test_the_same_document_has_no_effect(compare: Compare) -> None:
    made = compare(BASE + EXPERIMENT, "# a comment\n" + BASE + EXPERIMENT)
    assert (made.effect, made.breaks, made.experiments, made.models, made.parts) == (False, False, (), (), ())
    assert [each.state for each in made.endpoints] == ["same"]


def test_another_weight_moves_units_and_begins_a_phase(compare: Compare) -> None:
    made = compare(BASE + EXPERIMENT, (BASE + EXPERIMENT).replace("generation, weight: 50", "generation, weight: 0"))
    (experiment,) = made.experiments
    assert experiment.state == "new phase"
    assert experiment.phases[0] != experiment.phases[1]
    assert flows(experiment) == flows(made.endpoints[0]) == HALF
    assert made.endpoints[0].shares == {"generation": (0.5, 0.0), "retrieval": (0.5, 1.0)}


def test_an_experiment_that_begins_and_ends_shows_what_its_units_get(compare: Compare) -> None:
    begins = compare(BASE, BASE + EXPERIMENT)
    assert begins.experiments[0].state == "begins"
    assert begins.experiments[0].phases[0] == ""
    assert flows(begins.endpoints[0]) == (("retrieval", "generation", 0.5),)
    ends = compare(BASE + EXPERIMENT, BASE)
    assert ends.experiments[0].state == "ends"
    assert flows(ends.endpoints[0]) == HALF


def test_a_winner_ends_the_phase_and_moves_the_others(compare: Compare) -> None:
    made = compare(BASE + EXPERIMENT, BASE + EXPERIMENT + "    winner: generation\n")
    (experiment,) = made.experiments
    assert experiment.state == "ends"
    assert "generation is named the winner: everybody gets it." in experiment.notes
    assert flows(made.endpoints[0]) == (("retrieval", "generation", 0.5),)


def test_a_variant_of_the_same_name_with_another_content_is_told(compare: Compare) -> None:
    made = compare(BASE + EXPERIMENT, (BASE + EXPERIMENT).replace("top_k: 20", "top_k: 5"))
    assert flows(made.endpoints[0]) == (("retrieval as it was", "retrieval", 0.5),)
    assert made.experiments[0].state == "new phase"
    assert made.experiments[0].moved == 0.0
    assert [key.path for key in made.elsewhere] == ["pipelines.retrieval.params.top_k"]


def test_a_winner_that_becomes_the_endpoints_own_moves_only_the_others(compare: Compare) -> None:
    """What a unit gets counts, not by which name."""
    tested = BASE + EXPERIMENT.replace("generation: {pipeline: generation,", "better: {params: {top_k: 9},")
    made = compare(tested, BASE.replace("top_k: 20", "top_k: 9"))
    assert flows(made.endpoints[0]) == (("retrieval as it was", "retrieval", 0.5),)
    assert made.endpoints[0].shares == {"retrieval": (0.5, 1.0), "retrieval as it was": (0.5, 0.0)}


def test_a_ramp_brings_units_in_and_keeps_the_phase(compare: Compare) -> None:
    made = compare(BASE + EXPERIMENT + "    ramp: 10%\n", BASE + EXPERIMENT + "    ramp: 40%\n")
    (experiment,) = made.experiments
    assert experiment.state == "continues"
    assert [round(part, 9) for part in experiment.taking_part] == [0.1, 0.4]
    assert flows(experiment) == (("retrieval", "generation", 0.15),)
    lowered = compare(BASE + EXPERIMENT + "    ramp: 40%\n", BASE + EXPERIMENT + "    ramp: 10%\n")
    assert any("ramp is lowered" in note for note in lowered.experiments[0].notes)


@pytest.mark.parametrize(
    ("old", "new", "path"),
    [
        pytest.param("units: 2000", "units: 4000", "plan.units", id="units"),
        pytest.param("plan: {", "plan: {alpha: 0.1, ", "plan.alpha", id="alpha"),
        pytest.param("window: 1d", "window: 2d", "metrics.primary.window", id="primary"),
        pytest.param("margin: 0.005", "margin: 0.01", "metrics.guardrails.errors.margin", id="margin"),
    ],
)
def test_another_plan_in_a_running_phase_is_not_confirmatory(compare: Compare, old: str, new: str, path: str) -> None:
    (experiment,) = compare(BASE + EXPERIMENT, (BASE + EXPERIMENT).replace(old, new)).experiments
    assert experiment.state == "continues"
    assert experiment.plan == (f"experiments.structure.{path}",)
    (fresh,) = compare(
        BASE + EXPERIMENT, (BASE + EXPERIMENT.replace("weight: 50}", "weight: 9}")).replace(old, new)
    ).experiments
    assert fresh.plan == ()


def test_targeting_leaves_open_how_many(compare: Compare) -> None:
    made = compare(BASE + EXPERIMENT, BASE + EXPERIMENT + "    targeting: country == 'KR'\n")
    assert any("country == 'KR'" in note for note in made.endpoints[0].notes)
    assert any("Targeting goes from nobody left out" in note for note in made.experiments[0].notes)


def test_a_holdout_sends_its_share_back_to_control(compare: Compare) -> None:
    made = compare(BASE + EXPERIMENT, BASE + EXPERIMENT + "holdouts: {everyone: {ratio: 10%}}\n")
    assert flows(made.endpoints[0]) == (("generation", "retrieval", 0.05),)
    (part,) = made.parts
    assert (part.kind, part.state, part.endpoint) == ("holdout", "begins", "every endpoint")


def test_a_rollout_begins_without_moving_anybody_and_loads_its_model(compare: Compare) -> None:
    made = compare(BASE, BASE + ROLLOUT)
    assert made.endpoints[0].flows == ()
    (part,) = made.parts
    assert (part.kind, part.state) == ("rollout", "begins")
    assert part.text == "canary to retrieval (rank: rank-v2) in steps of 1 %, 5 %, 10 %, 25 %, 50 %"
    assert [(model.name, model.state) for model in made.models] == [("rank-v2", "loads")]
    promoted = BASE.replace("{rank: rank}, params", "{rank: rank-v2}, params")
    ends = compare(BASE + ROLLOUT, promoted, {"rank-v2.onnx": "sha256:" + "2" * 64})
    assert [(part.kind, part.state) for part in ends.parts] == [("rollout", "ends")]
    assert flows(ends.endpoints[0]) == (("retrieval as it was", "retrieval", 1.0),)
    assert [(model.name, model.state) for model in ends.models] == [("rank", "unloads"), ("rank-v2", "reloads")]


def test_a_shadow_tells_what_it_copies(compare: Compare) -> None:
    made = compare(BASE, BASE + "shadows: {next: {endpoint: reply, pipeline: generation, ratio: 10%}}\n")
    assert made.parts[0].text == "copies 10 % of the requests to generation"
    assert made.endpoints[0].flows == ()


def test_models_that_nothing_reaches_are_not_loaded(compare: Compare) -> None:
    made = compare(BASE, BASE.replace("  rank-v2", "  rank-v3"))
    assert made.models == ()
    assert made.effect


def test_another_artifact_loads_anew_and_says_why(compare: Compare) -> None:
    made = compare(BASE, BASE, {"rank.onnx": "sha256:" + "1" * 64})
    assert [(model.name, model.state, model.why) for model in made.models] == [("rank", "reloads", ("artifact",))]
    assert made.endpoints[0].moved == 1.0


def test_memory_is_a_lower_bound_from_artifacts_and_exact_where_it_was_measured(compare: Compare) -> None:
    facts = tables.Facts(artifact_bytes={"rank": 100, "rank-v2": 30})
    made = compare(BASE, BASE + ROLLOUT, facts=(facts, facts))
    memory = made.memory
    assert (memory.before_bytes, memory.after_bytes, memory.during_bytes, memory.measured) == (100, 130, 130, False)
    running = tables.Facts(artifact_bytes=facts.artifact_bytes, memory_bytes={"rank": 900}, workers=2)
    memory = compare(BASE, BASE + ROLLOUT, facts=(running, facts)).memory
    assert (memory.before_bytes, memory.after_bytes, memory.during_bytes) == (900, 960, 960)
    assert compare(BASE + ROLLOUT, BASE, facts=(running, facts)).memory.measured is False
    exact = compare(BASE + "# x\n", BASE, facts=(running, facts)).memory
    assert (exact.after_bytes, exact.measured) == (900, True)


def test_a_removed_endpoint_breaks_its_callers(compare: Compare) -> None:
    more = BASE + "  other: {pipeline: retrieval}\n"
    assert compare(more, BASE).breaks
    added = compare(BASE, more)
    assert not added.breaks
    assert [each.state for each in added.endpoints] == ["same", "added"]


def test_a_contract_that_is_not_known_is_not_called_compatible(compare: Compare) -> None:
    schema = {"type": "object", "properties": {"text": {"type": "string"}}, "required": ["text"]}
    contract = tables.Contract(request=schema, reply=schema)
    known = tables.Facts(contracts={"reply": contract})
    assert compare(BASE, BASE).endpoints[0].findings is None
    assert compare(BASE, BASE, facts=(known, known)).endpoints[0].findings == ()
    streams = tables.Facts(contracts={"reply": tables.Contract(request=schema, reply=schema, streams=True)})
    made = compare(BASE, BASE, facts=(known, streams))
    assert made.breaks
    assert made.effect


def test_another_unit_splits_everybody_anew(compare: Compare) -> None:
    made = compare(BASE + EXPERIMENT, (BASE + EXPERIMENT).replace("unit: user_id", "unit: account"))
    assert made.experiments[0].moved == pytest.approx(0.5)
    assert any("everybody is split anew" in note for note in made.experiments[0].notes)


def test_override_lists_and_secrets_are_not_lost_and_not_shown(compare: Compare) -> None:
    listed = (BASE + EXPERIMENT).replace("control: true}", "control: true, overrides: [ada, bob]}")
    (experiment,) = compare(BASE + EXPERIMENT, listed).experiments
    assert any(note.startswith("2 units on the override lists") for note in experiment.notes)
    made = compare(BASE, BASE + "override_key: a-key-that-nobody-may-see-anywhere\n")
    assert made.elsewhere[0].after == "(not shown)"
