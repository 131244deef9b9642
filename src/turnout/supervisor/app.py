"""The parent program: `python -m turnout.supervisor.app SETTINGS_JSON`, what `turnout serve` turns into.

Exit status: 0 stopped as asked; 1 it could not start (port, state folder, a worker that does not come
up); 2 the document is refused. Imports the standard library and msgspec only, so that the parent of
many workers costs little.
"""

import asyncio
import logging
import os
import signal
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec

from turnout.errors import TurnoutError
from turnout.sources import catalog
from turnout.supervisor import banner, tree
from turnout.supervisor.settings import Settings

OK, FAILED, REFUSED = 0, 1, 2
STATE = ".turnout"


def complete(settings: Settings) -> Settings:
    """Fill in what follows from the document's place: its directory, and the state folder beside it."""
    path = Path(settings.document)
    directory = Path(settings.directory).resolve() if settings.directory else place_of(path)
    state = Path(settings.state).resolve() if settings.state else directory / STATE
    return replace(settings, directory=str(directory), state=str(state))


def place_of(document: Path) -> Path:
    """The folder a document's relative paths start from: itself, or the one it lies in.

    A link is not followed: `current/turnout.yaml` stays in `current`, wherever that points today.
    """
    absolute = Path.cwd() / document
    return absolute if absolute.is_dir() else absolute.parent


async def serve(settings: Settings, *, started: float) -> int:
    """Run the tree until a signal ends it."""
    settings = complete(settings)
    source = catalog.open_source("file", settings.document, stage=settings.stage)
    server = tree.Tree(
        settings,
        source,
        on_ready=lambda status: print(banner.text(status, took_s=time.time() - started), flush=True),
    )
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, server.stop)
    had_terminal = _has_terminal()
    loop.add_signal_handler(signal.SIGHUP, lambda: _hung_up(server, had_terminal=had_terminal))
    try:
        await server.run()
    except tree.Refused as refused:
        complain(refused_text(settings.document, refused))
        return REFUSED
    except TurnoutError as error:
        complain(f"turnout serve: {error}")
        return FAILED
    return OK


def _hung_up(server: tree.Tree, *, had_terminal: bool) -> None:
    """SIGHUP is somebody asking for a reload, or the terminal that was closed."""
    if had_terminal and not _has_terminal():
        server.stop()
    else:
        server.reload()


def _has_terminal() -> bool:
    try:
        os.close(os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY))
    except OSError:
        return False
    return True


def refused_text(document: str, refused: tree.Refused) -> str:
    count = len(refused.errors)
    lines = [f"turnout serve: {document} is refused, {count} error{'s' if count != 1 else ''}:"]
    return "\n".join([*lines, *(f"  {error}" for error in refused.errors)])


def complain(text: str) -> None:
    sys.stderr.write(text + "\n")
    sys.stderr.flush()


def run(settings: Settings, *, started: float | None = None) -> int:
    """Serve with these settings; returns the exit status.

    Args:
        started: Epoch seconds when the command began, for the banner's "ready in".
    """
    logging.basicConfig(
        level=logging.INFO, format="%(asctime)s supervisor %(levelname)s: %(message)s", stream=sys.stderr
    )
    return asyncio.run(serve(settings, started=time.time() if started is None else started))


def main(arguments: Sequence[str]) -> int:
    """The program: settings as JSON, and the moment the command began."""
    given: dict[str, Any] = msgspec.json.decode(arguments[0])
    settings = msgspec.convert(given, type=Settings)
    return run(settings, started=float(arguments[1]) if len(arguments) > 1 else None)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
