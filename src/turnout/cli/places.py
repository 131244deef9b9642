"""Where things lie for a command: the document, its state folder, the server that runs on it."""

import os
from dataclasses import dataclass
from pathlib import Path

import click

from turnout.errors import NotFoundError, UnavailableError
from turnout.supervisor import app as supervisor
from turnout.supervisor import statefolder
from turnout.supervisor.settings import Settings

DOCUMENT = "turnout.yaml"


@dataclass(frozen=True)
class Place:
    """A document and what belongs to it.

    Attributes:
        state: Its state folder; need not exist.
    """

    document: Path
    state: Path
    stage: str = ""

    @property
    def directory(self) -> Path:
        """Where the document's relative paths start."""
        return supervisor.place_of(self.document)

    def running(self) -> statefolder.Running | None:
        return statefolder.running(self.state)

    def server(self) -> statefolder.Running:
        """The server that runs on this place.

        Raises:
            UnavailableError: None does.
        """
        found = self.running()
        if found is None:
            raise UnavailableError(
                f"no server runs on {self.document} (state folder {self.state}).",
                hint=f"Start one with `turnout serve {self.document}`, or say where its state is: --state DIR.",
            )
        return found


def find(document: str | None, state: str | None, stage: str = "") -> Place:
    """The place a command is about: as its options say, else as the environment and the current folder say."""
    path = Path(document or os.environ.get("TURNOUT_DOCUMENT") or DOCUMENT)
    given = state or os.environ.get("TURNOUT_STATE", "")
    full = supervisor.complete(Settings(document=str(path), state=given))
    return Place(path, Path(full.state), stage or os.environ.get("TURNOUT_STAGE", ""))


def existing(place: Place) -> Place:
    """The same place, if its document is there.

    Raises:
        NotFoundError: It is not.
    """
    if not place.document.exists():
        raise NotFoundError(
            f"no document at {place.document}.",
            hint="Give the path of one, or of a folder of *.yaml files, or write one with `turnout init`.",
        )
    return place


def near(function: "click.decorators.FC") -> "click.decorators.FC":
    """The options --document, --state and --stage, for commands that look at a running or past server."""
    for option in (
        click.option("--stage", default="", metavar="S", help="Stage the server was started with."),
        click.option("--state", metavar="DIR", help="State folder; default .turnout beside the document."),
        click.option("-d", "--document", metavar="PATH", help=f"The document; default {DOCUMENT}."),
    ):
        function = option(function)
    return function
