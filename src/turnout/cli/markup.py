"""HTML and SVG built from elements, so that nothing is forgotten to be escaped. Used by `report_html` and its plots."""

import html
from collections.abc import Iterable
from typing import Final, TypeAlias

Attribute: TypeAlias = str | float | None

VOID: Final = frozenset({"meta", "br", "hr", "line", "rect", "circle", "path", "polygon", "polyline"})
"""Elements without content."""

CONTROL: Final = dict.fromkeys((*range(9), 11, 12, *range(14, 32), 127))
"""Characters that no HTML document may hold."""


class Markup(str):
    """Text that is HTML already; only `element` and `joined` make it."""

    __slots__ = ()


def element(name: str, /, *children: str | None, **attributes: Attribute) -> Markup:
    """One element; text children are escaped, None is left out.

    Args:
        attributes: A trailing underscore is dropped (`class_`), others become hyphens; None leaves one out.

    >>> element("p", "a < b", class_="x", data_n=1.50)
    '<p class="x" data-n="1.5">a &lt; b</p>'
    """
    given = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{_value(value)}"'
        for key, value in attributes.items()
        if value is not None
    )
    if name in VOID and not any(children):
        return Markup(f"<{name}{given}/>")
    return Markup(f"<{name}{given}>{joined(children)}</{name}>")


def joined(parts: Iterable[str | None]) -> Markup:
    """Parts in a row; what is no markup is escaped."""
    return Markup("".join(part if isinstance(part, Markup) else _text(part) for part in parts if part is not None))


def trusted(text: str) -> Markup:
    """Markup of our own, such as the style sheet. Never of anything that was read."""
    return Markup(text)


def _text(text: str) -> str:
    return html.escape(text.translate(CONTROL), quote=True)


def _value(value: str | float) -> str:
    if isinstance(value, float):
        return f"{value:.2f}".rstrip("0").rstrip(".")
    return _text(str(value))
