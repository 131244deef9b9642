"""Exit statuses of the commands."""

from typing import Final

OK: Final = 0
WRONG: Final = 1
"""The command found something wrong, or could not do what it was asked."""

USAGE: Final = 2
BREAKS: Final = 3
"""`diff`: a caller that was right would be wrong."""
INVALID: Final = 4
"""`diff`: one of the documents is not valid."""

INTERRUPTED: Final = 130
