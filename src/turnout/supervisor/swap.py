"""The two-phase change of the document: all workers prepare, then all commit; one refusal keeps the old one.

Called by the tree, calls the workers through their control channels. A worker that dies or is silent while
it prepares counts as a refusal: a document that kills a worker must not reach the others.
"""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any, Protocol, TypeVar

import msgspec

from turnout.errors import UnavailableError
from turnout.transport import control

Reply = control.Message | UnavailableError


class Peer(Protocol):
    """A worker as far as a swap is concerned."""

    name: str

    async def ask(self, message: control.Message, timeout_s: float) -> control.Message:
        """Send one message and wait for its reply.

        Raises:
            UnavailableError: The worker is gone, or did not answer in time.
        """
        ...


AnyPeer = TypeVar("AnyPeer", bound=Peer)


class Agreement(msgspec.Struct, frozen=True, kw_only=True):
    """All workers hold the document ready, under one revision."""

    generation: int
    revision: str
    build: str
    summary: dict[str, Any] = {}


class Refusal(msgspec.Struct, frozen=True, kw_only=True):
    """Why a document is not in force.

    Attributes:
        errors: At least one.
        split: The workers prepared different revisions; what they read may be changing just now.
        lost: A worker went away while it prepared, which need not be the document's fault.
    """

    errors: tuple[control.Problem, ...]
    split: bool = False
    lost: bool = False


async def prepare(
    peers: Sequence[Peer], *, generation: int, files: Mapping[str, str], timeout_s: float
) -> Agreement | Refusal:
    """Ask all to prepare; on any refusal, tell those that did prepare to drop it.

    Cancellation: the workers are told to drop what they prepared.
    """
    message = control.Prepare(generation=generation, files=dict(files))
    try:
        replies = await asyncio.gather(*(_ask(peer, message, timeout_s) for peer in peers))
    except asyncio.CancelledError:
        await abort(peers, generation)
        raise
    verdict = _judge(generation, peers, replies)
    if isinstance(verdict, Refusal):
        await abort(peers, generation)
    return verdict


async def commit(peers: Sequence[AnyPeer], generation: int, *, timeout_s: float) -> list[AnyPeer]:
    """Put the prepared document in force everywhere.

    Returns:
        The workers that did not confirm. They are out of step and have to be replaced.
    """
    message = control.Commit(generation=generation)
    replies = await asyncio.gather(*(_ask(peer, message, timeout_s) for peer in peers))
    return [peer for peer, reply in zip(peers, replies, strict=True) if not isinstance(reply, control.Committed)]


async def abort(peers: Sequence[Peer], generation: int, *, timeout_s: float = 5.0) -> None:
    """Tell all to drop what they prepared; whoever is gone needs no telling."""
    message = control.Abort(generation=generation)
    await asyncio.gather(*(_ask(peer, message, timeout_s) for peer in peers))


async def _ask(peer: Peer, message: control.Message, timeout_s: float) -> Reply:
    try:
        return await peer.ask(message, timeout_s)
    except UnavailableError as exc:
        return exc


def _judge(
    generation: int, peers: Sequence[Peer], replies: Sequence[control.Message | UnavailableError]
) -> Agreement | Refusal:
    prepared = [reply for reply in replies if isinstance(reply, control.Prepared)]
    refusals = [reply for reply in replies if isinstance(reply, control.Refused)]
    if refusals:  # all workers read the same text: one list of errors says it all
        return Refusal(
            errors=tuple(refusals[0].errors) or (control.Problem(message="the document was refused without a reason."),)
        )
    if len(prepared) < len(replies):
        lost = [
            control.Problem(
                message=f"worker {peer.name} did not prepare the document: {_reason(reply)}",
                hint="See its log above. The document that was in force before stays in force.",
            )
            for peer, reply in zip(peers, replies, strict=True)
            if not isinstance(reply, control.Prepared)
        ]
        return Refusal(errors=tuple(lost), lost=True)
    revisions = sorted({reply.revision for reply in prepared})
    if len(revisions) != 1:
        text = f"the workers read different contents for the same document: revisions {', '.join(revisions)}."
        hint = "A model file or variable changed while it was read; save the document once more."
        return Refusal(errors=(control.Problem(message=text, hint=hint),), split=True)
    first = prepared[0]
    return Agreement(generation=generation, revision=first.revision, build=first.build, summary=first.summary)


def _reason(reply: Reply) -> str:
    return reply.message if isinstance(reply, UnavailableError) else f"unexpected answer {type(reply).__name__}"
