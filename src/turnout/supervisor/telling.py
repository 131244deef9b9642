"""What a server says of itself: `/status`, `/metrics`, and the line it announces to its fleet.

Made by the tree, asks the workers through the fleet, and merges what they say with what only their parent knows.
"""

import asyncio
import contextlib
import os
import socket
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from turnout import telemetry
from turnout.errors import UnavailableError
from turnout.stores.control import Replica, View
from turnout.supervisor import attendant, child, convergence, fleet, overview
from turnout.supervisor.settings import Settings
from turnout.transport import control

STATUS_S = 2.0
"""How long a status or metrics request waits for one worker; a silent one is reported as such."""

COUNT_EVERY_S = 5.0
"""How often the workers' counts are kept, so that those of a killed worker are lost for at most so long."""

REFUSALS = 10
"""Errors of one refusal that are announced to the fleet."""


class Telling:
    """See the module's docstring.

    Attributes:
        view: What the control plane told last about the fleet; None before.
        reload_state: "idle", "running", "done" or "failed".
    """

    def __init__(
        self,
        settings: Settings,
        workers: fleet.Fleet,
        *,
        url: str,
        recorder: attendant.Attendant | None,
        control_plane: attendant.Attendant | None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.view: View | None = None
        self.reload_state = "idle"
        self._settings = settings
        self._workers = workers
        self._url = url
        self._recorder = recorder
        self._control_plane = control_plane
        self._clock = clock
        self._id = uuid.uuid4().hex[:12]
        self._started = clock()
        self._asking: asyncio.Task[dict[str, Any]] | None = None

    # -- the fleet ------------------------------------------------------------------------------

    def presence(self) -> Replica:
        """This server as one of its fleet's replicas, without asking anybody."""
        workers = self._workers
        accepted, refused, overlay = workers.accepted, workers.refused, workers.overlay_refused
        revision = accepted.revision if accepted else ""
        behind = tuple(text for slot in workers.slots if (text := _trouble(slot, revision)))
        errors = [str(error) for told in (refused, overlay) if told is not None for error in told.errors]
        swapped = workers.swapped
        return Replica(
            id=self._id,
            host=socket.gethostname(),
            pid=os.getpid(),
            url=self._url,
            revision=revision,
            since=accepted.at if accepted else 0.0,
            build=workers.build,
            workers=len(workers.slots),
            workers_current=len(workers.slots) - len(behind) if revision else 0,
            behind=behind,
            refusal=tuple(errors[:REFUSALS]),
            settled_s=swapped.in_force_at - swapped.seen_at if swapped else 0.0,
            started=self._started,
            seen=self._clock(),
        )

    # -- metrics --------------------------------------------------------------------------------

    async def metrics(self) -> list[telemetry.FamilySnapshot]:
        """The metrics of all workers, also of those that are gone, and of the supervisor, merged."""
        replies = await self._count()
        beside = self._workers.tally.beside(replies.keys())
        return telemetry.merge([*replies.values(), beside, self._own_metrics()])

    async def keep_counts(self) -> None:
        """Ask for the workers' counts now and then, for ever."""
        while True:
            await asyncio.sleep(COUNT_EVERY_S)
            await self._count()

    async def _count(self) -> dict[str, list[telemetry.FamilySnapshot]]:
        asked = self._workers.serving
        replies = await asyncio.gather(*(_ask(one, control.MetricsRequest()) for one in asked))
        found = {}
        for one, reply in zip(asked, replies, strict=True):
            if isinstance(reply, control.MetricsReply) and not one.exited.done():
                found[one.name] = reply.families
                self._workers.tally.heard(one.name, reply.families)
        return found

    def _own_metrics(self) -> list[telemetry.FamilySnapshot]:
        registry = telemetry.Registry()
        workers = self._workers
        told = convergence.told(self.presence(), self.view, (), now=self._clock())
        counts = (
            (telemetry.WORKER_RESTARTS, "Workers started after one had died.", sum(s.restarts for s in workers.slots)),
            (telemetry.COMMITS_LATE, "Changes a worker heard of after their instant.", workers.commits_late),
        )
        for name, text, count in counts:
            registry.counter(name, text).labels().inc(count)
        missing = sum(slot.worker is None or slot.worker.exited.done() for slot in workers.slots)
        levels = (
            (telemetry.WORKERS_MISSING, "Worker slots without a worker.", missing),
            (telemetry.DOCUMENT_REFUSED, "1 while the document on disk is not in force.", workers.refused is not None),
            (telemetry.OVERLAY_REFUSED, "1 while the newest overlay is not in force.", bool(workers.overlay_refused)),
            (telemetry.RELOAD_FAILED, "1 while the last reload has failed.", workers.reload_failed is not None),
            (telemetry.REPLICAS, "Servers of this fleet.", told["replicas"]["total"]),
            (telemetry.REPLICAS_CURRENT, "Servers that serve the newest revision.", told["replicas"]["current"]),
            (telemetry.CONVERGENCE, "Seconds from seeing the last change to serving it.", told["slowest_s"]),
        )
        for name, text, level in levels:
            registry.gauge(name, text, merge="max").labels().set(float(level))
        if workers.accepted is not None:
            info = registry.gauge(telemetry.SNAPSHOT_INFO, "The revision in force.", ("revision", "build"), "max")
            info.labels(workers.accepted.revision, workers.build).set(1.0)
        failures = registry.counter(telemetry.CONTROL_FAILURES, "Failed rounds of the control plane.", ("duty",))
        for name, duty in (self.view.duties if self.view else {}).items():
            failures.labels(name).inc(duty.failures)
        return registry.snapshot()

    # -- status ---------------------------------------------------------------------------------

    async def status(self) -> dict[str, Any]:
        """The `/status` of the server. Concurrent callers share one round of questions."""
        if self._asking is None or self._asking.done():
            self._asking = asyncio.create_task(self._status())
        return await asyncio.shield(self._asking)

    async def _status(self) -> dict[str, Any]:
        workers, settings = self._workers, self._settings
        replies = await asyncio.gather(*(_ask(one, control.Status()) for one in workers.serving))
        parts = [msgspec.json.decode(reply.payload) for reply in replies if isinstance(reply, control.StatusReply)]
        rows = [_worker_row(slot, parts) for slot in workers.slots]
        leaving = [part for part in parts if all(part.get("worker") != row.get("worker") for row in rows)]
        accepted = workers.accepted
        revision = accepted.revision if accepted else None
        recorder = self._recorder_row()
        return {
            "revision": revision,
            "build": workers.build,
            "since": accepted.at if accepted else None,
            "stage": settings.stage,
            "document": settings.document,
            "url": self._url,
            "state_folder": settings.state,
            "converged": all(row.get("revision") == revision and row["state"] == "ready" for row in rows),
            "convergence": convergence.told(self.presence(), self.view, rows, now=self._clock()),
            "workers": [*rows, *leaving],
            **overview.merge(parts),
            "warnings": [*next((part["warnings"] for part in parts if part.get("warnings")), []), *_warned(recorder)],
            "refused": _refused(workers.refused),
            "overlay": self._overlay_row(),
            "swap": _swap(workers.swapped),
            "reload": {"state": self.reload_state, "failed": _refused(workers.reload_failed)},
            "recorder": recorder,
            "control_plane": self._control_plane_row(),
        }

    def _overlay_row(self) -> dict[str, Any] | None:
        overlay, refused = self._workers.overlay, self._workers.overlay_refused
        if overlay is None and refused is None:
            return None
        row: dict[str, Any] = {"number": 0, "at": None, "author": "", "reason": ""}
        if overlay is not None:
            row = {name: getattr(overlay, name) for name in row}
        told = _refused(refused)
        return row | {"refused": told | {"number": refused.number} if told and refused else None}

    def _control_plane_row(self) -> dict[str, Any] | None:
        if self._control_plane is None:
            return None
        duties = self.view.duties if self.view else {}
        return self._control_plane.row() | {"duties": msgspec.to_builtins(duties)}

    def _recorder_row(self) -> dict[str, Any] | None:
        if self._recorder is None:
            return None
        running = self._recorder.running
        return self._recorder.row() | (self._recorder_words(running.pid) if running is not None else {})

    def _recorder_words(self, pid: int) -> dict[str, Any]:
        """What the recorder says about itself: what waits, and why, if the store takes nothing."""
        try:
            said = msgspec.json.decode((Path(self._settings.state) / "recorder.json").read_bytes(), type=dict[str, Any])
        except (OSError, msgspec.DecodeError):
            return {}
        told = ("shipped", "left_bytes", "put_aside", "error")
        return {name: said[name] for name in told if name in said} if said.get("pid") == pid else {}


async def _ask(one: child.Child, message: control.Message) -> control.Message | None:
    with contextlib.suppress(UnavailableError):
        return await one.ask(message, STATUS_S)
    return None


def _trouble(slot: fleet.Slot, revision: str) -> str:
    """Why the slot's worker does not serve that revision; "" if it does."""
    one = slot.worker
    if one is None or one.exited.done():
        return f"worker w{slot.index} is {'in a crash loop' if slot.pause.looping else 'restarting'}: {slot.trouble}"
    if one.revision != revision:
        return f"worker {one.name} serves {one.revision[:12] or 'nothing yet'}"
    return "" if one.state == "ready" else f"worker {one.name} is {one.state}"


def _warned(recorder: Mapping[str, Any] | None) -> list[str]:
    error = recorder.get("error") if recorder else ""
    return [f"events wait in segments and are tried again: {error}"] if error else []


def _worker_row(slot: fleet.Slot, parts: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """One line of the workers' table: what the worker says, and what only its parent knows."""
    known = {"slot": slot.index, "restarts": slot.restarts, "trouble": slot.trouble}
    one = slot.worker
    if one is None or one.exited.done():
        return {
            "worker": f"w{slot.index}",
            "pid": None,
            "state": "crash-loop" if slot.pause.looping else "restarting",
        } | known
    said = next((part for part in parts if part.get("worker") == one.name), None)
    if said is None:
        return {"worker": one.name, "pid": one.pid, "state": "silent" if one.state == "ready" else one.state} | known
    shown = {key: value for key, value in said.items() if key not in ("models", "endpoints", "experiments", "warnings")}
    return shown | {"pid": one.pid} | known


def _refused(refused: fleet.Refused | None) -> dict[str, Any] | None:
    if refused is None:
        return None
    errors = [msgspec.to_builtins(error) for error in refused.errors]
    return {"at": refused.at, "revision": refused.revision or None, "errors": errors}


def _swap(swapped: fleet.Swapped | None) -> dict[str, float] | None:
    if swapped is None:
        return None
    took_s = swapped.in_force_at - swapped.seen_at
    return {"seen_at": swapped.seen_at, "in_force_at": swapped.in_force_at, "took_s": round(took_s, 4)}
