"""Rollouts as a document says them, and what a look may have seen."""

from collections.abc import Callable
from typing import Any

import pytest
from msgspec import structs

from turnout.rollouts import evidence
from turnout.spec import traffic

Rollout = Callable[..., traffic.RolloutSpec]
Seen = Callable[..., evidence.Evidence]


@pytest.fixture
def rollout() -> Rollout:
    """A rollout's spec with short times, and keys of the document laid over it."""

    def make(**keys: Any) -> traffic.RolloutSpec:
        usual: dict[str, Any] = {"endpoint": "reply", "to": {"pipeline": "next"}}
        if keys.get("kind", "canary") == "canary":
            usual["step"] = {"min": "60s", "max": "600s", "units": 50}
        return traffic.RolloutSpec.model_validate(usual | keys)

    return make


@pytest.fixture
def seen() -> Seen:
    """A look at a healthy rollout with enough data, and what is different."""

    def make(
        state: evidence.State = "safe", outcome: evidence.State | None = None, **changes: Any
    ) -> evidence.Evidence:
        closed = changes.pop("closed", 1.0)
        reading = evidence.Reading(
            name="errors", state=state, n=1000, new=0.01, old=0.01, low=-0.004, high=0.004, margin=0.005
        )
        guardrails = (reading,)
        outcomes = () if outcome is None else (structs.replace(reading, name="kept", state=outcome, closed=closed),)
        usual: dict[str, Any] = {"units": (500, 500), "fresh": (100, 100)}
        return evidence.Evidence(**(usual | {"guardrails": guardrails, "outcomes": outcomes} | changes))

    return make
