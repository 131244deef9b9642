"""The two documents that `diff` and `check --only` compare: on disk, or as git keeps them.

    turnout.yaml, a folder       as they are on disk
    git:REV, git:REV:PATH        as they are in that revision: the document, the code and files beside it, and its
                                 models' artifacts, written to a temporary folder

What git does not keep (an artifact that is ignored, or kept by Git LFS) is taken from the disk
where it is the same or nothing better is known, and a note says so. Everything is bounded.
"""

import contextlib
import os
import re
import shutil
import stat
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from turnout.cli import documents, places
from turnout.errors import NotFoundError, UnavailableError
from turnout.sources import artifacts
from turnout.spec import merging, parsing, stages, tree

GIT: Final = "git:"
TIMEOUT_S: Final = 120.0
FILES_LIMIT: Final = 20_000
FILE_BYTES_LIMIT: Final = 2 * 2**20
"""Files beside the document that are larger are code of nobody; artifacts are taken whatever their size."""
TOTAL_BYTES_LIMIT: Final = 4 * 2**30

POINTER: Final = re.compile(
    rb"version https://git-lfs\.github\.com/spec/v1\n.*?oid sha256:([0-9a-f]{64})\nsize (\d+)", re.S
)
POINTER_BYTES_LIMIT: Final = 1024


@dataclass(frozen=True)
class Side:
    """One of the two documents.

    Attributes:
        label: For people: "turnout.yaml", "turnout.yaml at HEAD".
        files: Name as shown to people to text; empty when the revision has no such document.
        directory: Where relative sources and user code are.
        revision: Whether git keeps it, and it was written out.
        notes: What is not as git keeps it.
    """

    label: str
    files: dict[str, str]
    directory: Path
    revision: bool = False
    notes: list[str] = field(default_factory=list)


@contextlib.contextmanager
def opened(written: str, other: str) -> Iterator[Side]:
    """One side, for as long as it is looked at.

    Args:
        written: As typed: a path, or `git:REV`, `git:REV:PATH`.
        other: The other side as typed; names the path where `written` has none.

    Raises:
        NotFoundError: No such file.
        UnavailableError: Git does not know the revision, or cannot be asked.
    """
    if not written.startswith(GIT):
        place = places.existing(places.find(written or None, None))
        yield Side(str(place.document), documents.read(place.document), place.directory)
        return
    revision, _, path = written.removeprefix(GIT).partition(":")
    default = other if other and not other.startswith(GIT) else str(places.find(None, None).document)
    with tempfile.TemporaryDirectory(prefix="turnout-diff-") as folder:
        yield _Checkout(revision, Path(path or default), Path(folder)).side()


@dataclass(frozen=True)
class _Entry:
    """One line of `git ls-tree`."""

    mode: str
    object: str
    size: int


class _Checkout:
    """A document as one revision has it, in a folder of its own."""

    def __init__(self, revision: str, path: Path, folder: Path) -> None:
        self.revision, self.folder = revision, folder
        beside = path if path.is_dir() else path.parent
        if not beside.is_dir():
            raise NotFoundError(f"there is no folder {beside}.", hint=f"Write git:{revision}:PATH, from this folder.")
        self.top = Path(_git(beside, "rev-parse", "--show-toplevel").decode().strip())
        self.path = Path(os.path.relpath(os.path.realpath(path), os.path.realpath(self.top)))
        self.commit = (
            _git(
                self.top,
                "rev-parse",
                "--verify",
                "--quiet",
                "--end-of-options",
                f"{revision}^{{commit}}",
                missing=revision,
            )
            .decode()
            .strip()
        )
        self.notes: list[str] = []

    def side(self) -> Side:
        """Write it out and read it."""
        label = f"{self.path} at {self.revision}"
        whole = self._listed(self.path)
        if not whole:
            return Side(f"{label} (not there)", {}, self.folder, revision=True)
        is_folder = str(self.path) not in whole
        home = self.path if is_folder else self.path.parent
        entries = self._listed(home)
        self._write({path: each for path, each in entries.items() if each.size <= FILE_BYTES_LIMIT or path in whole})
        document = self.folder / self.path
        read = documents.read(document)
        self._sources(home, read)
        shown = {f"{GIT}{self.revision}/{Path(name).relative_to(self.folder)}": text for name, text in read.items()}
        return Side(label, shown, self.folder / home, revision=True, notes=self.notes)

    def _listed(self, path: Path) -> dict[str, _Entry]:
        """Files of the revision at or below a path, by path from the repository's top."""
        below = () if path == Path() else ("--", str(path))
        told = _git(self.top, "ls-tree", "-r", "-z", "-l", "--full-tree", self.commit, *below)
        found = {}
        for line in told.decode("utf-8", "surrogateescape").split("\0"):
            if not line:
                continue
            what, _, name = line.partition("\t")
            mode, kind, known, size = what.split()
            if kind == "blob":
                found[name] = _Entry(mode, known, int(size))
        if len(found) > FILES_LIMIT:
            raise UnavailableError(
                f"{path} holds more than {FILES_LIMIT:,} files in git.", hint="Give the document a folder of its own."
            )
        return found

    def _write(self, entries: dict[str, _Entry]) -> None:
        """Write files out, with one process of git for all."""
        total = sum(entry.size for entry in entries.values())
        if total > TOTAL_BYTES_LIMIT:
            raise UnavailableError(f"revision {self.revision} holds {total / 2**30:.1f} GiB beside the document.")
        wanted = "".join(f"{entry.object}\n" for entry in entries.values()).encode()
        with tempfile.TemporaryFile(dir=self.folder) as content:
            _git(self.top, "cat-file", "--batch", given=wanted, out=content)
            content.seek(0)
            for name, entry in entries.items():
                content.readline()
                place = self.folder / name
                place.parent.mkdir(parents=True, exist_ok=True)
                if entry.mode == "120000":
                    self._link(place, content.read(entry.size))
                else:
                    with place.open("wb") as file:
                        left = entry.size
                        while left:
                            part = content.read(min(left, 2**20))
                            file.write(part)
                            left -= len(part)
                content.read(1)

    def _link(self, place: Path, target: bytes) -> None:
        """A symbolic link that stays inside."""
        leads = os.path.normpath(place.parent / os.fsdecode(target))
        if Path(leads).is_relative_to(self.folder):
            place.symlink_to(os.fsdecode(target))

    def _sources(self, home: Path, files: dict[str, str]) -> None:
        """The artifacts that the document names: from git, else from the disk."""
        for source in sorted(_named(files)):
            path = Path(os.path.normpath(home / source))
            if Path(source).is_absolute() or path.parts[:1] == ("..",):
                continue
            entries = self._listed(path)
            missing = {name: each for name, each in entries.items() if not os.path.lexists(self.folder / name)}
            self._write(missing)
            disk, place = self.top / path, self.folder / path
            if not entries and disk.exists():
                place.parent.mkdir(parents=True, exist_ok=True)
                place.symlink_to(disk)
                self.notes.append(f"{source} is not in git; the one on disk stands for it.")
            elif place.is_file():
                self._unpointed(source, place, disk)

    def _unpointed(self, source: str, place: Path, disk: Path) -> None:
        """Put the artifact in the place of a Git LFS pointer."""
        digest = pointer(place)
        if digest is None:
            return
        kept = Path(_git(self.top, "rev-parse", "--git-common-dir").decode().strip())
        stored = self.top / kept / "lfs" / "objects" / digest[0][:2] / digest[0][2:4] / digest[0]
        for candidate in (disk, stored):
            with contextlib.suppress(UnavailableError):
                if artifacts.DigestCache().digest(candidate) == f"sha256:{digest[0]}":
                    place.unlink()
                    place.symlink_to(candidate)
                    return
        self.notes.append(f"{source} is kept by Git LFS and not here; its digest is known, its content is not.")


