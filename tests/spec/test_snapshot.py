"""Admission: the typed document, the revision, digests, stages and warnings."""

import json
import subprocess
import sys
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from tests.spec.conftest import CHAT, Admit, Refuse

from turnout.errors import DocumentError, SpecError, UnavailableError
from turnout.spec import document, snapshot, tree

ZERO = "sha256:" + "0" * 64
ONE = "sha256:" + "1" * 64


def test_design_document_becomes_typed(admit: Admit, chat: str) -> None:
    admitted = admit(chat, directory="/srv")
    found = admitted.document
    assert found.models["rank"].batching.max_delay_s == 0.0
    assert found.models["answers"].runtime_options() == {
        "exact": True,
        "metric": "cos",
        "vectors": False,
        "expansion": 128,
    }
    assert found.models["speak"].runtime_options() == {"model": "tiny-chat"}
    assert found.pipelines["retrieval"].models == {"embed": "embed", "index": "answers", "rank": "rank"}
    assert (found.endpoints["reply"].deadline_s, found.endpoints["reply"].unit) == (5.0, "user_id")
    experiment = found.experiments["structure"]
    assert (experiment.control, experiment.ramp_ppm, experiment.plan.min_duration_s) == (
        "retrieval",
        200_000,
        604_800.0,
    )
    assert experiment.metrics.guardrails["slow"].threshold_s == 0.8
    assert (admitted.directory, admitted.stage, admitted.warnings) == ("/srv", "", ())
    assert (len(admitted.revision), admitted.short) == (64, admitted.revision[:12])


@pytest.mark.parametrize(
    ("written", "runtime"),
    [
        ("{source: a.onnx}", "onnx"),
        ("{source: a.npz}", "index"),
        ("{source: a.joblib, digest: '" + ZERO + "'}", "sklearn"),
        ("{source: a.skops, digest: '" + ZERO + "', method: transform, trusted: [a.B]}", "sklearn"),
        ("{source: a.npy, exact: false, expansion: 64}", "index"),
        ("{source: a.onnx, providers: [CPUExecutionProvider]}", "onnx"),
        ("{code: 'a:B'}", "python"),
        ("{code: 'a:B', source: weights.npz}", "python"),
        ("{runtime: 'a:B', source: weights.npz}", "a:B"),
    ],
)
def test_runtime_may_be_left_out_where_something_else_tells_it(admit: Admit, written: str, runtime: str) -> None:
    served = "pipelines: {p: {code: predict, models: {model: m}}}\nendpoints: {e: {pipeline: p}}\n"
    text = f"models: {{m: {written}}}\n{served}"
    assert admit(text).document.models["m"].runtime == runtime


def test_each_runtime_gets_its_settings(admit: Admit) -> None:
    models = f"""\
models:
  a: {{source: a.onnx, providers: [X]}}
  b: {{source: b.skops, digest: '{ZERO}', method: transform, trusted: [t.T]}}
  c: {{code: 'c:C', params: {{x: 1}}}}
  d: {{source: d.onnx}}
pipelines: {{p: {{code: ensemble, models: {{a: a, b: b, c: c, d: d}}}}}}
endpoints: {{e: {{pipeline: p}}}}
"""
    found = admit(models).document
    assert {name: model.runtime_options() for name, model in found.models.items()} == {
        "a": {"providers": ["X"]},
        "b": {"method": "transform", "trusted": ["t.T"]},
        "c": {"x": 1},
        "d": {},
    }
    assert document.Document.model_validate(dict(found)) == found


def test_written_form_keeps_references(admit: Admit, hello: str) -> None:
    admitted = admit(hello.replace("1s", "'${D}'"), environment={"D": "2s"})
    assert admitted.written["endpoints"] == {"flower": {"pipeline": "classify", "deadline": "${D}"}}


def test_document_is_frozen(admit: Admit, hello: str) -> None:
    with pytest.raises(ValueError, match="frozen"):
        admit(hello).document.endpoints["flower"].deadline_s = 1.0


def test_revision_is_pinned(admit: Admit, hello: str) -> None:
    """A change of this number reloads every replica of every user on upgrade: it needs a reason in the changelog."""
    assert admit(hello, digests=lambda source: ZERO).short == "dbe13e25bfa9"


