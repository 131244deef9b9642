"""`turnout history`: which revision was live when, who wrote it and why, and what changed in it."""

import difflib
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import click
import msgspec
from msgspec import Struct
from rich import console, text

from turnout.changes import tables, written
from turnout.cli import diff_words, exits, logs, places, screen
from turnout.errors import NotFoundError
from turnout.spec import merging, overlays, parsing, stages, tree
from turnout.stores import catalog, control

REFUSALS = "turnout.overlay"
"""Name under which refused overlays stand among the looks."""

SHOWN_PARTS = 3

_SECRET = re.compile(r"^(\s*override_key\s*:\s*)(?![\"']?(?:secret:|\$\{)).*$", re.MULTILINE)
"""The one key that may hold a secret itself."""

STYLES = {"+": "green", "-": "red", "@": "cyan"}


class Entry(Struct, frozen=True, kw_only=True):
    """One revision, as `--json` prints it.

    Attributes:
        until: Epoch seconds when the next one replaced it; None while it is the newest.
        changed: Key paths that say something else than before; None for the first, or an unreadable document.
        kept: Whether the revision before it is known here.
    """

    number: int
    revision: str
    at: float
    until: float | None
    source: str
    author: str
    reason: str
    host: str
    build: str
    replaced: str
    changed: list[str] | None
    digests: Mapping[str, str]


class Refused(Struct, frozen=True, kw_only=True):
    """An overlay that some server refused."""

    number: int
    at: float
    author: str
    reason: str
    errors: list[str]


@click.command(short_help="What was live when, who changed it, and what changed.")
@click.argument("revision", required=False)
@click.option("--limit", type=click.IntRange(1, 1_000), default=20, show_default=True, help="Revisions to list.")
@click.option("--store", metavar="URL", help="Event store; default: TURNOUT_STORE, or the state folder's.")
@click.option("--json", "as_json", is_flag=True, help="For machines.")
@places.near
def command(
    revision: str | None,
    limit: int,
    store: str | None,
    as_json: bool,
    document: str | None,
    state: str | None,
    stage: str,
) -> int:
    """List the revisions that were live, the newest first; or show what REVISION changed.

    REVISION is the beginning of one, as the list shows it. Works without a running server.
    """
    place = places.find(document, state, stage)
    opened = catalog.open_control(logs.url(place, store), read_only=True)
    try:
        records = opened.history(limit + 1)
        if revision is not None:
            return _show_one(opened, records, revision, as_json=as_json)
        refused = list(_refused(opened))
    finally:
        opened.close()
    entries = list(_entries(records))[:limit]
    if as_json:
        screen.print_json({"revisions": entries, "refused_overlays": refused})
    else:
        _list(screen.open_console(), entries, refused)
    return exits.OK


def _entries(records: Sequence[control.RevisionRecord]) -> Iterator[Entry]:
    """The records, newest first, each compared with the one before it in time."""
    for place, record in enumerate(records):
        before = records[place + 1] if place + 1 < len(records) else None
        yield Entry(
            number=record.number,
            revision=record.revision,
            at=record.at,
            until=records[place - 1].at if place else None,
            source=record.source,
            author=record.author,
            reason=record.reason,
            host=record.host,
            build=record.build,
            replaced=record.replaced,
            changed=None if before is None else [key.path for key in changes(before, record)],
            digests=record.digests,
        )


def changes(before: control.RevisionRecord, after: control.RevisionRecord) -> list[tables.Key]:
    """The keys that say something else, overlay included, and the artifacts behind unchanged keys."""
    found = list(written.differences(as_served(before), as_served(after)))
    for alias in sorted({*before.digests, *after.digests}):
        old, new = before.digests.get(alias), after.digests.get(alias)
        if old and new and old != new:
            path = f"models.{alias} (artifact)"
            found.append(tables.Key(path=path, before=old[:19], after=new[:19], place="its file"))
    return found


def as_served(record: control.RevisionRecord) -> tree.Node:
    """The document as it was served: stage and overlay laid over it, references as written."""
    files, laid_over = overlays.split(record.document)
    parts: dict[str, list[tree.Node]] = {"": [], record.stage: []}
    for file in sorted(files):
        of = stages.stage_of(file, files)
        if of in parts:
            parts[of].append(parsing.parse(file, files[file])[0])
    root, _ = merging.merge(parts[""])
    if record.stage:
        over, _ = merging.merge(parts[record.stage])
        root, _, _ = merging.overlay(root, over)
    return overlays.lay(root, laid_over)[0]


