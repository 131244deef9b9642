"""A worker without models for the supervisor's tests: speaks the control channel, answers HTTP with who it is.

The document's text steers it: "refuse", "die in prepare", "hang in prepare", "differ", "die in commit"; the file
`code.txt` in the document's directory is its user code: read once at the start, "broken" makes it refuse everything,
"needs:X" makes it refuse documents without X.
"""

import asyncio
import hashlib
import json
import os
import signal
import socket
import sys
import time
from pathlib import Path

import msgspec

from turnout.transport import control


class SmallWorker:
    def __init__(self, settings: control.WorkerSettings) -> None:
        self.settings = settings
        code = Path(settings.directory) / "code.txt"
        self.code = code.read_text() if code.exists() else ""
        self.prepared: dict[int, str] = {}
        self.text = ""
        self.server: asyncio.Server | None = None
        self.in_flight = 0
        self.done = asyncio.Event()
        self.channel: control.Channel | None = None

    async def run(self) -> None:
        if "dies at start" in self.code:
            sys.exit(7)
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGTERM, self.leave)
        self.channel = await control.connect(socket.socket(fileno=self.settings.control_fd), self.hear, self.leave)
        self.channel.send(control.Hello(worker=self.settings.worker, pid=os.getpid()))
        await self.done.wait()

    def leave(self) -> None:
        self.done.set()

    async def hear(self, message: control.Message) -> control.Message | None:
        match message:
            case control.Prepare():
                return await self.prepare(message)
            case control.Commit(generation=generation):
                return await self.commit(generation)
            case control.Arm(generation=generation):
                assert generation in self.prepared
            case control.Abort(generation=generation):
                self.prepared.pop(generation, None)
            case control.Status():
                return control.StatusReply(payload=json.dumps(self.status()).encode())
            case control.Drain(linger_s=linger_s, notice_s=notice_s):
                await asyncio.sleep(notice_s)
                await self.drain(linger_s)
                asyncio.get_running_loop().call_later(0.05, self.done.set)
                return control.Drained()
            case control.MetricsRequest():
                return control.MetricsReply(families=[])
            case _:
                raise AssertionError(message)
        return None

    async def prepare(self, message: control.Prepare) -> control.Message:
        text = "".join(message.files.values())
        if "die in prepare" in text:
            os._exit(9)
        if "hang in prepare" in text:
            await asyncio.sleep(60)
        wanted = self.code.partition("needs:")[2].strip()
        if "refuse" in text or "broken" in self.code or (wanted and wanted not in text):
            problems = [
                control.Problem(message="it says refuse", file="turnout.yaml", line=1, hint="Say something else.")
            ]
            return control.Refused(generation=message.generation, errors=problems)
        self.prepared[message.generation] = text
        return control.Prepared(
            generation=message.generation, revision=self.revision(text), build=self.code, built_s=0.0, summary={}
        )

    def revision(self, text: str) -> str:
        own = str(os.getpid()) if "differ" in text else ""
        return hashlib.sha256((text + own).encode()).hexdigest()

    async def commit(self, generation: int) -> control.Message:
        text = self.prepared.pop(generation)
        if "die in commit" in text and self.settings.slot == 1 and "w1.2" in self.settings.worker:
            os._exit(8)
        self.text = text
        if "freeze" in text and self.settings.worker == "w0.1":
            asyncio.get_running_loop().call_later(0.1, time.sleep, 600)
        if self.server is None:
            assert self.channel is not None
            sock = socket.socket(fileno=self.settings.listen_fd)
            self.server = await asyncio.start_server(self.answer, sock=sock, backlog=256)
            self.channel.send(control.Ready(worker=self.settings.worker))
        return control.Committed(generation=generation, revision=self.revision(self.text), at=0.0)

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.in_flight += 1
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            if b"/slow" in head:
                await asyncio.sleep(0.3)
            body = json.dumps(self.status()).encode()
            if b"/status" in head:
                assert self.channel is not None
                overview = await self.channel.request(control.Overview(), 5.0)
                assert isinstance(overview, control.OverviewReply)
                body = overview.payload
            writer.write(b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: %d\r\n\r\n%s" % (len(body), body))
            await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            self.in_flight -= 1
            writer.close()

    async def drain(self, linger_s: float) -> None:
        if self.server is not None:
            self.server.close()
        await asyncio.sleep(linger_s)
        calm = 0
        while calm < 10:  # what was accepted last takes some turns of the loop until it is in flight
            calm = 0 if self.in_flight else calm + 1
            await asyncio.sleep(0.01)

    def status(self) -> dict[str, object]:
        return {
            "worker": self.settings.worker,
            "pid": os.getpid(),
            "state": "ready",
            "revision": self.revision(self.text),
            "build": self.code,
            "text": self.text,
            "in_flight": self.in_flight,
            "models": {"m": {"state": "ready", "instances": 1}},
            "endpoints": {"score": {"pipeline": "p", "example": {"x": [1.0]}}},
        }


if __name__ == "__main__":
    asyncio.run(SmallWorker(msgspec.json.decode(sys.argv[1], type=control.WorkerSettings)).run())
