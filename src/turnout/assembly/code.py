"""Imports the user's code, once per process, and knows its digest: the *build*.

A document change never re-imports loaded code; new code needs a new process, which is
what `turnout reload` gives. One for each process, handed to `building` by whoever builds.
"""

import hashlib
import importlib
import importlib.util
import sys
import threading
import traceback
from pathlib import Path
from typing import Any

from turnout.errors import SpecError, did_you_mean

OWN = "turnout"
"""Built-in pipelines are not user code: the release says what they are."""

MAX_SOURCE_FILES = 2_000
"""A package with more Python files than this is digested by its first ones only; a build is an aid, not a proof."""


class Code:
    """The user code of this process.

    Attributes:
        build: First 12 hex digits of the digest over all loaded user packages; "" while none is loaded.
    """

    def __init__(self) -> None:
        self.build = ""
        self._digests: dict[str, str] = {}

    def load(self, reference: str) -> Any:
        """The object behind "module:name". Blocking: imports on first use.

        Raises:
            SpecError: The reference is malformed, the module is not there or does not
                import, or it has no such name (the nearest one is named).
        """
        module_name, _, attribute = reference.partition(":")
        if not module_name or not attribute:
            raise SpecError(
                f"code {reference!r} is not of the form 'module:name'.", hint="Write for example 'app:rank'."
            )
        module = self._import(module_name, reference)
        found: Any = module
        for part in attribute.split("."):
            if not hasattr(found, part):
                hint = did_you_mean(part, [name for name in dir(found) if name[0] != "_"])
                raise SpecError(f"code {reference!r}: module {module_name!r} has no {part!r}.", hint=hint)
            found = getattr(found, part)
        return found

    def _import(self, module_name: str, reference: str) -> Any:
        top = module_name.partition(".")[0]
        try:
            if top not in self._digests and top != OWN:
                digest = source_digest(top)
                module = importlib.import_module(module_name)
                self._digests[top] = digest
                self.build = _combined(self._digests)
                return module
            return importlib.import_module(module_name)
        except ModuleNotFoundError as error:
            missing = error.name or module_name
            if module_name == missing or module_name.startswith(f"{missing}."):
                raise SpecError(
                    f"code {reference!r}: there is no module {missing!r} on the import path.",
                    hint="The document's folder is searched first; is the file there, and spelled so?",
                ) from error
            raise SpecError(
                f"code {reference!r}: importing it failed: no module {missing!r} is installed.",
                hint=f"Install {missing!r}.",
            ) from error
        except BaseException as error:  # a border: user code may raise anything on import, SystemExit included
            if isinstance(error, KeyboardInterrupt) and threading.current_thread() is threading.main_thread():
                raise
            hint = "Put what ends the program under if __name__ == '__main__'." if isinstance(error, SystemExit) else ""
            raise SpecError(f"code {reference!r}: importing it failed: {_last_line(error)}", hint=hint) from error


def _last_line(error: BaseException) -> str:
    frames = traceback.extract_tb(error.__traceback__)
    place = f" ({Path(frames[-1].filename).name}:{frames[-1].lineno})" if frames else ""
    return f"{type(error).__name__}: {error}{place}"


def _combined(digests: dict[str, str]) -> str:
    text = "\n".join(f"{name} {digest}" for name, digest in sorted(digests.items()))
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def source_digest(top: str) -> str:
    """SHA-256 over the Python sources of one top-level module or package; "" when it has none to read."""
    spec = importlib.util.find_spec(top) if top not in sys.modules else sys.modules[top].__spec__
    if spec is None:
        return ""
    if spec.submodule_search_locations:
        roots = [Path(place) for place in spec.submodule_search_locations]
        files = sorted(path for root in roots for path in root.rglob("*.py"))[:MAX_SOURCE_FILES]
    else:
        files = [Path(spec.origin)] if spec.origin and spec.origin.endswith(".py") else []
        roots = [file.parent for file in files]
    digest = hashlib.sha256()
    for file in files:
        root = next(root for root in roots if file.is_relative_to(root))
        digest.update(f"{file.relative_to(root)}\0".encode() + file.read_bytes() + b"\0")
    return digest.hexdigest()
