"""Stores by the scheme of their URL: the only way in which an adapter is reached.

Called by the recorder and by `turnout report`.
"""

import importlib
from typing import cast

from turnout.errors import StoreError
from turnout.stores import base

STORES = {
    "sqlite": "turnout.stores.sql:SqlStore",
    "postgresql": "turnout.stores.sql:SqlStore",
    "memory": "turnout.stores.memory:MemoryStore",
}


def open_store(url: str, *, read_only: bool = False) -> base.EventStore:
    """Open the store behind a URL, creating or migrating it unless `read_only`.

    Args:
        url: `sqlite:///PATH`, `postgresql://...`, or `memory:NAME` (one process, for tests).

    Raises:
        StoreError: Unknown scheme, out of reach, or nothing there to read.
    """
    scheme = url.partition(":")[0].partition("+")[0]
    place = STORES.get("postgresql" if scheme == "postgres" else scheme)
    if place is None:
        raise StoreError(
            f"a store's URL begins with {scheme!r}, which is no known store.",
            hint=f"Known: {', '.join(sorted(STORES))}.",
        )
    module, _, name = place.partition(":")
    made = getattr(importlib.import_module(module), name)(url, read_only=read_only)
    return cast(base.EventStore, made)