def test_layout_comments_and_order_do_not_change_the_revision(admit: Admit) -> None:
    one = admit("endpoints: {e: {pipeline: p, deadline: 5s}}\npipelines: {p: {code: 'a:b'}}\n")
    two = admit("# why\npipelines:\n  p:\n    code: a:b\nendpoints:\n  e:\n    deadline: '5s'\n    pipeline: p\n")
    split = admit(
        {"x.yaml": "pipelines: {p: {code: 'a:b'}}\n", "y.yaml": "endpoints: {e: {pipeline: p, deadline: 5s}}\n"}
    )
    assert one.revision == two.revision == split.revision


_PARAMS: Any = st.recursive(
    st.none() | st.booleans() | st.integers(-100, 100) | st.floats(0, 1) | st.text("ab é", max_size=4),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text("abc", min_size=1, max_size=2), inner, max_size=3)
    ),
    max_leaves=6,
)


def _revision(params: dict[str, Any], *, backwards: bool = False) -> str:
    document = {
        "endpoints": {"e": {"pipeline": "p"}},
        "pipelines": {"p": {"code": "a:b", "params": params}},
    }
    text = tree.canonical(_reversed(document) if backwards else document).decode()
    if backwards:
        text = json.dumps(_reversed(document), indent=3)
    return snapshot.admit({"turnout.yaml": text}, environment={}).revision


def _reversed(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _reversed(value[key]) for key in sorted(value, reverse=True)}
    return [_reversed(item) for item in value] if isinstance(value, list) else value


@given(st.dictionaries(st.sampled_from(["a", "b", "c"]), _PARAMS, max_size=3))
def test_key_order_and_formatting_never_change_the_revision(params: dict[str, Any]) -> None:
    assert _revision(params) == _revision(params, backwards=True)


@given(*[st.dictionaries(st.sampled_from(["a", "b"]), _PARAMS, max_size=2)] * 2)
def test_any_other_value_changes_the_revision(one: dict[str, Any], two: dict[str, Any]) -> None:
    assume(tree.canonical(one) != tree.canonical(two))
    assert _revision(one) != _revision(two)


def test_other_artifact_changes_the_revision(admit: Admit, hello: str) -> None:
    zero, one = (admit(hello, digests=lambda source, digest=digest: digest) for digest in (ZERO, ONE))
    assert (dict(zero.digests), dict(one.digests)) == ({"flower": ZERO}, {"flower": ONE})
    assert zero.revision != one.revision


def test_artifact_that_is_not_there_is_told_at_its_source(refuse: Refuse, hello: str) -> None:
    def digests(source: str) -> str:
        raise UnavailableError(f"{source} is not there.", hint="Paths start at the document's folder.")

    assert refuse(hello, digests=digests) == [
        "turnout.yaml:2 models.flower.source: 'flower.onnx': flower.onnx is not there. "
        "Paths start at the document's folder."
    ]


def test_other_digest_than_the_pinned_one_is_refused(refuse: Refuse, hello: str) -> None:
    text = hello.replace("flower.onnx", f"flower.onnx, digest: '{ZERO}'")
    errors = refuse(text, digests=lambda source: ONE)
    assert errors[0].startswith(
        f"turnout.yaml:2 models.flower.digest: the artifact has digest {ONE}, the document pins another"
    )


def test_missing_digest_of_a_pickle_is_told(refuse: Refuse, hello: str) -> None:
    errors = refuse(hello.replace("flower.onnx", "flower.joblib"), digests=lambda source: ONE)
    assert errors == [
        f"turnout.yaml:2 models.flower.digest: key 'digest' is missing. If you trust the file, write: digest: {ONE}"
    ]


def test_stage_is_laid_over_the_document(admit: Admit, hello: str) -> None:
    files = {
        "turnout.yaml": hello,
        "turnout.prod.yaml": "endpoints: {flower: {deadline: 2s}}\n",
        "turnout.dev.yaml": "x: [\n",
    }
    base, prod = admit(files), admit(files, stage="prod")
    assert base.document.endpoints["flower"].deadline_s == 1.0
    assert prod.document.endpoints["flower"].deadline_s == 2.0
    assert (prod.stage, prod.revision != base.revision) == ("prod", True)


def test_all_stages_are_admitted_at_once(hello: str) -> None:
    files = {
        "turnout.yaml": hello,
        "turnout.a.yaml": "endpoints: {flower: {deadline: 2s}}\n",
        "turnout.b.yaml": "x: 1\n",
    }
    results = snapshot.admit_stages(files, environment={})
    assert {stage: type(result) for stage, result in results.items()} == {
        "": snapshot.Snapshot,
        "a": snapshot.Snapshot,
        "b": DocumentError,
    }


