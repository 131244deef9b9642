"""The kinds of values a document is made of: names, durations, shares, places of code.

Each kind says in words what it accepts; `findings` joins that with what was found. No kind
names the found value itself, because it may have come from a secret.

Used by `document`.
"""

import math
import re
from typing import Annotated, Any, TypeAlias

from pydantic import BeforeValidator, Field, Strict, WithJsonSchema
from pydantic_core import PydanticCustomError

from turnout.errors import SpecError, did_you_mean
from turnout.spec import units

NAME = "a name of lower-case letters, digits, '-' and '_' that begins with a letter, at most 63 characters"
KEYWORD = "a Python name such as top_k"
CODE = "'package.module:name'"
UNIT = "a field of the request such as user_id or user.id, or header:X-User"

HEADER = "header:"
"""Begins a path that leads to a request header, such as header:X-User."""

BUILT_IN = ("ensemble", "generation", "predict", "retrieval")
"""Pipelines that come with Turnout; `pipelines/catalog.py` says where they are."""

_NAME = re.compile(r"[a-z][a-z0-9_-]{0,62}")
_KEYWORD = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,62}")
_CODE = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*(\.[A-Za-z_]\w*)*", re.ASCII)
_UNIT = re.compile(r"header:[A-Za-z0-9!#$%&'*+.^_`|~-]{1,128}|[A-Za-z_][\w-]*(\.[A-Za-z_][\w-]*){0,15}", re.ASCII)
_HEADER = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,128}", re.ASCII)
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_REFERENCE = r"\$\{[A-Za-z_][A-Za-z0-9_]*\}"


def refuse(expected: str, hint: str = "") -> PydanticCustomError:
    """The error of a value of the wrong kind; `findings` turns it into a SpecError."""
    return PydanticCustomError("expected", "expected {expected}", {"expected": expected, "hint": hint})


def _matching(pattern: re.Pattern[str], expected: str) -> BeforeValidator:
    def check(value: Any) -> Any:
        if not isinstance(value, str) or pattern.fullmatch(value) is None:
            raise refuse(expected)
        return value

    return BeforeValidator(check)


def _name(value: Any) -> Any:
    if isinstance(value, str) and _NAME.fullmatch(value):
        return value
    suggested = re.sub(r"[^a-z0-9_]+", "-", value.lower()).strip("-_0123456789")[:63] if isinstance(value, str) else ""
    raise refuse(NAME, f"Write {suggested}." if suggested else "")


def _duration(value: Any) -> float:
    if isinstance(value, int | float) and not isinstance(value, bool):
        raise refuse(units.DURATION, f"Say the unit: {value}s or {value}ms.")
    if not isinstance(value, str):
        raise refuse(units.DURATION)
    try:
        return units.duration(value)
    except SpecError as error:
        expected, hint = units.DURATION, error.hint
    raise refuse(expected, hint)


def _ratio(value: Any) -> float:
    if isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= 1:
        return float(value)
    if not isinstance(value, str):
        percent = isinstance(value, int | float) and not isinstance(value, bool) and 1 < value <= 100
        raise refuse(units.RATIO, f"Write {value}% for per cent." if percent else "")
    try:
        return units.ratio(value)
    except SpecError as error:
        expected, hint = units.RATIO, error.hint
    raise refuse(expected, hint)


def _pipeline_code(value: Any) -> str:
    if isinstance(value, str) and (value in BUILT_IN or _CODE.fullmatch(value)):
        return value
    meant = did_you_mean(value, BUILT_IN) if isinstance(value, str) else ""
    raise refuse(CODE + " or a built-in pipeline", f"{meant} Built in: {', '.join(BUILT_IN)}.".lstrip())


