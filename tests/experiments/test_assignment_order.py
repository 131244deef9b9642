"""The order of evaluation, row by row, and that nothing ever raises."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from turnout.experiments import assignment, holdouts, layers, points
from turnout.experiments.assignment import Reason

WEIGHTS = {"old": 50, "new": 50}


def experiment(*, ramp_ppm: int = assignment.MILLION, **gates: Any) -> assignment.Allocation:
    return assignment.Allocation("e", WEIGHTS, "old", ramp_ppm=ramp_ppm, gates=assignment.Gates(**gates))


class Says:
    """A targeting condition that gives, or raises, what it was made with."""

    def __init__(self, said: bool | Exception) -> None:
        self.said = said

    def holds(self, attributes: Any) -> bool:
        if isinstance(self.said, Exception):
            raise self.said
        return self.said


EVERYBODY = holdouts.holdout("all", assignment.MILLION)
NOBODYS = layers.Layer("reply", [])

ROWS: list[tuple[str, dict[str, Any], dict[str, Any], str]] = [
    # reason, what of the document brings it about, what of the request, the variant
    (Reason.WINNER, {"winner": "new"}, {}, "new"),
    (Reason.DISABLED, {"enabled": False}, {}, "old"),
    (Reason.OVERRIDE, {}, {"override": "new"}, "new"),
    (Reason.OVERRIDE, {"overrides": {"u": "new"}}, {"unit": "u"}, "new"),
    (Reason.EXTERNAL, {"external": True}, {"external": "new"}, "new"),
    (Reason.EXTERNAL_UNKNOWN, {"external": True}, {"external": "newer"}, "old"),
    (Reason.EXTERNAL_UNKNOWN, {"external": True}, {}, "old"),
    (Reason.NO_UNIT, {}, {"unit": None}, "old"),
    (Reason.HOLDOUT, {"holdout": EVERYBODY}, {}, "old"),
    (Reason.NOT_IN_LAYER, {"layer": NOBODYS}, {}, "old"),
    (Reason.TARGETING, {"targeting": Says(False)}, {}, "old"),
    (Reason.TARGETING, {"targeting": Says(LookupError("country"))}, {}, "old"),
    (Reason.ERROR, {"targeting": Says(ValueError("no"))}, {}, "old"),
    (Reason.NOT_IN_RAMP, {"ramp_ppm": 0}, {}, "old"),
]


@pytest.mark.parametrize("row", range(len(ROWS)), ids=lambda row: f"{row}-{ROWS[row][0]}")
def test_a_row_decides_before_every_row_below_it(row: int) -> None:
    reason, document, request, variant = ROWS[row]
    for _, other_document, other_request, _ in [ROWS[row], *ROWS[row + 1 :]]:
        asked = {"unit": "u", **other_request, **request}
        found = assignment.assign(asked.pop("unit"), experiment(**{**other_document, **document}), **asked)
        assert (found.variant, found.reason) == (variant, reason)


def test_what_no_row_stops_is_split() -> None:
    own = layers.Layer("reply", [(0, 999)])
    allocation = experiment(holdout=holdouts.holdout("none", 0), layer=own, targeting=Says(True))
    for number in range(200):
        answer, plain = assignment.assign(number, allocation), assignment.assign(number, experiment())
        assert answer == plain


def test_a_missing_attribute_is_named_and_an_exception_told() -> None:
    lacking = assignment.assign("u", experiment(targeting=Says(LookupError("country"))))
    assert (lacking.missing, lacking.error, lacking.propensity) == ("country", "", 1.0)
    failed = assignment.assign("u", experiment(targeting=Says(ZeroDivisionError("by zero"))))
    assert (failed.missing, failed.error) == ("", "ZeroDivisionError: by zero")
    assert (failed.unit, failed.propensity) == ("u", 0.0)
    assert failed.sub_bucket == assignment.assign("u", experiment()).sub_bucket


def test_an_override_needs_no_unit_and_must_name_a_variant() -> None:
    answer = assignment.assign(None, experiment(), override="new")
    assert (answer.variant, answer.reason, answer.unit, answer.sub_bucket) == ("new", Reason.OVERRIDE, "", -1)
    wrong = assignment.assign("u", experiment(), override="newer")
    assert (wrong.variant, wrong.reason) == ("old", Reason.ERROR)
    assert wrong.error == "ValueError: the override names variant 'newer'; there are new, old"


def test_the_propensity_of_what_another_system_chose_is_unknown() -> None:
    allocation = experiment(external=True)
    assert assignment.assign("u", allocation, external="new").propensity == 0.0
    assert assignment.assign("u", allocation, external="other").propensity == 1.0
    assert assignment.assign("u", experiment(), external="new").reason == Reason.SPLIT


@pytest.mark.parametrize(
    ("unit", "allocation", "variant", "reason"),
    [
        pytest.param(
            "qa", experiment(winner="new", enabled=False, overrides={"qa": "old"}), "new", Reason.WINNER, id="winner"
        ),
        pytest.param(None, experiment(winner="new"), "new", Reason.WINNER, id="winner-without-unit"),
        pytest.param(1.5, experiment(winner="new"), "new", Reason.WINNER, id="winner-with-a-bad-unit"),
        pytest.param("qa", experiment(enabled=False, overrides={"qa": "new"}), "old", Reason.DISABLED, id="disabled"),
        pytest.param("qa", experiment(overrides={"qa": "new"}, ramp_ppm=0), "new", Reason.OVERRIDE, id="override"),
        pytest.param(7, experiment(overrides={"7": "new"}, ramp_ppm=0), "new", Reason.OVERRIDE, id="override-integer"),
        pytest.param(None, experiment(ramp_ppm=0), "old", Reason.NO_UNIT, id="absent"),
        pytest.param("", experiment(ramp_ppm=0), "old", Reason.NO_UNIT, id="empty"),
        pytest.param("u", experiment(ramp_ppm=0), "old", Reason.NOT_IN_RAMP, id="ramp"),
        pytest.param("u", experiment(), "old", Reason.SPLIT, id="split"),
        pytest.param(True, experiment(), "old", Reason.ERROR, id="bool"),
        pytest.param(1.0, experiment(), "old", Reason.ERROR, id="float"),
        pytest.param(["u"], experiment(), "old", Reason.ERROR, id="list"),
        pytest.param("\ud800", experiment(), "old", Reason.ERROR, id="surrogate"),
        pytest.param(10**5000, experiment(), "old", Reason.ERROR, id="endless-integer"),
    ],
)
def test_the_first_match_decides(unit: object, allocation: assignment.Allocation, variant: str, reason: str) -> None:
    answer = assignment.assign(unit, allocation)
    assert (variant, reason) == (answer.variant, answer.reason)


def test_an_error_says_what_to_do() -> None:
    answer = assignment.assign(1.5, experiment())
    assert answer.error == "TypeError: a unit is text or an integer, not float; send it as text"
    assert (answer.unit, answer.sub_bucket, answer.propensity) == ("", -1, 0.0)
    assert "lone surrogate" in assignment.assign("\udfff", experiment()).error


def test_the_request_id_stands_in_when_the_document_says_so() -> None:
    allocation = experiment(on_missing_unit="request", unit_type="user_id")
    answer = assignment.assign(None, allocation, request_id="r-1")
    assert (answer.unit, answer.reason, answer.unit_type) == ("r-1", Reason.SPLIT, "request_id")
    assert answer.variant == assignment.assign("r-1", allocation).variant
    assert assignment.assign("u", allocation, request_id="r-1").unit_type == "user_id"
    assert assignment.assign(None, allocation).reason == Reason.NO_UNIT


def test_an_attribute_stands_in_when_the_document_says_so() -> None:
    allocation = experiment(on_missing_unit="attribute:api_key", unit_type="user_id")
    answer = assignment.assign("", allocation, request_id="r", attributes={"api_key": 77})
    assert (answer.unit, answer.reason, answer.unit_type) == ("77", Reason.SPLIT, "api_key")
    assert assignment.assign("", allocation, request_id="r", attributes={}).reason == Reason.NO_UNIT
    assert assignment.assign("", allocation, request_id="r").reason == Reason.NO_UNIT
    assert assignment.assign("", allocation, attributes={"api_key": 1.5}).reason == Reason.ERROR


def test_a_unit_is_taken_as_it_is_given() -> None:
    allocation = assignment.Allocation("e", {f"v{i}": 1 for i in range(50)}, "v0")
    texts = ["u", "u ", " u", "U", "Zo\u00eb", "Zoe\u0308", "1", "01", "1.0"]
    assert len({assignment.assign(text, allocation).variant for text in texts}) > 5
    assert assignment.assign(1, allocation) == assignment.assign("1", allocation)


def test_a_unit_of_a_megabyte_is_survived() -> None:
    assert assignment.assign("x" * 2**20, experiment()).reason == Reason.SPLIT


def test_propensity_is_the_share_of_the_weights() -> None:
    allocation = assignment.Allocation("e", {"a": 60, "b": 30, "c": 10, "off": 0}, "off")
    for number in range(100):
        answer = assignment.assign(number, allocation)
        assert {"a": 0.6, "b": 0.3, "c": 0.1}[answer.variant] == answer.propensity
    assert assignment.assign(None, allocation).propensity == 1.0


def test_weight_zero_never_wins() -> None:
    allocation = assignment.Allocation("e", {"a": 0, "b": 1e-9}, "a")
    assert {assignment.assign(number, allocation).variant for number in range(1000)} == {"b"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (({"a": 1}, "b"), "names"),
        (({"a": 0}, "a"), "above 0"),
        (({"a": -1, "b": 2}, "a"), "weights"),
        (({"a\0": 1}, "a\0"), "0x00"),
    ],
)
def test_a_wrong_allocation_is_a_programmers_error(arguments: tuple[dict[str, float], str], message: str) -> None:
    with pytest.raises(AssertionError, match=message):
        assignment.Allocation("e", *arguments)


anything = st.one_of(st.none(), st.text(), st.integers(), st.floats(), st.booleans(), st.binary(), st.lists(st.text()))


conditions = st.sampled_from([None, Says(True), Says(False), Says(LookupError()), Says(RuntimeError("x"))])


@given(
    unit=anything,
    missing=st.sampled_from(["control", "request", "attribute:a"]),
    request_id=st.text(),
    attribute=anything,
    ramp_ppm=st.integers(0, assignment.MILLION),
    hashed=st.sampled_from(["v1", "growthbook-v1", "growthbook-v2"]),
    targeting=conditions,
    external=st.one_of(st.none(), st.sampled_from(["old", "new"]), st.text()),
    override=st.one_of(st.none(), st.sampled_from(["old", "new"]), st.text()),
    foreign=st.booleans(),
)
def test_assign_never_raises(
    unit: object,
    missing: str,
    request_id: str,
    attribute: object,
    ramp_ppm: int,
    hashed: str,
    targeting: assignment.Condition | None,
    external: str | None,
    override: str | None,
    foreign: bool,
) -> None:
    allocation = experiment(
        ramp_ppm=ramp_ppm,
        on_missing_unit=missing,
        hash=hashed,
        targeting=targeting,
        external=foreign,
        holdout=holdouts.holdout("h", 100_000),
        layer=layers.Layer("l", [(0, 899)], namespace=hashed != "v1"),
    )
    answer = assignment.assign(
        unit, allocation, request_id=request_id, attributes={"a": attribute}, external=external, override=override
    )
    assert answer.variant in WEIGHTS
    assert (answer.reason == Reason.ERROR) == bool(answer.error)
    assert (answer.sub_bucket == -1) == (answer.unit == "")
    assert answer.reason in ANSWERED
    answer.unit.encode()  # what is logged can be written


ANSWERED = {value for name, value in vars(Reason).items() if name.isupper()}


def test_points_agree_with_the_assignment() -> None:
    allocation = assignment.Allocation("e", {"a": 60, "b": 30, "off": 0}, "a", ramp_ppm=500_000)
    for number in range(500):
        numbers = points.of(str(number), allocation)
        answer = assignment.assign(number, allocation)
        best = max(numbers.draws, key=lambda draw: draw.score).variant
        inside = numbers.ramp_point_ppm < 500_000
        assert (answer.variant, answer.reason) == ((best, "SPLIT") if inside else ("a", "NOT_IN_RAMP"))
        assert answer.sub_bucket == numbers.sub_bucket
