"""The last accepted document and overlay on disk.

The document is written after every accepted change and read with `--last-good`; the overlay is written before it
comes into force and read at every start, before the first request. JSON files, replaced atomically: a reader sees
the old one or the new one, never half of one. References (`${NAME}`, `secret:NAME`) are stored as written, so no
secret lands here.
"""

import logging
import os
from pathlib import Path

import msgspec

from turnout.errors import SpecError
from turnout.stores.control import Overlay

logger = logging.getLogger(__name__)

OVERLAY_FILE = "overlay.json"


class Accepted(msgspec.Struct, frozen=True, kw_only=True):
    """A document that was in force.

    Attributes:
        files: File name as shown to people -> text.
        at: Seconds since the epoch when it came into force.
    """

    files: dict[str, str]
    revision: str
    at: float
    stage: str = ""


def file_of(folder: Path, stage: str) -> Path:
    return folder / (f"accepted.{stage}.json" if stage else "accepted.json")


def store(folder: Path, accepted: Accepted) -> None:
    """Replace what is stored for the document's stage; on disk when this returns."""
    _replace(file_of(folder, accepted.stage), accepted)


def store_overlay(folder: Path, overlay: Overlay) -> None:
    """Replace the overlay kept in the state folder; on disk when this returns."""
    _replace(folder / OVERLAY_FILE, overlay)


def load_overlay(folder: Path) -> Overlay | None:
    """The overlay kept in the state folder, or None; a damaged one is said and left: the store has it too."""
    path = folder / OVERLAY_FILE
    try:
        return msgspec.json.decode(path.read_bytes(), type=Overlay)
    except FileNotFoundError:
        return None
    except (OSError, msgspec.DecodeError) as exc:
        logger.error("the overlay kept in %s cannot be read and is left out: %s", path, exc)
        return None


def _replace(target: Path, content: msgspec.Struct) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    draft = target.with_name(f".{target.name}.{os.getpid()}")
    with draft.open("wb") as out:
        out.write(msgspec.json.format(msgspec.json.encode(content), indent=2))
        out.flush()
        os.fsync(out.fileno())
    draft.replace(target)


def load(folder: Path, stage: str) -> Accepted | None:
    """What is stored for the stage, or None.

    Raises:
        SpecError: The file is there, but is not what `store` wrote.
    """
    path = file_of(folder, stage)
    try:
        return msgspec.json.decode(path.read_bytes(), type=Accepted)
    except FileNotFoundError:
        return None
    except (OSError, msgspec.DecodeError) as exc:
        raise SpecError(
            f"the stored last good document cannot be read: {exc}.",
            file=str(path),
            hint="Delete the file and start with a document that passes `turnout check`.",
        ) from exc
