"""Turns what a decoder says into an InputError that teaches: the field, what was found, what is expected.

Only runs for a request that is refused, so it may decode the body again to quote from it.
Called by the codecs; calls `schemas`.
"""

import re
from typing import Any

import msgspec
import orjson

from turnout.errors import InputError, did_you_mean
from turnout.pipelines import schemas

MAX_QUOTED_CHARACTERS = 60
"""A value quoted from the request is cut here."""

MAX_NAMES = 12
"""More field names than this are not listed."""

JSON_WORDS = {
    "str": "string",
    "int": "integer",
    "float": "number",
    "bool": "boolean",
    "null": "null",
    "object": "object",
    "array": "array",
    "bytes": "base64 string",
    "datetime": "date and time (ISO 8601)",
    "date": "date (ISO 8601)",
}

_PLACE = re.compile(r" - at (?:`key` in )?`(\$[^`]*)`$")
_STEP = re.compile(r"\.([^.\[]+)|\[(\d+)\]|\[(\.\.\.)\]")
_MISSING = re.compile(r"^Object missing required field `(.*)`$")
_UNKNOWN = re.compile(r"^Object contains unknown field `(.*)`$")
_EXPECTED = re.compile(r"^Expected (.*), got `([^`]*)`$")
_BYTE = re.compile(r" \(byte (\d+)\)$")
ABSENT = object()


def deep() -> InputError:
    """The body is nested deeper than any type needs."""
    return InputError(
        "the body is nested too deeply.",
        hint="At most a few hundred levels of arrays and objects are read.",
        kind="syntax",
    )


def encoding() -> InputError:
    """The body is not UTF-8."""
    return InputError("the body is not valid UTF-8.", hint="Encode the JSON text as UTF-8.", kind="syntax")


def syntax(error: Exception, body: bytes) -> InputError:
    """The body is not JSON."""
    if not body.strip():
        return InputError("the body is empty; JSON is expected.", kind="syntax")
    text = str(error)
    found = _BYTE.search(text)
    position = int(found[1]) if found else len(body)
    if re.match(rb"NaN|Infinity|nan|inf", body[max(position, 0) :]) or re.match(
        rb"-?(Infinity|inf)", body[max(position - 1, 0) :]
    ):
        return InputError(
            f"the body is not JSON: NaN and Infinity at byte {position} are not numbers in JSON.",
            hint="Leave the field out, or send null where the type allows it.",
            kind="syntax",
        )
    if "truncated" in text:
        return InputError(f"the body is not JSON: it ends too early, after {len(body)} bytes.", kind="syntax")
    reason = _BYTE.sub("", text.removeprefix("JSON is malformed: ")).rstrip(".")
    near = body[max(position - 10, 0) : position + 10].decode("utf-8", "replace")
    return InputError(f"the body is not JSON: {reason} at byte {position}, near {near!r}.", kind="syntax")


def unknown(steps: schemas.Steps, schema: schemas.Schema) -> InputError:
    """A field the type does not have."""
    path = schemas.dotted(steps)
    names = schemas.field_names(schema, steps[:-1])
    listed = f"{', '.join(names[:MAX_NAMES])}{', ...' if len(names) > MAX_NAMES else ''}"
    hint = did_you_mean(str(steps[-1]), names, f"Known here: {listed}." if names else "")
    return InputError(f"unknown field {path[:200]!r}.", path=path[:200], hint=hint)


def missing(steps: schemas.Steps, schema: schemas.Schema) -> InputError:
    """A required field is not there."""
    path = schemas.dotted(steps)
    expected = " or ".join(dict.fromkeys(_kind(node) for node in schemas.at(schema, steps)))
    return InputError(
        f"field {path!r} is missing; {expected or 'a value'} is expected.", path=path, hint=f"Add {path!r}."
    )


def wrong(steps: schemas.Steps, expected: str, body: bytes) -> InputError:
    """A value of the wrong type or out of its range."""
    path = schemas.dotted(steps)
    subject = f"field {path!r}" if path else "the body"
    found = _quoted(_follow(body, steps))
    return InputError(f"{subject} is {found}; {expected} is expected.", path=path)


