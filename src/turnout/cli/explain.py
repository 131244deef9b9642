"""`turnout explain`: which variant a unit gets, and why."""

import click

from turnout.cli import documents, exits, places, screen
from turnout.reports import explain


@click.command(short_help="Which variant a unit gets, and why.")
@click.argument("experiment")
@click.argument("unit", required=False)
@click.option("--json", "as_json", is_flag=True, help="For machines.")
@click.option("--secrets", "secrets_folder", metavar="DIR", help="Folder whose files `secret:NAME` reads.")
@places.near
def command(
    experiment: str,
    unit: str | None,
    as_json: bool,
    secrets_folder: str | None,
    document: str | None,
    state: str | None,
    stage: str,
) -> int:
    """Which variant of EXPERIMENT the unit UNIT gets, and why.

    It reads the document, so it needs no running server. Without UNIT: a request that carries none.
    """
    admitted = documents.in_force(places.find(document, state, stage), secrets_folder=secrets_folder)
    found = explain.explain(admitted, experiment, unit)
    if as_json:
        screen.print_json(found)
        return exits.OK
    who = found.unit or "no unit"
    click.echo(f"{who} -> {found.variant} (pipeline {found.pipeline}), reason {found.reason}")
    for sentence in found.words:
        click.echo(f"  {sentence}")
    if not found.analysed:
        click.echo("  Such requests are counted, and left out of the comparison.")
    click.echo(f"experiment {experiment} on endpoint {found.endpoint}, revision {found.revision}, phase {found.phase}")
    return exits.OK
