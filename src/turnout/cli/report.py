"""`turnout report`: ships what still waits, reads the store, shows how the variants compare."""

import os
import re
import time
from collections import Counter

import click

from turnout import telemetry
from turnout.cli import documents, exits, places, remote, report_text, screen
from turnout.errors import NotFoundError, StoreError, UnavailableError
from turnout.recorder import app as recorder
from turnout.reports import experiment as experiments
from turnout.reports import tables
from turnout.spec import snapshot
from turnout.stores import catalog


@click.command(short_help="How the variants of an experiment compare.")
@click.argument("experiment", required=False)
@click.option("--phase", default="", metavar="DIGEST", help="An earlier phase; default the document's own.")
@click.option("--store", metavar="URL", help="Event store.  [SQLite in the state folder]")
@click.option("--watch", type=click.FloatRange(0.2, 3600.0), metavar="SECONDS", help="Show it again and again.")
@click.option("--json", "as_json", is_flag=True, help="For machines: one report, or a list without EXPERIMENT.")
@click.option("--secrets", "secrets_folder", metavar="DIR", help="Folder whose files `secret:NAME` reads.")
@places.near
def command(  # noqa: PLR0913  # click hands over every option
    experiment: str | None,
    phase: str,
    store: str | None,
    watch: float | None,
    as_json: bool,
    secrets_folder: str | None,
    document: str | None,
    state: str | None,
    stage: str,
) -> int:
    """How the variants of EXPERIMENT (default: all) compare: units, rates, differences, sample ratio.

    Works with and without a running server: events that still wait in the state folder are shipped first.
    """
    place = places.find(document, state, stage)
    url = store or os.environ.get("TURNOUT_STORE", "") or recorder.default_store(place.state)
    admitted = documents.in_force(place, secrets_folder=secrets_folder)
    out = screen.open_console()
    while True:
        made = reports(place, admitted, url, experiment, phase)
        if watch is not None and out.is_terminal:
            out.clear()
        if as_json:
            screen.print_json(made[0] if experiment else made)
        else:
            for each in made:
                report_text.show(out, each)
        if watch is None:
            return exits.OK
        time.sleep(watch)
        admitted = documents.in_force(place, secrets_folder=secrets_folder)


DROPPED = re.compile(rf'^{telemetry.EVENTS_DROPPED}{{type="([^"]*)",variant="([^"]*)".*}} ([0-9.e+]+)$', re.MULTILINE)


def dropped(place: places.Place) -> dict[str, int]:
    """Events that the running server could not keep, by type and variant; empty if none, or if no server runs."""
    server = place.running()
    if server is None:
        return {}
    try:
        text = remote.ask(server.url, "/metrics", timeout_s=5.0).body.decode()
    except UnavailableError:
        return {}
    found: Counter[str] = Counter()
    for kind, variant, count in DROPPED.findall(text):
        found[f"{kind} {variant}".strip()] += int(float(count))
    return {name: count for name, count in found.items() if count}


def reports(
    place: places.Place, admitted: snapshot.Snapshot, url: str, experiment: str | None, phase: str
) -> list[tables.Report]:
    """The reports asked for.

    Raises:
        NotFoundError: No such experiment, or the document has none.
        StoreError: The store cannot be read.
    """
    names = [experiment] if experiment else list(admitted.document.experiments)
    if not names:
        raise NotFoundError(
            "the document has no experiment.", hint="`turnout init --template ab` writes one to look at."
        )
    for name in names:
        experiments.find(admitted.document, name)
    if not place.state.exists() and not url.startswith("postgres"):
        raise StoreError(
            f"nothing was recorded yet: there is no state folder {place.state}.",
            hint="Start the server and send requests, or say where its state is: --state DIR.",
        )
    recorder.ship_once(place.state, url)
    opened = catalog.open_store(url, read_only=True)
    try:
        lost = dropped(place)
        now = time.time()
        return [experiments.report(opened, admitted, name, now=now, phase=phase, dropped=lost) for name in names]
    finally:
        opened.close()
