"""A process beside the workers that is kept alive: the recorder, the control plane. No request waits for it.

Made by the tree, calls `child`.
"""

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Sequence
from typing import Any

from turnout.errors import UnavailableError
from turnout.supervisor import backoff, child
from turnout.transport import control

logger = logging.getLogger(__name__)


class Attendant:
    """One such process and its successors.

    Args:
        arguments: Makes the command's arguments from the descriptor of the child's control channel.
        answer: Called with every message it sends.
        meanwhile: What its absence means, for the log.
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        *,
        arguments: Callable[[int], Sequence[str]],
        answer: child.Answer,
        meanwhile: str,
    ) -> None:
        self.name = name
        self.restarts = 0
        self.running: child.Child | None = None
        self._command = command
        self._arguments = arguments
        self._answer = answer
        self._meanwhile = meanwhile

    async def keep(self) -> None:
        """Start it, and again whenever it ends, for ever; ended by cancelling."""
        pause = backoff.Backoff()
        while True:
            started = time.monotonic()
            try:
                self.running = await child.spawn(self._command, self._arguments, name=self.name, answer=self._answer)
            except OSError as exc:
                logger.error("the %s cannot be started: %s", self.name, exc)
            else:
                await asyncio.wait((self.running.exited,))
                logger.error("%s ended: %s; %s", self.running, self.running.obituary, self._meanwhile)
            self.restarts += 1
            await asyncio.sleep(max(backoff.FIRST_S, pause.after(lived_s=time.monotonic() - started)))

    def tell(self, message: control.Message) -> None:
        """Say something that needs no answer; lost when nobody is there."""
        if self.running is not None and not self.running.exited.done():
            with contextlib.suppress(UnavailableError):
                self.running.tell(message)

    def row(self) -> dict[str, Any]:
        """Its part of `/status`."""
        if self.running is None:
            return {"pid": None, "state": "starting", "restarts": 0}
        gone = self.running.exited.done()
        row = {"pid": None if gone else self.running.pid, "state": "restarting" if gone else "running"}
        return row | {"restarts": self.restarts}
