"""A document's experiments and rollouts as allocations: who gets what at each point of a rollout."""

from typing import Any

import pytest
from scipy import stats

from turnout.experiments import allocations, assignment, phases
from turnout.expressions import catalog
from turnout.spec import document

UNITS = 4000

DOCUMENT: dict[str, Any] = {
    "pipelines": {"retrieval": {"code": "chat:retrieve"}, "generation": {"code": "chat:generate"}},
    "endpoints": {"reply": {"pipeline": "retrieval", "unit": "user_id", "attributes": {"country": "country"}}},
}


def rollout(progress: dict[str, Any] | None = None, **keys: Any) -> assignment.Allocation:
    """The rollout "next" of a document, with progress of its own phase unless that says another."""
    spec = {"endpoint": "reply", "to": {"pipeline": "generation"}, **keys}
    content = document.Document.model_validate({**DOCUMENT, "rollouts": {"next": spec}})
    phase = phases.of_rollout("next", content, written={}, digests={})
    if progress is not None:
        spec["progress"] = {"phase": phase, **progress}
    content = document.Document.model_validate({**DOCUMENT, "rollouts": {"next": spec}})
    return allocations.of_rollout("next", content.rollouts["next"], phase=phase, unit_type="user_id")


def answers(allocation: assignment.Allocation, units: int = UNITS) -> list[assignment.Assignment]:
    return [assignment.assign(str(number), allocation) for number in range(units)]


@pytest.mark.parametrize(
    ("progress", "variant", "reason"),
    [
        pytest.param(None, "rest", "DISABLED", id="none"),
        pytest.param({"state": "pending", "share": 0.1}, "rest", "DISABLED", id="pending"),
        pytest.param({"state": "rolled_back", "share": 0.1}, "rest", "DISABLED", id="rolled-back"),
        pytest.param({"state": "ramping", "share": 0.1, "phase": "another"}, "rest", "DISABLED", id="another-phase"),
        pytest.param({"state": "ramping", "share": 0.0}, "rest", "DISABLED", id="no-share"),
        pytest.param({"state": "promoting"}, "canary", "WINNER", id="promoting"),
        pytest.param({"state": "baking"}, "canary", "WINNER", id="baking"),
        pytest.param({"state": "done"}, "canary", "WINNER", id="done"),
    ],
)
def test_where_nobody_or_everybody_has_the_canary_nothing_is_analysed(
    progress: dict[str, Any] | None, variant: str, reason: str
) -> None:
    assert {(each.variant, each.reason) for each in answers(rollout(progress), 200)} == {(variant, reason)}
    assert reason not in assignment.ANALYSED


@pytest.mark.parametrize("state", ["ramping", "holding"])
@pytest.mark.parametrize("share", [0.01, 0.05, 0.25, 0.5])
def test_canary_and_control_have_equal_shares(state: str, share: float) -> None:
    found = [each.variant for each in answers(rollout({"state": state, "share": share}))]
    counts = {name: found.count(name) for name in ("rest", "control", "canary")}
    assert sum(counts.values()) == UNITS
    assert stats.binomtest(counts["canary"], UNITS, share).pvalue > 0.001
    assert stats.binomtest(counts["control"], UNITS, share).pvalue > 0.001
    assert share < 0.5 or counts["rest"] == 0


def test_a_step_up_moves_units_from_the_rest_only() -> None:
    before = ["rest"] * UNITS
    for share in (0.01, 0.05, 0.1, 0.25, 0.5):
        after = [each.variant for each in answers(rollout({"state": "ramping", "share": share}))]
        moves = {(old, new) for old, new in zip(before, after, strict=True) if old != new}
        assert moves <= {("rest", "control"), ("rest", "canary")}
        before = after


def test_a_rollout_takes_the_request_id_where_there_is_no_unit() -> None:
    allocation = rollout({"state": "ramping", "share": 0.5})
    found = [assignment.assign(None, allocation, request_id=f"r{number}") for number in range(200)]
    assert {each.variant for each in found} == {"control", "canary"}
    assert {each.unit_type for each in found} == {"request_id"}


@pytest.mark.parametrize(
    ("progress", "variant"),
    [
        (None, "blue"),
        ({"state": "pending"}, "blue"),
        ({"state": "ramping", "share": 0.3}, "blue"),
        ({"state": "rolled_back"}, "blue"),
        ({"state": "promoting"}, "green"),
        ({"state": "baking"}, "green"),
        ({"state": "done"}, "green"),
    ],
)
def test_blue_green_switches_everybody_at_once(progress: dict[str, Any] | None, variant: str) -> None:
    assert {each.variant for each in answers(rollout(progress, kind="blue-green"), 100)} == {variant}


def test_an_experiment_takes_everything_the_document_says() -> None:
    content = document.Document.model_validate(
        {
            **DOCUMENT,
            "holdouts": {"everyone": {"ratio": "10%"}},
            "experiments": {
                "structure": {
                    "endpoint": "reply",
                    "targeting": "country == 'KR'",
                    "layer": {"name": "reply", "slots": "0-499"},
                    "variants": {
                        "old": {"weight": 50, "control": True},
                        "new": {"weight": 50, "pipeline": "generation"},
                    },
                }
            },
        }
    )
    spec, endpoint = content.experiments["structure"], content.endpoints["reply"]
    allocation = allocations.of(
        "structure",
        spec,
        unit_type="user_id",
        holdout=allocations.holdout_on(content, "reply"),
        targeting=catalog.compile(spec.targeting or "", endpoint.attributes),
    )
    reasons = [
        assignment.assign(number, allocation, attributes={"country": "KR" if number % 2 else "JP"}).reason
        for number in range(UNITS)
    ]
    shares = {"HOLDOUT": 0.1, "NOT_IN_LAYER": 0.45, "TARGETING": 0.225, "SPLIT": 0.225}
    assert set(reasons) == set(shares)
    for reason, share in shares.items():
        assert stats.binomtest(reasons.count(reason), UNITS, share).pvalue > 0.001
    assert assignment.assign("1", allocation).reason in ("TARGETING", "HOLDOUT", "NOT_IN_LAYER")


def test_a_holdout_elsewhere_or_switched_off_holds_nobody() -> None:
    def on_reply(**keys: Any) -> object:
        holdout = {"everyone": {"ratio": 0.1, **keys}}
        return allocations.holdout_on(document.Document.model_validate({**DOCUMENT, "holdouts": holdout}), "reply")

    assert on_reply() is not None
    assert on_reply(endpoints=["reply"]) is not None
    assert on_reply(endpoints=["other"]) is None
    assert on_reply(enabled=False) is None
    assert allocations.holdout_on(document.Document.model_validate(DOCUMENT), "reply") is None
