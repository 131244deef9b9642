"""`turnout diff`: what a change of the document does, before it is made."""

import contextlib
from collections.abc import Mapping
from concurrent import futures
from pathlib import Path

import click

from turnout.changes import comparison, logged, tables
from turnout.cli import (
    check,
    code_facts,
    diff_markdown,
    diff_text,
    diff_words,
    documents,
    exits,
    places,
    remote,
    screen,
    sides,
    status,
)
from turnout.errors import DocumentError, SpecError, StoreError
from turnout.experiments import phases
from turnout.spec import snapshot, stages
from turnout.stores import catalog as stores

EPILOG = """\b
Exit status:
  0  compatible: nothing happens, or callers do not notice
  3  the caller's contract breaks
  4  one of the documents is not valid
  1  it could not be done
  2  wrong usage
"""


@click.command(short_help="What a change of the document does, before it is made.", epilog=EPILOG)
@click.argument("old", default="git:HEAD")
@click.argument("new", default="")
@click.option("--stage", default="", metavar="S", help="With this stage laid over both.")
@click.option("--no-code", is_flag=True, help="Leave code aside: contracts and builds are not compared.")
@click.option("--events", metavar="URL", help="Event store, for exact counts of units.  [SQLite in NEW's state folder]")
@click.option("--status", "status_url", metavar="URL", help="A server that runs OLD, for memory as it is.")
@click.option("--json", "as_json", is_flag=True, help="For machines.")
@click.option("--markdown", is_flag=True, help="For a comment on a pull request.")
@click.option("--secrets", "secrets_folder", metavar="DIR", help="Folder whose files `secret:NAME` reads.")
def command(  # noqa: PLR0913  # click hands over every option
    old: str,
    new: str,
    stage: str,
    no_code: bool,
    events: str | None,
    status_url: str | None,
    as_json: bool,
    markdown: bool,
    secrets_folder: str | None,
) -> int:
    """What changes when OLD (default git:HEAD) becomes NEW (default turnout.yaml).

    Either is a document, a folder of *.yaml files, or one of both as git keeps it: git:REV or git:REV:PATH.
    It tells which units see something else, which phases end, which models load, and whether callers break.
    """
    with contextlib.ExitStack() as stack:
        before, after = (
            _Reading(stack.enter_context(sides.opened(each, other)), stage, secrets_folder)
            for each, other in ((old, new), (new, old))
        )
        invalid = [side for side in (before, after) if side.errors]
        if not invalid:
            with futures.ThreadPoolExecutor(2) as both:  # each waits for a process of its own
                list(both.map(lambda side: side.look(with_code=not no_code), (before, after)))
            if status_url:
                before.measure(status_url)
            invalid = [after] if after.errors else []
        if invalid:
            return _refused(invalid[0], as_json=as_json, markdown=markdown)
        seen = _logged(before, after, events or _store_beside(old, new))
        made = comparison.change(before.snapshot, after.snapshot, facts=(before.facts, after.facts), logged=seen)
        told = diff_words.Told(
            labels=(before.side.label, after.side.label),
            stage=stage,
            notes=tuple(_notes(before, after, stage, no_code)),
            change=made,
        )
    if as_json:
        screen.print_json(told)
    elif markdown:
        click.echo(diff_markdown.markdown(told))
    else:
        diff_text.show(screen.open_console(), told)
    return exits.BREAKS if made.breaks else exits.OK


