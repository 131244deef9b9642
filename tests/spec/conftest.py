"""Documents and the way to admit them."""

from collections.abc import Callable, Mapping

import pytest

from turnout.errors import DocumentError
from turnout.spec import snapshot

CHAT = """\
models:
  embed:   {runtime: python, code: "chat.models:SentenceEmbedder"}
  answers: {runtime: index,  source: data/answers.npz, exact: true, metric: cos}
  rank:    {runtime: onnx,   source: models/ranker.onnx, batching: {max_rows: 64, max_delay: 0ms}}
  speak:   {runtime: "chat.speak:Runtime", options: {model: tiny-chat}}
pipelines:
  retrieval:  {code: "chat.pipelines:retrieve", models: {embed: embed, index: answers, rank: rank}, params: {top_k: 20}}
  generation: {code: "chat.pipelines:generate", models: {speak: speak, rank: rank}, params: {candidates: 4}}
endpoints:
  reply: {pipeline: retrieval, unit: user_id, deadline: 5s}
experiments:
  structure:
    endpoint: reply
    seed: structure
    ramp: 20%
    variants:
      retrieval:  {pipeline: retrieval, weight: 50, control: true}
      generation: {pipeline: generation, weight: 50}
    metrics:
      primary: {outcome: kept_talking, kind: conversion, window: 1d}
      secondary: {length: {outcome: words, kind: mean, window: 12h}}
      guardrails: {slow: {signal: latency, kind: share_over, threshold: 800ms, margin: 0.02}}
    plan: {units: 40000, alpha: 0.05, tightest_at: 40000, min_duration: 7d}
"""
"""The document of the design, every kind of part in it."""

HELLO = """\
models:
  flower: {source: flower.onnx}
pipelines:
  classify: {code: predict, models: {model: flower}}
endpoints:
  flower: {pipeline: classify, deadline: 1s}
"""

Admit = Callable[..., snapshot.Snapshot]
Refuse = Callable[..., list[str]]


@pytest.fixture
def chat() -> str:
    return CHAT


@pytest.fixture
def hello() -> str:
    return HELLO


@pytest.fixture
def admit() -> Admit:
    """Admit one text, or files by name, without environment and artifacts unless given."""

    def run(document: str | Mapping[str, str], **options: object) -> snapshot.Snapshot:
        files = {"turnout.yaml": document} if isinstance(document, str) else document
        return snapshot.admit(files, **{"environment": {}, **options})  # type: ignore[arg-type]

    return run


@pytest.fixture
def refuse(admit: Admit) -> Refuse:
    """The errors of a document that is refused, as people read them."""

    def run(document: str | Mapping[str, str], **options: object) -> list[str]:
        with pytest.raises(DocumentError) as caught:
            admit(document, **options)
        return [str(error) for error in caught.value.errors]

    return run
