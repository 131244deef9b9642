"""What a person commands: written at once, on top of whatever was written last, so that it wins.

Called by `turnout rollout`. The control store is passed in.
"""

from typing import Final, Protocol

from msgspec import structs

from turnout.errors import NotFoundError, StoreError, did_you_mean
from turnout.experiments import phases
from turnout.rollouts import progress, records, states
from turnout.spec import snapshot
from turnout.stores import control

KEPT: Final = 100
"""How far back the newest overlay that can be read is looked for."""


class Control(Protocol):
    """What is read and written of a control store."""

    def overlay(self) -> control.Overlay | None:
        """The newest one."""

    def overlays(self, limit: int) -> list[control.Overlay]:
        """The newest ones, newest first."""

    def propose(self, content: str, *, after: int, author: str, reason: str, at: float) -> control.Overlay:
        """The next one, on top of number `after`."""

    def lease(self, name: str, holder: str, until: float, now: float) -> bool:
        """Whether `holder` may act."""

    def looks(self, rollout: str, phase: str, limit: int = ...) -> list[control.Look]:
        """Records, the oldest first."""

    def add_look(self, look: control.Look) -> None:
        """Append a record."""


def newest(store: Control) -> control.Overlay | None:
    """The newest overlay; where it cannot be read, with the content of the newest one that can.

    That is what servers serve, since they refuse the other. None when none was ever written.
    """
    found = store.overlay()
    if found is None or progress.readable(found.content):
        return found
    contents = [each.content for each in store.overlays(KEPT) if progress.readable(each.content)]
    return structs.replace(found, content=contents[0] if contents else "")


def standing(store: Control, content: snapshot.Snapshot, name: str) -> progress.Progress:
    """Where a rollout stands by the newest overlay.

    Raises:
        NotFoundError: The document has no such rollout.
    """
    found = newest(store)
    phase = _phase(content, name)
    return progress.read(found.content if found else "", name, phase) or progress.Progress(phase=phase)


def command(  # noqa: PLR0913  # a person's command has so many parts
    store: Control,
    content: snapshot.Snapshot,
    name: str,
    asked: states.Command,
    *,
    author: str,
    reason: str,
    now: float,
    attempts: int = 5,
) -> tuple[states.Move, control.Overlay]:
    """Carry out a person's command: on top of whatever was written last, so that it wins.

    Raises:
        NotFoundError: The document has no such rollout.
        ConflictError: It has no meaning in the state the rollout is in.
        StoreError: It could not be written.
    """
    phase = _phase(content, name)
    spec = content.document.rollouts[name]
    for _ in range(attempts):
        found = newest(store)
        number, text = (found.number, found.content) if found else (0, "")
        now_at = _standing_or_new(text, name, phase)
        move = states.by_hand(now_at, asked, spec, now=now, author=author, reason=reason)
        try:
            overlay = store.propose(
                progress.write(text, name, move.progress), after=number, author=author, reason=told(name, move), at=now
            )
        except control.StoreConflictError:
            continue
        record = records.of_move(now_at, move, revision=content.revision, overlay=overlay.number, author=author)
        store.add_look(records.look_of(record, rollout=name, phase=phase, at=now, kind=records.HAND))
        return move, overlay
    raise StoreError(
        f"the overlay was written by others {attempts} times in a row.", hint="Try again.", retry_after_s=1.0
    )


def _standing_or_new(text: str, name: str, phase: str) -> progress.Progress:
    """Where a rollout stands; as if it had not begun where that cannot be read, so that a person can put it right."""
    try:
        return progress.read(text, name, phase) or progress.Progress(phase=phase)
    except StoreError:
        return progress.Progress(phase=phase)


def told(name: str, move: states.Move) -> str:
    """The overlay's reason."""
    return f"rollout {name}: {move.reason}"[: progress.NOTE_CHARACTERS]


def _phase(content: snapshot.Snapshot, name: str) -> str:
    rollouts = content.document.rollouts
    if name not in rollouts:
        known = f"There are: {', '.join(rollouts)}." if rollouts else "It has none."
        raise NotFoundError(f"the document has no rollout {name!r}.", hint=did_you_mean(name, rollouts, known))
    return phases.of_rollout(name, content.document, written=content.written, digests=content.digests)
