"""Merging what the workers say about themselves into the one `/status` of the server."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

ADDED_UP = frozenset(
    {"instances", "in_flight", "connections", "requests", "rows", "queued", "queued_rows", "restarts", "errors"}
)
"""Numbers of a model or endpoint that are summed over workers; of other fields the first worker's is shown."""


def merge(parts: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """One status from the workers' own: entries by name, `ready` only if it is so everywhere.

    >>> parts = [{"models": {"rank": {"ready": ready, "instances": 1}}} for ready in (True, False)]
    >>> merge(parts)["models"]
    {'rank': {'ready': False, 'instances': 2}}
    """
    return {
        name: _merge_named([part.get(name) or {} for part in parts]) for name in ("models", "endpoints", "experiments")
    }


def _merge_named(tables: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    merged: dict[str, Any] = {}
    for table in tables:
        for name, entry in table.items():
            if not isinstance(entry, dict):
                merged.setdefault(name, entry)
            elif name not in merged:
                merged[name] = dict(entry)
            else:
                _add(merged[name], entry)
    return merged


def _add(into: dict[str, Any], entry: Mapping[str, Any]) -> None:
    for key, value in entry.items():
        if isinstance(value, bool) and isinstance(into.get(key), bool):
            into[key] = into[key] and value
        elif key in ADDED_UP and isinstance(value, int | float):
            into[key] = into.get(key, 0) + value
        else:
            into.setdefault(key, value)