def pointer(path: Path) -> tuple[str, int] | None:
    """The digest (64 hexadecimal digits) and size that a Git LFS pointer stands for; None for any other file."""
    try:
        if not path.is_file() or path.stat().st_size > POINTER_BYTES_LIMIT:
            return None
        found = POINTER.match(path.read_bytes())
    except OSError:
        return None
    return (found[1].decode(), int(found[2])) if found else None


def digest_under(directory: Path) -> Callable[[str], str]:
    """As `artifacts.digest_under`, but a Git LFS pointer has the digest of what it stands for."""
    plain = artifacts.digest_under(str(directory))

    def digest(source: str) -> str:
        found = pointer(directory / source)
        return f"sha256:{found[0]}" if found else plain(source)

    return digest


def artifact_bytes(place: Path) -> int | None:
    """Size of a file, or of all files of a folder; None where there is nothing."""
    found = pointer(place)
    if found:
        return found[1]
    try:
        if place.is_dir():
            sizes = [each.stat() for each in place.rglob("*")]
            return sum(each.st_size for each in sizes if stat.S_ISREG(each.st_mode))
        return place.stat().st_size
    except OSError:
        return None


def _named(files: dict[str, str]) -> set[str]:
    """Sources of models, of all stages, as far as the text can be read."""
    roots = {name: parsing.parse(name, text)[0] for name, text in files.items()}
    plain = [root for name, root in roots.items() if not stages.stage_of(name, files)]
    merged, _ = merging.merge(plain)
    found = set()
    for root in (merged, *roots.values()):
        for model in tree.mapping(tree.mapping(root).get("models")).values():
            source = tree.mapping(model).get("source")
            if source is not None and isinstance(source.value, str) and "${" not in source.value:
                found.add(source.value)
    return found


def _git(folder: Path, *arguments: str, given: bytes = b"", out: object | None = None, missing: str = "") -> bytes:
    """What a git command prints.

    Raises:
        UnavailableError: Git is not there, or fails.
    """
    if shutil.which("git") is None:
        raise UnavailableError("git is not installed.", hint="Compare two files or folders instead.")
    command = ["git", "-C", str(folder), *arguments]
    try:
        ended = subprocess.run(  # noqa: S603  # git, with arguments of ours; a revision cannot be an option
            command,
            input=given,
            stdout=out if out is not None else subprocess.PIPE,  # type: ignore[call-overload]
            stderr=subprocess.PIPE,
            timeout=TIMEOUT_S,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise UnavailableError(f"git {arguments[0]} took longer than {TIMEOUT_S:g} s.") from error
    if ended.returncode != 0:
        if missing:
            hint = "A clone in CI may be shallow: fetch the revision first."
            raise UnavailableError(f"git knows no revision {missing!r} in {folder}.", hint=hint)
        said = ended.stderr.decode("utf-8", "replace").strip().splitlines()
        raise UnavailableError(f"git {arguments[0]} failed: {said[-1] if said else 'no reason given'}.")
    return ended.stdout or b""
