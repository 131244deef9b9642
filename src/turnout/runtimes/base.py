"""What every runtime is: code that loads one kind of artifact and predicts a batch of rows.

`assembly/building` finds runtimes through `catalog`, `models` makes and calls them; a runtime calls nobody above.
One object is one loaded copy. `load`, `predict`, `stream` and `unload` are called from one
thread, one after the other; only a `native` runtime may be called from another thread after
`load`, so it must be safe for that.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol, runtime_checkable

from turnout import wire
from turnout.errors import SpecError, did_you_mean


@dataclass(frozen=True)
class Artifact:
    """What a runtime loads.

    Attributes:
        alias: The model's key in the document, for messages.
        version: First 12 hex digits of the digest; reported in predictions.
        path: The artifact's file or folder; None when the model is code alone.
        digest: "sha256:..." of what lies at `path` when the document was resolved; identity, not permission.
        pinned: The digest that the document itself states; "" when it states none. Runtimes whose
            artifacts are code (pickles) load nothing else.
        code: The user's class, already imported; None when the model is an artifact alone.
        options: What the document sets beside the artifact: the `params` of a user's class, given to its `load`; a
            built-in runtime's own keys, such as `exact`; the `options` of a user's runtime.
        threads: Compute threads of one instance, at least 1.
    """

    alias: str
    version: str = ""
    path: str | None = None
    digest: str = ""
    pinned: str = ""
    code: Callable[[], Any] | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    threads: int = 1


class Runtime(Protocol):
    """One loaded copy of a model.

    Attributes:
        native: Compute releases the GIL or is bounded code of ours, and `predict` may be
            called from any thread: such a runtime may run on the event loop.
    """

    native: ClassVar[bool]
    artifact: Artifact

    def __init__(self, artifact: Artifact) -> None: ...

    def load(self) -> None:
        """Read the artifact; blocking and slow.

        Raises:
            SpecError: The artifact cannot be loaded as the document says; the message says why.
        """
        ...

    def signature(self) -> wire.Signature | None:
        """What a row takes and gives; None when the artifact does not say. Valid after `load`."""
        ...

    def predict(self, rows: list[Any]) -> list[Any]:
        """Answer every row, in the order of the rows; may raise anything.

        A row that is a dict (input name to value) is answered with a dict (output name to
        value); a bare row (the value of the only input) with the bare value of the only, or
        first floating-point, output.
        """
        ...

    def example(self) -> Any | None:
        """A row that `predict` accepts, for warming up; None when nobody knows one."""
        ...

    def unload(self) -> None:
        """Give memory back. Called once; nothing is called after it."""
        ...


@runtime_checkable
class StreamingRuntime(Protocol):
    """A runtime whose model may give one answer in chunks.

    Attributes:
        streams: Whether this model does.
    """

    streams: bool

    def stream(self, row: Any) -> Iterator[Any]:
        """Chunks of the answer to one row; closing the iterator ends the work."""
        ...


def refuse_unknown_options(artifact: Artifact, runtime: str, known: Iterable[str]) -> None:
    """Check that a built-in runtime has every option it is given.

    Args:
        runtime: Its short name.
        known: Its options, which are keys of the model in the document.

    Raises:
        SpecError: It does not have the option at `.path`.
    """
    names = sorted(known)
    for name in sorted(set(artifact.options).difference(names)):
        hint = did_you_mean(name, names, f"It has: {', '.join(names)}.")
        raise SpecError(
            f"model {artifact.alias!r}: the {runtime} runtime has no option {name!r}.", path=name, hint=hint
        )
