"""Where a model computes, decided by its batches' times alone."""

import itertools

import pytest

from turnout.errors import SpecError
from turnout.models import placement

SHORT_S, LONG_S = placement.LOOP_S / 10, placement.LOOP_S * 3


def placed(execution: placement.Execution, *, native: bool, warm_s: float | None = None) -> placement.Placement:
    made = placement.Placement(execution)
    made.check("rank", native=native)
    if warm_s is not None:
        made.measured(warm_s)
    made.choose()
    return made


def batches_until(made: placement.Placement, batch_s: float, *, on_loop: bool) -> int:
    for count in itertools.count():
        if made.on_loop == on_loop:
            return count
        assert count < 1_000, "it never moved"
        made.spent(batch_s)
    raise AssertionError


@pytest.mark.parametrize(
    ("execution", "native", "warm_s", "on_loop"),
    [
        ("auto", True, SHORT_S, True),
        ("auto", True, LONG_S, False),
        ("auto", True, None, False),
        ("auto", False, SHORT_S, False),
        ("thread", True, SHORT_S, False),
        ("loop", True, LONG_S, True),
    ],
)
def test_the_first_place_follows_from_the_document_and_the_warm_up(
    execution: placement.Execution, native: bool, warm_s: float | None, on_loop: bool
) -> None:
    assert placed(execution, native=native, warm_s=warm_s).on_loop is on_loop


def test_only_auto_moves() -> None:
    for execution, batch_s in (("loop", LONG_S), ("thread", SHORT_S)):
        made = placed(execution, native=True, warm_s=batch_s)  # type: ignore[arg-type]
        before = made.on_loop
        for _ in range(1_000):
            made.spent(batch_s)
        assert made.on_loop is before


def test_one_pause_of_the_machine_moves_nothing_and_slow_batches_do() -> None:
    made = placed("auto", native=True, warm_s=SHORT_S)
    made.spent(60.0)
    assert made.on_loop
    assert batches_until(made, LONG_S, on_loop=False) > 1
    assert batches_until(made, SHORT_S, on_loop=True) > 1


def test_at_the_threshold_it_does_not_go_to_and_fro() -> None:
    between_s = placement.LOOP_S * (1 + placement.BACK_RATIO) / 2
    for warm_s, stays in ((SHORT_S, True), (LONG_S, False)):
        made = placed("auto", native=True, warm_s=warm_s)
        for _ in range(1_000):
            made.spent(between_s)
        assert made.on_loop is stays


def test_a_model_that_is_not_native_is_refused_on_the_loop() -> None:
    with pytest.raises(SpecError, match="'rank' asks for execution: loop, which only native runtimes may have"):
        placed("loop", native=False)