def _refused(opened: control.ControlStore) -> Iterator[Refused]:
    for overlay in opened.overlays(10):
        looks = opened.looks(REFUSALS, str(overlay.number), 1)
        for look in looks:
            said: dict[str, Any] = msgspec.json.decode(look.payload, type=dict[str, Any])
            yield Refused(
                number=overlay.number,
                at=look.at,
                author=overlay.author,
                reason=overlay.reason,
                errors=said.get("errors", []),
            )


def _list(out: console.Console, entries: Sequence[Entry], refused: Sequence[Refused]) -> None:
    if not entries:
        out.print("no revision was recorded yet; a server that serves with this store records its first one")
    rows = [
        (
            screen.when(entry.at),
            entry.revision[:12],
            "now" if entry.until is None else f"{span(entry.until - entry.at)}",
            entry.source,
            entry.author,
            _told(entry.changed),
            entry.reason,
        )
        for entry in entries
    ]
    screen.show_table(out, "", ("since", "revision", ">for", "by", "author", "what changed", "reason"), rows)
    for told in refused:
        out.print(
            f"overlay {told.number} of {told.author} was refused at {screen.when(told.at)}: {'; '.join(told.errors)}",
            style="yellow",
        )


def _told(changed: Sequence[str] | None) -> str:
    """
    >>> _told(["a.b", "c"]), _told(None), _told([])
    ('a.b, c', 'the first one known', 'nothing that counts')
    """
    if changed is None:
        return "the first one known"
    if not changed:
        return "nothing that counts"
    more = len(changed) - SHOWN_PARTS
    return ", ".join(changed[:SHOWN_PARTS]) + (f" and {more} more" if more > 0 else "")


def span(seconds: float) -> str:
    """
    >>> span(0.4), span(75), span(3 * 3600 + 120), span(200_000)
    ('0.4 s', '75 s', '3.0 h', '2.3 d')
    """
    if seconds < 1:
        return f"{seconds:.1f} s"
    for unit, size in (("d", 86_400.0), ("h", 3_600.0), ("min", 120.0)):
        if seconds >= size:
            return f"{seconds / (60.0 if unit == 'min' else size):.1f} {unit}"
    return f"{seconds:.0f} s"


def _show_one(
    opened: control.ControlStore, records: Sequence[control.RevisionRecord], prefix: str, *, as_json: bool
) -> int:
    found = opened.revision(prefix.lower())
    if not found:
        known = ", ".join(record.revision[:12] for record in records[:5]) or "none"
        raise NotFoundError(f"no revision begins with {prefix!r}.", hint=f"The newest: {known}. See `turnout history`.")
    record = found[0]
    before = next((known for known in opened.revision(record.replaced) if known.number < record.number), None)
    before = before if record.replaced else None
    lines = list(_difference(before.document if before else {}, record.document))
    keys = changes(before, record) if before else []
    if as_json:
        told = {"record": record, "keys": keys, "diff": "\n".join(lines), "live": [each.at for each in found]}
        screen.print_json(told)
        return exits.OK
    out = screen.open_console()
    out.print(f"revision {record.revision[:12]}, live since {screen.when(record.at)} on {record.host}", style="bold")
    out.print(f"by {record.author or 'somebody'} ({record.source}){': ' if record.reason else ''}{record.reason}")
    out.print(f"replaced {record.replaced[:12] or 'nothing'}; build {record.build[:12] or '-'}")
    for alias, digest in sorted(record.digests.items()):
        out.print(f"  model {alias}: {digest[:19]}", style="dim")
    for line in diff_words.keys(keys):
        out.print(f"  {line.text}")
    out.print()
    for line_text in lines:
        out.print(text.Text(line_text, style=STYLES.get(line_text[:1], "")))
    return exits.OK


def _difference(before: Mapping[str, str], after: Mapping[str, str]) -> Iterator[str]:
    """Unified difference of the texts as written, file by file."""
    for file in sorted({*before, *after}):
        old, new = before.get(file, ""), after.get(file, "")
        if old != new:
            shown_old, shown_new = (_SECRET.sub(rf"\1{written.HIDDEN}", part).splitlines() for part in (old, new))
            yield from difflib.unified_diff(shown_old, shown_new, f"{file} before", f"{file} after", lineterm="", n=3)
