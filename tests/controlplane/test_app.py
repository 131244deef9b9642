"""The control plane's program: what it does from its first word to its last."""

import asyncio
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.controlplane.conftest import Supervisor

import turnout
from turnout.stores import catalog, control
from turnout.transport import control as channel

pytestmark = pytest.mark.slow

DEADLINE_S = 40.0

End = Callable[[asyncio.subprocess.Process, channel.Channel], None]


class Listening(Supervisor):
    """Takes the greeting too."""

    def __init__(self) -> None:
        super().__init__()
        self.greeted = False

    async def hear(self, message: channel.Message) -> channel.Message | None:
        if isinstance(message, channel.Hello):
            self.greeted = True
            return None
        return await super().hear(message)


def asked(process: asyncio.subprocess.Process, _: channel.Channel) -> None:
    os.kill(process.pid, signal.SIGTERM)


def orphaned(_: asyncio.subprocess.Process, supervisor: channel.Channel) -> None:
    supervisor.close()


@pytest.mark.parametrize("end", [asked, orphaned])
def test_it_announces_the_server_brings_the_overlay_and_leaves_when_told_or_orphaned(end: End, tmp_path: Path) -> None:
    url = catalog.default_url(tmp_path)
    store = catalog.open_control(url)
    store.propose("a: 1", after=0, author="turnout", reason="step", at=1.0)
    supervisor = Listening()
    record = control.RevisionRecord(revision="r1", at=1.0, author="Ada")
    supervisor.chapters = [(1, record)]

    async def run() -> int:
        ours, theirs = socket.socketpair()
        with theirs:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "turnout.controlplane.app", "--state", str(tmp_path)),
                *("--control", str(theirs.fileno())),
                pass_fds=(theirs.fileno(),),
                env={**os.environ, "PYTHONPATH": str(Path(turnout.__file__).parent.parent)},
            )
        opened = await channel.connect(ours, supervisor.hear)
        async with asyncio.timeout(DEADLINE_S):
            while not (supervisor.views and supervisor.overlays and store.history(1)):
                await asyncio.sleep(0.02)
            assert supervisor.greeted
            assert [found.id for found in store.replicas(since=0.0)] == ["own"]
            end(process, opened)
            status = await process.wait()
        opened.close()
        return status

    assert asyncio.run(run()) == 0
    assert supervisor.overlays[0].content == "a: 1"
    assert [found.revision for found in store.history(9)] == ["r1"]
    assert store.replicas(since=0.0) == []
    store.close()


def test_it_stays_light() -> None:
    heavy = ("scipy", "numpy", "pandas", "duckdb", "pyarrow", "click", "rich", "alembic")
    code = f"import sys, turnout.controlplane.app\nprint([name for name in {heavy!r} if name in sys.modules])"
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert ended.stdout.strip() == "[]"