class _Reading:
    """One side, read: its snapshot or its errors, and what was found out about it."""

    def __init__(self, side: sides.Side, stage: str, secrets_folder: str | None) -> None:
        self.side, self.stage, self.secrets_folder = side, stage, secrets_folder
        self.errors: list[SpecError] = []
        self.notes = list(side.notes)
        self.facts = tables.Facts()
        self.snapshot = comparison.NOTHING
        if not side.files:
            self.notes.append(f"{side.label}: compared with an empty document.")
            return
        laid = stage if stage in stages.stages(side.files) else ""
        if laid != stage:
            self.notes.append(f"{side.label} has no stage {stage!r}.")
            self.stage = ""
        try:
            self.snapshot = documents.admitted(
                side.files,
                directory=side.directory,
                stage=laid,
                secrets_folder=secrets_folder,
                digests=sides.digest_under(side.directory),
            )
        except DocumentError as error:
            self.errors = list(error.errors)

    def look(self, *, with_code: bool) -> None:
        """Sizes of artifacts and, in a process of its own, the code."""
        models = self.snapshot.document.models
        sizes = {
            name: sides.artifact_bytes(self.side.directory / each.source)
            for name, each in models.items()
            if each.source
        }
        known = {name: size for name, size in sizes.items() if size is not None}
        self.facts = tables.Facts(artifact_bytes=known)
        if not with_code or not self.side.files:
            return
        question = code_facts.Question(
            files=self.side.files,
            directory=str(self.side.directory),
            stage=self.stage,
            secrets_folder=self.secrets_folder or "",
            digests={str(models[name].source): digest for name, digest in self.snapshot.digests.items()},
            revision=self.side.revision,
        )
        found = code_facts.ask(question)
        self.notes += found.notes
        self.errors = [
            SpecError(each.message, path=each.path, file=each.file, line=each.line, hint=each.hint)
            for each in found.errors
        ]
        self.facts = tables.Facts(contracts=found.contracts, build=found.build, artifact_bytes=known)

    def measure(self, url: str) -> None:
        """What a running server says its models take, where it runs the models of this side."""
        told = remote.status(url)
        taken, workers = _memory(told, self.snapshot), len(told.get("workers") or ()) or 1
        serves = str(told.get("revision") or "")
        if not serves or not self.snapshot.revision.startswith(serves):
            self.notes.append(f"{url} serves revision {serves[:12] or 'none'}, not {self.side.label}.")
        facts = self.facts
        self.facts = tables.Facts(
            contracts=facts.contracts,
            build=facts.build,
            artifact_bytes=facts.artifact_bytes,
            memory_bytes=taken,
            workers=workers,
        )


def _memory(told: Mapping[str, object], admitted: snapshot.Snapshot) -> dict[str, int]:
    """Bytes per model, of those that are the same version there."""
    found = {}
    models = told.get("models")
    for name, entry in models.items() if isinstance(models, dict) else ():
        if name not in admitted.document.models or not entry.get("memory_bytes"):
            continue
        version = phases.version(name, admitted.document, written=admitted.written, digests=admitted.digests)
        if entry.get("version") == version:
            found[name] = int(entry["memory_bytes"])
    return found


def _store_beside(old: str, new: str) -> str:
    """The event store in the state folder of the document that is on disk; "" where there is none."""
    on_disk = next((each for each in (new, old) if not each.startswith(sides.GIT)), "")
    state = places.find(on_disk or None, None).state
    url = stores.default_url(state)
    return url if Path(url.removeprefix("sqlite:///")).exists() else ""


def _logged(before: _Reading, after: _Reading, url: str) -> dict[str, tables.Logged]:
    """Units of the exposure log that both documents' experiments assign."""
    olds, news = before.snapshot.document.experiments, after.snapshot.document.experiments
    changed = [name for name in olds if name in news and olds[name] != news[name]]
    if not url or not changed:
        return {}
    found = {}
    try:
        with contextlib.closing(stores.open_store(url, read_only=True)) as opened:
            for name in changed:
                admitted = before.snapshot
                phase = phases.of(name, admitted.document, written=admitted.written, digests=admitted.digests)
                units = opened.units(name, phase, logged.LIMIT + 1)
                if units:
                    found[name] = logged.compare(admitted, after.snapshot, name, units)
    except (StoreError, SpecError) as error:
        after.notes.append(f"Units of the exposure log were not counted: {error}")
    return found


def _notes(before: _Reading, after: _Reading, stage: str, no_code: bool) -> list[str]:
    """What is not compared, and what is not as it seems."""
    notes = [*before.notes, *after.notes]
    if before.errors:
        notes.append(f"The code of {before.side.label} does not import here: {before.errors[0]}")
    if no_code:
        notes.append("Code was left aside (--no-code): contracts of callers and builds were not compared.")
    if not stage:
        texts = [_staged(side) for side in (before, after)]
        other = sorted(name for name in texts[0].keys() | texts[1].keys() if texts[0].get(name) != texts[1].get(name))
        if other:
            notes.append(f"Files of stages changed as well; look with --stage {' and --stage '.join(other)}.")
    return notes


def _staged(reading: _Reading) -> dict[str, list[str]]:
    """The texts of each stage's files."""
    found: dict[str, list[str]] = {}
    for name in sorted(reading.side.files):
        stage = stages.stage_of(name, reading.side.files)
        if stage:
            found.setdefault(stage, []).append(reading.side.files[name])
    return found


def _refused(reading: _Reading, *, as_json: bool, markdown: bool) -> int:
    entries = check.distinct({"": reading.errors})
    if as_json:
        screen.print_json({"document": reading.side.label, "errors": entries})
    elif markdown:
        click.echo(diff_markdown.refused(reading.side.label, [status.one_line(entry) for entry in entries]))
    else:
        for entry in entries:
            click.secho(f"error: {status.one_line(entry)}", fg="red", err=True)
        click.echo(f"{reading.side.label} is not valid, so nothing is compared.", err=True)
    return exits.INVALID
