"""The logs that a command reads: which store they are in, and what still waits to be shipped there."""

import os
from typing import Final

import click

from turnout.cli import places
from turnout.errors import StoreError
from turnout.recorder import app as recorder
from turnout.stores import base, catalog

option: Final = click.option(
    "--store", "--events", "store", metavar="URL", help="Event store.  [SQLite in the state folder]"
)


def url(place: places.Place, given: str | None) -> str:
    """The event store: as the option says, else the environment, else the state folder's."""
    return given or os.environ.get("TURNOUT_STORE", "") or own_url(place)


def own_url(place: places.Place) -> str:
    """The store in the state folder."""
    return catalog.default_url(place.state)


def bring(place: places.Place, store_url: str) -> None:
    """Ship what still waits in the state folder to a database that is written to; sealed Parquet is not.

    Raises:
        StoreError: Nothing was recorded yet, or the store takes nothing.
    """
    scheme = store_url.partition(":")[0]
    if scheme == "parquet":
        return
    if place.state.exists():
        recorder.ship_once(place.state, store_url)
    elif store_url == own_url(place):
        raise StoreError(
            f"nothing was recorded yet: there is no state folder {place.state}.",
            hint="Start the server and send requests, or say where its state is: --state DIR.",
        )


def open_all(place: places.Place, store_url: str) -> base.EventStore:
    """The store, read-only, with everything that was logged up to now; the caller closes it.

    Raises:
        StoreError: As `bring`, or it cannot be opened.
    """
    bring(place, store_url)
    return catalog.open_store(store_url, read_only=True)
