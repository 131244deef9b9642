"""`turnout shadow`: what a mirrored pipeline would have said, beside what callers got."""

import time
from collections import Counter
from collections.abc import Mapping
from typing import Final

import click
from rich import console, text

from turnout import telemetry
from turnout.cli import documents, exits, logs, places, remote, screen
from turnout.errors import NotFoundError
from turnout.reports import shadows, wording
from turnout.spec import units

COUNTED: Final = {
    telemetry.SHADOW_SENT: "sent",
    telemetry.SHADOW_DONE: "done",
    telemetry.SHADOW_FAILED: "failed",
    telemetry.SHADOW_DROPPED: "dropped",
}


NO_COPIES: Final = shadows.Copies()


@click.command(short_help="What shadows would have said, beside what callers got.")
@click.argument("names", nargs=-1, metavar="[NAME]...")
@click.option("--since", metavar="DURATION", help="Only the last so much, such as 1h.  [everything]")
@logs.option
@click.option("--json", "as_json", is_flag=True, help="For machines: one report, or a list unless one is named.")
@documents.secrets_option
@places.near
def command(  # noqa: PLR0913  # click hands over every option
    names: tuple[str, ...],
    since: str | None,
    store: str | None,
    as_json: bool,
    secrets_folder: str | None,
    document: str | None,
    state: str | None,
    stage: str,
) -> int:
    """Compare each shadow NAME (default: all) with the answers that callers got to the same requests.

    Agreement, differences of numbers, latency, failures, and what became of the copies.
    """
    place = places.find(document, state, stage)
    admitted = documents.in_force(place, secrets_folder=secrets_folder)
    wanted = names or tuple(admitted.document.shadows)
    if not wanted:
        hint = "Add shadows: {NAME: {endpoint: ENDPOINT, pipeline: PIPELINE}}."
        raise NotFoundError("the document has no shadow.", hint=hint)
    start = time.time() - units.duration(since) if since is not None else 0.0
    counted = copies(place)
    opened = logs.open_all(place, logs.url(place, store))
    try:
        made = [
            shadows.report(
                opened,
                admitted.document,
                name,
                since=start,
                copies=counted.get(name, NO_COPIES) if counted is not None else None,
            )
            for name in wanted
        ]
    finally:
        opened.close()
    if as_json:
        screen.print_json(made[0] if len(names) == 1 else made)
    else:
        out = screen.open_console()
        for each in made:
            show(out, each)
    return exits.OK


def copies(place: places.Place) -> Mapping[str, shadows.Copies] | None:
    """What the running server counted, by shadow; None when none runs."""
    samples = remote.counted(place)
    if samples is None:
        return None
    found: dict[str, Counter[str]] = {}
    for name, labels, count in samples:
        if name in COUNTED:
            found.setdefault(labels["shadow"], Counter())[COUNTED[name]] += int(count)
    return {name: shadows.Copies(**counts) for name, counts in found.items()}


def show(out: console.Console, made: shadows.ShadowReport) -> None:
    """Print one report."""
    what = f" (pipeline {made.pipeline})" if made.pipeline else ""
    share = f", {wording.percent(made.ratio, 0)} of the requests" if made.ratio is not None else ""
    title = f"{made.shadow}{what} beside {made.endpoint or 'an endpoint'}{share}"
    out.print(text.Text(title, style="bold"))
    if made.first_ts is not None:
        out.print(f"  {made.runs:,} copies, {screen.when(made.first_ts)} to {screen.when(made.last_ts)}")
    if made.agreement is not None and made.agreement_interval is not None:
        low, high = made.agreement_interval.low, made.agreement_interval.high
        between = f"{wording.percent(low)} to {wording.percent(high)}"
        of_all = f"{made.agreed:,} of {made.agreed + made.disagreed:,}"
        out.print(f"  same reply   {wording.percent(made.agreement)} ({of_all}; 95 % {between})")
    if made.differences:
        mean, most = (wording.value(number, "number") for number in (made.difference_mean, made.difference_max))
        out.print(f"  numbers      greatest difference in a reply: {mean} on average, {most} at most")
    failed = {status: count for status, count in made.statuses.items() if status != "ok"}
    if failed:
        told = ", ".join(f"{status} {count:,}" for status, count in failed.items())
        out.print(text.Text(f"  failed       {told}", style="yellow"))
    sides = (("callers", made.primary_latency_s), ("shadow", made.latency_s))
    quantiles = sorted(made.primary_latency_s)
    heads = ["latency", *(f">p{100 * quantile:g}" for quantile in quantiles)]
    rows = [[side, *(screen.milliseconds(times.get(quantile)) for quantile in quantiles)] for side, times in sides]
    if quantiles:
        screen.show_table(out, "", heads, rows)
    if made.copies is not None:
        counted = made.copies
        told = f"{counted.sent:,} sent, {counted.done:,} done, {counted.failed:,} failed, {counted.dropped:,} dropped"
        out.print(f"  since the server's start: {told}")
    for note in made.notes:
        out.print(text.Text(f"  note: {note}", style="yellow"))
    out.print()
