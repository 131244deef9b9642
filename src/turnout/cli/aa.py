"""`turnout aa`: what a metric claims when there is nothing to find: logged units, given new variants at random."""

import sys
import time

import click
from rich import console, progress, text

from turnout.cli import documents, exits, logs, places, screen
from turnout.experiments import replay
from turnout.reports import replaying, wording

EPILOG = """\b
Exit status:
  0  every metric that could be replayed can be trusted
  1  one cannot, or it could not be done
"""

BAR = 40


@click.command(short_help="Whether a metric finds differences where there are none.", epilog=EPILOG)
@click.argument("experiment")
@click.option("--metric", default="", metavar="NAME", help="Only this one; `primary`, or its key.")
@click.option("--runs", type=click.IntRange(20, 100_000), default=1_000, show_default=True, help="Randomisations.")
@click.option("--looks", type=click.IntRange(1, 1_000), default=30, show_default=True, help="Looks in each run.")
@click.option("--units", type=click.IntRange(60, 10_000_000), default=100_000, show_default=True, help="Most to read.")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="The same seed, the same answer.")
@click.option("--phase", default="", metavar="DIGEST", help="Whose units; default the phase with most to say.")
@logs.option
@click.option("--json", "as_json", is_flag=True, help="For machines.")
@documents.secrets_option
@places.near
def command(  # noqa: PLR0913  # click hands over every option
    experiment: str,
    metric: str,
    runs: int,
    looks: int,
    units: int,
    seed: int,
    phase: str,
    store: str | None,
    as_json: bool,
    secrets_folder: str | None,
    document: str | None,
    state: str | None,
    stage: str,
) -> int:
    """Whether the metrics of EXPERIMENT find differences where there are none.

    Its logged units are given new variants at random, again and again, and what is found is counted: all of it false.

    Of a sound metric 5 % of the runs (alpha) find something at one look, at most 5 % at any of the looks with the
    always-valid interval, and the p-values are spread evenly. A metric that fails is not to be used.
    """
    place = places.find(document, state, stage)
    admitted = documents.in_force(place, secrets_folder=secrets_folder)
    wish = replaying.Wish(runs=runs, looks=looks, seed=seed, units=units, metric=metric, phase=phase)
    wanted = replaying.names(admitted, experiment, metric)
    opened = logs.open_all(place, logs.url(place, store))
    try:
        answers = replaying.run(opened, admitted, experiment, wish, now=time.time())
        told = console.Console(file=sys.stderr)
        quiet = as_json or not told.is_terminal
        found = list(progress.track(answers, description="replaying", total=len(wanted), console=told, disable=quiet))
    finally:
        opened.close()
    if as_json:
        screen.print_json(found)
    else:
        out = screen.open_console()
        for each in found:
            if each.replayed is not None:
                show(out, each, each.replayed)
        for each in found:
            if each.replayed is None:
                out.print(f"not replayed: {each.label}: {each.words}", style="yellow")
    return exits.WRONG if any(each.trusted is False for each in found) else exits.OK


def show(out: console.Console, answer: replaying.Answer, made: replay.Replayed) -> None:
    """Print one metric's answer."""
    out.print(text.Text(f"{answer.role}: {answer.label}", style="bold"))
    of_all = "" if made.units == answer.total else f" of {answer.total:,}"
    out.print(f"  {made.runs:,} runs over {made.units:,}{of_all} units; alpha {wording.percent(made.alpha)}")
    out.print(f"  found at one look   {_ratio(made.false_ratio, made.false_interval.low, made.false_interval.high)}")
    looks = f"found at any of {made.looks} looks, always-valid"
    out.print(f"  {looks}   {_ratio(made.any_look_ratio, made.any_look_interval.low, made.any_look_interval.high)}")
    out.print(f"  p-values even       Kolmogorov-Smirnov {wording.p_is(made.uniform_p)}")
    most = max(answer.histogram) or 1
    for at, count in enumerate(answer.histogram):
        low, high = at / len(answer.histogram), (at + 1) / len(answer.histogram)
        bar = "█" * round(BAR * count / most)
        out.print(f"    p {low:.1f} to {high:.1f}  {bar} {count}")
    out.print(text.Text(f"  {answer.words}.", style="green" if answer.trusted else "bold red"))
    out.print()


def _ratio(ratio: float, low: float, high: float) -> str:
    return f"{wording.percent(ratio)} of the runs ({wording.percent(low)} to {wording.percent(high)})"
