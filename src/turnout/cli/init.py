"""`turnout init`: writes a project that runs. The templates lie beside this module, as they are written."""

from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path

import click

from turnout.cli import exits
from turnout.errors import ConflictError

TEMPLATES = {
    "hello": "one Python model, one pipeline, one endpoint",
    "ab": "two pipelines behind one endpoint, and an experiment on them",
}


@click.command(short_help="Write a project that runs: a document, a model, a request.")
@click.argument("folder", required=False, default=".", type=click.Path(file_okay=False, path_type=Path))
@click.option(
    "-t",
    "--template",
    type=click.Choice(list(TEMPLATES)),
    default="hello",
    show_default=True,
    help="; ".join(f"{name}: {text}" for name, text in TEMPLATES.items()) + ".",
)
@click.option("--force", is_flag=True, help="Overwrite files that are there.")
def command(folder: Path, template: str, force: bool) -> int:
    """Write a project that runs into FOLDER (default: here).

    A document, the Python code it names, one request that works, and a README that says what to do.
    """
    files = contents(template)
    there = [name for name in files if (folder / name).exists()]
    if there and not force:
        raise ConflictError(
            f"{folder} already has {', '.join(there)}.", hint="Choose an empty folder, or overwrite them with --force."
        )
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in files.items():
            (folder / name).write_text(text, encoding="utf-8")
    except OSError as error:
        raise ConflictError(f"{folder} cannot be written: {error.strerror}.", hint="Choose another folder.") from error
    click.echo(f"wrote {', '.join(files)}" + ("" if folder == Path() else f" into {folder}"))
    click.echo("next:")
    if folder != Path():
        click.echo(f"  cd {folder}")
    click.echo("  turnout check\n  turnout serve\n  turnout call judge --data @request.json    # in a second terminal")
    return exits.OK


def contents(template: str) -> dict[str, str]:
    """The template's files: name to text, the document first."""
    root: Traversable = resources.files("turnout.cli").joinpath("templates", template)
    found = {item.name: item.read_text(encoding="utf-8") for item in root.iterdir() if item.is_file()}
    return dict(sorted(found.items(), key=lambda item: (item[0] != "turnout.yaml", item[0])))
