"""What is wrong with a document is said with its place, what was found, what is valid, and all at once."""

import pytest
from tests.spec.conftest import Refuse

MODEL = (
    "models: {{m: {}}}\npipelines: {{p: {{code: predict, models: {{model: m}}}}}}\nendpoints: {{e: {{pipeline: p}}}}\n"
)
EXPERIMENT = """\
pipelines: {{p: {{code: "a:p", models: {{rank: m}}}}, q: {{code: "a:q"}}}}
models: {{m: {{source: m.onnx}}}}
endpoints: {{e: {{pipeline: p, unit: user_id}}, bare: {{pipeline: q}}}}
experiments: {{x: {}}}
"""
TWO = "variants: {a: {pipeline: p, weight: 1, control: true}, b: {pipeline: q, weight: 1}}"

MODELS = {
    "unknown-runtime": ("{runtime: onxx, source: m.onnx}", "m.runtime: unknown runtime 'onxx'. Did you mean 'onnx'?"),
    "no-runtime": ("{source: m.bin}", "m.runtime: key 'runtime' is missing. Runtimes: index, onnx, python, sklearn"),
    "runtime-is-a-number": ("{runtime: 3}", "m.runtime: unknown runtime 3."),
    "not-a-mapping": ("m.onnx", "models.m.runtime: key 'runtime' is missing."),
    "unknown-key": ("{source: m.onnx, batchin: {}}", "m.batchin: unknown key 'batchin'. Did you mean 'batching'?"),
    "code-for-onnx": ("{runtime: onnx, source: a, code: 'a:B'}", "'code' has no effect with runtime 'onnx'. Remove it"),
    "params-for-index": ("{source: a.npz, params: {}}", "'params' has no effect with runtime 'index'."),
    "options-for-python": ("{code: 'a:B', options: {}}", "'options' has no effect with runtime 'python'."),
    "params-for-own": ("{runtime: 'a:B', params: {}}", "'params' has no effect with a runtime of your own."),
    "no-source": ("{runtime: onnx}", "m.source: key 'source' is missing. Expected: The .onnx file"),
    "no-code": ("{runtime: python}", "m.code: key 'code' is missing. Expected: The class, as"),
    "bad-code": ("{code: 'a.B'}", "m.code: found 'a.B'; expected 'package.module:name'."),
    "unpinned-pickle": (
        "{source: m.joblib}",
        "m.digest: key 'digest' is missing. Expected: The file's digest; required",
    ),
    "bad-digest": ("{source: a.onnx, digest: abc}", "found 'abc'; expected 'sha256:' and 64 lower-case hexadecimal"),
    "bad-metric": ("{source: a.npz, metric: cosine}", "m.metric: found 'cosine'; expected 'cos', 'ip' or 'l2'."),
    "python-on-the-loop": ("{code: 'a:B', execution: loop}", "m.execution: found 'loop'; expected 'auto' or 'thread'."),
    "options-for-onnx": (
        "{source: a.onnx, options: {}}",
        "'options' has no effect with runtime 'onnx'. Remove it; it belongs",
    ),
    "no-providers": ("{source: a.onnx, providers: []}", "m.providers: found 0; expected at least 1 of them."),
    "number-as-text": (
        "{source: a.onnx, instances: '2'}",
        "m.instances: found '2'; expected a whole number. Remove the",
    ),
    "zero-instances": ("{source: a.onnx, instances: 0}", "m.instances: found 0; expected 1 or more."),
    "bool-as-number": ("{source: a.onnx, threads: true}", "m.threads: found true; expected a whole number."),
    "fraction": ("{source: a.onnx, threads: 1.5}", "m.threads: found 1.5; expected a whole number."),
    "no-batch": ("{source: a.onnx, batching: {max_rows: 0}}", "m.batching.max_rows: found 0; expected 1 or more."),
    "batching-list": ("{source: a.onnx, batching: []}", "m.batching: found a list; expected a mapping."),
    "long-delay": ("{source: a.onnx, batching: {max_delay: 1h}}", "max_delay: found '1h'; expected at most 10"),
    "bare-timeout": (
        "{source: a.onnx, timeout: 30}",
        "found 30; expected a duration such as 200ms, 5s, 10m, 2h or 30d. Say",
    ),
    "zero-timeout": ("{source: a.onnx, timeout: 0s}", "m.timeout: found '0s'; expected more than 0"),
    "unit-in-attribute": ("{source: a.onnx, timeout_s: 5}", "unknown key 'timeout_s'. Did you mean 'timeout'?"),
    "bool-as-text": ("{source: a.onnx, warmup: 'yes'}", "m.warmup: found 'yes'; expected true or false."),
    "yaml-1.1-bool": ("{source: a.onnx, warmup: no}", "m.warmup: found 'no'; expected true or false."),
    "param-name": (
        "{code: 'a:B', params: {top-k: 1}}",
        "found the name 'top-k'; expected a Python name such as top_k.",
    ),
    "empty-source": ("{runtime: onnx, source: ''}", "m.source: found ''; expected text that is not empty."),
    "list-source": ("{runtime: onnx, source: [a]}", "m.source: found a list; expected text."),
}
EXPERIMENTS = {
    "unknown-endpoint": (f"{{endpoint: f, {TWO}}}", "x.endpoint: no endpoint 'f'. Endpoints: bare, e."),
    "no-endpoint": (f"{{{TWO}}}", "x.endpoint: key 'endpoint' is missing."),
    "no-variants": ("{endpoint: e}", "x.variants: key 'variants' is missing."),
    "one-variant": ("{endpoint: e, variants: {a: {weight: 1, control: true}}}", "found 1; expected at least 2 of them"),
    "no-control": (
        "{endpoint: e, variants: {a: {weight: 1}, b: {weight: 1}}}",
        "no variant is control; expected exactly one",
    ),
    "two-controls": (
        "{endpoint: e, variants: {a: {weight: 1, control: true}, b: {weight: 1, control: true}}}",
        "variants.b.control: variants 'a' and 'b' are both control; expected exactly one.",
    ),
    "unknown-pipeline": (
        "{endpoint: e, variants: {a: {weight: 1, control: true, pipeline: r}, b: {weight: 1}}}",
        "variants.a.pipeline: no pipeline 'r'. Pipelines: p, q.",
    ),
    "unknown-model": (
        "{endpoint: e, variants: {a: {weight: 1, control: true}, b: {weight: 1, models: {rank: mm}}}}",
        "variants.b.models.rank: no model 'mm'. Did you mean 'm'? Models: m.",
    ),
    "unbound-keyword": (
        "{endpoint: e, variants: {a: {weight: 1, control: true}, b: {weight: 1, models: {ranker: m}}}}",
        "variants.b.models.ranker: pipeline 'p' binds no model as 'ranker'. Did you mean 'rank'? Models of 'p': rank.",
    ),
    "text-weight": (
        "{endpoint: e, variants: {a: {weight: '50', control: true}, b: {weight: 1}}}",
        "variants.a.weight: found '50'; expected a number, 0 or more. Remove the quotes and the percent sign.",
    ),
    "percent-weight": (
        "{endpoint: e, variants: {a: {weight: 50%, control: true}, b: {weight: 1}}}",
        "variants.a.weight: found '50%'; expected a number, 0 or more. Remove",
    ),
    "negative-weight": (
        "{endpoint: e, variants: {a: {weight: -1, control: true}, b: {weight: 1}}}",
        "variants.a.weight: found -1; expected a number from 0 to",
    ),
    "no-weight": (
        "{endpoint: e, variants: {a: {wieght: 1, control: true}, b: {weight: 1}}}",
        "variants.a.wieght: unknown key 'wieght'. Did you mean 'weight'?",
    ),
    "all-weights-0": (
        "{endpoint: e, variants: {a: {weight: 0, control: true}, b: {weight: 0}}}",
        "x.variants: all weights are 0, so nobody would get any variant.",
    ),
    "colon-in-name": (
        "{endpoint: e, variants: {'a:1': {weight: 1, control: true}, b: {weight: 1}}}",
        "x.variants.a:1: found the name 'a:1'; expected a name of lower-case letters",
    ),
    "twice-overridden": (
        "{endpoint: e, variants: {a: {weight: 1, control: true, overrides: [7]}, b: {weight: 1, overrides: ['7']}}}",
        "variants.b.overrides[0]: unit '7' is overridden twice; first in turnout.yaml:4.",
    ),
    "override-list": (
        "{endpoint: e, variants: {a: {weight: 1, control: true, overrides: [1.5, '']}, b: {weight: 1}}}",
        "variants.a.overrides[0]: found 1.5; expected a unit: text of 1 to 1,024 characters, or a whole number.",
    ),
    "ramp-per-cent": (
        f"{{endpoint: e, ramp: 20, {TWO}}}",
        "x.ramp: found 20; expected a share such as 20%, or a number",
    ),
    "ramp-over-1": (f"{{endpoint: e, ramp: 120%, {TWO}}}", "x.ramp: found '120%'; expected a share"),
    "negative-ramp": (f"{{endpoint: e, ramp: -0.1, {TWO}}}", "x.ramp: found -0.1; expected a share"),
    "winner": (f"{{endpoint: e, winner: c, {TWO}}}", "x.winner: winner 'c' is no variant. Variants: a, b."),
    "no-unit": (
        f"{{endpoint: bare, {TWO}}}",
        "x.endpoint: endpoint 'bare' has no unit, so everybody would get control. Add",
    ),
    "missing-unit": (
        f"{{endpoint: e, on_missing_unit: random, {TWO}}}",
        "expected control, request, or attribute:NAME",
    ),
    "unknown-fallback": (f"{{endpoint: e, fallback: a, {TWO}}}", "x.fallback: found 'a'; expected 'control'."),
    "future-key": (
        f"{{endpoint: e, targetting: x, {TWO}}}",
        "x.targetting: unknown key 'targetting'. Did you mean",
    ),
    "metric-kind": (
        f"{{endpoint: e, metrics: {{primary: {{outcome: o, kind: conversions}}}}, {TWO}}}",
        "metrics.primary.kind: found 'conversions'; expected 'conversion', 'mean', 'count'",
    ),
    "metric-window": (
        f"{{endpoint: e, metrics: {{secondary: {{s: {{outcome: o, window: 1}}}}}}, {TWO}}}",
        "metrics.secondary.s.window: found 1; expected a duration such as 200ms, 5s, 10m, 2h or 30d. Say the unit: 1s",
    ),
    "guardrail": (
        f"{{endpoint: e, metrics: {{guardrails: {{slow: {{signal: latency, threshold: 800}}}}}}, {TWO}}}",
        "metrics.guardrails.slow.threshold: found 800; expected a duration",
    ),
    "alpha": (f"{{endpoint: e, plan: {{alpha: 5}}, {TWO}}}", "x.plan.alpha: found 5; expected less than 0.5"),
    "seed": (f"{{endpoint: e, seed: 7, {TWO}}}", "x.seed: found 7; expected text of 1 to 128 characters"),
}


