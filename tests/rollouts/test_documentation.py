"""What docs/rollouts.md shows is what a document takes and what the code does."""

import re
import textwrap
from pathlib import Path
from typing import get_args

from turnout.rollouts import states
from turnout.spec import snapshot, traffic

PAGE = (Path(__file__).parents[2] / "docs" / "rollouts.md").read_text()

AROUND = """
models: {first: {runtime: python, code: "a:M"}, rank-v2: {runtime: python, code: "a:N"}}
pipelines: {retrieval: {code: "a:p", models: {rank: first}}}
endpoints: {reply: {pipeline: retrieval, unit: user_id}}
"""


def test_the_rollout_on_the_page_is_a_right_document() -> None:
    found = re.search(r"```yaml\n(.*?)```", PAGE, re.DOTALL)
    assert found is not None
    content = snapshot.admit({"turnout.yaml": AROUND + textwrap.dedent(found[1])}, environment={})
    assert content.warnings == ()
    shown, usual = content.document.rollouts["new-ranker"], traffic.RolloutSpec.model_fields
    assert shown.steps == usual["steps"].default
    assert shown.step == traffic.StepSpec()
    assert (shown.look_s, shown.bake_s) == (usual["look_s"].default, usual["bake_s"].default)


def test_every_state_decision_and_command_is_on_the_page() -> None:
    spans = set(re.findall(r"`([a-z_]+)`", PAGE)) | set(re.findall(r"\*\*([a-z ]+)\*\*", PAGE))
    assert set(get_args(traffic.State)) <= spans
    assert set(get_args(states.Decision)) - {"start", "resume", "bake", "finish"} <= spans, "those name the next state"
    assert all(f"turnout rollout {command} NAME" in PAGE for command in get_args(states.Command))
