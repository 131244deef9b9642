"""Which revision serves where: over the workers of this server, and over the replicas of its fleet. Pure.

Called by `telling` for `/status` and `/metrics`.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from turnout.stores import control


def told(
    own: control.Replica, view: control.View | None, workers: Sequence[Mapping[str, Any]], *, now: float
) -> dict[str, Any]:
    """The `convergence` of `/status`; `alone` says that the store tells nothing of other servers just now.

    Args:
        own: This server, as of now.
        view: What the control plane told last about the fleet.
        workers: This server's workers, as in `/status`.
        now: Epoch seconds.
    """
    fleet = replicas(own, view, now=now)
    revision = wanted(fleet)
    current = [one for one in fleet if one.revision == revision and one.workers_current == one.workers]
    slowest_s = max((one.settled_s for one in fleet if one.revision == revision), default=0.0)
    made: dict[str, Any] = {
        "revision": revision,
        "replicas": {"total": len(fleet), "current": len(current)},
        "workers": {
            "total": sum(one.workers for one in fleet),
            "current": sum(one.workers_current for one in fleet if one.revision == revision),
        },
        "slowest_s": round(slowest_s, 4),
        "behind": [_behind(one, revision) for one in fleet if one not in current],
        "refusals": [_named(one) | {"error": error} for one in fleet for error in one.refusal],
        "since": {str(row["worker"]): row["since"] for row in workers if row.get("since")},
        "fleet_seen": view.at or None if view else None,
        "alone": view is not None and now - view.at > control.GONE_S,
    }
    return made | {"text": words(made)}


def replicas(own: control.Replica, view: control.View | None, *, now: float) -> list[control.Replica]:
    """This server first, then the others that were seen lately."""
    others = view.replicas if view else ()
    return [own, *(one for one in others if one.id != own.id and one.seen >= now - control.GONE_S)]


def wanted(fleet: Iterable[control.Replica]) -> str:
    """The revision that came into force last, anywhere: the one that all are expected to reach."""
    newest = max((one for one in fleet if one.revision), key=lambda one: one.since, default=None)
    return newest.revision if newest else ""


def words(made: Mapping[str, Any]) -> str:
    """One line for people.

    >>> numbers = {"replicas": {"total": 6, "current": 5}, "workers": {"total": 12, "current": 11}, "slowest_s": 0.41}
    >>> words({"revision": "3fa2" * 16, **numbers})
    '5 of 6 replicas (11 of 12 workers) on 3fa23fa23fa2, slowest after 0.4 s'
    """
    if not made["revision"]:
        return "no revision is in force yet"
    parts, workers = made["replicas"], made["workers"]
    plural = "" if parts["total"] == 1 else "s"
    text = f"{parts['current']} of {parts['total']} replica{plural}"
    if workers["current"] != workers["total"] or parts["total"] == 1:
        text += f" ({workers['current']} of {workers['total']} worker{'' if workers['total'] == 1 else 's'})"
    text += f" on {made['revision'][:12]}, slowest after {made['slowest_s']:.1f} s"
    return f"{text}; other servers are not known, the store does not answer" if made.get("alone") else text


def _behind(one: control.Replica, revision: str) -> dict[str, Any]:
    if one.revision != revision:
        why = "; ".join(one.refusal) or "it has not seen the change yet, or prepares it"
    else:
        why = "; ".join(one.behind) or "not every worker serves it yet"
    return _named(one) | {
        "revision": one.revision,
        "since": one.since,
        "workers_current": one.workers_current,
        "workers": one.workers,
        "reason": why,
    }


def _named(one: control.Replica) -> dict[str, Any]:
    return {"replica": one.id, "host": one.host, "pid": one.pid, "url": one.url}
