"""Merging what the workers say about themselves into the one `/status` of the server. Pure.

Called by `tree`.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

ADDED_UP = frozenset(
    {"instances", "in_flight", "connections", "requests", "rows", "batches", "queue_rows", "replaced", "memory_bytes"}
)
"""Numbers of a model or endpoint that are summed over workers; of other fields the first worker's is shown."""

COPIES = frozenset({"sent", "done", "failed", "in_flight"})
"""Numbers of a shadow that are summed over workers, beside what it dropped, by reason."""

FINE = "ready"


def merge(parts: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """One status from the workers' own: entries by name; a `state` other than ready anywhere is the state.

    >>> parts = [{"models": {"rank": {"state": state, "instances": 1}}} for state in ("ready", "loading")]
    >>> merge(parts)["models"]
    {'rank': {'state': 'loading', 'instances': 2}}
    """
    models, endpoints = (_by_name([part.get(name) or {} for part in parts]) for name in ("models", "endpoints"))
    for entry in models.values():
        if entry.get("batches"):
            entry["mean_batch_rows"] = entry.get("rows", 0) / entry["batches"]
    return {"models": models, "endpoints": endpoints, "experiments": _experiments(endpoints)}


def _experiments(endpoints: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """The running experiments and rollouts, as the endpoints show them."""
    return {
        experiment: {"endpoint": name, **told}
        for name, entry in endpoints.items()
        for experiment, told in (entry.get("experiments") or {}).items()
    }


def _shadows(one: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, Any]:
    """Shadows by name, what became of their copies added up.

    >>> _shadows({"next": {"ratio": 1.0, "sent": 2, "dropped": {"queue": 1}}}, {"next": {"sent": 3}})["next"]
    {'ratio': 1.0, 'sent': 5, 'dropped': {'queue': 1}}
    """
    merged = {name: {**told, "dropped": dict(told.get("dropped") or {})} for name, told in one.items()}
    for name, told in other.items():
        into = merged.setdefault(name, {"dropped": {}})
        for key, value in told.items():
            if key in COPIES:
                into[key] = into.get(key, 0) + value
            elif key != "dropped":
                into.setdefault(key, value)
        for reason, count in (told.get("dropped") or {}).items():
            into["dropped"][reason] = into["dropped"].get(reason, 0) + count
    return merged


def _circuits(one: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, Any]:
    """Circuits by name; one that is open on any worker is open, for that worker's cause.

    >>> _circuits({"new": {"open": False, "total": 1}}, {"new": {"open": True, "total": 5, "cause": "it failed"}})
    {'new': {'open': True, 'total': 6, 'cause': 'it failed'}}
    """
    merged = {name: dict(told) for name, told in one.items()}
    for name, told in other.items():
        known = merged.get(name)
        total = told.get("total", 0) + (known.get("total", 0) if known else 0)
        first = known if known and (known.get("open") or not told.get("open")) else dict(told)
        merged[name] = first | {"total": total}
    return merged


def _by_name(tables: Iterable[Mapping[str, Mapping[str, Any]]]) -> dict[str, dict[str, Any]]:
    merged: dict[str, dict[str, Any]] = {}
    for table in tables:
        for name, entry in table.items():
            if name in merged:
                _add(merged[name], entry)
            else:
                merged[name] = dict(entry)
    return merged


def _add(into: dict[str, Any], entry: Mapping[str, Any]) -> None:
    for key, value in entry.items():
        if key in ADDED_UP and isinstance(value, int | float):
            into[key] = into.get(key, 0) + value
        elif key == "state" and into.get(key) == FINE:
            into[key] = value
        elif key == "circuits":
            into[key] = _circuits(into.get(key) or {}, value)
        elif key == "shadows":
            into[key] = _shadows(into.get(key) or {}, value)
        else:
            into.setdefault(key, value)
