"""What a rollout will do next, in words: for people who look at it or have just commanded something. Pure.

Called by `turnout rollout`.
"""

from turnout.rollouts import progress, states
from turnout.spec import traffic


def words(now_at: progress.Progress, spec: traffic.RolloutSpec, name: str, now: float) -> str:
    """One or two sentences.

    Args:
        name: The rollout's, for the commands that are named.
        now: Epoch seconds.
    """
    if now_at.paused:
        return f"Paused by hand: nothing moves forward; `turnout rollout resume {name}` goes on where it stood."
    match now_at.state:
        case "pending":
            begins = "step 1 begins" if spec.kind == "canary" else "everybody is switched over"
            return f"Nobody has the new side yet. When every worker has it loaded, {begins}."
        case "ramping" | "holding":
            return _of_step(now_at, spec, now)
        case "promoting":
            return "Everybody gets the new side; when every worker serves it, it bakes."
        case "baking":
            left = _span(max(0.0, now_at.step_since + spec.bake_s - now))
            undone = "only `turnout rollout abort` takes it back" if now_at.forced else "a hard failure takes it back"
            return f"Everybody has the new side, the old one stays loaded; {undone}. Done in {left}."
        case "done":
            return "Everybody has the new side. Make it the endpoint's own in the document, and delete the rollout."
        case "rolled_back":
            return (
                f"Everybody has the old side. `turnout rollout resume {name}` starts again at the first step "
                "and counts from then; a changed definition starts anew by itself."
            )


def _of_step(now_at: progress.Progress, spec: traffic.RolloutSpec, now: float) -> str:
    share = states.next_share(spec, now_at.share)
    goal = "everybody" if share is None else progress.percent(share)
    early, late = now_at.step_since + spec.step.min_s, now_at.step_since + spec.step.max_s
    when = f"not before {_span(early - now)} are over, and " if early > now else ""
    deadline = f"At the deadline, in {_span(max(0.0, states.due(spec, now_at) - now))}, it goes back to nobody."
    if now < late:
        return f"Next is {goal}: {when}when the guardrails rule out harm. {deadline}"
    return f"Next is {goal}, once what holds it is settled. {deadline}"


def _span(seconds: float) -> str:
    """
    >>> _span(5.2), _span(125), _span(7300), _span(200_000)
    ('5 s', '2 min', '2.0 h', '2.3 days')
    """
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 5_400:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3_600:.1f} h" if seconds < 129_600 else f"{seconds / 86_400:.1f} days"
