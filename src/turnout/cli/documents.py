"""Reading and admitting a document for commands that look at it: check, report, explain."""

import asyncio
import contextlib
import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import click

from turnout.cli import places
from turnout.errors import DocumentError
from turnout.sources import artifacts, catalog
from turnout.sources import secrets as secret_files
from turnout.spec import references, snapshot
from turnout.supervisor import lastgood


def read(document: Path) -> dict[str, str]:
    """The document's files, its stage files too.

    Raises:
        UnavailableError: Nothing is there, or it cannot be read.
    """
    return dict(asyncio.run(catalog.open_source("file", str(document)).read()))


secrets_option = click.option(
    "--secrets", "secrets_folder", metavar="DIR", help="Folder whose files `secret:NAME` reads."
)


def secrets(folder: str | None) -> Callable[[str], str | None]:
    """Reads `secret:NAME` from a folder, as the server does; without one there are none."""
    return secret_files.secrets_under(folder or os.environ.get("TURNOUT_SECRETS", ""))


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
    return admitted(files, directory=place.directory, stage=place.stage, secrets_folder=secrets_folder)


def admitted(
    files: Mapping[str, str],
    *,
    directory: Path,
    stage: str = "",
    secrets_folder: str | None = None,
    digests: snapshot.Digests | None = None,
) -> snapshot.Snapshot:
    """The document, though variables and secrets may be there for the server only: revision, phases and variants come
    from what is written. Where a missing one matters, in an experiment or for a model's file, the error stays.

    Args:
        digests: Computes artifacts' digests; None for those of the files below the directory.

    Raises:
        DocumentError: It is bad.
    """
    found = digests or artifacts.digest_under(str(directory))
    read_secret = secrets(secrets_folder)

    def admit(environment: Mapping[str, str], look_up: Callable[[str], str | None]) -> snapshot.Snapshot:
        return snapshot.admit(
            files,
            stage=stage,
            environment=environment,
            read_secret=look_up,
            digests=found,
            directory=str(directory),
        )

    try:
        return admit(os.environ, read_secret)
    except DocumentError as error:
        if any(each.path.startswith("experiments.") for each in error.errors):
            raise
        for environment, look_up in references.stand_ins(os.environ, read_secret):
            with contextlib.suppress(DocumentError):
                return admit(environment, look_up)
        raise


def make_importable(directory: Path) -> None:
    """Let user code beside the document be imported, as in a worker."""
    if str(directory) not in sys.path:
        sys.path.insert(0, str(directory))
