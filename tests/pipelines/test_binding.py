"""A definition and the document's models and params: what fits, and every mismatch with its place."""

from dataclasses import dataclass
from typing import Any, Literal

import msgspec
import numpy as np
import pytest

from turnout.authoring import Inputs, Match, Model, Outputs, Query, pipeline
from turnout.errors import DocumentError, InputError, SpecError
from turnout.pipelines import binding, builtin, definition
from turnout.wire import Signature, TensorSpec


@dataclass
class Chat:
    text: str


@dataclass
class Reply:
    text: str


@dataclass
class Weights:
    title: float
    body: float = 1.0


@pipeline
async def answer(
    chat: Chat,
    *,
    embed: Model[str, list[float]],
    rank: Model[dict[str, Any], float],
    spare: Model[str, str] | None = None,
    top_k: int,
    method: Literal["mean", "max"] = "mean",
    weights: Weights | None = None,
) -> Reply:
    return Reply(f"{top_k} {method} {weights} {spare}")


DEFINITION = definition.define(answer)


class Bound:
    def __init__(self, model: str, version: str = "v1") -> None:
        self.model = model
        self.version = version

    async def __call__(self, item: Any) -> Any:
        return item

    async def many(self, items: Any) -> Any:
        return list(items)

    def stream(self, item: Any) -> Any:
        raise NotImplementedError


def bind(
    *, models: dict[str, Any] | None = None, signatures: dict[str, Signature] | None = None, **params: Any
) -> binding.BoundPipeline:
    bound = {"embed": Bound("e"), "rank": Bound("r")} if models is None else models
    return binding.bind("reply", DEFINITION, bound, params=params, signatures=signatures or {})


def errors_of(**arguments: Any) -> list[SpecError]:
    with pytest.raises(DocumentError) as caught:
        bind(**arguments)
    return list(caught.value.errors)


def test_bound_pipeline_knows_its_models_by_version() -> None:
    bound = bind(top_k=3)
    assert bound.models == ("e@v1", "r@v1")
    assert bound.steps == {"e": "embed", "r": "rank"}
    assert bound.request.decode(b'{"text": "hello"}') == Chat("hello")
    assert bound.encode(Reply("x")) == b'{"text":"x"}'


def test_params_are_converted_to_their_types_and_defaults_stay() -> None:
    bound = bind(top_k=3, weights={"title": 2})
    coroutine = bound.start(Chat("x"))
    with pytest.raises(StopIteration) as caught:
        coroutine.send(None)
    assert caught.value.value == Reply("3 mean Weights(title=2.0, body=1.0) None")


@pytest.mark.parametrize(
    ("params", "path", "words"),
    [
        ({}, "params", ["'top_k' is not set", "top_k: int"]),
        ({"top_k": "5"}, "params.top_k", ["'5'", "top_k: int", "An integer is expected"]),
        ({"top_k": 2.5}, "params.top_k", ["2.5", "top_k: int"]),
        ({"top_k": True}, "params.top_k", ["True", "top_k: int"]),
        ({"top_k": 1, "topk": 2}, "params.topk", ["no param 'topk'", "Did you mean 'top_k'?"]),
        ({"top_k": 1, "zzz": 2}, "params.zzz", ["no param 'zzz'", "method, top_k, weights"]),
        ({"top_k": 1, "rank": "r"}, "params.rank", ["'rank' is a model", "move it under models"]),
        ({"top_k": 1, "method": "median"}, "params.method", ["'median'", "'mean', 'max'"]),
        ({"top_k": 1, "weights": {"title": "x"}}, "params.weights.title", ["weights: "]),
        ({"top_k": 1, "weights": {"title": 1, "bodi": 1}}, "params.weights.bodi", ["Did you mean 'body'?"]),
    ],
    ids=str,
)
def test_param_that_does_not_fit_is_named_with_its_type(params: dict[str, Any], path: str, words: list[str]) -> None:
    (error,) = errors_of(**params)
    assert error.path == path
    for word in ["'reply'", *words]:
        assert word in str(error)


@pytest.mark.parametrize(
    ("models", "path", "words"),
    [
        ({"rank": Bound("r")}, "models", ["'embed' is not bound", "embed: Model[str, list[float]]"]),
        (
            {"embed": Bound("e"), "rank": Bound("r"), "spar": Bound("s")},
            "models.spar",
            ["no model 'spar'", "Did you mean 'spare'?"],
        ),
        (
            {"embed": Bound("e"), "rank": Bound("r"), "top_k": Bound("s")},
            "models.top_k",
            ["'top_k' is a param", "move it under params"],
        ),
    ],
    ids=["missing", "unknown", "a param"],
)
def test_model_that_is_missing_or_unknown_is_named(models: dict[str, Any], path: str, words: list[str]) -> None:
    (error,) = errors_of(models=models, top_k=1)
    assert error.path == path
    for word in words:
        assert word in str(error)


def test_all_mismatches_come_together() -> None:
    found = errors_of(models={"embet": Bound("e")}, topk=3, method=7)
    assert [error.path for error in found] == [
        "models",
        "models",
        "models.embet",
        "params",
        "params.topk",
        "params.method",
    ]


