"""The control plane's program: `python -m turnout.controlplane.app --state DIR --control FD ...`.

Started by the supervisor beside the recorder, once the server is ready; no request waits for it. It only reads
events and the fleet's state, and proposes overlays: what is in force serves on when it is gone. Ends on SIGTERM
or when the supervisor does.
"""

import argparse
import asyncio
import gc
import logging
import os
import signal
import socket
import sys
from collections.abc import Sequence
from pathlib import Path

from turnout.controlplane import duties, overlays, presence, steering
from turnout.errors import TurnoutError
from turnout.transport import control

logger = logging.getLogger("turnout.controlplane")

CLOSE_S = 2.0
"""How long the last words may take altogether."""


class ControlPlane:
    """The duties of one server, and the channel to its supervisor."""

    def __init__(self, context: duties.Context, made: Sequence[duties.Duty]) -> None:
        self._context = context
        self._duties = made
        self._stop = asyncio.Event()

    async def run(self, channel: socket.socket) -> None:
        """Do the duties until told to end."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop.set)
        self._context.channel = await control.connect(channel, self._hear, self._stop.set)
        self._context.channel.send(control.Hello(worker="control plane", pid=os.getpid()))
        tasks = [asyncio.create_task(duties.keep(duty, self._context)) for duty in self._duties]
        await self._stop.wait()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._close()

    async def _close(self) -> None:
        try:
            async with asyncio.timeout(CLOSE_S):
                for duty in self._duties:
                    await _last_word(duty)
                await self._context.close()
        except TimeoutError:
            logger.warning("the store keeps the control plane waiting; it leaves without a last word")
        if self._context.channel is not None:
            self._context.channel.close()

    async def _hear(self, message: control.Message) -> None:
        if isinstance(message, control.Changed):
            for duty in self._duties:
                if isinstance(duty, overlays.Overlays):
                    duty.reconsider()
                duty.wake.set()


async def _last_word(duty: duties.Duty) -> None:
    try:
        await duty.close()
    except TurnoutError as error:
        logger.warning("%s: %s", duty.name, error)


def duties_of(context: duties.Context) -> list[duties.Duty]:
    """All duties of a server."""
    made: list[duties.Duty] = [overlays.Overlays(context), presence.Presence(context), presence.History(context)]
    return [*made, steering.Steering(context)]


async def run(settings: duties.Settings, control_fd: int) -> None:
    """Do the duties of a server until it ends."""
    context = duties.Context(settings)
    await ControlPlane(context, duties_of(context)).run(socket.socket(fileno=control_fd))


def main(arguments: list[str] | None = None) -> int:
    """Entry of the program. Returns the exit status."""
    parser = argparse.ArgumentParser(prog="turnout.controlplane", description="What a server has to do with its fleet.")
    parser.add_argument("--state", type=Path, required=True, help="state folder, usually .turnout")
    parser.add_argument("--store", default="", help="store URL; default sqlite in the state folder")
    parser.add_argument("--document", default="turnout.yaml", help="the document, to ask git who wrote it")
    parser.add_argument("--stage", default="", help="the stage that is laid over it")
    parser.add_argument("--author", default="", help="who is named in the history")
    parser.add_argument("--control", type=int, required=True, help="descriptor of the control channel")
    given = parser.parse_args(arguments)
    gc.freeze()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s control plane %(levelname)s %(name)s: %(message)s")
    settings = duties.Settings(
        state=given.state, store=given.store, document=given.document, stage=given.stage, author=given.author
    )
    asyncio.run(run(settings, given.control))
    return 0


if __name__ == "__main__":
    sys.exit(main())
