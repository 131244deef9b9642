"""The last accepted document on disk: written after every accepted change, read with `--last-good`.

One JSON file, replaced atomically: a reader sees the old one or the new one, never half of one.
References (`${NAME}`, `secret:NAME`) are stored as written, so no secret lands here.
"""

import os
from pathlib import Path

import msgspec

from turnout.errors import SpecError


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
    folder.mkdir(parents=True, exist_ok=True)
    target = file_of(folder, accepted.stage)
    draft = target.with_name(f".{target.name}.{os.getpid()}")
    with draft.open("wb") as out:
        out.write(msgspec.json.format(msgspec.json.encode(accepted), indent=2))
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