def _weight(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        text = isinstance(value, str) and re.fullmatch(r"[0-9]+(\.[0-9]+)?%?", value) is not None
        raise refuse("a number, 0 or more", "Remove the quotes and the percent sign." if text else "")
    if not math.isfinite(value) or value < 0 or value > 1e9:
        raise refuse("a number from 0 to 1,000,000,000")
    return float(value)


def _override(value: Any) -> str:
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    if isinstance(value, str) and 0 < len(value) <= 1024:
        return value
    raise refuse("a unit: text of 1 to 1,024 characters, or a whole number")


def _seed(value: Any) -> str:
    if isinstance(value, str) and 0 < len(value) <= 128 and "\0" not in value:
        return value
    raise refuse("text of 1 to 128 characters without NUL")


def _on_missing_unit(value: Any) -> str:
    if value in ("control", "request") or (isinstance(value, str) and _ATTRIBUTE.fullmatch(value)):
        return str(value)
    raise refuse("control, request, or attribute:NAME")


_ATTRIBUTE = re.compile(r"attribute:[A-Za-z_][\w.-]{0,127}", re.ASCII)


def _or_reference(pattern: str) -> str:
    return f"({pattern})|({_REFERENCE})|(^secret:.+)"


def none_is_empty(value: Any) -> Any:
    """A key whose lines are all commented out is null in YAML; the author means: nothing here."""
    return {} if value is None else value


Text: TypeAlias = Annotated[str, Strict(), Field(min_length=1, max_length=4096)]
Flag: TypeAlias = Annotated[bool, Strict()]
Count: TypeAlias = Annotated[int, Strict(), Field(ge=1, le=1_000_000_000)]
Name: TypeAlias = Annotated[
    str, _matching(_NAME, NAME), WithJsonSchema({"type": "string", "pattern": f"^{_NAME.pattern}$"})
]
NewName: TypeAlias = Annotated[
    str, BeforeValidator(_name), WithJsonSchema({"type": "string", "pattern": f"^{_NAME.pattern}$"})
]
Keyword: TypeAlias = Annotated[
    str, _matching(_KEYWORD, KEYWORD), WithJsonSchema({"type": "string", "pattern": f"^{_KEYWORD.pattern}$"})
]
Code: TypeAlias = Annotated[
    str, _matching(_CODE, CODE), WithJsonSchema({"type": "string", "pattern": f"^{_CODE.pattern}$"})
]
PipelineCode: TypeAlias = Annotated[
    str,
    BeforeValidator(_pipeline_code),
    WithJsonSchema(
        {
            "anyOf": [
                {"enum": list(BUILT_IN)},
                {"type": "string", "pattern": f"^{_CODE.pattern}$"},
            ]
        }
    ),
]
Unit: TypeAlias = Annotated[
    str, _matching(_UNIT, UNIT), WithJsonSchema({"type": "string", "examples": ["user_id", "user.id", "header:X-User"]})
]
HeaderName: TypeAlias = Annotated[
    str,
    _matching(_HEADER, "the name of a request header such as X-Variant"),
    WithJsonSchema({"type": "string", "examples": ["X-Variant"]}),
]
Digest: TypeAlias = Annotated[
    str,
    _matching(_DIGEST, "'sha256:' and 64 lower-case hexadecimal digits"),
    WithJsonSchema({"type": "string", "pattern": _or_reference(f"^{_DIGEST.pattern}$")}),
]
Duration: TypeAlias = Annotated[
    float,
    BeforeValidator(_duration),
    WithJsonSchema(
        {"type": "string", "pattern": _or_reference(units.DURATION_PATTERN), "examples": ["200ms", "5s", "30d"]}
    ),
]
Ratio: TypeAlias = Annotated[
    float,
    BeforeValidator(_ratio),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "number", "minimum": 0, "maximum": 1},
                {"type": "string", "pattern": _or_reference(units.RATIO_PATTERN), "examples": ["20%"]},
            ]
        }
    ),
]
Weight: TypeAlias = Annotated[
    float, BeforeValidator(_weight), WithJsonSchema({"type": "number", "minimum": 0, "maximum": 1e9})
]
Override: TypeAlias = Annotated[
    str, BeforeValidator(_override), WithJsonSchema({"anyOf": [{"type": "string"}, {"type": "integer"}]})
]
Seed: TypeAlias = Annotated[str, BeforeValidator(_seed), WithJsonSchema({"type": "string", "minLength": 1})]
OnMissingUnit: TypeAlias = Annotated[
    str,
    BeforeValidator(_on_missing_unit),
    WithJsonSchema({"anyOf": [{"enum": ["control", "request"]}, {"type": "string", "pattern": "^attribute:.+$"}]}),
]
Values: TypeAlias = Annotated[dict[Keyword, Any], BeforeValidator(none_is_empty)]
"""Keyword arguments of the user's code: whatever YAML can say, hence Any; the code's own types check them later."""
