"""What a duty is, what all duties share, and how they are kept going.

A duty has a name and does one round of work at a time; a round that fails is counted, logged once, and tried
again. What they share is the `Context`: the supervisor at the other end of the control channel, and the stores,
each behind one thread of its own because their calls block.

Called by `app`; the siblings `presence`, `overlays` and `steering` are duties.
"""

import asyncio
import logging
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Generic, Protocol, TypeVar

import msgspec

from turnout.errors import StoreError, UnavailableError
from turnout.stores import base, catalog, control
from turnout.transport import control as channel

logger = logging.getLogger("turnout.controlplane")

ASK_S = 5.0
"""How long the supervisor may take to answer what it knows without asking its workers."""

LONGEST_PAUSE_S = 5.0
"""Between failing rounds of a duty, whose pauses double."""

T = TypeVar("T")
S = TypeVar("S", base.EventStore, control.ControlStore)


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """What the control plane is told, and its times."""

    state: Path
    """The state folder."""
    store: str = ""
    """The store's URL, the recorder's; "" is SQLite in the state folder."""
    document: str = "turnout.yaml"
    """The document's path, to ask git who wrote it."""
    stage: str = ""
    """The stage that is laid over the document."""
    author: str = ""
    """Who is written down in the history; "" asks git, then the owner of the file."""
    announce_s: float = 2.0
    """Between two announcements of this server; after `stores.control.GONE_S` without one it counts as gone."""
    poll_s: float = 0.2
    """Between two looks for a new overlay; part of the second within which all replicas follow."""


class Duty(Protocol):
    """Something the control plane does again and again.

    Attributes:
        interval_s: Pause between rounds.
        wake: Set it to have the next round now.
    """

    name: str
    interval_s: float
    wake: asyncio.Event

    async def run(self) -> None:
        """One round."""

    async def close(self) -> None:
        """The last word, when the process ends on purpose."""


class Store(Generic[S]):
    """A store that is opened when it is needed first, and anew after it failed; one call at a time, in a thread."""

    def __init__(self, open_store: Callable[[], S], name: str) -> None:
        self._open: Callable[[], S] = open_store
        self._thread = ThreadPoolExecutor(1, thread_name_prefix=name)
        self._opened: S | None = None

    async def call(self, do: Callable[[S], T]) -> T:
        """Run `do` with the store.

        Raises:
            StoreError: It does not work now.
        """
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._call, do)

    def _call(self, do: Callable[[S], T]) -> T:
        if self._opened is None:
            self._opened = self._open()
        try:
            return do(self._opened)
        except control.StoreConflictError:
            raise
        except StoreError:
            self._shut()  # whatever stands in its place at the next try is opened anew
            raise

    def _shut(self) -> None:
        store, self._opened = self._opened, None
        if store is not None:
            store.close()

    async def close(self) -> None:
        """Release it; waits for the call that runs."""
        await asyncio.get_running_loop().run_in_executor(self._thread, self._shut)
        self._thread.shutdown(wait=True)


class Context:
    """What duties share.

    Attributes:
        control: The fleet's state.
        events: The events, to read.
        tallies: How each duty goes, by name.
        replicas: The fleet as seen last, and `seen_at` when.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        open_control: Callable[[str], control.ControlStore] = catalog.open_control,
        open_events: Callable[[str], base.EventStore] = catalog.open_store,
        clock: Callable[[], float] = time.time,
    ) -> None:
        url = settings.store or catalog.default_url(settings.state)
        self.settings = settings
        self.clock = clock
        self.control: Store[control.ControlStore] = Store(lambda: open_control(url), "control-store")
        self.events: Store[base.EventStore] = Store(lambda: open_events(url), "event-store")
        self.tallies: dict[str, control.Duty] = {}
        self.replicas: tuple[control.Replica, ...] = ()
        self.seen_at = 0.0
        self.channel: channel.Channel | None = None

    async def ask(self, message: channel.Message, timeout_s: float = ASK_S) -> channel.Message:
        """Ask the supervisor.

        Raises:
            UnavailableError, DeadlineError, OverloadError: It does not answer.
        """
        if self.channel is None:
            raise UnavailableError("the supervisor is not connected.")
        return await self.channel.request(message, timeout_s)

    def publish(self) -> None:
        """Tell the supervisor what is known of the fleet, and how the duties go."""
        if self.channel is not None and self.channel.open:
            view = control.View(replicas=self.replicas, at=self.seen_at, duties=self.tallies)
            self.channel.send(channel.FleetView(payload=msgspec.json.encode(view)))

    async def close(self) -> None:
        """Release the stores."""
        await self.control.close()
        await self.events.close()


async def keep(duty: Duty, context: Context) -> None:
    """Do a duty for ever; ended by cancelling."""
    failures = 0
    while True:
        duty.wake.clear()
        error = await _round(duty)
        known = context.tallies.get(duty.name, control.Duty())
        context.tallies[duty.name] = control.Duty(
            rounds=known.rounds + 1, failures=known.failures + bool(error), error=error
        )
        if error != known.error:
            context.publish()
        if error and not failures:
            logger.warning("%s failed and is tried again: %s", duty.name, error)
        elif failures and not error:
            logger.warning("%s works again", duty.name)
        failures = failures + 1 if error else 0
        pause_s = min(duty.interval_s * 2.0 ** min(failures, 10), max(duty.interval_s, LONGEST_PAUSE_S))
        try:
            await asyncio.wait_for(duty.wake.wait(), pause_s)
        except TimeoutError:
            continue


async def _round(duty: Duty) -> str:
    """One round; what went wrong, or ""."""
    try:
        await duty.run()
    except StoreError as error:
        return str(error)
    except Exception as error:  # a border: one duty's fault must not end the others
        if not isinstance(error, UnavailableError):
            logger.exception("%s failed", duty.name)
        return f"{type(error).__name__}: {error}"
    return ""
