"""Durations, sizes and ratios as text."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from turnout.errors import SpecError
from turnout.spec import units

DURATIONS = [("0ms", 0.0), ("200ms", 0.2), ("1.5s", 1.5), ("2m", 120.0), ("2h", 7200.0), ("30d", 2_592_000.0)]


@pytest.mark.parametrize(("text", "seconds"), DURATIONS, ids=[text for text, _ in DURATIONS])
def test_duration_is_seconds(text: str, seconds: float) -> None:
    assert units.duration(text) == seconds


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("5", "Say the unit: 5s or 5ms."),
        ("5S", "Write 5s."),
        ("5 s", "Write one number and one unit."),
        ("-5s", "Negative values have no meaning here."),
        ("5months", "Units are us, ms, s, m, h, d, w."),
        ("", "Write one number and one unit."),
        ("infs", "Write one number and one unit."),
        ("٥s", "Write one number and one unit."),
        ("1" * 400 + "s", "Write one number and one unit."),
    ],
)
def test_wrong_duration_says_what_to_write(text: str, hint: str) -> None:
    with pytest.raises(SpecError) as caught:
        units.duration(text)
    assert caught.value.hint == hint
    assert units.DURATION in caught.value.message


def test_size_is_bytes() -> None:
    assert [units.size(text) for text in ("5B", "1KB", "1.5KiB", "16MiB", "1GB")] == [5, 1000, 1536, 2**24, 10**9]


@pytest.mark.parametrize(("text", "hint"), [("16", "Say the unit: 16MiB or 16B."), ("16mib", "Write 16MiB.")])
def test_wrong_size_says_what_to_write(text: str, hint: str) -> None:
    with pytest.raises(SpecError) as caught:
        units.size(text)
    assert caught.value.hint == hint


def test_ratio_takes_per_cent_and_fractions() -> None:
    assert [units.ratio(text) for text in ("20%", "0.2", "0%", "100%", "1", "12.5%")] == [
        0.2,
        0.2,
        0.0,
        1.0,
        1.0,
        0.125,
    ]


@pytest.mark.parametrize(
    ("text", "hint"), [("20", "Write 20% for per cent."), ("120%", ""), ("5x", "Write the percent")]
)
def test_ratio_outside_the_whole_is_refused(text: str, hint: str) -> None:
    with pytest.raises(SpecError) as caught:
        units.ratio(text)
    assert caught.value.hint.startswith(hint)


@given(st.integers(0, 10**12))
def test_duration_text_comes_back_as_the_same_seconds(microseconds: int) -> None:
    seconds = units.duration(f"{microseconds}us")
    assert units.duration(units.duration_text(seconds)) == seconds


@given(st.text(max_size=20))
def test_any_text_gives_a_number_or_an_error_of_ours(text: str) -> None:
    for parse in (units.duration, units.size, units.ratio):
        with contextlib.suppress(SpecError):
            assert parse(text) >= 0
