"""`turnout report`: ships what still waits, reads the store, and says what to do about each experiment."""

import time
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import click
from msgspec import Struct
from rich import console

from turnout import telemetry
from turnout.cli import (
    documents,
    exits,
    logs,
    places,
    remote,
    report_html,
    report_known,
    report_markdown,
    report_text,
    screen,
)
from turnout.errors import InputError, NotFoundError
from turnout.reports import experiment as experiments
from turnout.reports import tables
from turnout.spec import snapshot

STATUS: Final[dict[tables.Advice, int]] = {"ship": exits.OK, "keep going": 3, "stop": 4, "broken": 5}
"""Exit statuses with --exit-code; of several experiments the highest."""

EPILOG = """\b
Exit status:
  0  reported; with --exit-code: ship
  1  could not be reported
  with --exit-code: 3 keep going, 4 stop, 5 broken; of several experiments the highest
"""


class Asked(Struct, frozen=True, kw_only=True):
    """What to report on.

    Attributes:
        names: Experiments; empty for all of the document.
        as_of: Seconds since the epoch; None for now.
        file: Where to write the page; None for none.
    """

    names: Sequence[str]
    url: str
    phase: str
    as_of: float | None
    file: Path | None
    as_json: bool
    as_markdown: bool


@click.command(short_help="What an experiment says: ship, stop, keep going, or broken.", epilog=EPILOG)
@click.argument("experiments", nargs=-1, metavar="[EXPERIMENT]...")
@click.option("--phase", default="", metavar="DIGEST", help="An earlier phase; default the document's own.")
@click.option("--as-of", metavar="TIME", help="As it was then: 2026-11-22, 2026-11-22T15:00, or epoch seconds; UTC.")
@logs.option
@click.option("--html", type=click.Path(dir_okay=False, path_type=Path), metavar="FILE", help="Write one page to FILE.")
@click.option("--markdown", "as_markdown", is_flag=True, help="For a comment on a pull request.")
@click.option("--json", "as_json", is_flag=True, help="For machines: one report, or a list unless one is named.")
@click.option("--watch", type=click.FloatRange(0.2, 3600.0), metavar="SECONDS", help="Show it again and again.")
@click.option("--exit-code", is_flag=True, help="Let the exit status tell the verdict.")
@documents.secrets_option
@places.near
def command(  # noqa: PLR0913  # click hands over every option
    experiments: Sequence[str],
    phase: str,
    as_of: str | None,
    store: str | None,
    html: Path | None,
    as_markdown: bool,
    as_json: bool,
    watch: float | None,
    exit_code: bool,
    secrets_folder: str | None,
    document: str | None,
    state: str | None,
    stage: str,
) -> int:
    """Say what each EXPERIMENT (default: all) tells: ship, stop, keep going, or broken; and why.

    Works with and without a running server: events that still wait in the state folder are shipped first.
    The store is SQLite, PostgreSQL, or sealed Parquet (--events parquet:FOLDER).
    """
    place = places.find(document, state, stage)
    asked = Asked(
        names=experiments,
        url=logs.url(place, store),
        phase=phase,
        as_of=None if as_of is None else moment(as_of),
        file=html,
        as_json=as_json,
        as_markdown=as_markdown,
    )
    admitted = documents.in_force(place, secrets_folder=secrets_folder)
    out = screen.open_console()
    while True:
        made = reports(place, admitted, asked)
        if watch is not None and out.is_terminal:
            out.clear()
        show(out, made, asked)
        if watch is None:
            return max(STATUS[each.verdict.advice] for each in made if each.verdict) if exit_code else exits.OK
        time.sleep(watch)
        admitted = documents.in_force(place, secrets_folder=secrets_folder)


def show(out: console.Console, made: Sequence[tables.Report], asked: Asked) -> None:
    """Print the reports in the form asked for, and write the page if one is wanted."""
    if asked.file is not None:
        asked.file.write_text(report_html.page(made), encoding="utf-8")
    if asked.as_json:
        screen.print_json(made[0] if len(asked.names) == 1 else made)
    elif asked.as_markdown:
        click.echo("\n".join(report_markdown.text(each) for each in made))
    else:
        for each in made:
            report_text.show(out, each)
        if asked.file is not None:
            out.print(f"the page is in {asked.file}")


def moment(text: str) -> float:
    """Seconds since the epoch; a time without zone is UTC.

    Raises:
        InputError: It is no time.

    >>> moment("1970-01-02"), moment("1970-01-01T01:00"), moment("12.5")
    (86400.0, 3600.0, 12.5)
    """
    try:
        return float(text)
    except ValueError:
        pass
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        hint = "Write 2026-11-22, 2026-11-22T15:00, 2026-11-22T15:00+09:00, or seconds since the epoch."
        raise InputError(f"{text!r} is no time.", hint=hint) from None
    return (found if found.tzinfo is not None else found.replace(tzinfo=UTC)).timestamp()


def dropped(place: places.Place) -> dict[str, int]:
    """Events that the running server could not keep, by type and variant; empty if none, or if no server runs."""
    found: Counter[str] = Counter()
    for name, labels, count in remote.counted(place) or ():
        if name == telemetry.EVENTS_DROPPED:
            found[f"{labels['type']} {labels['variant']}".strip()] += int(count)
    return {name: count for name, count in found.items() if count}


def reports(place: places.Place, admitted: snapshot.Snapshot, asked: Asked) -> list[tables.Report]:
    """The reports asked for.

    Raises:
        NotFoundError: No such experiment, or the document has none.
        StoreError: The store cannot be read.
    """
    names = list(asked.names) or list(admitted.document.experiments)
    if not names:
        raise NotFoundError(
            "the document has no experiment.", hint="`turnout init --template ab` writes one to look at."
        )
    for name in names:
        experiments.find(admitted.document, name)
    opened = logs.open_all(place, asked.url)
    try:
        lost, records = dropped(place), report_known.revisions(asked.url)
        asked_for = time.time() if asked.as_of is None else asked.as_of
        now = min(asked_for, opened.known_until or asked_for)  # sealed events end at the last seal
        return [
            experiments.report(
                opened,
                admitted,
                name,
                now=now,
                phase=asked.phase,
                known=experiments.Known(dropped=lost, versions=report_known.versions(records, name)),
            )
            for name in names
        ]
    finally:
        opened.close()
