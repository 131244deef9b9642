"""What `/status` says about the recorder."""

import asyncio
import sys
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

from turnout.supervisor.settings import Settings

Serve = Callable[..., AbstractAsyncContextManager[Any]]

TROUBLED = """
import json, os, signal, sys
from pathlib import Path
state = Path(sys.argv[sys.argv.index("--state") + 1])
said = {"pid": os.getpid(), "left_bytes": 7, "shipped": 3, "put_aside": 1, "error": "the disk is full."}
(state / "recorder.json").write_text(json.dumps(said))
signal.pause()
"""


def test_a_recorder_whose_store_takes_nothing_is_seen_in_the_status(serve: Serve, settings: Settings) -> None:
    async def case() -> None:
        async with serve(settings, recorder=(sys.executable, "-c", TROUBLED)) as running:
            status = await running.until(lambda status: bool((status["recorder"] or {}).get("error")))
            assert status["recorder"]["left_bytes"] == 7
            assert status["warnings"] == ["events wait in segments and are tried again: the disk is full."]

    asyncio.run(case())
