"""Encodes replies as JSON: any type msgspec knows, with numpy arrays and scalars anywhere inside.

JSON has no NaN and no Infinity, and both encoders write `null` for them; a reply that
would say `null` where the author meant a number is refused, naming the field. numpy is
never imported here: an array that arrives proves that somebody else did.

Called by the codecs.
"""

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import fields, is_dataclass
from typing import Any

import msgspec
import orjson

from turnout.pipelines import schemas

MAX_DEPTH = 200
"""Deeper values are not searched for the culprit; encoding has refused them before."""

_PLAIN = frozenset({str, int, bool, type(None), bytes})

NUMPY = orjson.OPT_SERIALIZE_NUMPY


class NotEncodable(ValueError):
    """A value has no form in JSON.

    Attributes:
        path: Where it stands in the reply; "" for the reply itself.
        reason: What is wrong with it.
    """

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(f"{path}: {reason}" if path else reason)
        self.path = path
        self.reason = reason


def plain(value: Any) -> Any:
    """What a value msgspec does not know becomes: numpy arrays and scalars as JSON.

    Raises:
        TypeError: It is none of these.
    """
    if hasattr(value, "__array_interface__"):
        try:
            return msgspec.Raw(orjson.dumps(value, option=NUMPY))
        except TypeError:  # not C-contiguous, text, objects
            return value.tolist()
    raise TypeError(f"{type(value).__name__} has no form in JSON")


def listed(value: Any) -> Any:
    """The same for encoders that take Python values only."""
    if hasattr(value, "__array_interface__"):
        return value.tolist()
    raise TypeError(f"{type(value).__name__} has no form in JSON")


_encode = msgspec.json.Encoder(enc_hook=plain).encode


def encode(value: Any) -> bytes:
    """JSON of any value: dataclasses, Structs, TypedDicts, numpy, builtins.

    Raises:
        NotEncodable: NaN, Infinity, or a type without a form in JSON, with its path.

    Complexity: one pass in C; a second search in Python only if the text has a `null`.
    """
    return checked(_encode, value)


def encode_arrays(value: Mapping[str, Any]) -> bytes:
    """JSON of a flat mapping of arrays, the fast way.

    Raises:
        NotEncodable: As `encode`.
    """
    return checked(_dumps, value)


def _dumps(value: Any) -> bytes:
    return orjson.dumps(value, default=listed, option=NUMPY)


def checked(encoder: Callable[[Any], bytes], value: Any) -> bytes:
    """What `encoder` makes of `value`, refused if a number became null on the way."""
    try:
        text = encoder(value)
        if b"null" not in text or _finite(value):
            return text
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        raise _culprit(value, error) from error
    steps = search(value, not_finite)
    if steps is not None:
        raise NotEncodable(schemas.dotted(steps), "it is NaN or infinite, which JSON cannot say")
    return text


def _culprit(value: Any, error: Exception) -> NotEncodable:
    if isinstance(error, RecursionError):
        return NotEncodable("", "it is nested too deeply, or contains itself")
    steps = search(value, _unknown)
    reason = str(error.__cause__ or error)
    return NotEncodable(schemas.dotted(steps or ()), reason)


def _finite(value: Any) -> bool:
    """Whether no number inside is NaN or infinite: `search` without the path, for replies with an honest null."""
    kind = type(value)
    if kind in _PLAIN:
        return True
    if kind is float:
        return math.isfinite(value)
    if isinstance(value, dict):
        inside: Iterable[Any] = value.values()
    elif kind is list or kind is tuple:
        inside = value
    elif isinstance(value, msgspec.Struct):
        inside = [getattr(value, name) for name in value.__struct_fields__]
    else:
        children = _children(value)
        if children is None:
            return not not_finite(value)
        inside = [child for _, child in children]
    for each in inside:  # noqa: SIM110 - one frame a level, so as deep as the encoder goes
        if not _finite(each):
            return False
    return True


def not_finite(value: Any) -> bool:
    if isinstance(value, float):
        return not math.isfinite(value)
    if getattr(getattr(value, "dtype", None), "kind", "") != "f":
        return False
    total = abs(value).max() if value.size else 0.0  # NaN and infinity both survive max
    return not math.isfinite(total)


def _unknown(value: Any) -> bool:
    if _children(value) is not None:
        return False
    try:
        _encode(value)
    except (TypeError, ValueError, OverflowError, RecursionError):
        return True
    return False


def search(value: Any, bad: Callable[[Any], bool]) -> schemas.Steps | None:
    """Steps to the first bad leaf, depth first; None when there is none."""
    pending: list[tuple[schemas.Steps, Any]] = [((), value)]
    while pending:
        steps, node = pending.pop()
        children = _children(node)
        if children is None:
            if bad(node):
                return steps
        elif len(steps) < MAX_DEPTH:
            pending.extend(reversed([((*steps, key), child) for key, child in children]))
    return None


def _children(value: Any) -> list[tuple[str | int, Any]] | None:
    if isinstance(value, Mapping):
        return [(str(key), child) for key, child in value.items()]
    if isinstance(value, list | tuple | set | frozenset):
        return list(enumerate(value))
    if isinstance(value, msgspec.Struct):
        return [(name, getattr(value, name)) for name in value.__struct_fields__]
    if is_dataclass(value) and not isinstance(value, type):
        return [(field.name, getattr(value, field.name)) for field in fields(value)]
    shown = getattr(type(value), "model_fields", None)
    return [(name, getattr(value, name)) for name in shown] if isinstance(shown, Mapping) else None