def signature(*inputs: TensorSpec) -> Signature:
    return Signature(inputs, (TensorSpec("y", "FP32", (1,)),))


TEXT = TensorSpec("text", "BYTES", (1,))
VECTOR = TensorSpec("x", "FP32", (8,))
AGE = TensorSpec("age", "INT64", (1,))


@pytest.mark.parametrize(
    ("item", "taken", "reason"),
    [
        (str, (TEXT,), ""),
        (str, (VECTOR,), "text is no FP32"),
        (float, (AGE,), ""),
        (float, (VECTOR,), "one number is no FP32[8]"),
        (int, (TEXT,), "one number is no BYTES[1]"),
        (list[float], (VECTOR,), ""),
        (np.ndarray, (VECTOR,), ""),
        (list[float], (VECTOR, AGE), "an item must name its 2 inputs"),
        (dict[str, Any], (VECTOR, AGE), ""),
        (Inputs, (VECTOR, AGE), ""),
        (Any, (VECTOR, AGE), ""),
        (Query, (VECTOR,), "a Query is for vector indexes"),
    ],
    ids=str,
)
def test_declared_item_is_held_against_the_models_signature(
    item: Any, taken: tuple[TensorSpec, ...], reason: str
) -> None:
    declared = definition.Definition(
        name="f",
        function=answer.function,
        request=Chat,
        reply=Reply,
        streams=False,
        models={"rank": definition.Port(name="rank", item=item)},
        params={},
    )
    models = {"rank": Bound("r")}
    if not reason:
        binding.bind("p", declared, models, params={}, signatures={"rank": signature(*taken)})
        return
    with pytest.raises(DocumentError) as caught:
        binding.bind("p", declared, models, params={}, signatures={"rank": signature(*taken)})
    (error,) = caught.value.errors
    assert error.path == "models.rank"
    for word in (reason, str(taken[0]), "rank: Model["):
        assert word in error.message


PREDICT = definition.define(builtin.predict)


def test_inputs_and_outputs_become_the_bound_models_signature() -> None:
    bound = binding.bind(
        "hello",
        PREDICT,
        {"model": Bound("net")},
        params={},
        signatures={"model": signature(VECTOR)},
        extra_request_fields=frozenset({"user_id"}),
    )
    assert list(bound.request.json_schema()["properties"]) == ["x", "user_id"]
    assert list(bound.reply.json_schema()["properties"]) == ["y"]
    assert (bound.request.name, bound.reply.name) == ("x FP32[8]", "y FP32[1]")


def test_model_without_a_signature_takes_any_object() -> None:
    bound = binding.bind("hello", PREDICT, {"model": Bound("net")}, params={}, signatures={"model": None})
    assert bound.request.decode(b'{"a": [1]}') == {"a": [1]}
    with pytest.raises(InputError):
        bound.request.decode(b"[1]")


ENSEMBLE = definition.define(builtin.ensemble)


def test_any_number_of_models_binds_to_the_catch_all_port() -> None:
    bound = binding.bind(
        "all",
        ENSEMBLE,
        {"a": Bound("n1"), "b": Bound("n2", "")},
        params={"method": "vote"},
        signatures={"a": signature(VECTOR), "b": signature(VECTOR)},
    )
    assert bound.models == ("n1@v1", "n2")


@pytest.mark.parametrize(
    ("models", "signatures", "path", "word"),
    [
        ({}, {}, "models", "no models are bound for '**models'"),
        (
            {"a": Bound("n1"), "b": Bound("n2")},
            {"a": signature(VECTOR), "b": signature(AGE)},
            "models.b",
            "'a' has x FP32[8], 'b' has age INT64[1]",
        ),
        ({"method": Bound("n1"), "a": Bound("n2")}, {}, "models.method", "no model 'method'"),
    ],
    ids=["none", "different signatures", "a param's name"],
)
def test_ensemble_that_cannot_be_bound_says_why(
    models: dict[str, Any], signatures: dict[str, Signature], path: str, word: str
) -> None:
    with pytest.raises(DocumentError) as caught:
        binding.bind("all", ENSEMBLE, models, params={}, signatures=signatures)
    (error,) = caught.value.errors
    assert error.path == path
    assert word in error.message


@pipeline
async def odd(chat: object, *, hook: Any = None, lock: type[Exception] = ValueError) -> Match:
    raise NotImplementedError


def test_types_without_a_form_in_json_are_errors_of_the_document() -> None:
    with pytest.raises(DocumentError) as caught:
        binding.bind("odd", definition.define(odd), {}, params={"hook": {"a": 1}, "lock": "x"}, signatures={})
    assert [error.path for error in caught.value.errors] == ["params.lock", "code"]
    assert "request type" in caught.value.errors[1].message


def test_struct_that_is_a_request_and_a_reply_is_bound_once_each() -> None:
    class Both(msgspec.Struct):
        text: str

    async def same(both: Any) -> Any:
        return both

    same.__annotations__ = {"both": Both, "return": Both}
    bound = binding.bind("same", definition.define(pipeline(same)), {}, params={}, signatures={})
    assert bound.encode(bound.request.decode(b'{"text":"a"}')) == b'{"text":"a"}'
    assert Outputs({"y": 1}) == {"y": 1}
