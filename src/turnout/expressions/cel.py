"""Conditions in CEL, by Google's C++ implementation. Opened by `catalog`; needs the extra `rules`.

CEL checks types and names when it compiles, has no loops without end and no way out of the
expression. Its complaints become sentences with a column and a way to go on.
"""

import re
from collections.abc import Iterable, Mapping
from typing import Any, Final

from cel_expr_python import cel  # type: ignore[import-untyped]

from turnout.errors import SpecError, did_you_mean
from turnout.expressions import catalog

MAX_CHARACTERS: Final = 4096
MAX_COMPLAINTS: Final = 5

TYPES: Final = {catalog.ANY: cel.Type.DYN, catalog.TEXT: cel.Type.STRING}

_COMPLAINT: Final = re.compile(r"ERROR: <input>:(?P<line>\d+):(?P<column>\d+): (?P<text>[^\n]*)")
_UNKNOWN: Final = re.compile(r"undeclared reference to '(?P<name>[^']*)'")
_OVERLOAD: Final = re.compile(r"found no matching overload for '(?P<function>[^']*)' applied to '\((?P<types>.*)\)'")
_ABSENT: Final = re.compile(r'No value with name "(?P<name>\w+)" found')
_STATUS: Final = re.compile(r"\s*\[[A-Z_]+\]$")
_LITERALS: Final = re.compile(r"""r?(\"(\\.|[^\"\\])*\"|'(\\.|[^'\\])*')|//[^\n]*""")

WORDS: Final = {"int": "a whole number", "double": "a fraction", "string": "text", "bool": "true or false"}
"""What CEL's types are called here."""


class CelCondition:
    """See `catalog.Condition`."""

    __slots__ = ("_evaluate", "names", "text")

    def __init__(self, text: str, names: Iterable[str], expression: Any) -> None:
        self.text = text
        self.names = tuple(names)
        self._evaluate = expression.eval

    def __repr__(self) -> str:
        return f"<condition {self.text}>"

    def holds(self, attributes: Mapping[str, object]) -> bool:
        """See `catalog.Condition.holds`.

        Complexity: about 3 µs for `country in ["KR", "JP"]`.
        """
        known = {name: attributes[name] for name in self.names if attributes.get(name) is not None}
        try:
            answer = self._evaluate(data=known)
        except RuntimeError as error:  # such as a text that is no UTF-8
            raise ValueError(f"targeting: {_plain(str(error))}") from error
        found = answer.value()
        if found is True or found is False:
            return bool(found)
        if answer.type() != cel.Type.ERROR:  # a caller's own value, which nobody reads as CEL's word
            kind = answer.type().name().lower()
            raise ValueError(f"targeting: it gives {WORDS.get(kind, kind)}, not true or false")
        complaint = str(found)
        absent = _ABSENT.search(complaint)
        if absent:
            raise LookupError(absent["name"])
        raise ValueError(f"targeting: {_plain(complaint)}")


def compile(text: str, kinds: Mapping[str, str]) -> CelCondition:  # noqa: A001 - what CEL calls it
    """See `catalog.compile`."""
    if len(text) > MAX_CHARACTERS:
        raise SpecError(f"the condition has {len(text):,} characters; at most {MAX_CHARACTERS:,} are taken.")
    environment = cel.NewEnv(variables={name: TYPES[kind] for name, kind in kinds.items()})
    try:
        expression = environment.compile(text)
    except (RuntimeError, ValueError) as error:
        raise _refused(text, str(error), kinds) from error
    returned = expression.return_type().name()
    if returned not in ("BOOL", "DYN"):
        found = WORDS.get(returned.lower(), returned.lower())
        raise SpecError(
            f"the condition gives {found}, not true or false.", hint="Compare it: country == 'KR', or age >= 18."
        )
    words = re.findall(r"[A-Za-z_]\w*", _LITERALS.sub(" ", text))
    return CelCondition(text, [name for name in dict.fromkeys(words) if name in kinds], expression)


def _refused(text: str, told: str, kinds: Mapping[str, str]) -> SpecError:
    """All complaints of the compiler in one error, the first few in words."""
    found = [_worded(text, match, kinds) for match in _COMPLAINT.finditer(told)][:MAX_COMPLAINTS]
    if not found:
        return SpecError(f"the condition is not valid: {_plain(told)}.")
    hints = dict.fromkeys(hint for _, hint in found if hint)
    return SpecError("; ".join(message for message, _ in found) + ".", hint=" ".join(hints))


def _worded(text: str, complaint: re.Match[str], kinds: Mapping[str, str]) -> tuple[str, str]:
    """One complaint of the compiler as (sentence, hint)."""
    line, column = int(complaint["line"]), int(complaint["column"])
    place = f"column {column}" if "\n" not in text else f"line {line}, column {column}"
    unknown = _UNKNOWN.search(complaint["text"])
    if unknown:
        known = f"The endpoint's attributes: {', '.join(sorted(kinds)) or 'none'}."
        return f"{place}: unknown name {unknown['name']!r}", did_you_mean(unknown["name"], kinds, known)
    overload = _OVERLOAD.search(complaint["text"])
    if overload:
        types = overload["types"].split(", ")
        operator = overload["function"].strip("_@")
        taken = " and ".join(WORDS.get(each, each) for each in types)
        return f"{place}: {operator!r} does not take {taken}", _hint(types, operator)
    return f"{place}: {_syntax(complaint['text'])}", _syntax_hint(text)


def _syntax(told: str) -> str:
    """The parser's complaint without its grammar."""
    told = _plain(told).removeprefix("Syntax error: ").partition(" expecting {")[0]
    if told.startswith("mismatched input '<EOF>'"):
        return "it ends too early"
    extra = re.fullmatch(r"(?:extraneous|mismatched) input (?P<token>'.*') expecting <EOF>", told)
    if extra:
        return f"{extra['token']} does not belong here"
    return told.replace("token recognition error at: ", "cannot read ").replace("<EOF>", "the end")


def _hint(types: list[str], operator: str) -> str:
    if set(types) == {"int", "double"}:
        return "Fractions compare with fractions: write 0.0 for 0, or double(x)."
    if operator == "in" and "string" in types:
        return 'Write a list: country in ["KR", "JP"].'
    if "string" in types and set(types) & {"int", "double"}:
        return "Quote it, or turn the text into a number: int(x), double(x)."
    return ""


def _syntax_hint(text: str) -> str:
    bare = _LITERALS.sub(" ", text)
    if re.search(r"(?<![=!<>])=(?!=)", bare):
        return "Compare with '=='."
    if re.search(r"\b(and|or|not)\b", bare):
        return "CEL writes &&, || and !."
    return ""


def _plain(told: str) -> str:
    return _STATUS.sub("", told.strip().splitlines()[0]) if told.strip() else "it cannot be read"
