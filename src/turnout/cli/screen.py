"""What commands print: tables and colours on a terminal, the same columns plain when piped.

Loaded only by commands that print tables. Colours follow NO_COLOR and the terminal.
"""

import os
import sys
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any

import click
import msgspec
from rich import box, console, measure, table, text

WIDE = 10_000


def open_console() -> console.Console:
    """For stdout: as wide as the terminal; piped, without line breaks unless COLUMNS says how wide."""
    if sys.stdout.isatty():
        return console.Console(highlight=False, markup=False)
    asked = os.environ.get("COLUMNS", "")
    width = int(asked) if asked.isdecimal() and int(asked) > 0 else WIDE
    return console.Console(highlight=False, markup=False, width=width, color_system=None)


def show_table(out: console.Console, title: str, heads: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """One table; a head that begins with ">" is a column of numbers. Nothing for no rows.

    Where it is too wide, rows and columns change places, if that fits.
    """
    cells = [[cell if isinstance(cell, text.Text) else text.Text(shown(cell)) for cell in row] for row in rows]
    if not cells:
        return
    made = _table(out, title, heads, cells)
    if _width(out, made) > out.width:
        names = [text.Text(head.removeprefix(">"), style="dim") for head in heads]
        turned = [list(row) for row in zip(names, *cells, strict=True)]
        upright = _table(out, title, [turned[0][0].plain, *(f">{cell.plain}" for cell in turned[0][1:])], turned[1:])
        made = upright if _width(out, upright) <= out.width else made
    out.print(made)


def _width(out: console.Console, made: table.Table) -> int:
    return measure.Measurement.get(out, out.options.update(max_width=WIDE), made).maximum


def _table(out: console.Console, title: str, heads: Sequence[str], cells: Sequence[Sequence[text.Text]]) -> table.Table:
    made = table.Table(
        title=title or None,
        title_justify="left",
        title_style="bold",
        header_style="dim",
        box=box.SIMPLE_HEAD if out.is_terminal else None,
        pad_edge=False,
        padding=(0, 2, 0, 0),
    )
    for head in heads:
        made.add_column(head.removeprefix(">"), justify="right" if head.startswith(">") else "left")
    for row in cells:
        made.add_row(*row)
    return made


def shown(value: object) -> str:
    """A cell: "-" for nothing, yes and no for truth.

    >>> shown(None), shown(True), shown(3), shown("x")
    ('-', 'yes', '3', 'x')
    """
    if value is None or value == "":
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return plain(str(value))


def plain(told: str) -> str:
    """Text that others wrote, without what a terminal would obey.

    >>> plain("red \\x1b[31m or two\\nlines")
    'red  [31m or two\\nlines'
    """
    return told if told.isprintable() else "".join(c if c.isprintable() or c == "\n" else " " for c in told)


def styled(value: object, style: str) -> text.Text:
    return text.Text(shown(value), style=style)


def when(epoch_s: float | None) -> str:
    """A moment in local time.

    >>> when(None)
    '-'
    """
    if epoch_s is None:
        return "-"
    return datetime.fromtimestamp(epoch_s, UTC).astimezone().strftime("%Y-%m-%d %H:%M:%S")


def milliseconds(seconds: float | None) -> str:
    """
    >>> milliseconds(0.0123), milliseconds(None)
    ('12.3 ms', '-')
    """
    return "-" if seconds is None else f"{seconds * 1000:.1f} ms"


def percent(ratio: float | None, digits: int = 2) -> str:
    """
    >>> percent(0.1234), percent(None)
    ('12.34 %', '-')
    """
    return "-" if ratio is None else f"{ratio * 100:.{digits}f} %"


def print_json(value: Any) -> None:
    """For machines: one JSON document, indented."""
    click.echo(msgspec.json.format(msgspec.json.encode(value), indent=2).decode())
