"""The errors that cross floors. The class says who must act; no class knows HTTP.

The caller acts on Input, NotFound, Conflict, Overload, Deadline; the author of the
document or the code on Spec, Step, Model; the operator on Unavailable, Store.
`gateway/problems.py` maps each class to a status in one table.

    TurnoutError
    ├── SpecError           the document is wrong
    │   └── DocumentError   all errors of one document together
    ├── NotFoundError       no such endpoint, experiment, ...
    ├── ConflictError       it is already there, or changed meanwhile
    ├── InputError          the request does not fit the type
    ├── OverloadError       a stated limit was reached
    ├── DeadlineError       the request's time ran out
    ├── UnavailableError    not ready, or a dependency is down
    ├── StepError           a pipeline step failed (cause chained)
    ├── ModelError          the user's model raised, or lied about its output
    └── StoreError          the database refused or is out of reach

A kind that only neighbours tell apart is a subclass beside them (`stores.base.RefusedError`).

A message has three parts: what happened, with names and values; what was
expected; what to do (the `hint`). `did_you_mean` words the hint for a misspelt name.
"""

import difflib
from collections.abc import Iterable
from typing import ClassVar


class TurnoutError(Exception):
    """Base of all errors.

    Attributes:
        code: Stable slug for machines; part of the public contract.
        message: What happened and what was expected, with names and values.
        hint: What to do about it; "" when the message says it all.
        retry_after_s: Seconds after which a retry may succeed; None when a retry is no use.
    """

    code: ClassVar[str] = "internal"

    def __init__(self, message: str, *, hint: str = "", retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.retry_after_s = retry_after_s

    def __str__(self) -> str:
        return f"{self.message} {self.hint}".strip()


class SpecError(TurnoutError):
    """One thing wrong in the document, with the place where it stands.

    Attributes:
        path: Key path from the root, such as "pipelines.retrieval.models.rank".
        file: The file's name as given; "" when the document is not from a file.
        line: Line in that file, counted from 1; 0 when unknown.
    """

    code = "document"

    def __init__(self, message: str, *, path: str = "", file: str = "", line: int = 0, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.path = path
        self.file = file
        self.line = line

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}" if self.line else self.file
        where = " ".join(part for part in (place, self.path) if part)
        text = super().__str__()
        return f"{where}: {text}" if where else text


class DocumentError(SpecError):
    """All errors of one document, at least one."""

    def __init__(self, errors: Iterable[SpecError]) -> None:
        self.errors = tuple(errors)
        count = len(self.errors)
        super().__init__(f"the document has {count} error{'s' if count != 1 else ''}")

    def __str__(self) -> str:
        return "\n".join([self.message, *(f"  {error}" for error in self.errors)])


class NotFoundError(TurnoutError):
    """The named thing does not exist."""

    code = "not-found"


class ConflictError(TurnoutError):
    """The thing is already there, or changed meanwhile."""

    code = "conflict"


class InputError(TurnoutError):
    """The request does not fit the declared type.

    Attributes:
        path: Field path in the body, such as "items[3].price"; "" for the whole body.
        kind: "syntax" when the body is not even JSON, else "type".
    """

    code = "invalid-input"

    def __init__(self, message: str, *, path: str = "", hint: str = "", kind: str = "type") -> None:
        super().__init__(message, hint=hint)
        self.path = path
        self.kind = kind


class OverloadError(TurnoutError):
    """A stated limit (queue, rows, connections) was reached; nothing was done."""

    code = "overloaded"


class DeadlineError(TurnoutError):
    """The request's time ran out.

    Attributes:
        stage: Where it ran out: a step's name, "queue" or "body".
    """

    code = "deadline"

    def __init__(self, message: str, *, stage: str = "", hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.stage = stage


class UnavailableError(TurnoutError):
    """Not ready, draining, or a dependency is down."""

    code = "unavailable"


class StepError(TurnoutError):
    """A pipeline step failed; the cause is chained.

    Attributes:
        pipeline: The pipeline's name in the document.
        step: The bound model's name in that pipeline, or "code" for the user's own lines.
    """

    code = "step-failed"

    def __init__(self, message: str, *, pipeline: str, step: str, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.pipeline = pipeline
        self.step = step


class ModelError(TurnoutError):
    """The user's model raised, or answered the wrong number of rows.

    Its traceback goes to the log and never to a caller.

    Attributes:
        model: Alias in the document.
        version: The artifact's version, as reported in predictions.
    """

    code = "model-failed"

    def __init__(self, message: str, *, model: str, version: str = "", hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.model = model
        self.version = version


class StoreError(TurnoutError):
    """The database refused, is full, or is out of reach."""

    code = "store"


NAME_CHARACTERS = 80
"""Of a wrong name only so much is compared: it may be a caller's, and comparing takes quadratic time."""


def nearest(name: str, known: Iterable[str], *, likeness: float = 0.6) -> str:
    """The known name that a wrong one most likely stands for; "" when none is near.

    Args:
        likeness: Least likeness that counts, in [0, 1]; the default is difflib's own.

    >>> nearest("wieght", ["weight", "control"])
    'weight'
    """
    found = difflib.get_close_matches(name[:NAME_CHARACTERS], list(known), 1, likeness)
    return found[0] if found else ""


def did_you_mean(name: str, known: Iterable[str], otherwise: str = "") -> str:
    """The hint for a wrong name: the nearest known one, or `otherwise` when none is near.

    >>> did_you_mean("wieght", ["weight", "control"])
    "Did you mean 'weight'?"
    """
    near = nearest(name, known)
    return f"Did you mean {near!r}?" if near else otherwise
