"""The two-phase change of the document: all workers prepare, then all commit; one refusal keeps the old one.

Called by the fleet, calls the workers through their control channels. One worker prepares first: a document
that it refuses, or that kills it, does not reach the others. All commit at one instant, agreed upon before it
comes: whoever got an answer of the new revision anywhere gets no answer of the old one afterwards.
"""

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import msgspec

from turnout.errors import UnavailableError
from turnout.transport import control

HEAD_START_S = 1.0
"""How long one worker prepares alone: code that kills its process does so early, while large models load for long."""

LEADS_S = (0.1, 0.2, 0.4, 0.8)
"""How far ahead the instant of a commit lies, try by try; half of it is for confirming, half for putting it off.

Source: with four workers under load on two cores a message takes below 30 ms.
"""

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
        revision: Of the refused document; "" unless its text itself was valid.
        split: The workers prepared different revisions; what they read may be changing just now.
        lost: A worker went away while it prepared, which need not be the document's fault.
    """

    errors: tuple[control.Problem, ...]
    revision: str = ""
    split: bool = False
    lost: bool = False


async def prepare(
    peers: Sequence[Peer],
    *,
    generation: int,
    files: Mapping[str, str],
    timeout_s: float,
    head_start_s: float = HEAD_START_S,
) -> Agreement | Refusal:
    """Ask one to prepare, then all; on any refusal, tell those that did prepare to drop it.

    Cancellation: the workers are told to drop what they prepared.
    """
    message = control.Prepare(generation=generation, files=dict(files))
    first = asyncio.create_task(_ask(peers[0], message, timeout_s))
    asked = peers[:1]
    try:
        await asyncio.wait((first,), timeout=head_start_s if len(peers) > 1 else None)
        if not first.done() or isinstance(first.result(), control.Prepared):
            asked = peers
        replies = await asyncio.gather(first, *(_ask(peer, message, timeout_s) for peer in asked[1:]))
    except asyncio.CancelledError:
        first.cancel()
        await abort(asked, generation)
        raise
    verdict = _judge(generation, asked, replies)
    if isinstance(verdict, Refusal):
        await abort(asked, generation)
    return verdict


async def commit(
    peers: Sequence[Peer], generation: int, *, timeout_s: float, clock: Callable[[], float] = time.monotonic
) -> list[control.Committed | None]:
    """Put the prepared document in force everywhere, at one instant.

    Returns:
        What each worker says; None from one that did not confirm: it is out of step and has to be replaced.
    """
    at = await _instant(peers, generation, clock) if len(peers) > 1 else 0.0
    message = control.Commit(generation=generation, at=at)
    replies = await asyncio.gather(*(_ask(peer, message, timeout_s) for peer in peers))
    return [reply if isinstance(reply, control.Committed) else None for reply in replies]


async def _instant(peers: Sequence[Peer], generation: int, clock: Callable[[], float]) -> float:
    """An instant that every worker has confirmed before it came; after the last try, one that some may hear of late."""
    at = 0.0
    for lead_s in LEADS_S:
        at = clock() + lead_s
        message = control.Arm(generation=generation, at=at)
        await asyncio.gather(*(_ask(peer, message, lead_s / 2) for peer in peers))
        if clock() < at - lead_s / 2:  # all have answered; who answered that it is gone matters to nobody
            break
    return at


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
        errors = tuple(refusals[0].errors) or (control.Problem(message="the document was refused without a reason."),)
        return Refusal(errors=errors, revision=refusals[0].revision)
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
