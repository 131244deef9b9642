"""How a rollout's progress is written into the overlay and read back."""

import msgspec
import pytest

from turnout.errors import StoreError
from turnout.rollouts import progress
from turnout.spec import traffic


def test_progress_has_the_keys_that_the_document_takes() -> None:
    ours = {field.name: field.default for field in msgspec.structs.fields(progress.Progress)}
    theirs = traffic.ProgressSpec.model_fields
    assert set(ours) == set(theirs)
    assert all(theirs[name].default == ours[name] for name in ours if name not in ("phase", "state"))


def test_progress_of_another_phase_is_void() -> None:
    text = progress.write("", "next", progress.Progress(phase="p", state="ramping", share=0.05, step=2))
    assert progress.read(text, "next", "p") == progress.Progress(phase="p", state="ramping", share=0.05, step=2)
    assert progress.read(text, "next", "q") is None
    assert progress.read(text, "other", "p") is None


def test_an_overlay_may_be_written_as_yaml() -> None:
    text = "rollouts: {next: {progress: {phase: p, state: holding, paused: true, share: 0.1}}}"
    found = progress.read(text, "next", "p")
    assert found is not None
    assert (found.state, found.paused, found.share) == ("holding", True, 0.1)


def test_everything_else_in_the_overlay_stays() -> None:
    text = "{experiments: {e: {winner: a}}, rollouts: {other: {progress: {phase: x, state: done}}}}"
    text = progress.write(text, "next", progress.Progress(phase="p"))
    assert progress.rollouts_of(text) == ("next", "other")
    text = progress.write(text, "next", None)
    assert progress.rollouts_of(text) == ("other",)
    assert '"winner": "a"' in text
    assert progress.write(progress.write("", "next", progress.Progress(phase="p")), "next", None) == ""


def test_what_no_overlay_may_hold_is_not_carried_along() -> None:
    text = "{endpoints: {reply: {pipeline: new}}, rollouts: {other: {to: {pipeline: p}}, third: 3}, experiments: [1]}"
    kept = progress.write(text, "next", progress.Progress(phase="p"))
    assert kept == progress.write("", "next", progress.Progress(phase="p"))


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("[1, 2]", "the overlay cannot be read: the document is a list"),
        ("a: {", "the overlay cannot be read: not YAML"),
        ("[" * 5_000, "nested too deep"),
        ("a: \0", "0x00"),
        ("a0: &a0 1\n" + "".join(f"a{n}: &a{n} [*a{n - 1}, *a{n - 1}]\n" for n in range(1, 30)), "cannot be read"),
        ("rollouts: {next: {progress: {phase: p, state: flying}}}", "progress of rollout 'next' cannot be read"),
    ],
)
def test_an_overlay_that_is_none_says_so(text: str, told: str) -> None:
    with pytest.raises(StoreError, match=told):
        progress.read(text, "next", "p")
