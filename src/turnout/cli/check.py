"""`turnout check`: everything that can be wrong with a document, at once."""

import asyncio
import contextlib
import os
from collections.abc import Mapping, Sequence
from typing import Any

import click

from turnout.assembly import admission
from turnout.cli import documents, exits, outside, places, screen, sides, status
from turnout.errors import SpecError


@click.command(short_help="Check a document, all stages, and name every error with its line.")
@click.argument("document", required=False)
@click.option("--json", "as_json", is_flag=True, help="For machines: errors and warnings as lists.")
@click.option("--no-code", is_flag=True, help="Leave code and models aside; check the text and the files it names.")
@click.option("--secrets", "secrets_folder", metavar="DIR", help="Folder whose files `secret:NAME` reads.")
@click.option("--only", multiple=True, metavar="SECTION", help="Refuse any change outside of it; may be repeated.")
@click.option("--against", default="git:HEAD", show_default=True, metavar="OLD", help="What --only compares with.")
def command(
    document: str | None,
    as_json: bool,
    no_code: bool,
    secrets_folder: str | None,
    only: tuple[str, ...],
    against: str,
) -> int:
    """Check DOCUMENT (default turnout.yaml), without a stage and with each of its stages.

    Imports the code it names and loads its models, as the server would, but serves nothing.
    Exit status 1 with every error found, 0 without. With --only experiments, a change of anything
    else (other sections, artifacts, code beside the document) is an error, too.
    """
    sections = outside.known(only)
    place = places.existing(places.find(document, None))
    directory = str(place.directory)
    documents.make_importable(place.directory)
    verdicts = asyncio.run(
        admission.check(
            documents.read(place.document),
            directory=directory,
            environment=os.environ,
            read_secret=documents.secrets(secrets_folder),
            load=not no_code,
        )
    )
    errors = distinct({verdict.stage: verdict.errors for verdict in verdicts})
    if sections:
        errors += distinct(dict.fromkeys([verdict.stage for verdict in verdicts], _outside(place, against, sections)))
    warnings = distinct({verdict.stage: verdict.warnings for verdict in verdicts})
    if as_json:
        stages = {verdict.stage: {"revision": verdict.revision or None} for verdict in verdicts}
        found = {"document": str(place.document), "stages": stages, "errors": errors, "warnings": warnings}
        screen.print_json(found)
    else:
        _tell(place, verdicts, errors, warnings)
        if sections and not errors:
            click.echo(f"against {against}, nothing changed outside of {' and '.join(sections)}")
    return exits.WRONG if errors else exits.OK


def _outside(place: places.Place, against: str, sections: Sequence[str]) -> list[SpecError]:
    """What changed elsewhere."""
    with contextlib.ExitStack() as stack:
        now = str(place.document)
        before, after = (stack.enter_context(sides.opened(*pair)) for pair in ((against, now), (now, against)))
        return outside.changes(before, after, sections)


def _tell(
    place: places.Place,
    verdicts: Sequence[admission.Verdict],
    errors: Sequence[dict[str, Any]],
    warnings: Sequence[dict[str, Any]],
) -> None:
    for kind, found, colour in (("error", errors, "red"), ("warning", warnings, "yellow")):
        for entry in found:
            only = "" if len(entry["stages"]) == len(verdicts) else _where(entry["stages"])
            click.secho(f"{kind}: {status.one_line(entry)}{only}", fg=colour, err=kind == "error")
    if errors:
        click.echo(f"{place.document}: {len(errors)} error{'s' if len(errors) != 1 else ''}", err=True)
        return
    stages = [verdict.stage for verdict in verdicts if verdict.stage]
    also = f", also with stage {', '.join(stages)}" if stages else ""
    names = ", ".join(verdicts[0].endpoints) or "no endpoint"
    click.echo(f"{place.document} is right{also}: serves {names}; revision {verdicts[0].revision[:12]}")


def distinct(found: Mapping[str, Sequence[SpecError]]) -> list[dict[str, Any]]:
    """Each error once, with the stages it appears in ("" is the document without one)."""
    seen: dict[tuple[str, int, str, str], dict[str, Any]] = {}
    for stage, errors in found.items():
        for error in errors:
            entry = seen.setdefault(
                (error.file, error.line, error.path, error.message),
                {
                    "file": error.file,
                    "line": error.line,
                    "path": error.path,
                    "message": error.message,
                    "hint": error.hint,
                    "stages": [],
                },
            )
            entry["stages"].append(stage)
    return list(seen.values())


def _where(stages: Sequence[str]) -> str:
    return f" (in {', '.join(f'stage {stage}' if stage else 'the document without a stage' for stage in stages)})"
