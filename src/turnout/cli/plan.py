"""`turnout plan`: units an experiment needs, effects it can find, days it takes; before it starts and while it runs."""

import time

import click
from rich import console

from turnout.cli import documents, exits, logs, places, screen
from turnout.errors import InputError, StoreError
from turnout.experiments import duration
from turnout.reports import planning, wording

HORIZONS = {"fixed": "fixed: one look, at the end", "always": "always-valid: any number of looks"}


@click.command(short_help="How many units an experiment needs, and how long that takes.")
@click.argument("experiment", required=False)
@click.option("--baseline", type=float, help="Control's metric; of a conversion a share such as 0.12.")
@click.option("--sd", type=float, help="Standard deviation of one unit's value.")
@click.option("--effect", metavar="NUMBER", help="Smallest effect that matters: 0.01, or 5% of the baseline.")
@click.option("--power", type=click.FloatRange(0, 1, min_open=True, max_open=True), help="To find it.  [0.8]")
@click.option("--alpha", type=click.FloatRange(0, 0.5, min_open=True, max_open=True), help="False positives.  [0.05]")
@click.option("--units-per-day", type=click.FloatRange(0, min_open=True), help="Instead of the logged flow.")
@click.option("--variants", type=click.IntRange(2, 64), default=2, help="Without EXPERIMENT.  [2]")
@click.option("--phase", default="", metavar="DIGEST", help="Logged phase to learn from.")
@logs.option
@click.option("--json", "as_json", is_flag=True, help="For machines.")
@documents.secrets_option
@places.near
def command(  # noqa: PLR0913  # click hands over every option
    experiment: str | None,
    baseline: float | None,
    sd: float | None,
    effect: str | None,
    power: float | None,
    alpha: float | None,
    units_per_day: float | None,
    variants: int,
    phase: str,
    store: str | None,
    as_json: bool,
    secrets_folder: str | None,
    document: str | None,
    state: str | None,
    stage: str,
) -> int:
    """Say how many units EXPERIMENT needs, what effects it can find, and how many days that takes.

    Spread and flow come from the logs of the real metric: of the experiment itself, else of another one on its
    endpoint. Without EXPERIMENT everything is given: --baseline 0.12 --effect 0.01 --units-per-day 5000.
    """
    absolute, relative = amount(effect)
    wish = planning.Wish(
        baseline=baseline,
        sd=sd,
        effect=absolute,
        relative=relative,
        alpha=alpha,
        power=power,
        units_per_day=units_per_day,
        variants=variants,
    )
    made = planning.given(wish) if experiment is None else None
    if made is None and experiment is not None:
        place = places.find(document, state, stage)
        made = logged(place, logs.url(place, store), experiment, wish, phase=phase, secrets_folder=secrets_folder)
    assert made is not None
    if as_json:
        screen.print_json(made)
    else:
        show(screen.open_console(), made)
    return exits.OK


def amount(text: str | None) -> tuple[float | None, float | None]:
    """An effect as (absolute, relative).

    Raises:
        InputError: It is no number.

    >>> amount("0.01"), amount("5%"), amount(None)
    ((0.01, None), (None, 0.05), (None, None))
    """
    if text is None:
        return None, None
    try:
        found = float(text.removesuffix("%"))
    except ValueError:
        found = 0.0
    if not found or found != found or abs(found) == float("inf"):
        raise InputError(f"{text!r} is no effect.", hint="Write 0.01, or 5% of the baseline; not 0.")
    return (None, found / 100) if text.endswith("%") else (found, None)


def logged(
    place: places.Place, url: str, experiment: str, wish: planning.Wish, *, phase: str, secrets_folder: str | None
) -> planning.Planned:
    """The plan of an experiment of the document, with what is logged; nothing need be."""
    admitted = documents.in_force(place, secrets_folder=secrets_folder)
    now = time.time()
    try:
        opened = logs.open_all(place, url)
    except StoreError:
        if url != logs.own_url(place):
            raise
        return planning.of(None, admitted, experiment, wish, now=now)
    try:
        return planning.of(opened, admitted, experiment, wish, now=now, phase=phase)
    finally:
        opened.close()


