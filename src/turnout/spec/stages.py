"""Which files of a document belong to a stage. Standard library only: the supervisor imports it.

A stage file lays differences over the document: `turnout.prod.yaml` over `turnout.yaml`.
In a directory any file with a dot before its suffix is one, whatever stands before the dot:
`turnout.prod.yaml`, `models.prod.yaml` and `experiments.prod.yaml` together make stage `prod`.
A lone document may be called `my.chat.yaml`: without `my.yaml` or any file without a dot
beside it, that is no stage.
"""

import re
from collections.abc import Iterable

SUFFIXES = (".yaml", ".yml")

OVERLAY = "turnout.overlay"
"""The name among a document's files under which Turnout's own overlay travels; `overlays` admits it."""

_STAGE = re.compile(r"[a-z][a-z0-9_-]{0,62}")


def stem(file: str) -> str:
    """A file's name without folder and suffix; "" when it is no YAML file."""
    name = file.replace("\\", "/").rsplit("/", 1)[-1]
    for suffix in SUFFIXES:
        if name.endswith(suffix) and not name.startswith("."):
            return name.removesuffix(suffix)
    return ""


def stage_of(file: str, files: Iterable[str]) -> str:
    """The stage a file belongs to; "" when it is part of the document itself.

    Args:
        file: One of `files`.
        files: The names of all files.
    """
    before, dot, stage = stem(file).rpartition(".")
    if not dot or not before or _STAGE.fullmatch(stage) is None:
        return ""
    stems = {stem(other) for other in files}
    whole = any(other and "." not in other for other in stems)
    return stage if whole or before in stems else ""


def stages(files: Iterable[str]) -> tuple[str, ...]:
    """All stages that have a file, sorted."""
    names = tuple(files)
    return tuple(sorted({stage for file in names if (stage := stage_of(file, names))}))
