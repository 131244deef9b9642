"""One child process as the supervisor sees it: spawned with a control channel, greeted, serving, drained, gone.

Made by `fleet` for workers and by `attendant` for the processes beside them; calls `transport/control`.
"""

import asyncio
import contextlib
import os
import signal
import socket
import time
from collections.abc import Callable, Sequence
from typing import Literal

from turnout import telemetry
from turnout.errors import DeadlineError, OverloadError, UnavailableError
from turnout.transport import control

DEFAULTS = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "PYDANTIC_DISABLE_PLUGINS": "__all__"}
"""What a child's environment has unless its own says otherwise: one compute thread per model unless the document asks
for more (numpy would start one per core in every worker), and no search for pydantic plugins at each start."""

EXIT_S = 5.0
"""Seconds a drained worker may take to leave, then it is killed."""

State = Literal["starting", "preparing", "ready", "draining", "gone"]
Answer = control.Receive


class Child:
    """A running worker, or a process beside them.

    Signals are sent by process id: `Process.send_signal` may reap the child behind asyncio's
    back, and the exit status would be lost.

    Attributes:
        name: Slot and the number of the process, such as "w0.3", or "recorder".
        slot: -1 for a process beside the workers.
        counted: A worker's last counts, once it has drained.
        exited: Resolves to the exit status, negative for a signal.
        in_force: Resolves when the worker says that it serves.
    """

    def __init__(self, name: str, slot: int, process: asyncio.subprocess.Process, *, answer: Answer) -> None:
        loop = asyncio.get_running_loop()
        self.name = name
        self.slot = slot
        self.pid = process.pid
        self.state: State = "starting"
        self.started_at = time.time()
        self.revision = ""
        self.build = ""
        self.counted: list[telemetry.FamilySnapshot] | None = None
        self.exited: asyncio.Future[int] = loop.create_future()
        self.greeted: asyncio.Future[None] = loop.create_future()
        self.in_force: asyncio.Future[None] = loop.create_future()
        self._ready_since: float | None = None
        self._process = process
        self._answer = answer
        self._channel: control.Channel | None = None
        self._waiter = asyncio.create_task(self._wait())

    def __str__(self) -> str:
        return f"{self.name if self.slot < 0 else f'worker {self.name}'} (pid {self.pid})"

    @property
    def lived_s(self) -> float:
        """Seconds of service; 0.0 if it never became ready."""
        return 0.0 if self._ready_since is None else time.monotonic() - self._ready_since

    async def connect(self, sock: socket.socket) -> None:
        """Take our end of the control channel."""
        self._channel = await control.connect(sock, self._hear, self._lost)

    async def ask(self, message: control.Message, timeout_s: float) -> control.Message:
        """One request over the control channel.

        Raises:
            UnavailableError: The worker is gone, or silent for `timeout_s`.
        """
        if self._channel is None or self.exited.done():
            raise UnavailableError(f"{self} is gone ({self.obituary}).")
        try:
            return await self._channel.request(message, timeout_s)
        except DeadlineError as exc:
            raise UnavailableError(f"{self} gave no answer within {timeout_s:g} s.") from exc
        except OverloadError as exc:
            raise UnavailableError(f"{self} does not keep up: {exc.message}") from exc
        except UnavailableError as exc:
            if self._channel.open:
                raise UnavailableError(f"{self} failed: {exc.message}") from exc
            await self._leaves(1.0)  # the channel closes a moment before the exit status is known
            raise UnavailableError(f"{self} is gone ({self.obituary}).") from exc

    def tell(self, message: control.Message) -> None:
        """Say something that needs no answer.

        Raises:
            UnavailableError: The channel is closed.
        """
        if self._channel is None:
            raise UnavailableError(f"{self} is not connected.")
        self._channel.send(message)

    async def until(self, moment: asyncio.Future[None], what: str, timeout_s: float) -> None:
        """Wait for `greeted` or `in_force`.

        Raises:
            UnavailableError: The worker died, or did not get there in time.
        """
        await asyncio.wait((moment, self.exited), timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
        if moment.done():
            return
        if self.exited.done():
            raise UnavailableError(f"{self} died before it {what} ({self.obituary}).")
        raise UnavailableError(f"{self} had not {what} after {timeout_s:g} s.")

    @property
    def obituary(self) -> str:
        """How the process ended, in words."""
        if not self.exited.done():
            return "its control channel is closed"
        status = self.exited.result()
        if status >= 0:
            return f"exit status {status}"
        with contextlib.suppress(ValueError):
            return f"killed by {signal.Signals(-status).name}"
        return f"killed by signal {-status}"

    async def drain(self, *, linger_s: float, timeout_s: float, notice_s: float = 0.0) -> bool:
        """Let it answer what it has accepted, then see it off.

        Args:
            linger_s, notice_s: As in `control.Drain`.
            timeout_s: For the replies in flight, beyond both.

        Returns:
            Whether it left in time and by itself; if not, it was killed.
        """
        if self.exited.done():
            return True
        self.state = "draining"
        try:
            drain = control.Drain(linger_s=linger_s, notice_s=notice_s)
            reply = await self.ask(drain, notice_s + linger_s + timeout_s)
        except UnavailableError:
            clean = self.exited.done() and self.exited.result() == 0
        else:
            clean = True
            if isinstance(reply, control.Drained):
                self.counted = reply.families
        if clean:
            clean = await self._leaves(EXIT_S)
        if not clean:
            await self.kill()
        return clean

    async def terminate(self, timeout_s: float) -> bool:
        """SIGTERM, and wait; returns whether it left in time with status 0."""
        with contextlib.suppress(ProcessLookupError):
            if not self.exited.done():
                os.kill(self.pid, signal.SIGTERM)
        return await self._leaves(timeout_s) and self.exited.result() == 0

    async def kill(self, *, patience_s: float = 1.0) -> None:
        """SIGTERM, then SIGKILL."""
        for number in (signal.SIGTERM, signal.SIGKILL):
            if self.exited.done():
                return
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)
            await self._leaves(patience_s)

    async def _leaves(self, timeout_s: float) -> bool:
        await asyncio.wait((self.exited,), timeout=timeout_s)
        return self.exited.done()

    async def _wait(self) -> None:
        status = await self._process.wait()
        self.state = "gone"
        self.exited.set_result(status)
        if self._channel is not None:
            self._channel.close()

    async def _hear(self, message: control.Message) -> control.Message | None:
        match message:
            case control.Hello():
                self.state = "preparing"
                _resolve(self.greeted)
            case control.Ready():
                self.state = "ready"
                self._ready_since = time.monotonic()
                _resolve(self.in_force)
            case control.Drained():
                self.counted = message.families
            case _:
                return await self._answer(message)
        return None

    def _lost(self) -> None:
        """A worker without a channel cannot be steered any more: it drains by itself, or is told to."""
        if not self.exited.done() and self.state != "draining":
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGTERM)


def _resolve(future: "asyncio.Future[None]") -> None:
    if not future.done():
        future.set_result(None)


async def spawn(
    command: Sequence[str],
    arguments: Callable[[int], Sequence[str]],
    *,
    name: str,
    slot: int = -1,
    listener: socket.socket | None = None,
    answer: Answer,
) -> Child:
    """Start a child process with a control channel, a worker also with its slot's socket.

    The child gets its own process group: Ctrl-C in a terminal reaches the supervisor alone, which drains.

    Args:
        arguments: Makes the command's arguments once the descriptor of the child's control channel is known.
        answer: Called with every message that is not about the child itself.
    """
    ours, theirs = socket.socketpair()
    try:
        with theirs:
            process = await asyncio.create_subprocess_exec(
                *command,
                *arguments(theirs.fileno()),
                stdin=asyncio.subprocess.DEVNULL,
                env=DEFAULTS | os.environ,
                pass_fds=(theirs.fileno(), *(() if listener is None else (listener.fileno(),))),
                process_group=0,
            )
    except BaseException:
        ours.close()
        raise
    child = Child(name, slot, process, answer=answer)
    await child.connect(ours)
    return child
