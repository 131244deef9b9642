"""The workers on their slots: which document they serve, and who takes over from whom.

Called by the tree. What is in force is a document and the overlay that Turnout laid over it. Invariants: a
document or overlay comes into force on all serving workers or on none; a worker serves only what was accepted;
a slot's old worker drains only after its successor serves; every child that was ever started is either on a
slot, draining, or gone.
"""

import asyncio
import contextlib
import logging
import socket
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from turnout.errors import ConflictError, UnavailableError
from turnout.spec.stages import OVERLAY
from turnout.stores.control import Overlay
from turnout.supervisor import backoff, child, lastgood, listening, swap, tally
from turnout.supervisor.settings import Settings
from turnout.transport import control

logger = logging.getLogger(__name__)

COMMIT_S = 10.0
"""A commit swaps one reference; a worker that takes longer is stuck and is replaced."""

MakeSettings = Callable[[str, int, int, int], control.WorkerSettings]
"""(worker's name, slot, listening fd, control fd) -> what the worker is told."""


@dataclass
class Slot:
    """A place for one worker, with the socket that outlives it.

    Attributes:
        sock: None while the slot is in a crash loop: its connections go to the other slots.
        restarts: Times a worker of this slot was started after one had died.
        trouble: Why the slot has no worker, or how the last one ended; "" if all is well.
    """

    index: int
    sock: socket.socket | None
    worker: child.Child | None = None
    restarts: int = 0
    trouble: str = ""
    pause: backoff.Backoff = field(default_factory=backoff.Backoff)
    taking: asyncio.Lock = field(default_factory=asyncio.Lock)


@dataclass(frozen=True)
class Refused:
    """A document, an overlay, or new code that is not in force, and why.

    Attributes:
        revision: What it would have been; "" unless its text itself was valid.
        number: The overlay's.
    """

    at: float
    errors: tuple[control.Problem, ...]
    revision: str = ""
    number: int = 0


@dataclass(frozen=True)
class Swapped:
    """The last change: when it was seen, and when the last worker served it."""

    seen_at: float
    in_force_at: float


def _newer(overlay: Overlay, known: Overlay) -> bool:
    """By number, or written later: a database that was lost and made anew counts from 1 again."""
    return overlay.number > known.number or overlay.at > known.at


Digests = Mapping[str, str]
"""Model alias -> digest of its artifact."""