@pytest.mark.parametrize(("written", "message"), MODELS.values(), ids=MODELS)
def test_wrong_model_is_told(refuse: Refuse, written: str, message: str) -> None:
    errors = refuse(MODEL.format(written))
    assert message in errors[0]
    assert errors[0].startswith("turnout.yaml:1 models.m")
    assert len(errors) == 1


@pytest.mark.parametrize(("written", "message"), EXPERIMENTS.values(), ids=EXPERIMENTS)
def test_wrong_experiment_is_told(refuse: Refuse, written: str, message: str) -> None:
    errors = refuse(EXPERIMENT.format(written))
    assert message in " | ".join(errors)
    assert all(error.startswith("turnout.yaml:4 experiments.x") for error in errors)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "turnout.yaml:1 endpoints: the document is empty; nothing would be served. Add endpoints:"),
        ("models:\npipelines:\n", "endpoints: the document has no endpoints; nothing would be served."),
        ("endpoints: {}\n", "turnout.yaml:1 endpoints: the document has no endpoints"),
        ("endpoint: {}\n", "turnout.yaml:1 endpoint: unknown key 'endpoint'. Did you mean 'endpoints'?"),
        ("endpoints: [a]\n", "turnout.yaml:1 endpoints: found a list; expected a mapping."),
        ("endpoints: {e: {pipeline: p}}\n", "e.pipeline: no pipeline 'p'. There are no pipelines."),
        ("endpoints: {e: p}\n", "turnout.yaml:1 endpoints.e: found 'p'; expected a mapping."),
        (
            "endpoints: {e: {}}\n",
            "endpoints.e.pipeline: key 'pipeline' is missing. Expected: The pipeline that answers",
        ),
        (
            "endpoints: {E x: {pipeline: p}}\n",
            "endpoints.E x: found the name 'E x'; expected a name of lower-case letters",
        ),
        (
            "pipelines: {p: {code: prodict}}\n",
            "found 'prodict'; expected 'package.module:name' or a built-in pipeline. Did",
        ),
        (
            "pipelines: {p: {code: predict, models: {m: x}}}\n",
            "pipelines.p.models.m: no model 'x'. There are no models.",
        ),
        (
            "endpoints: {e: {pipeline: p, unit: 'a b'}}\n",
            "found 'a b'; expected a field of the request such as user_id",
        ),
        ("endpoints: {e: {pipeline: p, deadline: 2h}}\n", "endpoints.e.deadline: found '2h'; expected at most 3600"),
        (
            "endpoints: {e: {pipeline: p, fallback: p}}\n",
            "fallback 'p' is the endpoint's own pipeline, which has just failed",
        ),
    ],
)
def test_wrong_document_is_told(refuse: Refuse, text: str, message: str) -> None:
    assert message in "\n".join(refuse(text))


