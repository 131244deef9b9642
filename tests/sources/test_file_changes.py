"""A file source tells every change once, after quiet, however it came about."""

import asyncio
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.sources.conftest import Watch

from turnout.sources import file
from turnout.sources.base import Change


@pytest.fixture
def document(tmp_path: Path) -> Path:
    path = tmp_path / "turnout.yaml"
    path.write_text("a: 1\n")
    return path


def test_change_counts_after_150_ms_of_quiet(watch: Watch, document: Path) -> None:
    told = watch(document, {0.5: lambda: document.write_text("a: 22\n")})
    assert told == [(0.65, {str(document): "a: 22\n"})]


def test_half_written_document_that_is_completed_in_time_is_one_change(watch: Watch, document: Path) -> None:
    told = watch(document, {0.5: lambda: document.write_text(""), 0.6: lambda: document.write_text("a: 333\n")})
    assert told == [(0.75, {str(document): "a: 333\n"})]


def test_document_that_keeps_moving_is_not_taken(watch: Watch, document: Path) -> None:
    actions = {0.5 + n / 10: lambda n=n: document.write_text("a: " + "1" * (n + 2)) for n in range(10)}
    told = watch(document, actions)
    assert told == [(1.55, {str(document): "a: " + "1" * 11})]


def test_touching_and_rewriting_the_same_text_is_no_change(watch: Watch, document: Path) -> None:
    other = document.with_suffix(".new")

    def replace() -> None:
        other.write_text("a: 1\n")
        other.replace(document)

    assert watch(document, {0.5: document.touch, 1.0: replace}) == []


def test_document_renamed_over_is_a_change(watch: Watch, document: Path) -> None:
    other = document.with_suffix(".new")

    def replace() -> None:
        other.write_text("b: 2\n")
        other.replace(document)

    assert [change for _, change in watch(document, {0.5: replace})] == [{str(document): "b: 2\n"}]


def test_change_between_read_and_following_is_told(watch: Watch, document: Path) -> None:
    source = file.FileSource(document)

    async def story() -> Change:
        await source.read()
        document.write_text("a: 22\n")
        return await asyncio.wait_for(anext(source.changes()), 30)

    assert asyncio.run(story()) == {str(document): "a: 22\n"}


def test_following_without_reading_first_gives_the_document(watch: Watch, document: Path) -> None:
    assert watch(document, {}, read=False) == [(0.15, {str(document): "a: 1\n"})]


def test_vanished_document_is_told_once_and_its_return_too(
    watch: Watch, document: Path, unavailable: Callable[[Change], str]
) -> None:
    gone, back = watch(document, {0.5: document.unlink, 1.5: lambda: document.write_text("a: 1\n")})
    assert gone[0] == 0.65
    assert unavailable(gone[1]).startswith(f"no document at {document}: ")
    assert 1.65 <= back[0] <= 1.7
    assert back[1] == {str(document): "a: 1\n"}


def test_document_that_is_away_for_a_moment_only_is_no_change(watch: Watch, document: Path) -> None:
    assert watch(document, {0.5: document.unlink, 0.55: lambda: document.write_text("a: 1\n")}) == []


def test_directory_that_vanishes_is_told(watch: Watch, document: Path, unavailable: Callable[[Change], str]) -> None:
    away = document.parent.with_name("away")
    told = watch(
        document.parent, {0.5: lambda: document.parent.rename(away), 1.0: lambda: away.rename(document.parent)}
    )
    assert "no document at" in unavailable(told[0][1])
    assert [change for _, change in told[1:]] == [{str(document): "a: 1\n"}]


def test_last_file_of_a_directory_that_vanishes_is_told(
    watch: Watch, document: Path, unavailable: Callable[[Change], str]
) -> None:
    told = watch(document.parent, {0.5: document.unlink})
    assert "holds no *.yaml file" in unavailable(told[0][1])


@pytest.mark.parametrize("lone", [True, False], ids=["file", "directory"])
def test_symlink_swap_of_a_config_map_is_a_change(watch: Watch, tmp_path: Path, lone: bool) -> None:
    """Kubernetes writes a new folder, then renames a link over `..data`; the files themselves are links into it."""
    for name, text in (("..2026_01", "a: 1\n"), ("..2026_02", "a: 2\n")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "turnout.yaml").write_text(text)
    (tmp_path / "..data").symlink_to("..2026_01")
    (tmp_path / "turnout.yaml").symlink_to("..data/turnout.yaml")

    def swap() -> None:
        (tmp_path / "..data_tmp").symlink_to("..2026_02")
        (tmp_path / "..data_tmp").replace(tmp_path / "..data")

    path = tmp_path / "turnout.yaml"
    told = watch(path if lone else tmp_path, {0.5: swap})
    assert told == [(0.65, {str(path): "a: 2\n"})]


def test_file_that_joins_or_leaves_a_directory_is_a_change(watch: Watch, document: Path) -> None:
    other = document.with_name("models.yml")
    told = watch(document.parent, {0.5: lambda: other.write_text("m: 1\n"), 1.0: other.unlink})
    assert [change for _, change in told] == [
        {str(document): "a: 1\n", str(other): "m: 1\n"},
        {str(document): "a: 1\n"},
    ]


def test_hidden_files_other_suffixes_and_folders_below_are_no_change(watch: Watch, document: Path) -> None:
    def clutter() -> None:
        for name in (".turnout.yaml.swp", ".hidden.yaml", "turnout.yaml~", "notes.txt"):
            document.with_name(name).write_text("x")
        document.with_name("folder.yaml").mkdir()

    assert watch(document.parent, {0.5: clutter}) == []


@pytest.mark.parametrize(
    ("stage", "told"),
    [(None, 2), ("prod", 1), ("", 0)],
    ids=["every-stage", "this-stage", "no-stage"],
)
def test_only_the_chosen_stage_counts(watch: Watch, document: Path, stage: str | None, told: int) -> None:
    actions = {
        0.5: lambda: document.with_name("turnout.prod.yaml").write_text("a: 2\n"),
        1.0: lambda: document.with_name("turnout.dev.yaml").write_text("a: 3\n"),
    }
    assert len(watch(document, actions, stage=stage)) == told


def test_real_clock_and_files_tell_a_change_soon(document: Path) -> None:
    source = file.FileSource(document)

    async def story() -> tuple[Change, float]:
        await source.read()
        changes = source.changes()
        following = asyncio.ensure_future(anext(changes))
        await asyncio.sleep(0)
        document.write_text("a: 22\n")
        written = time.monotonic()
        change = await asyncio.wait_for(following, 30)
        return change, time.monotonic() - written

    change, after_s = asyncio.run(story())
    assert change == {str(document): "a: 22\n"}
    assert after_s >= 0.15


def test_stopping_leaves_nothing_behind(document: Path) -> None:
    source = file.FileSource(document)

    async def story() -> set[asyncio.Task[object]]:
        await source.read()
        following = asyncio.ensure_future(anext(source.changes()))
        await asyncio.sleep(0)
        following.cancel()
        with pytest.raises(asyncio.CancelledError):
            await following
        return asyncio.all_tasks() - {asyncio.current_task()}

    assert asyncio.run(story()) == set()
