"""A control plane without a store for the supervisor's tests, steered by files in the state folder.

`propose.json` holds the overlay to hand over (a `control.OverlayText`); what the supervisor replies is appended to
`replies.jsonl`. `view.json` is told as the fleet's view. What the supervisor says of itself is kept in `presence.json`,
its chapters in `chapters.jsonl`. "die" in `propose.json` ends the process.
"""

import argparse
import asyncio
import contextlib
import os
import signal
import socket
from pathlib import Path

import msgspec

from turnout.stores.control import RevisionRecord
from turnout.transport import control

POLL_S = 0.02


async def run(state: Path, control_fd: int) -> None:
    done = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, done.set)

    async def hear(message: control.Message) -> None:
        assert isinstance(message, control.Changed)

    channel = await control.connect(socket.socket(fileno=control_fd), hear, done.set)
    channel.send(control.Hello(worker="control plane", pid=os.getpid()))
    known, told = b"", 0
    while not done.is_set():
        with contextlib.suppress(FileNotFoundError):
            channel.send(control.FleetView(payload=(state / "view.json").read_bytes()))
        proposed = (state / "propose.json").read_bytes() if (state / "propose.json").exists() else b""
        if proposed == b"die":
            (state / "propose.json").unlink()
            os._exit(3)
        if proposed != known:
            known = proposed
            reply = await channel.request(msgspec.json.decode(proposed, type=control.OverlayText), 30.0)
            with (state / "replies.jsonl").open("ab") as out:
                out.write(msgspec.json.encode(reply) + b"\n")
        presence = await channel.request(control.Presence(), 5.0)
        assert isinstance(presence, control.PresenceReply)
        draft = state / ".presence.json"
        draft.write_bytes(presence.payload)
        draft.replace(state / "presence.json")
        chapters = await channel.request(control.Chapters(after=told), 5.0)
        assert isinstance(chapters, control.ChaptersReply)
        with (state / "chapters.jsonl").open("ab") as out:
            for number, record in msgspec.json.decode(chapters.payload, type=list[tuple[int, RevisionRecord]]):
                out.write(msgspec.json.encode(record) + b"\n")
                told = number
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(done.wait(), POLL_S)
    (state / "farewell").write_text("bye")
    channel.close()


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    for name in ("--state", "--document", "--store", "--stage", "--author"):
        parser.add_argument(name, default="")
    parser.add_argument("--control", type=int)
    given = parser.parse_args()
    asyncio.run(run(Path(given.state), given.control))