TEN = """\
models:
  Rank: {runtime: onnx, source: rank.onnx}
  embed: {runtime: pyton, code: "chat:Embed"}
  answers: {runtime: index, source: answers.npz, code: "chat:Index"}
pipelines:
  retrieval:
    code: chat.retrieve
    models: {embed: embeed, index: answers}
endpoints:
  reply: {pipeline: retreival, deadline: 5}
experiments:
  structure:
    endpoint: replay
    variants:
      retrieval: {pipeline: retrieval, weight: "50", control: true}
      generation: {pipeline: generation, wieght: 50}
    winner: ${WINNER}
"""


def test_document_with_ten_errors_tells_all_of_them_in_order(refuse: Refuse) -> None:
    errors = refuse(TEN)
    places = [error.split(": ")[0] for error in errors]
    assert places == [
        "turnout.yaml:2 models.Rank",
        "turnout.yaml:3 models.embed.runtime",
        "turnout.yaml:4 models.answers.code",
        "turnout.yaml:7 pipelines.retrieval.code",
        "turnout.yaml:8 pipelines.retrieval.models.embed",
        "turnout.yaml:10 endpoints.reply.deadline",
        "turnout.yaml:10 endpoints.reply.pipeline",
        "turnout.yaml:13 experiments.structure.endpoint",
        "turnout.yaml:15 experiments.structure.variants.retrieval.weight",
        "turnout.yaml:16 experiments.structure.variants.generation.pipeline",
        "turnout.yaml:16 experiments.structure.variants.generation.weight",
        "turnout.yaml:16 experiments.structure.variants.generation.wieght",
        "turnout.yaml:17 experiments.structure.winner",
    ]


