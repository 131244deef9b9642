"""The states of a rollout and every way between them, as pure functions.

    pending ─▶ ramping ⇄ holding ─▶ promoting ─▶ baking ─▶ done         a canary
    pending ────────────────────────▶ promoting ─▶ baking ─▶ done         blue-green
    any of them ─▶ rolled_back

`step` is what the controller may do by itself, `by_hand` what a person may. Rules that hold everywhere:

- Silence is never success: without fresh requests on the new side nothing moves forward.
- The share only rises, and falls only to nothing.
- A person wins. Paused, it goes no further, and no deadline ends it; what is proven harmful is taken back all the
  same. Promoted by a person, no evidence undoes it. Out of rolled_back only a person leads.

Called by `controller` and `turnout rollout`.
"""

from typing import Final, Literal

from msgspec import Struct, structs

from turnout.errors import ConflictError
from turnout.rollouts import evidence, progress
from turnout.spec import traffic

Decision = Literal["wait", "start", "resume", "advance", "hold", "promote", "bake", "finish", "alert", "roll back"]
Command = Literal["pause", "resume", "abort", "promote"]

FEWEST_UNITS: Final = 50
"""Units per side below which the bounds are not trusted; simulated for shares in tests/rollouts."""

INCONCLUSIVE_UP_TO: Final = 0.25
"""`on_inconclusive: auto` lets a step of at most this share begin without proof of safety."""

CLOSED_ENOUGH: Final = 0.8
"""Outcomes speak when the windows of so many exposed units have closed."""

ENDED: Final = ("rolled_back", "done")


class Move(Struct, frozen=True, kw_only=True):
    """What is decided.

    Attributes:
        progress: Where the rollout stands from now on; the same object when nothing moves.
        reason: Why, in plain words.
    """

    progress: progress.Progress
    decision: Decision
    reason: str


def step(now_at: progress.Progress, seen: evidence.Evidence, spec: traffic.RolloutSpec, now: float) -> Move:
    """What to do after a look.

    Args:
        now_at: Where the rollout stands.
        seen: What the look saw.
        now: Epoch seconds.
    """
    if now_at.state in ENDED:
        return _stay(now_at, "ended")
    if now_at.state == "pending":
        return _pending(now_at, seen, spec, now)
    harm = _harm(now_at, seen)
    if harm and not now_at.forced:
        return _roll_back(now_at, harm, now)
    if harm:
        return _stay(now_at, f"{harm}; a person promoted it, so it stays", "alert")
    if now_at.paused:
        return _stay(now_at, f"paused by hand: {now_at.note}" if now_at.note else "paused by hand")
    if now_at.state == "promoting":
        return _promoting(now_at, seen, now)
    if now_at.state == "baking":
        return _baking(now_at, seen, spec, now)
    return _ramping(now_at, seen, spec, now)


def by_hand(
    now_at: progress.Progress, command: Command, spec: traffic.RolloutSpec, *, now: float, author: str, reason: str = ""
) -> Move:
    """What a person's command makes of it.

    Raises:
        ConflictError: The command has no meaning in this state.
    """
    note = f"{command} by {author}: {reason}" if reason else f"{command} by {author}"
    if command == "pause":
        return _pause(now_at, note, now)
    if command == "resume":
        return _resume(now_at, spec, note, now)
    if command == "abort":
        if now_at.state == "rolled_back":
            raise ConflictError("the rollout is rolled back already.", hint="`turnout rollout resume` starts it again.")
        return _roll_back(now_at, note, now)
    return _promote_by_hand(now_at, note, now)


def due(spec: traffic.RolloutSpec, now_at: progress.Progress) -> float:
    """When the rollout's deadline is, in epoch seconds."""
    return now_at.started + spec.deadline_s


def next_share(spec: traffic.RolloutSpec, share: float) -> float | None:
    """The first step above a share; None after the last."""
    return next((each for each in spec.steps if each > share), None)


def _pending(now_at: progress.Progress, seen: evidence.Evidence, spec: traffic.RolloutSpec, now: float) -> Move:
    if now_at.paused:
        return _stay(now_at, "paused by hand before it began")
    if not seen.converged:
        return _stay(now_at, "not every worker has the new side loaded yet")
    return _begin(structs.replace(now_at, started=now), spec, "every worker has the new side loaded", now)


def _begin(now_at: progress.Progress, spec: traffic.RolloutSpec, why: str, now: float) -> Move:
    if spec.kind == "blue-green":
        return _to(now_at, "promoting", "promote", f"{why}: everybody is switched over", now, share=1.0)
    share = spec.steps[0]
    told = f"{why}: step 1 of {len(spec.steps)}, {progress.percent(share)}"
    return _to(now_at, "ramping", "start", told, now, share=share, step=1)


