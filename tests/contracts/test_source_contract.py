"""What every source of documents must do, run over each of them."""

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Protocol

import pytest

from turnout.errors import SpecError, UnavailableError
from turnout.sources import catalog
from turnout.sources.base import Change, Files, Source

DEADLINE_S = 30.0


class Place(Protocol):
    """Where a test puts the document that a source reads."""

    def open(self) -> Source: ...

    def write(self, text: str) -> None: ...

    def remove(self) -> None: ...


class LoneFile:
    def __init__(self, folder: Path) -> None:
        self.path = folder / "turnout.yaml"

    def open(self) -> Source:
        return catalog.open_source("file", str(self.path))

    def write(self, text: str) -> None:
        self.path.write_text(text)

    def remove(self) -> None:
        self.path.unlink()


class Directory(LoneFile):
    def open(self) -> Source:
        return catalog.open_source("file", str(self.path.parent))


@pytest.fixture(params=[LoneFile, Directory], ids=["file", "directory"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    made: Callable[[Path], Place] = request.param
    return made(tmp_path)


async def _next(changes: AsyncIterator[Change]) -> Change:
    return await asyncio.wait_for(anext(changes), DEADLINE_S)


def test_read_gives_the_text(place: Place) -> None:
    place.write("a: 1\n")
    assert list(asyncio.run(place.open().read()).values()) == ["a: 1\n"]


def test_read_without_document_is_unavailable(place: Place) -> None:
    with pytest.raises(UnavailableError) as caught:
        asyncio.run(place.open().read())
    assert caught.value.hint


def test_relative_sources_have_a_folder_to_start_at(place: Place) -> None:
    assert Path(place.open().directory).is_absolute()


def test_what_a_caller_does_to_the_answer_changes_nothing(place: Place) -> None:
    place.write("a: 1\n")

    async def story() -> tuple[Files, Change]:
        source = place.open()
        (await source.read()).clear()
        place.write("a: 22\n")
        return await source.read(), await _next(_written(source, place))

    first, second = asyncio.run(story())
    assert (list(first.values()), list(_files(second).values())) == (["a: 22\n"], ["a: 333\n"])


async def _written(source: Source, place: Place) -> AsyncIterator[Change]:
    place.write("a: 333\n")
    async for change in source.changes():
        yield change


def test_every_change_is_told_with_the_whole_document(place: Place) -> None:
    place.write("a: 1\n")

    async def story() -> list[Change]:
        source = place.open()
        await source.read()
        changes = source.changes()
        told = []
        for text in ("a: 22\n", "a: 333\n"):
            place.write(text)
            told.append(await _next(changes))
        return told

    assert [list(_files(change).values()) for change in asyncio.run(story())] == [["a: 22\n"], ["a: 333\n"]]


def test_vanished_document_is_told_and_so_is_its_return(place: Place) -> None:
    place.write("a: 1\n")

    async def story() -> tuple[Change, Change]:
        source = place.open()
        await source.read()
        changes = source.changes()
        place.remove()
        gone = await _next(changes)
        place.write("a: 1\n")
        return gone, await _next(changes)

    gone, back = asyncio.run(story())
    assert isinstance(gone, UnavailableError)
    assert list(_files(back).values()) == ["a: 1\n"]


def _files(change: Change) -> Files:
    assert not isinstance(change, UnavailableError), change
    return change


def test_every_short_name_opens(tmp_path: Path) -> None:
    assert [type(catalog.open_source(name, str(tmp_path))).__name__ for name in catalog.SOURCES] == ["FileSource"]


def test_own_source_is_named_by_module_and_class(tmp_path: Path) -> None:
    opened = catalog.open_source("turnout.sources.file:FileSource", str(tmp_path))
    assert opened.directory == str(tmp_path)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("fil", "no document source 'fil'. Sources: file, or 'package.module:Class'."),
        ("no_such_module:Source", "document source 'no_such_module:Source' cannot be imported: No module named"),
        (
            "turnout.sources.file:Nothing",
            "cannot be imported: module 'turnout.sources.file' has no attribute 'Nothing'",
        ),
    ],
)
def test_unknown_source_is_told(name: str, message: str) -> None:
    with pytest.raises(SpecError) as caught:
        catalog.open_source(name, "x")
    assert message in str(caught.value)
