"""Identifiers: shape, order, uniqueness."""

import os
import uuid
from collections.abc import Callable

from hypothesis import given
from hypothesis import strategies as st

from turnout.eventlog import ids


def clock_of(*times: float) -> Callable[[], float]:
    left = list(times)
    return lambda: left.pop(0) if len(left) > 1 else left[0]


def test_an_id_is_a_uuid_of_version_seven_that_tells_its_time() -> None:
    new_id = ids.generator(lambda: 1_700_000_000.25)

    found = uuid.UUID(new_id())

    assert (found.version, found.variant) == (7, uuid.RFC_4122)
    assert found.int >> 80 == 1_700_000_000_250


def test_an_id_is_32_lower_case_hex_digits() -> None:
    made = ids.generator()()

    assert len(made) == 32
    assert set(made) <= set("0123456789abcdef")


def test_ids_ascend_within_one_tick_and_over_many_blocks_of_entropy() -> None:
    new_id = ids.generator(lambda: 1_700_000_000.0)

    made = [new_id() for _ in range(10_000)]

    assert made == sorted(set(made))


@given(st.lists(st.floats(1.6e9, 2.1e9), min_size=1, max_size=50))
def test_ids_ascend_when_the_clock_steps_back(times: list[float]) -> None:
    new_id = ids.generator(clock_of(*times))

    made = [new_id() for _ in range(len(times) + 5)]

    assert made == sorted(set(made))


def test_ids_of_two_generators_at_the_same_time_differ() -> None:
    first, second = (ids.generator(lambda: 1_700_000_000.0) for _ in range(2))

    assert not {first() for _ in range(2_000)} & {second() for _ in range(2_000)}


def test_the_random_part_is_the_entropy_given() -> None:
    new_id = ids.generator(lambda: 1_700_000_000.0, lambda count: b"\xff" * count)

    assert new_id().endswith("b" + "f" * 15)


def test_a_forked_child_draws_its_own_entropy() -> None:
    new_id = ids.generator(lambda: 1_700_000_000.0)
    new_id()
    receive, send = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(send, new_id().encode())
        os._exit(0)
    os.waitpid(child, 0)
    theirs = os.read(receive, 64).decode()
    os.close(receive)
    os.close(send)

    assert theirs[16:] != new_id()[16:]
