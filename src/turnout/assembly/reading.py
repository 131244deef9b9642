"""What a request says of itself by declared paths: its unit, and the attributes that targeting may know.

A path is a field of the body ("user_id", "user.country") or a header ("header:X-Plan"). All
paths of the body are read in one decode; what is not on a path is skipped unread.

Readers are made once per document by `endpoint` and `routing`, and called once per request.
"""

from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from turnout.errors import InputError
from turnout.spec import fields

MAX_UNIT_BYTES = 1_024
"""A unit longer than this is refused: it is hashed, logged and indexed for every request."""

JSON_KINDS = {bool: "a boolean", float: "a fraction", list: "an array", dict: "an object"}
"""How people who send JSON call what is no unit."""

SHORT_UNIT_CHARACTERS = MAX_UNIT_BYTES // 4
"""Text of so few characters fits whatever they are: UTF-8 takes at most four bytes for one."""

ATTRIBUTE_CHARACTERS = 4_096
ATTRIBUTE_ITEMS = 100
"""Longer texts and lists, and objects, are no attributes; nor are lists whose texts have more characters in all."""

UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


def no_header(name: bytes) -> None:
    """A request without headers."""


class Incoming(msgspec.Struct, frozen=True, gc=False):
    """One request as it enters dispatch, whatever home it came from.

    Attributes:
        endpoint: The endpoint's name.
        body: JSON text as bytes.
        header: Looks a header up by its lower-case name; None when absent.
        id: The request id, 32 hex digits.
        received: `time.monotonic()` when the request was complete.
        ts: Seconds since the epoch at the same moment.
        deadline_s: The caller's own time limit in seconds; None for the endpoint's.
    """

    endpoint: str
    body: bytes
    id: str
    received: float
    ts: float
    header: Callable[[bytes], bytes | None] = no_header
    deadline_s: float | None = None


class UnitReader:
    """Finds the unit of a request by its declared path: "user_id", "user.id" or "header:X-User"."""

    def __init__(self, path: str) -> None:
        self.path = path
        self._header = header_of(path)
        keys = keys_of(path)
        self._keys = tuple(map(_field, keys))
        self._decode = msgspec.json.Decoder(_probe([keys])).decode

    def __call__(self, request: Incoming) -> str | None:
        """The unit as text; None when the request carries none.

        Raises:
            InputError: It is neither text nor an integer, or longer than `MAX_UNIT_BYTES`.

        Complexity: 0.9 µs for a body of 32 numbers; what is not on the path is skipped unread.
        """
        found = self._find(request)
        if type(found) is str and 0 < len(found) <= SHORT_UNIT_CHARACTERS:
            return found
        return unit_of(found, self.path)

    def _find(self, request: Incoming) -> Any:
        if self._header is not None:
            return _header_text(request, self._header)
        try:
            found: Any = self._decode(request.body)
            for field in self._keys:
                found = getattr(found, field)
        except (*UNREADABLE, AttributeError):
            return None  # decoding the whole body says what is wrong, better than we could here
        return found


class SubjectReader:
    """Finds the unit and the attributes of a request, the body's all in one decode.

    Args:
        unit: The unit's path; "" for none.
        attributes: Name to path.
    """

    def __init__(self, unit: str, attributes: Mapping[str, str]) -> None:
        self._unit = unit
        named = ({"": unit} if unit else {}) | dict(attributes)
        self._headers = {name: header for name, path in named.items() if (header := header_of(path)) is not None}
        self._keys = {name: keys_of(path) for name, path in named.items() if name not in self._headers}
        self._decode = msgspec.json.Decoder(_probe(list(self._keys.values()))).decode
        self._alone = {name: msgspec.json.Decoder(_probe([keys])).decode for name, keys in self._keys.items()}

    def __call__(self, request: Incoming) -> tuple[str | None, dict[str, Any]]:
        """The unit as text, None without one; and the attributes, None where the request has none that can be one.

        An attribute is a text, a number, a boolean, or a list of them, within the limits above.

        Raises:
            InputError: The unit is of the wrong type or too long.

        Complexity: about 2 µs for two attributes in a body of 32 numbers.
        """
        found: dict[str, Any] = {name: _header_text(request, header) for name, header in self._headers.items()}
        if self._keys:
            try:
                body = self._decode(request.body)
                found.update({name: _at(body, keys) for name, keys in self._keys.items()})
            except UNREADABLE:  # one path leads through something else: the others are still there
                found.update({name: self._read_alone(name, request.body) for name in self._keys})
        unit = found.pop("", None)
        attributes = {name: attribute_of(value) for name, value in found.items()}
        return (unit_of(unit, self._unit) if self._unit else None), attributes

    def _read_alone(self, name: str, body: bytes) -> Any:
        try:
            return _at(self._alone[name](body), self._keys[name])
        except UNREADABLE:
            return None