def refused(steps: schemas.Steps, reason: str, body: bytes) -> InputError:
    """A value refused for a reason of its own, for instance by the author's validator."""
    path = schemas.dotted(steps)
    subject = f"field {path!r}" if path else "the body"
    found = _follow(body, steps)
    quoted = "" if found is ABSENT else f" is {_quoted(found)}"
    return InputError(f"{subject}{quoted}: {reason}.", path=path)


def from_msgspec(error: Exception, body: bytes, schema: schemas.Schema) -> InputError:
    """The InputError for what msgspec raised while decoding `body`."""
    if isinstance(error, RecursionError):
        return deep()
    if isinstance(error, UnicodeDecodeError):
        return encoding()
    if not isinstance(error, msgspec.ValidationError):
        return syntax(error, body)
    text = str(error)
    place = _PLACE.search(text)
    steps = parse(place[1]) if place else ()
    text = _PLACE.sub("", text)
    if found := _UNKNOWN.match(text):
        return unknown((*steps, found[1]), schema)
    if found := _MISSING.match(text):
        return missing((*steps, found[1]), schema)
    if found := _EXPECTED.match(text):
        return wrong(steps, _article(_words(found[1])), body)
    if text.startswith("Expected "):
        expected = _article(_words(text.removeprefix("Expected ")))
        exact = {
            node.get("minItems") for node in schemas.at(schema, steps) if node.get("minItems") == node.get("maxItems")
        }
        if "array of length" in expected and len(exact) == 1:
            expected = f"an array of {exact.pop()}"
        return wrong(
            steps, expected.replace("of length >= ", "of at least ").replace("of length <= ", "of at most "), body
        )
    if text in ("Number out of range", "Integer value out of range"):
        return refused(steps, "the number is out of range", body)
    if text.startswith(("Invalid value", "Invalid enum value")):
        allowed = [value for node in schemas.at(schema, steps) for value in node.get("enum", ())]
        choices = ", ".join(repr(value) for value in allowed[:MAX_NAMES])
        return (
            wrong(steps, f"one of {choices}", body)
            if choices
            else refused(steps, "it is not one of the allowed values", body)
        )
    return refused(steps, _words(text).rstrip("."), body)


def parse(place: str) -> schemas.Steps:
    """Steps of a path as msgspec writes it.

    >>> parse("$.items[3].price")
    ('items', 3, 'price')
    """
    return tuple(
        int(position) if position else name or "*"
        for name, position, _ in (found.groups() for found in _STEP.finditer(place[1:]))
    )


def _words(text: str) -> str:
    return re.sub(r"`([^`]*)`", lambda found: " or ".join(JSON_WORDS.get(w, w) for w in found[1].split(" | ")), text)


def _article(text: str) -> str:
    return text if text.startswith(("null", "one of")) else f"{'an' if text[:1] in 'aeiou' else 'a'} {text}"


def _kind(node: schemas.Schema) -> str:
    kind = node.get("type", "value")
    return " or ".join(_article(each) for each in kind) if isinstance(kind, list) else _article(kind)


def _follow(body: bytes, steps: schemas.Steps) -> Any:
    try:
        value = msgspec.json.decode(body)
        for step in steps:
            value = value[step]
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError, LookupError, TypeError):
        return ABSENT
    return value


def _quoted(value: Any) -> str:
    if value is ABSENT:
        return "of another kind"
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, dict):
        return "an object"
    if isinstance(value, list):
        return f"an array of {len(value)}"
    if isinstance(value, str):
        shown = orjson.dumps(value[:MAX_QUOTED_CHARACTERS], default=str).decode()
        return f"the string {shown}{' (cut)' if len(value) > MAX_QUOTED_CHARACTERS else ''}"
    if isinstance(value, int) and value.bit_length() > 200:
        return "a huge integer"
    return f"the number {value!r}"
