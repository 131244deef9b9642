"""Reading and admitting a document for commands that look at it: check, report, explain."""

import asyncio
import os
import sys
from collections.abc import Callable
from pathlib import Path

import click

from turnout.cli import places
from turnout.errors import DocumentError
from turnout.sources import artifacts, catalog
from turnout.spec import snapshot
from turnout.supervisor import lastgood


def read(document: Path) -> dict[str, str]:
    """The document's files, its stage files too.

    Raises:
        UnavailableError: Nothing is there, or it cannot be read.
    """
    return dict(asyncio.run(catalog.open_source("file", str(document)).read()))


def secrets(folder: str | None) -> Callable[[str], str | None]:
    """Reads `secret:NAME` from a folder, as the server does; without one there are none."""
    place = folder or os.environ.get("TURNOUT_SECRETS", "")

    def look_up(name: str) -> str | None:
        path = Path(place) / name
        return path.read_text().strip() if place and path.is_file() else None

    return look_up


def in_force(place: places.Place, *, secrets_folder: str | None = None) -> snapshot.Snapshot:
    """The place's document, admitted; if that on disk is bad, the last accepted one, with a word about it.

    Raises:
        DocumentError: It is bad, and none was accepted before.
    """
    try:
        return _admit(place, read(places.existing(place).document), secrets_folder)
    except DocumentError as error:
        accepted = lastgood.load(place.state / "last-good", place.stage)
        if accepted is None:
            raise
        click.echo(f"note: {place.document} has {len(error.errors)} errors (`turnout check` lists them);", err=True)
        click.echo(f"      this is about the last accepted revision, {accepted.revision[:12]}", err=True)
        return _admit(place, accepted.files, secrets_folder)


def _admit(place: places.Place, files: dict[str, str], secrets_folder: str | None) -> snapshot.Snapshot:
    directory = str(place.directory)
    return snapshot.admit(
        files,
        stage=place.stage,
        environment=os.environ,
        read_secret=secrets(secrets_folder),
        digests=artifacts.digest_under(directory),
        directory=directory,
    )


def make_importable(directory: Path) -> None:
    """Let user code beside the document be imported, as in a worker."""
    if str(directory) not in sys.path:
        sys.path.insert(0, str(directory))