def unit_of(found: Any, path: str) -> str | None:
    """A unit as found at its path, as text; None for none.

    Raises:
        InputError: It is neither text nor an integer, or longer than `MAX_UNIT_BYTES`.
    """
    if found is None or found == "":
        return None
    if isinstance(found, bool) or not isinstance(found, str | int):
        raise InputError(
            f"the unit {path!r} is {JSON_KINDS[type(found)]}; it must be text or an integer.",
            path=path,
            hint="Send the user's id as text.",
        )
    unit = found if isinstance(found, str) else str(found)
    if len(unit) > MAX_UNIT_BYTES or len(unit.encode("utf-8", "surrogatepass")) > MAX_UNIT_BYTES:
        raise InputError(
            f"the unit {path!r} has {len(unit)} characters; at most {MAX_UNIT_BYTES} bytes are taken.",
            path=path,
            hint="Send an id, not content; hash it if it is long.",
        )
    return unit


def attribute_of(found: Any) -> Any:
    """What a condition may look at; None for what is too much: a condition is computed between other requests."""
    if type(found) is str:
        return found if len(found) <= ATTRIBUTE_CHARACTERS else None
    if type(found) is list:
        return found if _small(found) else None
    return None if type(found) is dict else found


def _small(items: list[Any]) -> bool:
    if len(items) > ATTRIBUTE_ITEMS or any(type(item) in (list, dict) for item in items):
        return False
    return sum(len(item) for item in items if type(item) is str) <= ATTRIBUTE_CHARACTERS


def header_of(path: str) -> bytes | None:
    """The lower-case header that a path names; None for a path in the body."""
    return path[len(fields.HEADER) :].lower().encode() if path.startswith(fields.HEADER) else None


def keys_of(path: str) -> tuple[str, ...]:
    """The keys of a path in the body; none for a header."""
    return () if path.startswith(fields.HEADER) else tuple(path.split("."))


def _header_text(request: Incoming, header: bytes) -> str | None:
    raw = request.header(header)
    return raw.decode("utf-8", "replace") if raw is not None else None


def _at(found: Any, keys: tuple[str, ...]) -> Any:
    for key in keys:
        if found is None:
            return None
        found = found.get(key) if isinstance(found, dict) else getattr(found, _field(key), None)
    return found


def _field(key: str) -> str:
    """A key as an attribute: itself where Python allows that, as "user-id" is not."""
    return key if key.isidentifier() else f"f_{key.encode().hex()}"


def _probe(paths: list[tuple[str, ...]]) -> Any:
    """A Struct that decodes nothing but these paths; everything else is skipped unread."""
    inner: dict[str, list[tuple[str, ...]]] = {}
    for keys in paths:
        if keys:
            inner.setdefault(keys[0], []).append(keys[1:])
    if not inner:
        return Any
    # where one path ends and others go on, all is taken
    found = [(_field(key), _probe(rest) | None if all(rest) else Any, None) for key, rest in inner.items()]
    return msgspec.defstruct("Subject", found, rename={_field(key): key for key in inner})