def _harm(now_at: progress.Progress, seen: evidence.Evidence) -> str:
    """What takes the rollout back at once; "" for nothing. In a bake there is no old side beside it to compare with."""
    if seen.hard:
        return seen.hard
    if now_at.state not in ("ramping", "holding"):
        return ""
    return "; ".join(each.words for each in (*seen.guardrails, *seen.outcomes) if each.state == "harmful")


def _ramping(now_at: progress.Progress, seen: evidence.Evidence, spec: traffic.RolloutSpec, now: float) -> Move:
    """A step of a canary: forward, hold, or wait."""
    blocked = _blocked(seen, spec)
    unknown = [each for each in seen.guardrails if each.state != "safe"]
    if now >= due(spec, now_at):
        open_yet = [*unknown, *(each for each in seen.outcomes if each.state != "safe")]
        why = blocked or "; ".join(each.words for each in open_yet) or "its steps were not over"
        return _roll_back(now_at, f"the deadline is over: {why}", now)
    elapsed = now - now_at.step_since
    over = elapsed >= spec.step.max_s
    if not seen.balanced:
        return _hold(now_at, blocked, now)
    if elapsed < spec.step.min_s:
        return _stay(now_at, f"the step's {spec.step.min_s:g} s are not over; {_summary(seen)}")
    if blocked:
        return _hold(now_at, blocked, now) if over else _stay(now_at, blocked)
    share = next_share(spec, now_at.share)
    if unknown:
        told = "; ".join(each.words for each in unknown)
        if not over:
            return _stay(now_at, told)
        if not _may_advance(spec, share):
            return _hold(now_at, f"{told}; the step's longest time is over", now)
        return _forward(now_at, seen, spec, f"{told}; the step's longest time is over without an alarm", now)
    return _forward(now_at, seen, spec, _summary(seen), now)


def _blocked(seen: evidence.Evidence, spec: traffic.RolloutSpec) -> str:
    """Why nothing may move forward, whatever the guardrails say; "" for nothing."""
    if not seen.balanced:
        new, old = seen.units
        return f"sample ratio mismatch: {new} units on the new side, {old} on the old; no comparison is to be trusted"
    if min(seen.fresh) < spec.step.units:
        new, old = seen.fresh
        return f"too few requests in this step: {new} on the new side, {old} on the old, {spec.step.units} are needed"
    if min(seen.units) < FEWEST_UNITS:
        return f"too few units: {seen.units[0]} on the new side, {seen.units[1]} on the old, {FEWEST_UNITS} are needed"
    silent = [each.name for each in seen.guardrails if each.state == "no data"]
    if silent:
        return f"no data yet for {', '.join(silent)}"
    return "" if seen.converged else "not every worker follows the last move"


def _forward(
    now_at: progress.Progress, seen: evidence.Evidence, spec: traffic.RolloutSpec, why: str, now: float
) -> Move:
    share = next_share(spec, now_at.share)
    if share is not None:
        number = 1 + sum(each < share for each in spec.steps)
        told = f"{why}: step {number} of {len(spec.steps)}, {progress.percent(share)}"
        return _to(now_at, "ramping", "advance", told, now, share=share, step=number)
    over = now - now_at.step_since >= spec.step.max_s
    for outcome in seen.outcomes:
        if outcome.closed < CLOSED_ENOUGH:
            told = f"{outcome.name}: the windows of {outcome.closed:.0%} of the units are closed, 80% are needed"
            return _hold(now_at, told, now)
        if outcome.state != "safe" and not (
            outcome.state == "inconclusive" and spec.on_inconclusive == "advance" and over
        ):
            return _hold(now_at, outcome.words, now)
    return _to(now_at, "promoting", "promote", f"{why}: everybody gets it", now, share=1.0)


def _may_advance(spec: traffic.RolloutSpec, share: float | None) -> bool:
    """Whether a step, or with None the promotion, may begin without proof of safety."""
    if spec.on_inconclusive == "auto":
        return share is not None and share <= INCONCLUSIVE_UP_TO
    return spec.on_inconclusive == "advance"


def _promoting(now_at: progress.Progress, seen: evidence.Evidence, now: float) -> Move:
    if not seen.converged:
        return _stay(now_at, "not every worker serves the new side yet")
    return _to(now_at, "baking", "bake", "every worker serves the new side; the old one stays loaded", now)


