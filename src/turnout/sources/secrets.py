"""What `secret:NAME` in a document reads: files of one folder, as Kubernetes and Docker mount them.

The server and the commands that read a document open secrets here, so that both see the same.
"""

from collections.abc import Callable
from pathlib import Path


def secrets_under(folder: str) -> Callable[[str], str | None]:
    """A function from a secret's name to its text, without white space around it; None for one that is not there.

    Args:
        folder: Holds one file per secret; "" holds none.
    """

    def read(name: str) -> str | None:
        path = Path(folder) / name
        return path.read_text().strip() if folder and path.is_file() else None

    return read
