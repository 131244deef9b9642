"""First exposures are logged, repeats are not, and forgetting only repeats."""

from turnout.eventlog import memory

DAY = 86_400.0
A = ("SPLIT", "a")


def test_only_the_first_exposure_of_a_unit_counts() -> None:
    seen = memory.ExposureMemory()

    assert [seen.first("x", "p", "u", A, now) for now in (10.0, 10.0, 5_000.0)] == [True, False, False]


def test_another_experiment_phase_or_unit_is_another_exposure() -> None:
    seen = memory.ExposureMemory()
    seen.first("x", "p", "u", A, 0.0)

    assert seen.first("y", "p", "u", A, 0.0)
    assert seen.first("x", "q", "u", A, 0.0)
    assert seen.first("x", "p", "v", A, 0.0)


def test_a_unit_is_logged_once_more_on_each_further_day() -> None:
    seen = memory.ExposureMemory()

    found = [seen.first("x", "p", "u", A, now) for now in (DAY - 1, DAY, DAY + 1, 3 * DAY)]

    assert found == [True, True, False, True]


def test_the_least_recently_seen_is_forgotten_first() -> None:
    seen = memory.ExposureMemory(capacity=2)
    for unit in ("a", "b", "a", "c"):  # "b" goes
        seen.first("x", "p", unit, A, 0.0)

    assert len(seen) == 2
    assert [seen.first("x", "p", unit, A, 0.0) for unit in ("a", "c", "b")] == [False, False, True]


def test_an_exposure_taken_back_is_tried_again() -> None:
    seen = memory.ExposureMemory()
    seen.first("x", "p", "u", A, 0.0)

    seen.forget("x", "p", "u")
    seen.forget("x", "p", "never seen")

    assert seen.first("x", "p", "u", A, 0.0)


def test_another_answer_in_the_same_phase_is_another_exposure() -> None:
    seen = memory.ExposureMemory()
    answers = [("NOT_IN_RAMP", "a"), ("SPLIT", "a"), ("SPLIT", "a"), ("EXTERNAL", "a"), ("EXTERNAL", "b")]

    assert [seen.first("x", "p", "u", answer, 0.0) for answer in answers] == [True, True, False, True, True]
