"""`turnout serve`: options to settings, a model file to the document it implies, then the supervisor takes over."""

import os
import time
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import click

from turnout.cli import implied
from turnout.errors import SpecError
from turnout.spec import units
from turnout.supervisor import app as supervisor
from turnout.supervisor import settings as supervisor_settings


class Quantity(click.ParamType[float]):
    """A duration or size with its unit, such as 30s or 16MiB."""

    def __init__(self, name: str) -> None:
        self.name = name

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        if not isinstance(value, str):
            return float(value)
        try:
            return units.duration(value) if self.name == "duration" else units.size(value)
        except SpecError as error:
            self.fail(str(error), param, ctx)


DURATION, SIZE = Quantity("duration"), Quantity("size")


EPILOG = "\b\nVariables, in the unit their name ends with; an option wins:\n" + "\n".join(
    f"  {supervisor_settings.PREFIX}{field.name.upper()}" for field in fields(supervisor_settings.Settings)
)


@click.command(short_help="Serve a document, or a model file as it is.", epilog=EPILOG)
@click.argument("document", required=False, metavar="[DOCUMENT | MODEL_FILE]")
@click.option("--host", "listen_host", metavar="ADDRESS", help="Address to listen on.  [127.0.0.1]")
@click.option(
    "--port", "listen_port", type=click.IntRange(0, 65_535), metavar="N", help="TCP port; 0 takes a free one.  [8000]"
)
@click.option("-w", "--workers", type=click.IntRange(1, 256), metavar="N", help="Worker processes on the port.  [1]")
@click.option("--stage", metavar="S", help="Lay turnout.S.yaml over the document.")
@click.option("--state", metavar="DIR", help="Folder for events and the like.  [.turnout beside the document]")
@click.option("--store", metavar="URL", help="Event store, such as postgresql://...  [SQLite in the state folder]")
@click.option("--parquet", metavar="DIR", help="Also seal events into Parquet files there, hour by hour.")
@click.option("--last-good", metavar="DIR", help="If the document is bad at the start, serve the last accepted one.")
@click.option("--secrets", metavar="DIR", help="Folder whose files `secret:NAME` reads.")
@click.option("--reload", is_flag=True, default=None, help="Replace the workers when a Python file is saved.")
@click.option("--allow-explain", "explain", is_flag=True, default=None, help="Let callers ask for the trace: ?explain.")
@click.option("--max-body", "body_bytes", type=SIZE, metavar="SIZE", help="Largest request body.  [16MiB]")
@click.option("--max-header", "header_bytes", type=SIZE, metavar="SIZE", help="Largest request head.  [32KiB]")
@click.option(
    "--max-connections", "connections", type=click.IntRange(1), metavar="N", help="Connections per worker.  [4096]"
)
@click.option("--idle", "idle_s", type=DURATION, metavar="TIME", help="Close a connection idle for so long.  [75s]")
@click.option("--linger", "linger_s", type=DURATION, metavar="TIME", help="At the end, keep idle connections.  [500ms]")
@click.option("--drain", "drain_s", type=DURATION, metavar="TIME", help="At the end, wait for replies.  [30s]")
@click.option("--notice", "notice_s", type=DURATION, metavar="TIME", help="At the end, first be unready.  [0s]")
@click.option("--prepare", "prepare_s", type=DURATION, metavar="TIME", help="Longest load of a document.  [5m]")
def command(**options: Any) -> int:
    """Serve DOCUMENT (default turnout.yaml), or MODEL_FILE without any YAML.

    The document is followed while it serves: a change that passes all checks comes into force
    on all workers at once, a bad one leaves the old one in force. Ctrl-C or SIGTERM answers what
    is accepted and stops; SIGHUP replaces the workers one by one.
    """
    started = time.time()
    try:
        given = supervisor_settings.from_environment(os.environ)
    except SpecError as error:
        raise click.UsageError(str(error)) from error
    given |= {name: value for name, value in options.items() if value is not None}
    for name in ("body_bytes", "header_bytes"):
        if name in given:
            given[name] = int(given[name])
    settings = supervisor_settings.Settings(**given)
    path = Path(settings.document)
    if implied.is_model(path):
        settings = _of_model(settings, path)
    return supervisor.run(settings, started=started)


def _of_model(settings: supervisor_settings.Settings, model: Path) -> supervisor_settings.Settings:
    """Write the document that a model file implies into the state folder, show it, and serve it."""
    text = implied.document(model)
    settings = supervisor.complete(replace(settings, directory=settings.directory or str(model.parent)))
    place = Path(settings.state) / "implied" / "turnout.yaml"
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_text(text)
    click.echo(f"{model} implies this document; save it as {model.parent / 'turnout.yaml'} to go on from here:\n")
    click.echo("\n".join(f"    {line}" for line in text.splitlines()) + "\n")
    return replace(settings, document=str(place))
