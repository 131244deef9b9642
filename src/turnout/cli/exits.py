"""Exit statuses of the commands."""

from typing import Final

OK: Final = 0
WRONG: Final = 1
"""The command found something wrong, or could not do what it was asked."""

USAGE: Final = 2
INTERRUPTED: Final = 130
