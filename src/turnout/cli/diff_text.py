"""What `turnout diff` prints on a terminal."""

from rich import console, text

from turnout.cli import diff_words

STYLES = {"": "", "break": "bold red", "warn": "yellow", "dim": "dim", "key": "dim"}


def show(out: console.Console, told: diff_words.Told) -> None:
    """Print one change."""
    old, new = (revision[:12] or "nothing" for revision in told.change.revisions)
    stage = f", stage {told.stage}" if told.stage else ""
    out.print(f"{told.labels[0]} ({old}) -> {told.labels[1]} ({new}){stage}", style="bold")
    _line(out, diff_words.headline(told), 0)
    for section in diff_words.sections(told):
        out.print()
        out.print(section.title, style="bold")
        for line in section.lines:
            _line(out, line, 1)


def _line(out: console.Console, line: diff_words.Line, depth: int) -> None:
    out.print(text.Text("  " * (depth + line.depth) + line.text, style=STYLES[line.level]))
