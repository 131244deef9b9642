"""What a change touches outside of the sections it is allowed: `turnout check --only experiments`.

Whoever reviews a test then knows how far it reaches: nothing but these sections of the
document, in any stage, no artifact, no code beside it.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import click

from turnout.changes import tables, written
from turnout.cli import sides
from turnout.errors import SpecError, UnavailableError, did_you_mean
from turnout.spec import document, merging, parsing, stages, tree
from turnout.spec.tree import Node

SECTIONS = tuple(document.Document.model_fields)
FILES_LIMIT = 2_000
"""Python files of one top-level module that are compared."""


def known(only: Sequence[str]) -> tuple[str, ...]:
    """The sections as given.

    Raises:
        click.BadParameter: There is no such section.
    """
    for name in only:
        if name not in SECTIONS:
            hint = f"{did_you_mean(name, SECTIONS)} Sections: {', '.join(SECTIONS)}."
            raise click.BadParameter(f"no section {name!r}. {hint}", param_hint="--only")
    return tuple(only)


def changes(before: sides.Side, after: sides.Side, only: Sequence[str]) -> list[SpecError]:
    """Everything that differs and is not in these sections, each with its place."""
    found: list[SpecError] = []
    for stage in ("", *sorted({*stages.stages(before.files), *stages.stages(after.files)})):
        keys = written.differences(_root(before.files, stage), _root(after.files, stage))
        found += [_error(key, only) for key in keys if key.path.partition(".")[0] not in only]
    return [*found, *_artifacts(before, after, only), *_code(before, after, only)]


def _root(files: Mapping[str, str], stage: str) -> Node:
    """The files of one stage, or of the document itself, joined."""
    parts = [parsing.parse(name, files[name])[0] for name in sorted(files) if stages.stage_of(name, files) == stage]
    return merging.merge(parts)[0]


def _error(key: tables.Key, only: Sequence[str]) -> SpecError:
    file, _, line = key.place.rpartition(":")
    done = "is new" if key.before is None else "was removed" if key.after is None else "says something else"
    return SpecError(f"{done}.", path=key.path, file=file, line=int(line), hint=_hint(only))


def _hint(only: Sequence[str]) -> str:
    return f"Only {' and '.join(only)} may change here; bring this in a change of its own."


def _artifacts(before: sides.Side, after: sides.Side, only: Sequence[str]) -> Iterator[SpecError]:
    """Models of the same source whose file is another one."""
    if "models" in only:
        return
    models = [tree.mapping(tree.mapping(_root(side.files, "")).get("models")) for side in (before, after)]
    digests = [sides.digest_under(side.directory) for side in (before, after)]
    for name in models[0].keys() & models[1].keys():
        sources = [tree.mapping(each[name]).get("source") for each in models]
        old, new = (source.value if source is not None else None for source in sources)
        if not isinstance(old, str) or old != new or sources[1] is None:
            continue
        try:
            same = digests[0](old) == digests[1](old)
        except UnavailableError:
            continue  # the check says that it is missing
        if not same:
            place = sources[1].place
            path = f"models.{name}.source"
            yield SpecError(
                f"the content of {old} changed.", path=path, file=place.file, line=place.line, hint=_hint(only)
            )


def _code(before: sides.Side, after: sides.Side, only: Sequence[str]) -> Iterator[SpecError]:
    """Python files beside the document that are another text, were added or removed."""
    if not before.files:
        return
    tops = {top for side in (before, after) for top in _tops(side)}
    for top in sorted(tops):
        texts = [_texts(side.directory, top) for side in (before, after)]
        for name in sorted(texts[0].keys() | texts[1].keys()):
            if texts[0].get(name) != texts[1].get(name):
                done = "is new" if name not in texts[0] else "was removed" if name not in texts[1] else "changed"
                yield SpecError(f"the code {done}.", file=name, line=1, hint=_hint(only))


def _tops(side: sides.Side) -> set[str]:
    """Top-level modules that the document names, in any stage."""
    found = set()
    for name, text in side.files.items():
        for path, node in tree.walk(parsing.parse(name, text)[0]):
            if path and path[-1] in ("code", "runtime") and isinstance(node.value, str) and ":" in node.value:
                found.add(node.value.partition(":")[0].partition(".")[0])
    return found


def _texts(directory: Path, top: str) -> dict[str, bytes]:
    """Python files of one top-level module below the document's folder, by relative path."""
    package = directory / top
    files = sorted(package.rglob("*.py"))[:FILES_LIMIT] if package.is_dir() else [package.with_suffix(".py")]
    return {str(file.relative_to(directory)): file.read_bytes() for file in files if file.is_file()}
