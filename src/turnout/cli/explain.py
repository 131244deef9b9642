"""`turnout explain`: which variant a unit gets, and why."""

import json

import click

from turnout.cli import documents, exits, places, screen
from turnout.reports import explain


def attribute(_ctx: click.Context, _parameter: click.Parameter, given: tuple[str, ...]) -> dict[str, object]:
    """Attributes from texts such as age=42: a value is JSON where it is a number, true or false, else text."""
    found: dict[str, object] = {}
    for text in given:
        name, equals, value = text.partition("=")
        if not equals or not name:
            raise click.BadParameter(f"{text!r} is not NAME=VALUE, such as country=KR.")
        found[name] = _value(value)
    return found


def _value(text: str) -> object:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return text
    return text if value is None or isinstance(value, dict) else value


@click.command(short_help="Which variant a unit gets, and why.")
@click.argument("experiment")
@click.argument("unit", required=False)
@click.option(
    "--attribute",
    "attributes",
    multiple=True,
    callback=attribute,
    metavar="NAME=VALUE",
    help="What targeting may know, such as country=KR; may be repeated.",
)
@click.option("--header", "external", metavar="VALUE", help="What the header says, with assign: external.")
@click.option("--request-id", default="", metavar="ID", help="Stands in for UNIT where the document says so.")
@click.option("--json", "as_json", is_flag=True, help="For machines.")
@documents.secrets_option
@places.near
def command(  # noqa: PLR0913  # click hands over every option
    experiment: str,
    unit: str | None,
    attributes: dict[str, object],
    external: str | None,
    request_id: str,
    as_json: bool,
    secrets_folder: str | None,
    document: str | None,
    state: str | None,
    stage: str,
) -> int:
    """Which variant of EXPERIMENT (or of a rollout) the unit UNIT gets, and why, step by step.

    It reads the document, so it needs no running server. Without UNIT: a request that carries none.
    """
    admitted = documents.in_force(places.find(document, state, stage), secrets_folder=secrets_folder)
    asked = explain.Asked(unit=unit, request_id=request_id, attributes=attributes, external=external)
    found = explain.explain(admitted, experiment, asked)
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
