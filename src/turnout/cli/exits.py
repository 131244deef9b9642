"""Exit statuses of the commands, and the words for a wrong name."""

import difflib
from collections.abc import Iterable
from typing import Final

OK: Final = 0
WRONG: Final = 1
"""The command found something wrong, or could not do what it was asked."""

USAGE: Final = 2
INTERRUPTED: Final = 130


def nearest(name: str, known: Iterable[str]) -> str:
    """ " Did you mean 'x'?" for the nearest known name, or "".

    >>> nearest("reprot", ["report", "reload"])
    " Did you mean 'report'?"
    """
    found = difflib.get_close_matches(name, list(known), n=1)
    return f" Did you mean {found[0]!r}?" if found else ""
