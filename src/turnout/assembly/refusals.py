"""The errors and warnings of one document, collected while it is made runnable, each under its key path.

Used by `building`, `binder` and `routing`.
"""

from turnout.errors import DocumentError, SpecError, TurnoutError


class Refusals:
    """Why a document cannot be served; empty when it can.

    Attributes:
        errors: In the order in which they were found; the same one at the same place once.
        warnings: What is legal, but hardly meant.
    """

    def __init__(self) -> None:
        self.errors: list[SpecError] = []
        self.warnings: list[SpecError] = []
        self._known: set[tuple[str, str]] = set()

    def note(self, path: str, error: TurnoutError) -> None:
        """Note an error under a key path; an error's own path is taken as relative to it."""
        for each in error.errors if isinstance(error, DocumentError) else (error,):
            inner = each.path if isinstance(each, SpecError) else ""
            full = f"{path}.{inner}" if inner and path else path or inner
            if (full, each.message) not in self._known:
                self._known.add((full, each.message))
                self.errors.append(SpecError(each.message, path=full, hint=each.hint))
