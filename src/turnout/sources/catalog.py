"""Sources by name. The supervisor and the embedded server open a document through `open_source`."""

import importlib
from typing import Any, cast

from turnout.errors import SpecError
from turnout.sources.base import Source

SOURCES = {"file": "turnout.sources.file:FileSource"}
"""Short name to "module:Class"."""


def open_source(name: str, location: str, **options: Any) -> Source:
    """A source of documents.

    Args:
        name: A short name of `SOURCES`, or a user's own "module:Class".
        location: What the source reads, such as a path.
        options: Keyword arguments of the class, hence Any.

    Raises:
        SpecError: No such source, or its module cannot be imported.
    """
    module, _, attribute = SOURCES.get(name, name).partition(":")
    if not attribute:
        known = ", ".join(sorted(SOURCES))
        raise SpecError(f"no document source {name!r}.", hint=f"Sources: {known}, or 'package.module:Class'.")
    try:
        opened = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise SpecError(f"document source {name!r} cannot be imported: {error}.") from error
    return cast(Source, opened(location, **options))
