"""What a source of documents is: something that can be read, and that tells when it changed.

The supervisor and the embedded server read through this; nobody else does. A source moves
text and judges nothing: whether a document is valid is for `spec` to say.
"""

from collections.abc import AsyncIterator
from typing import Protocol, TypeAlias

from turnout.errors import UnavailableError

Files: TypeAlias = dict[str, str]
"""File name as shown to people to whole text."""

Change: TypeAlias = Files | UnavailableError
"""The document's new text, or the reason why there is none: it vanished, or cannot be read."""


class Source(Protocol):
    """A place that holds one document.

    Attributes:
        directory: Where the document's relative sources start.
    """

    directory: str

    async def read(self) -> Files:
        """The document as it is now.

        Raises:
            UnavailableError: There is none, or it cannot be read.
        """
        ...

    def changes(self) -> AsyncIterator[Change]:
        """Every change since the last `read`, or since the last change this gave; ends when the caller stops.

        A change counts once nothing has moved for a while (150 ms), so that a half-written
        document is not taken. Text that is the same again is no change. A document that
        vanishes gives one UnavailableError, and its text, changed or not, when it is back.

        Cancellation: Leaves nothing behind.
        """
        ...