def show(out: console.Console, made: planning.Planned) -> None:
    """Print the plan."""
    if made.experiment:
        out.print(f"{made.experiment}", style="bold", end="")
        told = "nothing is logged yet"
        if made.phase:
            told = f"spread and flow from phase {made.phase} of {made.donor}, {len(made.curve)} full days"
        out.print(f": {made.variants} variants, {told}")
    for metric in made.metrics:
        if metric.role == "primary":
            _primary(out, made, metric)
    others = [metric for metric in made.metrics if metric.role != "primary"]
    rows: list[list[object]] = []
    for metric in others:
        needs = {need.horizon: need for need in metric.needs}
        rows.append(
            [
                f"{metric.role}: {metric.label}",
                wording.value(metric.spread.baseline, metric.scale) if metric.spread else None,
                wording.change(metric.target, metric.scale, sign=False),
                *(f"{needs[horizon].total:,}" if horizon in needs else None for horizon in planning.HORIZONS),
                *(_found(metric, horizon) for horizon in planning.HORIZONS),
                metric.words if metric.spread is None or metric.role == "guardrail" else None,
            ]
        )
    size = next((f"{reach.total:,}" for metric in others for reach in metric.reaches), "")
    heads = ["metric", ">baseline", ">effect or margin", ">units, fixed", ">units, always-valid"]
    heads += [f">{size} units find, fixed", ">always-valid", ""]
    screen.show_table(out, "the other metrics", heads, rows)


def _primary(out: console.Console, made: planning.Planned, metric: planning.MetricPlan) -> None:
    spread = metric.spread
    if spread is None:
        out.print(f"{metric.label}: {metric.words}")
        return
    source = f"from {spread.units:,} units" if spread.units else "as given"
    base = f"baseline {wording.value(spread.baseline, metric.scale)}, " if spread.baseline is not None else ""
    text = f"{metric.label}: {base}standard deviation {spread.variance**0.5:.4g}, {source}"
    if spread.reduction is not None:
        text = f"{text}; the covariate takes {wording.percent(spread.reduction)} of the variance away"
    out.print(text)
    if metric.needs:
        lift = f" ({wording.lift((metric.target or 0.0) / spread.baseline)})" if spread.baseline else ""
        found = wording.change(metric.target, metric.scale, sign=False)
        rows: list[list[object]] = [
            [HORIZONS[need.horizon], f"{need.per_variant:,}", f"{need.total:,}", days(need.runtime)]
            for need in metric.needs
        ]
        title = f"to find {found}{lift}: power {100 * made.power:g} %, alpha {100 * made.alpha:g} %"
        screen.show_table(out, title, ["horizon", ">units a variant", ">units in all", ">days"], rows)
    else:
        out.print(f"{metric.words}: no number of units follows; give --effect")
    rows = [
        [
            f"{reach.total:,}{' (planned)' if reach.total == made.planned_units else ''}",
            days(reach.runtime),
            _with_lift(reach.fixed, reach.fixed_lift, metric.scale),
            _with_lift(reach.always, reach.always_lift, metric.scale),
        ]
        for reach in metric.reaches
    ]
    heads = [">units in all", ">days", ">fixed", ">always-valid"]
    screen.show_table(out, "the smallest effect that so many units find", heads, rows)


def _found(metric: planning.MetricPlan, horizon: planning.Horizon) -> str | None:
    if not metric.reaches:
        return None
    reach = metric.reaches[0]
    return wording.change(reach.fixed if horizon == "fixed" else reach.always, metric.scale, sign=False)


def _with_lift(effect: float, lift: float | None, scale: wording.Scale) -> str:
    told = wording.change(effect, scale, sign=False)
    return told if lift is None else f"{told} ({wording.lift(lift)})"


def days(found: duration.Runtime | None) -> str:
    """How long, with the range where the curve had to be continued."""
    if found is None:
        return "-"
    if found.run_days is None:
        return "out of reach"
    if found.basis == "measured":
        return f"{found.run_days}"
    latest = "never" if found.latest is None else f"{found.latest:.0f}"
    return f"{found.run_days} ({found.earliest or 0.0:.0f} to {latest})"
