"""From files to one immutable, validated document with its revision: all the data plane ever sees.

    files -> parsing -> merging (files, stage) -> overlay -> revision -> references -> document + checks -> Snapshot

The revision is the SHA-256 of the merged document as written, before `${NAME}` and `secret:`
are filled in, with the artifacts' digests: one revision on all replicas, whatever their
environment. Key order, comments and layout do not change it; any value does.

Called by `assembly/admission`, the gateway's Home and the commands that read a document.
"""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, TypeAlias

from pydantic import ValidationError

from turnout.errors import DocumentError, SpecError, TurnoutError
from turnout.spec import checks, findings, merging, overlays, parsing, references, stages, tree
from turnout.spec.document import Document
from turnout.spec.tree import Node

ReadSecret: TypeAlias = Callable[[str], str | None]
Digests: TypeAlias = Callable[[str], str]
"""The digest of an artifact, given its source as the document names it. Raises when it is not there."""


@dataclass(frozen=True)
class Snapshot:
    """One admitted document.

    Attributes:
        revision: 64 hexadecimal digits.
        document: With references filled in. Never print it: it may hold secrets.
        digests: Model name to "sha256:..." of its artifact; empty when admission was given no way to compute them.
        directory: Where relative sources start.
        stage: The stage that was laid over the document; "" for none.
        warnings: What is legal but hardly meant.
        root: The merged document as written, with the file and line of every key.
    """

    revision: str
    document: Document = field(repr=False)
    digests: Mapping[str, str] = field(repr=False)
    directory: str = ""
    stage: str = ""
    warnings: tuple[SpecError, ...] = field(default=(), repr=False)
    root: Node = field(default_factory=tree.empty, repr=False, compare=False)

    @cached_property
    def written(self) -> Mapping[str, Any]:
        """The merged document as people wrote it, before `${NAME}` and `secret:` were filled in."""
        plain: Mapping[str, Any] = tree.plain(self.root) or {}
        return plain

    def located(self, error: SpecError) -> SpecError:
        """The error with the file and line of its key path; for what only loading code and models can tell."""
        return findings.at(self.root, tree.path_from(error.path), error.message, error.hint)

    @property
    def short(self) -> str:
        """The revision as people and headers show it: 12 hexadecimal digits."""
        return self.revision[:12]


def admit(
    files: Mapping[str, str],
    *,
    environment: Mapping[str, str],
    stage: str = "",
    read_secret: ReadSecret = references.no_secrets,
    digests: Digests | None = None,
    directory: str = "",
) -> Snapshot:
    """Check a document and make it a Snapshot. Pure but for what `read_secret` and `digests` do.

    Args:
        files: Name as shown to people to whole text; `stages.stage_of` tells stage files from the others, and
            `stages.OVERLAY` names Turnout's own overlay.
        environment: What `${NAME}` reads.
        stage: The stage to lay over the document; "" for none.
        read_secret: What `secret:NAME` reads; None for a secret that is not there.
        digests: Computes an artifact's digest; None leaves digests, and the artifacts' existence, aside.
        directory: Kept in the Snapshot.

    Raises:
        DocumentError: With all errors, in the order of files and lines.
    """
    written, text = overlays.split(files)
    merged, errors, warnings, readable = _read(written, stage)
    merged, refused, left_out = overlays.lay(merged, text)
    errors, warnings = errors + refused, warnings + left_out
    filling = references.Filling(environment, read_secret)
    root = filling.fill(merged)
    errors += filling.errors
    document = _validated(root, errors)
    if readable:
        found, doubts = checks.check(root)
        errors += found
        warnings += doubts
    computed = _digests(root, digests, errors) if digests is not None else {}
    if errors or document is None:
        raise DocumentError(findings.ordered(errors))
    revision = tree.canonical({"document": tree.plain(merged), "digests": computed})
    return Snapshot(
        revision=hashlib.sha256(revision).hexdigest(),
        document=document,
        digests=computed,
        directory=directory,
        stage=stage,
        warnings=tuple(findings.ordered(warnings)),
        root=merged,
    )


def admit_stages(
    files: Mapping[str, str],
    *,
    environment: Mapping[str, str],
    read_secret: ReadSecret = references.no_secrets,
    digests: Digests | None = None,
    directory: str = "",
) -> dict[str, Snapshot | DocumentError]:
    """Admit the document without a stage ("") and with each of its stages, for `turnout check`."""
    results: dict[str, Snapshot | DocumentError] = {}
    for stage in ("", *stages.stages(files)):
        try:
            results[stage] = admit(
                files,
                environment=environment,
                stage=stage,
                read_secret=read_secret,
                digests=digests,
                directory=directory,
            )
        except DocumentError as error:
            results[stage] = error
    return results


def _read(files: Mapping[str, str], stage: str) -> tuple[Node, list[SpecError], list[SpecError], bool]:
    """The merged tree with the stage on it, errors, warnings, and whether every file could be read to its end."""
    errors: list[SpecError] = []
    parts: dict[str, list[Node]] = {"": [], stage: []}
    for file in sorted(files):
        of = stages.stage_of(file, files)
        if of in parts:
            root, found = parsing.parse(file, files[file])
            parts[of].append(root)
            errors += found
    merged, twice = merging.merge(parts[""])
    readable = not errors
    errors += twice
    if not stage:
        return merged, errors, [], readable
    if not parts[stage]:
        hint = findings.alternatives(stage, stages.stages(files), "Stages")
        errors.append(SpecError(f"stage {stage!r} has no file such as turnout.{stage}.yaml.", hint=hint))
    over, twice = merging.merge(parts[stage])
    laid, absent, warnings = merging.overlay(merged, over)
    return laid, errors + twice + absent, warnings if parts[stage] else [], readable


def _validated(root: Node, errors: list[SpecError]) -> Document | None:
    try:
        return Document.model_validate(tree.plain(root))
    except ValidationError as error:
        errors += findings.translate(error, root)
    return None


def _digests(root: Node, digests: Digests, errors: list[SpecError]) -> dict[str, str]:
    """Digest of every model's artifact; a pinned digest must be the one found."""
    computed = {}
    for name, model in tree.mapping(tree.mapping(root).get("models")).items():
        source, pinned = (tree.mapping(model).get(key) for key in ("source", "digest"))
        if source is None or not isinstance(source.value, str):
            continue
        path = ("models", name, "source")
        try:
            computed[name] = digests(source.value)
        except (TurnoutError, OSError, ValueError) as error:
            reason = getattr(error, "message", "") or getattr(error, "strerror", "") or "not readable"
            told = (
                f"{findings.shown(source)}: {reason}"
                if source.written is None
                else f"{findings.shown(source)}: not found"
            )
            errors.append(findings.at(root, path, told.rstrip(".") + ".", getattr(error, "hint", "")))
            continue
        pin = f"models.{name}.digest"
        if pinned is not None and pinned.value != computed[name] and all(error.path != pin for error in errors):
            message = f"the artifact has digest {computed[name]}, the document pins another."
            hint = "Restore the artifact, or write the new digest once you trust it."
            errors.append(findings.at(root, ("models", name, "digest"), message, hint))
        elif pinned is None:
            _tell_digest(errors, pin, computed[name])
    return computed


def _tell_digest(errors: list[SpecError], path: str, digest: str) -> None:
    """Where a digest is required and missing, say what it is."""
    for error in errors:
        if error.path == path:
            error.hint = f"If you trust the file, write: digest: {digest}"
