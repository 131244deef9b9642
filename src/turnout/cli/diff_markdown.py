"""What `turnout diff --markdown` prints: one comment for a pull request. Pure."""

import re
from collections.abc import Sequence
from typing import Final

from turnout.cli import diff_words

MARK: Final = "<!-- turnout diff -->"
"""First line of every comment, so that a workflow finds its own and updates it."""

SIGNS: Final = {"": "", "break": "**Breaks.** ", "warn": "**Note.** ", "dim": "", "key": ""}
LIMIT: Final = 60_000
"""GitHub takes 65,536 characters."""

_SPECIAL = re.compile(r"([\\`*_{}\[\]<>|#~])")


def markdown(told: diff_words.Told) -> str:
    """One change as Markdown, bounded in size."""
    old, new = (revision[:12] or "nothing" for revision in told.change.revisions)
    headline = diff_words.headline(told)
    stage = f", stage {told.stage}" if told.stage else ""
    lines = [
        MARK,
        f"### {'Callers break' if headline.level == 'break' else 'What this change does'}",
        "",
        f"{escaped(headline.text)}",
        "",
        f"{escaped(told.labels[0])} (`{old}`) → {escaped(told.labels[1])} (`{new}`){stage}",
    ]
    for section in diff_words.sections(told):
        lines += ["", f"**{escaped(section.title)}**"]
        plain = [_item(line) for line in section.lines if line.level != "key"]
        lines += ["", *plain] if plain else []
        folded = [_item(line) for line in section.lines if line.level == "key"]
        if folded:
            lines += ["", "<details><summary>as written</summary>", "", *folded, "", "</details>"]
    text = "\n".join(lines)
    if len(text) > LIMIT:
        text = text[: text.rindex("\n", 0, LIMIT)] + "\n\n... and more; `turnout diff` prints all of it."
    return text


def refused(label: str, errors: Sequence[str]) -> str:
    """A document that is not valid."""
    listed = [f"- {escaped(each)}" for each in errors[:50]]
    return "\n".join([MARK, "### The document is not valid", "", f"{escaped(label)}:", "", *listed])


def escaped(text: str) -> str:
    r"""Text that Markdown shows as it is; mentions and tags do nothing.

    >>> escaped("a_b -> <c>")
    'a\\_b -\\> \\<c\\>'
    """
    return _SPECIAL.sub(r"\\\1", text).replace("\n", " ").replace("@", "@\u200b")


def _item(line: diff_words.Line) -> str:
    return f"{'  ' * line.depth}- {SIGNS[line.level]}{escaped(line.text)}"