@pytest.mark.parametrize(
    ("change", "warning"),
    [
        (
            ("models:\n", "models:\n  spare: {source: s.onnx}\n"),
            "turnout.yaml:2 models.spare: nothing uses model 'spare'.",
        ),
        (
            ("exact: true", "exact: true, expansion: 64"),
            "models.answers.expansion: 'expansion' has no effect on an exact",
        ),
        (("max_rows: 64", "max_rows: 64, max_queue: 32"), "only 32 rows may wait, so no batch reaches 64 rows."),
        (("pipelines:\n", "pipelines:\n  q: {code: 'a:b'}\n"), "pipelines.q: nothing uses pipeline 'q'. Remove it."),
        (
            ("      primary: {outcome: kept_talking, kind: conversion, window: 1d}\n", ""),
            "no primary metric, so there will",
        ),
        (
            ("    seed: structure\n", "    seed: structure\n    enabled: false\n    winner: generation\n"),
            "has no effect beside",
        ),
    ],
)
def test_what_is_hardly_meant_is_warned_of(admit: Admit, chat: str, change: tuple[str, str], warning: str) -> None:
    warnings = [str(warning) for warning in admit(chat.replace(*change)).warnings]
    assert len(warnings) == 1
    assert warning in warnings[0]


def test_two_experiments_with_one_seed_are_warned_of(admit: Admit) -> None:
    other = (
        CHAT.split("experiments:\n")[1].replace("structure:", "other:").replace("seed:", "enabled: false\n    seed:")
    )
    warnings = [str(warning) for warning in admit(CHAT + other).warnings]
    assert len(warnings) == 1
    assert "experiments.other.seed: experiments 'structure' and 'other' share a seed" in warnings[0]


def test_stage_that_repeats_the_document_is_warned_of(admit: Admit, hello: str) -> None:
    files = {"turnout.yaml": hello, "turnout.prod.yaml": "endpoints: {flower: {deadline: 1s}}\n"}
    assert "changes nothing: turnout.yaml:6 says the same." in str(admit(files, stage="prod").warnings[0])


def test_error_found_after_admission_gets_its_place(admit: Admit, chat: str) -> None:
    admitted = admit(chat)
    located = admitted.located(SpecError("no such function.", path="pipelines.generation.code", hint="Look."))
    assert str(located) == "turnout.yaml:8 pipelines.generation.code: no such function. Look."


def test_path_reads_back_as_it_was_written() -> None:
    path = ("experiments", "x", "variants", "a", "overrides", 12)
    assert tree.path_from(tree.path_text(path)) == path


def test_every_runtime_has_a_class() -> None:
    assert set(document.MODEL_CLASSES) == {*document.RUNTIMES, "custom"}
    assert set(document.RUNTIME_OF_SUFFIX.values()) <= set(document.RUNTIMES)


def test_supervisor_imports_sources_without_pydantic_and_yaml() -> None:
    code = "import sys, turnout.sources.file, turnout.sources.catalog; print({'pydantic', 'yaml'} & sys.modules.keys())"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert found.stdout.strip() == "set()"


def test_enabled_experiment_of_an_endpoint_is_found_beside_disabled_ones(admit: Admit) -> None:
    other = CHAT.split("experiments:\n")[1].replace("structure:", "other:").replace("seed: structure", "seed: s")
    admitted = admit(CHAT.replace("    seed: structure\n", "    enabled: false\n") + other).document
    found = admitted.experiment_on("reply")
    assert found is not None
    assert (found[0], admitted.experiment_on("nobody")) == ("other", None)


@pytest.mark.parametrize("written", ["control", "request", "attribute:device"])
def test_missing_unit_is_answered_as_written(admit: Admit, chat: str, written: str) -> None:
    admitted = admit(chat.replace("    seed: structure\n", f"    on_missing_unit: {written}\n")).document
    assert admitted.experiments["structure"].on_missing_unit == written


def test_malformed_digest_is_told_once(refuse: Refuse, hello: str) -> None:
    assert len(refuse(hello.replace("flower.onnx", "flower.onnx, digest: abc"), digests=lambda source: ONE)) == 1
