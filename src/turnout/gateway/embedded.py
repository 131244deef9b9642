"""Turnout inside your own process, without HTTP.

    async with Embedded("turnout.yaml") as turnout:
        reply = await turnout.call("reply", {"text": "hello", "user_id": "u1"})

The same path as over HTTP from dispatch on: assignment, exposure, deadline, trace,
prediction. The document is watched and swapped as in `turnout serve`.
"""

import asyncio
import contextlib
import itertools
import logging
import os
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import msgspec

from turnout import telemetry
from turnout.assembly import reading
from turnout.errors import DocumentError, TurnoutError
from turnout.gateway import home
from turnout.sources import catalog

logger = logging.getLogger("turnout.gateway")


class Embedded:
    """A Home that watches its own document.

    Args:
        document: YAML file or folder.
        stage: Stage overlay.
        state: State folder; `.turnout` beside the document by default.
        watch: Follow changes of the document.
    """

    def __init__(self, document: str | Path, *, stage: str = "", state: str | Path = "", watch: bool = True) -> None:
        path = Path(document).resolve()
        directory = path if path.is_dir() else path.parent
        self.registry = telemetry.Registry()
        self.home = home.Home(
            home.Identity(
                worker=f"embedded-{os.getpid()}",
                directory=str(directory),
                state=str(Path(state) if state else directory / ".turnout"),
                stage=stage,
                environment=dict(os.environ),
            ),
            self.registry,
        )
        self._source = catalog.open_source("file", str(path), stage=stage)
        self._watch = watch
        self._watching: asyncio.Task[None] | None = None
        self._generation = itertools.count(1)

    async def start(self) -> None:
        """Read, build and warm the document, then watch it.

        Raises:
            DocumentError: The document is wrong.
        """
        directory = self.home.identity.directory
        if directory not in sys.path:
            sys.path.insert(0, directory)
        await self.home.open()
        await self._apply(await self._source.read())
        if self._watch:
            self._watching = asyncio.get_running_loop().create_task(self._follow())

    async def stop(self) -> None:
        """Stop watching, flush events, unload models."""
        self.home.draining = True
        if self._watching is not None:
            self._watching.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._watching
        current = self.home.current
        if current is not None:
            await current.drained(current.longest_deadline_s)
        await self.home.close()

    async def call(
        self, name: str, body: Any, *, headers: Mapping[str, str] | None = None, deadline_s: float | None = None
    ) -> Any:
        """Ask an endpoint; the reply as plain Python data.

        Args:
            name: The endpoint.
            body: JSON-able data, or JSON text as bytes.
            headers: Where the endpoint's unit is a header.

        Raises:
            TurnoutError: Whatever `dispatch` raises.
        """
        lower = {key.lower().encode(): value.encode() for key, value in (headers or {}).items()}
        incoming = reading.Incoming(
            name,
            body if isinstance(body, bytes) else msgspec.json.encode(body),
            id=self.home.new_id(),
            received=time.monotonic(),
            ts=time.time(),
            header=lower.get,
            deadline_s=deadline_s,
        )
        answer = await self.home.dispatch(incoming)
        if not isinstance(answer.body, bytes):
            return [msgspec.json.decode(chunk) async for chunk in answer.body]
        return msgspec.json.decode(answer.body)

    async def outcome(self, name: str, **fields: Any) -> str:
        """Report an outcome; returns its event id. Fields as in `POST /v1/outcomes`.

        Raises:
            InputError: A field is wrong.
        """
        posted = await self.home.record_outcomes(msgspec.json.encode({"name": name, **fields}))
        return posted[0].event_id

    async def _apply(self, files: Mapping[str, str]) -> None:
        generation = next(self._generation)
        await self.home.prepare(generation, files)
        self.home.commit(generation)

    async def _follow(self) -> None:
        async for files in self._source.changes():
            try:
                if isinstance(files, TurnoutError):
                    raise files
                await self._apply(files)
            except DocumentError as error:
                logger.error("the changed document is refused, the old one stays in force: %s", error)
            except TurnoutError as error:
                logger.error("the document cannot be read, the old one stays in force: %s", error)

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()
