"""`turnout schema`: the JSON Schema of documents."""

import click
import msgspec

from turnout.spec import schema


@click.command(short_help="Print the JSON Schema of documents, for editors.")
def command() -> None:
    """Print the JSON Schema of documents.

    Save it and point an editor at it: the YAML extension of VS Code and others read a first line like
    `# yaml-language-server: $schema=turnout.schema.json`.
    """
    click.echo(msgspec.json.format(msgspec.json.encode(schema.json_schema()), indent=2).decode())