def test_errors_of_all_files_come_together(refuse: Refuse) -> None:
    errors = refuse(
        {"models.yaml": "models: {m: {}}\n", "b.yaml": "a: [\n", "c.yaml": "endpoints: {e: {pipelin: p}}\n"}
    )
    assert [error.split(" ")[0].rstrip(":") for error in errors] == [
        "b.yaml:2",
        "c.yaml:1",
        "c.yaml:1",
        "models.yaml:1",
    ]


def test_file_that_cannot_be_read_causes_no_errors_about_names_it_may_define(refuse: Refuse) -> None:
    errors = refuse({"a.yaml": "endpoints: {e: {pipeline: p}}\n", "b.yaml": "pipelines: {p: {code: predict}\n"})
    assert len(errors) == 1
    assert errors[0].startswith("b.yaml:2: not YAML")


def test_long_value_is_shortened(refuse: Refuse) -> None:
    errors = refuse("endpoints: {e: {pipeline: " + "p" * 4000 + "}}\n")
    assert len(errors[0]) < 250


def test_two_experiments_of_one_endpoint_clash(refuse: Refuse) -> None:
    both = f"{{endpoint: e, {TWO}}}, y: {{endpoint: e, seed: z, {TWO}}}"
    errors = refuse(EXPERIMENT.format(both))
    assert len(errors) == 1
    assert "experiments.y.endpoint: experiments 'x' and 'y' both decide what endpoint 'e' runs." in errors[0]


def test_stage_without_a_file_names_the_stages(refuse: Refuse, hello: str) -> None:
    files = {"turnout.yaml": hello, "turnout.prod.yaml": "endpoints: {flower: {deadline: 2s}}\n"}
    assert refuse(files, stage="prd") == [
        "stage 'prd' has no file such as turnout.prd.yaml. Did you mean 'prod'? Stages: prod."
    ]


def test_unknown_key_of_a_stage_is_told_where_the_stage_says_it(refuse: Refuse, hello: str) -> None:
    files = {"turnout.yaml": hello, "turnout.prod.yaml": "\nendpoints: {flower: {dedline: 2s}}\n"}
    assert refuse(files, stage="prod")[0].startswith(
        "turnout.prod.yaml:2 endpoints.flower.dedline: unknown key 'dedline'. Did you mean 'deadline'?"
    )


def test_stage_that_drops_every_endpoint_is_refused(refuse: Refuse, hello: str) -> None:
    files = {"turnout.yaml": hello, "turnout.prod.yaml": "endpoints: null\n"}
    assert "no endpoints; nothing would be served" in refuse(files, stage="prod")[0]