class Fleet:
    """All workers of one server.

    Attributes:
        accepted: The document in force with its overlay, None before the first one.
        overlay: What is laid over it; set before the first document to what was kept from the last life.
        refused: The document that was tried last, if it was refused.
        overlay_refused: The overlay that was tried last, if it was refused.
        tally: What all workers have counted, also those that are gone.
        commits_late: Commits of which a worker heard after their instant.
        reload_failed: The last replacement of the workers, if it failed.
        build: Digest of the user code, as the newest worker reports it.
    """

    def __init__(
        self,
        settings: Settings,
        sockets: Sequence[socket.socket],
        *,
        command: Sequence[str],
        make_settings: MakeSettings,
        answer: child.Answer,
        on_accept: Callable[[lastgood.Accepted, Digests], None],
        on_news: Callable[[], None] = lambda: None,
    ) -> None:
        self.settings = settings
        self.slots = [Slot(index, sock) for index, sock in enumerate(sockets)]
        self.accepted: lastgood.Accepted | None = None
        self.overlay: Overlay | None = None
        self.refused: Refused | None = None
        self.overlay_refused: Refused | None = None
        self.reload_failed: Refused | None = None
        self.swapped: Swapped | None = None
        self.build = ""
        self.tally = tally.Tally()
        self.commits_late = 0
        self._command = tuple(command)
        self._make_settings = make_settings
        self._answer = answer
        self._on_accept = on_accept
        self._on_news = on_news
        self._changing = asyncio.Lock()
        self._replacing = asyncio.Lock()
        self._wake = asyncio.Event()
        self._pending: dict[str, str] | None = None
        self._retry = False
        self._seen_at = 0.0
        self._generation = 0
        self._started = 0
        self._alive: set[child.Child] = set()
        self._members: set[child.Child] = set()

    # -- start ----------------------------------------------------------------------------------

    async def start(self) -> None:
        """Start one worker on every slot and wait for its first word.

        Raises:
            UnavailableError: One did not come up.
        """
        children = await asyncio.gather(*(self._spawn(slot) for slot in self.slots))
        await asyncio.gather(*(one.until(one.greeted, "greeted", self.settings.hello_s) for one in children))
        for slot, one in zip(self.slots, children, strict=True):
            slot.worker = one
            self._members.add(one)

    async def ready(self) -> None:
        """Wait until every slot's worker serves.

        Raises:
            UnavailableError: One does not.
        """
        serving = [slot.worker for slot in self.slots if slot.worker is not None]
        await asyncio.gather(*(one.until(one.in_force, "served", self.settings.hello_s) for one in serving))

    @property
    def serving(self) -> list[child.Child]:
        """The workers that take part in changes, by slot."""
        alive = [one for one in self._members if not one.exited.done() and one.state != "draining"]
        return sorted(alive, key=lambda one: (one.slot, one.started_at))

    # -- the document ---------------------------------------------------------------------------

    @property
    def document(self) -> dict[str, str]:
        """The document in force, without what is laid over it."""
        files = self.accepted.files if self.accepted else {}
        return {name: text for name, text in files.items() if name != OVERLAY}

    async def change(self, document: dict[str, str], *, seen_at: float) -> swap.Refusal | None:
        """Bring a document into force on all workers, or on none.

        Returns:
            None when it is in force; else why not, and the one before stays.
        """
        async with self._changing:
            if self.accepted is not None and document == self.document:
                self.refused, self._pending = None, None
                self._on_news()
                return None
            self._seen_at = seen_at
            if not self.serving:  # nobody is left to ask: the next worker that starts tries it
                self._pending, self._retry = document, True
                self._wake.set()
                return _nobody()
            refusal = await self._bring(document, self.overlay)
            if refusal is not None:
                self._retry = refusal.lost and document != self._pending
                self._pending = document
                self.refuse(refusal.errors, revision=refusal.revision)
            return refusal

    async def lay_over(self, overlay: Overlay, *, seen_at: float) -> swap.Refusal | None:
        """Lay an overlay over the document in force, on all workers or on none; an older one changes nothing.

        Returns:
            None when it, or a newer one, is in force; else why not, and the one before stays.
        """
        async with self._changing:
            if self.overlay is not None and not _newer(overlay, self.overlay):
                return None
            if not self.serving or self.accepted is None:
                return _nobody()
            if overlaid(self.document, overlay) == self.accepted.files:
                self._keep(overlay)
                self.overlay, self.overlay_refused = overlay, None
                return None
            self._seen_at = seen_at
            refusal = await self._bring(self.document, overlay)
            if refusal is not None and not refusal.lost:
                self.refuse_overlay(overlay, refusal)
            return refusal

    async def _bring(self, document: dict[str, str], overlay: Overlay | None) -> swap.Refusal | None:
        """Only with `_changing` held, and somebody serving."""
        peers, files = self.serving, overlaid(document, overlay)
        verdict = await self._prepare(peers, files)
        if isinstance(verdict, swap.Refusal) and verdict.split:
            verdict = await self._prepare(peers, files)
        if isinstance(verdict, swap.Refusal):
            return verdict
        if overlay is not None and overlay is not self.overlay:
            self._keep(overlay)
        await self._commit(peers, files, verdict, overlay=overlay)
        return None

    def _keep(self, overlay: Overlay) -> None:
        """Before it comes into force: a restart must not fall back behind what some request has seen."""
        try:
            lastgood.store_overlay(Path(self.settings.state), overlay)
        except OSError as exc:
            logger.error("overlay %d could not be kept in %s: %s", overlay.number, self.settings.state, exc)

    def refuse(self, errors: Sequence[control.Problem], *, revision: str = "") -> None:
        """Remember why the document as it is on disk is not in force."""
        self.refused = Refused(at=time.time(), errors=tuple(errors), revision=revision)
        logger.error("document refused: %s", "; ".join(map(str, errors)))
        self._on_news()

    def refuse_overlay(self, overlay: Overlay, refusal: swap.Refusal) -> None:
        """Remember why the overlay of that number is not in force."""
        self.overlay_refused = Refused(time.time(), refusal.errors, refusal.revision, overlay.number)
        logger.error("overlay %d refused: %s", overlay.number, "; ".join(map(str, refusal.errors)))
        self._on_news()

    async def _prepare(self, peers: Sequence[child.Child], files: dict[str, str]) -> swap.Agreement | swap.Refusal:
        self._generation += 1
        return await swap.prepare(peers, generation=self._generation, files=files, timeout_s=self.settings.prepare_s)

    async def _commit(
        self,
        peers: Sequence[child.Child],
        files: dict[str, str],
        agreement: swap.Agreement,
        *,
        overlay: Overlay | None = None,
    ) -> None:
        """Only with `_changing` held."""
        said = await swap.commit(peers, agreement.generation, timeout_s=COMMIT_S)
        for one in peers:
            one.revision, one.build = agreement.revision, agreement.build
        self.build = agreement.build
        confirmed = [committed for committed in said if committed is not None]
        self.commits_late += any(committed.late_s > 0.0 for committed in confirmed)
        if self.accepted is None or files != self.accepted.files:
            in_force_at = max((committed.at for committed in confirmed), default=0.0) or time.time()
            if overlay is not None and overlay is not self.overlay:
                self.overlay, self.overlay_refused = overlay, None
            self._accept(files, agreement, in_force_at)
        stuck = [one for one, committed in zip(peers, said, strict=True) if committed is None]
        for one in stuck:
            logger.error("%s did not confirm the change; it is replaced", one)
        await asyncio.gather(*(one.kill() for one in stuck))

    def _accept(self, files: dict[str, str], agreement: swap.Agreement, in_force_at: float) -> None:
        revision, before = agreement.revision, self.document
        self.accepted = lastgood.Accepted(files=files, revision=revision, at=in_force_at, stage=self.settings.stage)
        if self.document != before:  # a document that is refused stays so when only the overlay changes
            self.refused, self._pending = None, None
        self.swapped = Swapped(seen_at=self._seen_at or in_force_at, in_force_at=in_force_at)
        took_s = in_force_at - self.swapped.seen_at
        logger.info("revision %s is in force, %.3f s after it was seen", revision[:12], took_s)
        self._on_accept(self.accepted, agreement.summary.get("digests", {}))

    # -- successors -----------------------------------------------------------------------------

    async def keep(self, slot: Slot) -> None:
        """Restart the slot's worker whenever it dies, for ever; one task per slot, ended by cancelling it."""
        while True:
            current = slot.worker
            if current is not None:
                await asyncio.wait((current.exited,))
                if slot.worker is not current:
                    continue
                slot.trouble = f"{current} ended: {current.obituary}"
                logger.error("%s; the others serve on", slot.trouble)
            await self._rest(slot, 0.0 if current is None else current.lived_s)
            async with slot.taking:
                if slot.worker is not current:
                    continue
                slot.restarts += 1
                outcome = await self._successor(slot, daring=not self.serving and self._take_retry())
                if isinstance(outcome, swap.Refusal):
                    slot.worker, slot.trouble = None, "; ".join(map(str, outcome.errors))
                    logger.error("slot %d has no worker: %s", slot.index, slot.trouble)
                    continue
                slot.worker, slot.trouble = outcome, ""
            self._on_news()
            await self._try_lost()

    async def _rest(self, slot: Slot, lived_s: float) -> None:
        delay_s = slot.pause.after(lived_s=lived_s)
        if slot.pause.looping and slot.sock is not None:
            slot.sock.close()  # nobody would accept what the kernel queues here
            slot.sock = None
        self._wake.clear()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._wake.wait(), delay_s)

    def _take_retry(self) -> bool:
        """Whether the waiting document has a try left, which is taken: one that kills workers must not get many."""
        left, self._retry = self._retry and self._pending is not None, False
        return left

    async def _try_lost(self) -> None:
        """A document whose change lost a worker, maybe by chance, is tried once more when that worker is back."""
        if self._pending is not None and self._take_retry():
            await self.change(self._pending, seen_at=self._seen_at)

    async def replace(self) -> bool:
        """Replace all workers one by one with fresh processes, each warm before its predecessor drains.

        A document that is waiting because the old code refused it is tried with the new code.

        Returns:
            Whether all were replaced; if not, the remaining old ones serve on and `reload_failed` says why.
        """
        async with self._replacing:
            for slot in self.slots:
                async with slot.taking:
                    outcome = await self._successor(slot, daring=True)
                    if isinstance(outcome, swap.Refusal) and self._pending is not None:
                        outcome = await self._successor(slot, daring=False)
                    if isinstance(outcome, swap.Refusal):
                        self.reload_failed = Refused(at=time.time(), errors=outcome.errors)
                        text = "; ".join(map(str, outcome.errors))
                        logger.error("reload failed, the old workers serve on: %s", text)
                        return False
                    old, slot.worker, slot.trouble = slot.worker, outcome, ""
                    slot.pause.clear()
                if old is not None:
                    await self._see_off(old)
            self.reload_failed = None
        if self._pending is not None:
            await self.change(self._pending, seen_at=self._seen_at)
        logger.info("all workers are replaced; build %s", self.build[:12] or "-")
        return True

    async def _successor(self, slot: Slot, *, daring: bool) -> child.Child | swap.Refusal:
        """A fresh worker that serves the accepted document; with `daring`, the waiting one if it takes that."""
        one: child.Child | None = None
        try:
            one = await self._spawn(slot)
            await one.until(one.greeted, "greeted", self.settings.hello_s)
            refusal = await self._equip(one, daring=daring)
            if refusal is None:
                await one.until(one.in_force, "served", self.settings.hello_s)
                return one
        except (UnavailableError, ConflictError, OSError) as exc:
            refusal = swap.Refusal(errors=(control.Problem(message=str(exc)),), lost=True)
        except asyncio.CancelledError:
            if one is not None:
                self._members.discard(one)
            raise  # the child is in _alive: `stop` sees to it
        if one is not None:
            self._members.discard(one)
            await one.kill()
        return refusal

    async def _equip(self, one: child.Child, *, daring: bool) -> swap.Refusal | None:
        """Prepare and commit a document on a newcomer, while the others may be changing theirs."""
        while True:
            waiting = self._pending if daring else None
            assert self.accepted is not None or waiting, "successors start only after the first document"
            files = overlaid(self.document if waiting is None else waiting, self.overlay)
            verdict = await self._prepare([one], files)
            if isinstance(verdict, swap.Refusal):
                if waiting is None or self.accepted is None:
                    return verdict
                if self._pending is waiting:
                    self.refuse(verdict.errors, revision=verdict.revision)
                daring = False
                continue
            async with self._changing:
                wanted = self.document if waiting is None else self._pending
                if wanted is not None and files == overlaid(wanted, self.overlay):
                    await self._commit([one], files, verdict)
                    self._members.add(one)
                    return None
            await swap.abort([one], verdict.generation)

    async def _spawn(self, slot: Slot) -> child.Child:
        if slot.sock is None:
            slot.sock = listening.bind(self.settings.listen_host, self.settings.listen_port)
        self._started += 1
        name = f"w{slot.index}.{self._started}"
        listen_fd = slot.sock.fileno()
        one = await child.spawn(
            self._command,
            lambda fd: [msgspec.json.encode(self._make_settings(name, slot.index, listen_fd, fd)).decode()],
            name=name,
            slot=slot.index,
            listener=slot.sock,
            answer=self._answer,
        )
        self._alive.add(one)
        one.exited.add_done_callback(lambda _: self._forget(one))
        return one

    def _forget(self, one: child.Child) -> None:
        self._alive.discard(one)
        self._members.discard(one)
        self.tally.ended(one.name, one.counted)
        self._on_news()

    # -- the end --------------------------------------------------------------------------------

    async def watch(self, slot: Slot) -> None:
        """Kill the slot's worker when it has been silent for too long; `keep` then starts another."""
        silent_s = self.settings.silent_s
        while True:
            await asyncio.sleep(silent_s / 4)
            one = slot.worker
            if one is None or one.state != "ready":
                continue
            try:
                await one.ask(control.Status(), silent_s)
            except UnavailableError:
                if one in self.serving:
                    logger.error("%s has been silent for %g s; it is replaced", one, silent_s)
                    await one.kill()

    async def _see_off(self, one: child.Child, notice_s: float = 0.0) -> None:
        settings = self.settings
        if not await one.drain(linger_s=settings.linger_s, timeout_s=settings.drain_s, notice_s=notice_s):
            logger.warning("%s did not drain within %g s and was killed", one, self.settings.drain_s)

    async def drain(self) -> None:
        """Let every worker answer what it accepted; a half-started one is simply stopped."""
        members = self._members
        notice_s = self.settings.notice_s
        await asyncio.gather(
            *(self._see_off(one, notice_s) if one in members else one.kill() for one in list(self._alive))
        )

    async def kill(self) -> None:
        """Stop every worker at once."""
        await asyncio.gather(*(one.kill() for one in list(self._alive)))

    def close(self) -> None:
        """Close the listening sockets."""
        for slot in self.slots:
            if slot.sock is not None:
                slot.sock.close()
                slot.sock = None


def overlaid(document: Mapping[str, str], overlay: Overlay | None) -> dict[str, str]:
    """The files that workers prepare: the document's, and what Turnout lays over it under a name of its own."""
    files = {name: text for name, text in document.items() if name != OVERLAY}
    return files | {OVERLAY: overlay.content} if overlay is not None and overlay.content.strip() else files


def _nobody() -> swap.Refusal:
    problem = control.Problem(message="no worker is up; the next one to start tries it.")
    return swap.Refusal(errors=(problem,), lost=True)
