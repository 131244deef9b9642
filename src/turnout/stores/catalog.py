"""Stores by the scheme of their URL: the only way in which an adapter is reached.

Called by the recorder, the control plane, and the commands that read.
"""

import importlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import cast
from urllib.parse import quote

from turnout.errors import StoreError
from turnout.stores import base, control

STORES = {
    "sqlite": "turnout.stores.sql:SqlStore",
    "postgresql": "turnout.stores.sql:SqlStore",
    "parquet": "turnout.stores.parquet:ParquetStore",
    "memory": "turnout.stores.memory:MemoryStore",
}

SEALABLE_STORES = {scheme: STORES[scheme] for scheme in ("sqlite", "postgresql")}

CONTROL_STORES = {
    "sqlite": "turnout.stores.control_sql:SqlControlStore",
    "postgresql": "turnout.stores.control_sql:SqlControlStore",
    "memory": "turnout.stores.control_memory:MemoryControlStore",
}


def default_url(state: Path) -> str:
    """URL of the store that a state folder has when nothing else is said."""
    return f"sqlite:///{quote(str((state / 'events.db').absolute()))}"


def open_store(url: str, *, read_only: bool = False) -> base.EventStore:
    """Open the store behind a URL, creating or migrating it unless `read_only`.

    Args:
        url: `sqlite:///PATH`, `postgresql://...`, `parquet:FOLDER` (sealed events; can only be read), or `memory:NAME`
            (one process, for tests).

    Raises:
        StoreError: Unknown scheme, out of reach, or nothing there to read.
    """
    return cast(base.EventStore, _adapter(url, STORES)(url, read_only=read_only))


def open_sealable(url: str) -> base.Sealable:
    """Open a store to seal its events; arguments and errors as with `open_store`."""
    return cast(base.Sealable, _adapter(url, SEALABLE_STORES)(url, read_only=True))


def open_control(url: str, *, read_only: bool = False) -> control.ControlStore:
    """Open the fleet's state, which lies beside the events; arguments and errors as with `open_store`."""
    return cast(control.ControlStore, _adapter(url, CONTROL_STORES)(url, read_only=read_only))


def _adapter(url: str, known: Mapping[str, str]) -> Callable[..., object]:
    scheme = url.partition(":")[0].partition("+")[0]
    place = known.get("postgresql" if scheme == "postgres" else scheme)
    if place is None:
        raise StoreError(
            f"a store's URL begins with {scheme!r}, which is no known store.",
            hint=f"Known: {', '.join(sorted(known))}.",
        )
    module, _, name = place.partition(":")
    try:
        adapter: Callable[..., object] = getattr(importlib.import_module(module), name)
    except ModuleNotFoundError as error:
        if error.name not in ("duckdb", "pyarrow"):
            raise
        hint = 'Install them: pip install "turnout[parquet]".'
        raise StoreError("sealed Parquet needs the modules 'duckdb' and 'pyarrow'.", hint=hint) from error
    return adapter
