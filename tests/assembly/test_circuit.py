"""A circuit opens after hard failures in a row, and only after those."""

from collections.abc import Callable

import pytest

from turnout import telemetry
from turnout.assembly import circuit
from turnout.errors import (
    DeadlineError,
    InputError,
    ModelError,
    OverloadError,
    StepError,
    TurnoutError,
    UnavailableError,
)


def made(opens_at: float = circuit.OPENS_AT) -> circuit.Circuit:
    return circuit.Circuit(telemetry.Registry(), endpoint="ask", name="next", variant="canary", opens_at=opens_at)


def crash() -> StepError:
    return StepError("crash", pipeline="p", step="code")


HARD: dict[str, Callable[[], TurnoutError]] = {
    "not-ready": lambda: UnavailableError("not ready"),
    "crash": crash,
    "invalid-output": lambda: ModelError("bad output", model="m"),
    "timeout": lambda: DeadlineError("late", stage="rank"),
}
SOFT: dict[str, Callable[[], TurnoutError]] = {
    "wrong-request": lambda: InputError("wrong"),
    "overload": lambda: OverloadError("full"),
    "waited-in-a-queue": lambda: DeadlineError("late", stage="queue"),
}


@pytest.mark.parametrize("kind", HARD)
def test_five_hard_failures_in_a_row_open_it(kind: str) -> None:
    broken = made()
    for _ in range(4):
        broken.failed(HARD[kind]())
    assert not broken.open
    broken.failed(HARD[kind]())
    assert broken.open
    assert "5 times in a row" in broken.cause
    assert HARD[kind]().message in broken.cause


@pytest.mark.parametrize("kind", SOFT)
def test_what_the_caller_or_the_load_did_is_not_counted(kind: str) -> None:
    broken = made()
    for _ in range(9):
        broken.failed(SOFT[kind]())
    assert (broken.open, broken.total, broken.failures_in_a_row) == (False, 0, 0)


def test_a_late_answer_that_the_caller_hurried_is_not_counted() -> None:
    broken = made()
    for _ in range(9):
        broken.failed(DeadlineError("late", stage="rank"), hurried=True)
    broken.failed(crash(), hurried=True)
    assert broken.total == 1


def test_one_success_begins_the_row_anew_and_the_total_stays() -> None:
    broken = made()
    for _ in range(20):
        for _ in range(4):
            broken.failed(crash())
        broken.passed()
    assert (broken.open, broken.total, broken.failures_in_a_row) == (False, 80, 0)


def test_where_nothing_guards_it_only_counts() -> None:
    counting = circuit.Circuit(telemetry.Registry(), endpoint="ask", name="exp", variant="b")
    for _ in range(50):
        counting.failed(crash())
    assert (counting.open, counting.total, counting.guards) == (False, 50, False)
