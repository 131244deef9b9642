"""The workers on their slots: which document they serve, and who takes over from whom.

Called by the tree. Invariants: a document comes into force on all serving workers or on none; a worker
serves only what was accepted; a slot's old worker drains only after its successor serves; every child
that was ever started is either on a slot, draining, or gone.
"""

import asyncio
import contextlib
import logging
import socket
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import msgspec

from turnout.errors import ConflictError, UnavailableError
from turnout.supervisor import backoff, child, lastgood, listening, swap
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
    """A document, or new code, that is not in force, and why."""

    at: float
    errors: tuple[control.Problem, ...]


@dataclass(frozen=True)
class Swapped:
    """The last change of the document: when it was seen on disk, and when the last worker served it."""

    seen_at: float
    in_force_at: float


class Fleet:
    """All workers of one server.

    Attributes:
        accepted: The document in force, None before the first one.
        refused: The document that was tried last, if it was refused.
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
        on_accept: Callable[[lastgood.Accepted], None],
    ) -> None:
        self.settings = settings
        self.slots = [Slot(index, sock) for index, sock in enumerate(sockets)]
        self.accepted: lastgood.Accepted | None = None
        self.refused: Refused | None = None
        self.reload_failed: Refused | None = None
        self.swapped: Swapped | None = None
        self.build = ""
        self._command = tuple(command)
        self._make_settings = make_settings
        self._answer = answer
        self._on_accept = on_accept
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

    async def change(self, files: dict[str, str], *, seen_at: float) -> swap.Refusal | None:
        """Bring a document into force on all workers, or on none.

        Returns:
            None when it is in force; else why not, and the one before stays.
        """
        async with self._changing:
            if self.accepted is not None and files == self.accepted.files:
                self.refused, self._pending = None, None
                return None
            self._seen_at = seen_at
            peers = self.serving
            if not peers:  # nobody is left to ask: the next worker that starts tries it
                self._pending, self._retry = files, True
                self._wake.set()
                problem = control.Problem(message="no worker is up; the next one to start tries it.")
                return swap.Refusal(errors=(problem,), lost=True)
            verdict = await self._prepare(peers, files)
            if isinstance(verdict, swap.Refusal) and verdict.split:
                verdict = await self._prepare(peers, files)
            if isinstance(verdict, swap.Refusal):
                self._retry = verdict.lost and files != self._pending
                self._pending = files
                self.refuse(verdict.errors)
                return verdict
            await self._commit(peers, files, verdict)
            return None

    def refuse(self, errors: Sequence[control.Problem]) -> None:
        """Remember why the document as it is on disk is not in force."""
        self.refused = Refused(at=time.time(), errors=tuple(errors))
        logger.error("document refused: %s", "; ".join(map(str, errors)))

    async def _prepare(self, peers: Sequence[child.Child], files: dict[str, str]) -> swap.Agreement | swap.Refusal:
        self._generation += 1
        return await swap.prepare(peers, generation=self._generation, files=files, timeout_s=self.settings.prepare_s)

    async def _commit(self, peers: Sequence[child.Child], files: dict[str, str], agreement: swap.Agreement) -> None:
        """Only with `_changing` held."""
        late = await swap.commit(peers, agreement.generation, timeout_s=COMMIT_S)
        for one in peers:
            one.revision, one.build = agreement.revision, agreement.build
        self.build = agreement.build
        if self.accepted is None or files != self.accepted.files:
            self._accept(files, agreement.revision)
        for one in late:
            logger.error("%s did not confirm the change; it is replaced", one)
        await asyncio.gather(*(one.kill() for one in late))

    def _accept(self, files: dict[str, str], revision: str) -> None:
        now = time.time()
        self.accepted = lastgood.Accepted(files=files, revision=revision, at=now, stage=self.settings.stage)
        self.refused, self._pending = None, None
        self.swapped = Swapped(seen_at=self._seen_at or now, in_force_at=now)
        logger.info("revision %s is in force, %.3f s after it was seen", revision[:12], now - self.swapped.seen_at)
        self._on_accept(self.accepted)

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
            files = waiting or (self.accepted.files if self.accepted else None)
            assert files is not None, "successors start only after the first document"
            verdict = await self._prepare([one], files)
            if isinstance(verdict, swap.Refusal):
                if waiting is None or self.accepted is None:
                    return verdict
                if self._pending is waiting:
                    self.refuse(verdict.errors)
                daring = False
                continue
            async with self._changing:
                wanted = self._pending if waiting is not None else self.accepted and self.accepted.files
                if files == wanted:
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