def _baking(now_at: progress.Progress, seen: evidence.Evidence, spec: traffic.RolloutSpec, now: float) -> Move:
    worse = "; ".join(each.words for each in seen.guardrails if each.state == "harmful")
    if now - now_at.step_since < spec.bake_s:
        if worse:
            return _stay(now_at, f"since before it was switched over {worse}; only a person can tell why", "alert")
        return _stay(now_at, f"bakes for {spec.bake_s:g} s")
    if seen.fresh[0] < spec.step.units:
        told = f"only {seen.fresh[0]} requests were seen in the bake, {spec.step.units} are needed"
        if now >= due(spec, now_at) and not now_at.forced:
            return _roll_back(now_at, f"the deadline is over: {told}", now)
        return _stay(now_at, told)
    told = "baked without a hard failure; make it the endpoint's own and delete the rollout's block"
    return _to(now_at, "done", "finish", f"{told} (alert: {worse})" if worse else told, now)


def _pause(now_at: progress.Progress, note: str, now: float) -> Move:
    if now_at.state in ENDED:
        raise ConflictError(f"the rollout has ended ({now_at.state}); there is nothing to pause.")
    if now_at.paused:
        raise ConflictError("the rollout is paused already.", hint="`turnout rollout resume` goes on.")
    state: traffic.State = "holding" if now_at.state == "ramping" else now_at.state
    return _made(now_at, "hold", note, now, state=state, paused=True)


def _resume(now_at: progress.Progress, spec: traffic.RolloutSpec, note: str, now: float) -> Move:
    if now_at.state == "rolled_back":
        fresh = progress.Progress(phase=now_at.phase, started=now, counts_from=now)
        return _begin(fresh, spec, note, now)
    if not now_at.paused:
        raise ConflictError(
            f"the rollout is not paused but {now_at.state}.",
            hint="`turnout rollout promote` moves it forward, `abort` takes it back.",
        )
    away = max(0.0, now - now_at.since)
    return _made(
        structs.replace(now_at, step_since=now_at.step_since + away, started=now_at.started + away),
        "resume",
        note,
        now,
        state="ramping" if now_at.state == "holding" else now_at.state,
        paused=False,
    )


def _promote_by_hand(now_at: progress.Progress, note: str, now: float) -> Move:
    if now_at.state == "done":
        raise ConflictError("the rollout is done already.", hint="`turnout rollout abort` takes it back.")
    if now_at.state == "promoting":
        raise ConflictError("everybody is being moved over already.", hint="`turnout rollout status` shows when.")
    if now_at.state == "baking":
        return _to(now_at, "done", "finish", f"{note}; the bake is cut short", now, forced=True)
    begun = structs.replace(now_at, started=now_at.started or now)
    return _to(begun, "promoting", "promote", note, now, share=1.0, forced=True)


def _roll_back(now_at: progress.Progress, reason: str, now: float) -> Move:
    return _to(now_at, "rolled_back", "roll back", reason, now, share=0.0, step=0, forced=False)


def _hold(now_at: progress.Progress, reason: str, now: float) -> Move:
    """To holding; once there, it stays without a new revision."""
    if now_at.state == "holding":
        return _stay(now_at, reason, "hold")
    return _made(now_at, "hold", reason, now, state="holding")


def _stay(now_at: progress.Progress, reason: str, decision: Decision = "wait") -> Move:
    return Move(progress=now_at, decision=decision, reason=reason)


def _to(  # noqa: PLR0913  # a new state has so many fields
    now_at: progress.Progress,
    state: traffic.State,
    decision: Decision,
    reason: str,
    now: float,
    *,
    share: float | None = None,
    step: int | None = None,
    forced: bool | None = None,
) -> Move:
    """Into a new step or state, whose own time begins now."""
    begun = structs.replace(
        now_at,
        share=now_at.share if share is None else share,
        step=now_at.step if step is None else step,
        forced=now_at.forced if forced is None else forced,
        step_since=now,
    )
    return _made(begun, decision, reason, now, state=state, paused=False)


def _made(
    now_at: progress.Progress,
    decision: Decision,
    reason: str,
    now: float,
    *,
    state: traffic.State,
    paused: bool = False,
) -> Move:
    moved = structs.replace(now_at, state=state, paused=paused, since=now, note=progress.note_of(reason))
    return Move(progress=moved, decision=decision, reason=reason)


def _summary(seen: evidence.Evidence) -> str:
    return "; ".join(each.words for each in seen.guardrails) or "no guardrail"
