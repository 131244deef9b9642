"""Conditions are compiled through here, so that CEL is imported by documents that have some, and by no others.

Called by assembly, `turnout check` and `turnout explain`.
"""

import importlib
from collections.abc import Iterable, Mapping
from typing import Final, Protocol, cast

from turnout.errors import SpecError
from turnout.spec import fields

LANGUAGE: Final = "turnout.expressions.cel"
EXTRA: Final = "rules"

ANY: Final = "any"
TEXT: Final = "text"


class Condition(Protocol):
    """A condition, compiled once.

    Attributes:
        text: As in the document.
        names: What it reads, in order of appearance.
    """

    @property
    def text(self) -> str: ...
    @property
    def names(self) -> tuple[str, ...]: ...

    def holds(self, attributes: Mapping[str, object]) -> bool:
        """Whether it is true.

        Args:
            attributes: Values by name; None as a value means that it is missing.

        Raises:
            LookupError: It depends on an attribute that is missing; `args[0]` is its name.
            ValueError: It cannot be computed on these values, such as `age > 18` on a text.
        """
        ...


class Language(Protocol):
    """What the module behind `LANGUAGE` offers."""

    def compile(self, text: str, kinds: Mapping[str, str]) -> Condition: ...


def compile(text: str, names: Mapping[str, str] | Iterable[str]) -> Condition:  # noqa: A001 - what CEL calls it
    """Compile a condition over declared names. Blocking: imports CEL on first use.

    Args:
        text: CEL, such as `country in ["KR", "JP"]`.
        names: The endpoint's `attributes` (name to "user.country" or "header:X-Plan"), or names alone. What comes from
            a header is known to be text, so that comparing it with a number is an error here and not in a request.

    Raises:
        SpecError: With every complaint, its column, and the nearest name or what to write instead; or the
            library is not installed. It has no path: the caller knows the place.

    >>> compile('country in ["KR", "JP"]', ["country"]).holds({"country": "KR"})
    True
    """
    if isinstance(names, Mapping):
        kinds = {name: TEXT if path.startswith(fields.HEADER) else ANY for name, path in names.items()}
    else:
        kinds = dict.fromkeys(names, ANY)
    return _language().compile(text, kinds)


def _language() -> Language:
    try:
        return cast(Language, importlib.import_module(LANGUAGE))
    except ModuleNotFoundError as error:
        raise SpecError(
            f"targeting needs the module {error.name!r}, which is not there.",
            hint=f'Install it: pip install "turnout[{EXTRA}]".',
        ) from error
