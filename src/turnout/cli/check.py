"""`turnout check`: everything that can be wrong with a document, at once."""

import asyncio
import os
from typing import Any

import click

from turnout import telemetry
from turnout.assembly import building, code, pool
from turnout.cli import documents, exits, places, screen, status
from turnout.errors import DocumentError, SpecError
from turnout.sources import artifacts
from turnout.spec import snapshot


@click.command(short_help="Check a document, all stages, and name every error with its line.")
@click.argument("document", required=False)
@click.option("--json", "as_json", is_flag=True, help="For machines: errors and warnings as a list.")
@click.option("--no-code", is_flag=True, help="Leave code and models aside; check the text only.")
@click.option("--secrets", "secrets_folder", metavar="DIR", help="Folder whose files `secret:NAME` reads.")
def command(document: str | None, as_json: bool, no_code: bool, secrets_folder: str | None) -> int:
    """Check DOCUMENT (default turnout.yaml), without a stage and with each of its stages.

    Imports the code it names and loads its models, as the server would, but serves nothing.
    Exit status 1 with every error found, 0 without.
    """
    place = places.existing(places.find(document, None))
    files = documents.read(place.document)
    documents.make_importable(place.directory)
    results = snapshot.admit_stages(
        files,
        environment=os.environ,
        read_secret=documents.secrets(secrets_folder),
        digests=artifacts.digest_under(str(place.directory)),
        directory=str(place.directory),
    )
    if not no_code:
        results = asyncio.run(_with_code(results))
    return _tell(place, results, as_json=as_json)


async def _with_code(
    results: dict[str, snapshot.Snapshot | DocumentError],
) -> dict[str, snapshot.Snapshot | DocumentError]:
    """Build what is right so far, stage by stage, and keep nothing of it."""
    user_code, loaded = code.Code(), pool.Pool()
    checked: dict[str, snapshot.Snapshot | DocumentError] = {}
    for stage, result in results.items():
        checked[stage] = result
        if isinstance(result, DocumentError):
            continue
        try:
            built = await building.build(result, user_code=user_code, loaded=loaded, registry=telemetry.Registry())
            await building.release(built, loaded)
        except DocumentError as error:
            checked[stage] = error
    await loaded.close()
    return checked


def _tell(place: places.Place, results: dict[str, snapshot.Snapshot | DocumentError], *, as_json: bool) -> int:
    errors = _distinct({stage: _errors(result) for stage, result in results.items()})
    warnings = _distinct({stage: _warnings(result) for stage, result in results.items()})
    if as_json:
        screen.print_json(
            {
                "document": str(place.document),
                "stages": [stage for stage in results if stage],
                "revisions": {
                    stage: result.revision for stage, result in results.items() if isinstance(result, snapshot.Snapshot)
                },
                "errors": errors,
                "warnings": warnings,
            }
        )
        return exits.WRONG if errors else exits.OK
    for kind, found, colour in (("error", errors, "red"), ("warning", warnings, "yellow")):
        for entry in found:
            only = "" if len(entry["stages"]) == len(results) else _stages(entry["stages"])
            click.secho(f"{kind}: {status.one_line(entry)}{only}", fg=colour, err=kind == "error")
    if errors:
        count = len(errors)
        click.echo(f"{place.document}: {count} error{'s' if count != 1 else ''}", err=True)
        return exits.WRONG
    _summary(place, results)
    return exits.OK


def _summary(place: places.Place, results: dict[str, snapshot.Snapshot | DocumentError]) -> None:
    first = results[""]
    assert isinstance(first, snapshot.Snapshot)
    content = first.document
    parts = (("model", content.models), ("pipeline", content.pipelines), ("endpoint", content.endpoints))
    counted = [f"{len(named)} {word}{'s' if len(named) != 1 else ''}" for word, named in parts]
    if content.experiments:
        counted.append(f"{len(content.experiments)} experiment{'s' if len(content.experiments) != 1 else ''}")
    stages = [stage for stage in results if stage]
    also = f", stages {', '.join(stages)}" if stages else ""
    click.echo(f"{place.document} is right: {', '.join(counted)}{also}; revision {first.short}")


def _errors(result: snapshot.Snapshot | DocumentError) -> tuple[SpecError, ...]:
    return result.errors if isinstance(result, DocumentError) else ()


def _warnings(result: snapshot.Snapshot | DocumentError) -> tuple[SpecError, ...]:
    return result.warnings if isinstance(result, snapshot.Snapshot) else ()


def _distinct(found: dict[str, tuple[SpecError, ...]]) -> list[dict[str, Any]]:
    """Each error once, with the stages it appears in ("" is the document without one)."""
    seen: dict[tuple[str, int, str, str], dict[str, Any]] = {}
    for stage, errors in found.items():
        for error in errors:
            key = (error.file, error.line, error.path, error.message)
            entry = seen.setdefault(
                key,
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


def _stages(stages: list[str]) -> str:
    return f" (in {', '.join(f'stage {stage}' if stage else 'the document without a stage' for stage in stages)})"
