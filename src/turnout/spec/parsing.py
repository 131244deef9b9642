"""YAML text to a tree with places. YAML 1.2 core schema, less what surprises people.

Read from the parser's events, not through PyYAML's constructors: every key and value keeps its
line, and every limit holds before anything is built. `on`, `NO` and dates are text; tags,
merge keys, keys that are not text, duplicate keys, NaN and infinity are errors.
One broken thing does not hide the next: only a syntax error ends the reading of a file.

Limits: 1 MiB a file, 50,000 values with aliases written out (so a "billion laughs" file is
refused before it costs anything), 50 levels.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, cast

import yaml
from yaml import events
from yaml.error import MarkedYAMLError

from turnout.errors import SpecError
from turnout.spec.tree import Node, Place, Scalar, empty, path_text

TEXT_BYTES_LIMIT = 2**20
VALUES_LIMIT = 50_000
DEPTH_LIMIT = 50
ERRORS_LIMIT = 100
INTEGER_LIMIT = 2**63

_NULL = re.compile(r"null|Null|NULL|~|")
_TRUE = re.compile(r"true|True|TRUE")
_FALSE = re.compile(r"false|False|FALSE")
_INTEGER = re.compile(r"[-+]?[0-9]+", re.ASCII)
_BASED = re.compile(r"0o[0-7]+|0x[0-9a-fA-F]+")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?", re.ASCII)
_NOT_FINITE = re.compile(r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)")
_UNREADABLE = re.compile("[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufffc\U00010000-\U0010ffff]")
_LINE_BREAK = re.compile(r"\r\n|[\r\n\x85\u2028\u2029]")


@dataclass(slots=True)
class _Frame:
    """A list or mapping that is being read."""

    node: Node
    anchor: str | None
    started: int
    key: str | None = None
    key_place: Place | None = None
    expects_key: bool = False
    height: int = 1
    skipped: bool = False


@dataclass(slots=True)
class _Anchored:
    node: Node
    values: int
    height: int


@dataclass(slots=True)
class _Reading:
    """State while one file is read."""

    file: str
    errors: list[SpecError]
    root: Node | None = None
    frames: list[_Frame] = field(default_factory=list)
    anchors: dict[str, _Anchored | None] = field(default_factory=dict)
    values: int = 0
    documents: int = 0


class _StopError(Exception):
    """A limit was passed; nothing more of this file is read."""


def parse(file: str, text: str) -> tuple[Node, list[SpecError]]:
    """Read one file.

    Args:
        file: Its name as shown to people.
        text: Its whole content.

    Returns:
        The tree (an empty mapping when there is nothing to keep) and everything that is wrong.
    """
    reading = _Reading(file, [])
    refused = _refuse_text(file, text)
    if refused is not None:
        return empty(Place(file, refused.line or 1)), [refused]
    try:
        for event in yaml.parse(text.removeprefix("\ufeff"), Loader=yaml.CSafeLoader):
            _TAKERS[type(event)](reading, event)
    except _StopError:
        pass
    except MarkedYAMLError as error:
        reading.errors.append(_syntax_error(file, text, error))
    return _checked_root(reading), reading.errors


def _checked_root(reading: _Reading) -> Node:
    root = reading.root
    if root is not None and isinstance(root.value, dict):
        return root
    if root is not None and root.value is not None and not reading.errors:
        kind = "a list" if isinstance(root.value, list) else "one single value"
        reading.errors.append(
            SpecError(
                f"the document is {kind}; expected a mapping with models, pipelines, endpoints and experiments.",
                file=reading.file,
                line=root.place.line,
                hint="Start with a line such as 'models:'.",
            )
        )
    return empty(Place(reading.file, 1))


def _refuse_text(file: str, text: str) -> SpecError | None:
    """What can be said before any YAML is read."""
    if len(text) > TEXT_BYTES_LIMIT or len(text.encode(errors="replace")) > TEXT_BYTES_LIMIT:
        return SpecError(f"the file is larger than {TEXT_BYTES_LIMIT // 1024} KiB.", file=file, hint="Split it.")
    found = _UNREADABLE.search(text)
    if found is None:
        return None
    line = len(_LINE_BREAK.findall(text, 0, found.start())) + 1
    if found[0] == "\ufffd" or "\ud800" <= found[0] <= "\udfff":
        return SpecError("the file is not UTF-8 text.", file=file, line=line, hint="Save it as UTF-8.")
    return SpecError(
        f"character {ord(found[0]):#04x} in the file; it looks binary.",
        file=file,
        line=line,
        hint="A document is a YAML text file.",
    )


# One function per kind of event.


def _take_nothing(reading: _Reading, event: Any) -> None:
    """Stream and document ends carry nothing."""


def _take_document(reading: _Reading, event: Any) -> None:
    line = event.start_mark.line + 1
    reading.documents += 1
    if reading.documents > 1:
        _report(reading, "a second YAML document starts here.", line, hint="One document per file: remove the '---'.")
        raise _StopError
    if event.version is not None and tuple(event.version) != (1, 2):
        found = ".".join(str(part) for part in event.version)
        _report(reading, f"%YAML {found} is not supported.", line, hint="Documents are YAML 1.2; remove the line.")


def _take_mapping(reading: _Reading, event: Any) -> None:
    _open(reading, event, Node({}, _place(reading, event), _place(reading, event)))


def _take_sequence(reading: _Reading, event: Any) -> None:
    _open(reading, event, Node([], _place(reading, event), _place(reading, event)))


def _open(reading: _Reading, event: Any, node: Node) -> None:
    _refuse_tag(reading, event)
    frame = _Frame(node, event.anchor, reading.values, expects_key=isinstance(node.value, dict))
    if event.anchor:
        reading.anchors[event.anchor] = None
    parent = reading.frames[-1] if reading.frames else None
    if parent is not None and parent.expects_key:
        _report(reading, "a key must be text, found a list or mapping.", node.place.line)
        frame.skipped = True
    _count(reading, 1, node.place.line)
    reading.frames.append(frame)
    if len(reading.frames) > DEPTH_LIMIT:
        _report(reading, "nested too deep.", node.place.line, hint=f"At most {DEPTH_LIMIT} levels.")
        raise _StopError


def _close(reading: _Reading, event: Any) -> None:
    frame = reading.frames.pop()
    if frame.anchor:
        reading.anchors[frame.anchor] = _Anchored(frame.node, reading.values - frame.started, frame.height)
    if frame.skipped:
        reading.frames[-1].key, reading.frames[-1].expects_key = None, False
        return
    _place_value(reading, frame.node, frame.height)


def _take_scalar(reading: _Reading, event: Any) -> None:
    place = _place(reading, event)
    _refuse_tag(reading, event)
    plain_style = not event.style
    value = _resolve(reading, event.value, place.line) if plain_style else event.value
    _count(reading, 1, place.line)
    node = Node(value, place, place)
    frame = reading.frames[-1] if reading.frames else None
    if frame is not None and frame.expects_key:
        _take_key(reading, frame, node, event.value, plain_style)
    else:
        _place_value(reading, node, 0)
    if event.anchor:
        reading.anchors[event.anchor] = _Anchored(node, 1, 0)


def _take_alias(reading: _Reading, event: Any) -> None:
    line = event.start_mark.line + 1
    anchored = reading.anchors.get(event.anchor)
    if anchored is None:
        if event.anchor in reading.anchors:
            _report(reading, f"alias '*{event.anchor}' stands inside what it names.", line)
        else:
            _report(reading, f"alias '*{event.anchor}' names nothing.", line, hint=f"Write '&{event.anchor}' before.")
        anchored = _Anchored(Node(None, Place(reading.file, line), Place(reading.file, line)), 1, 0)
    _count(reading, anchored.values, line)
    if len(reading.frames) + anchored.height > DEPTH_LIMIT:
        _report(reading, "nested too deep.", line, hint=f"At most {DEPTH_LIMIT} levels, aliases written out.")
        raise _StopError
    frame = reading.frames[-1] if reading.frames else None
    if frame is not None and frame.expects_key:
        text = anchored.node.value if isinstance(anchored.node.value, str) else "*" + event.anchor
        here = Node(anchored.node.value, Place(reading.file, line), Place(reading.file, line))
        _take_key(reading, frame, here, text, plain_style=False)
        return
    # A copy of the top node only: the key's place differs, all below is shared and never changed.
    original = anchored.node
    _place_value(reading, Node(original.value, original.place, original.key), anchored.height)


_TAKERS: dict[type, Callable[[_Reading, Any], None]] = {
    events.StreamStartEvent: _take_nothing,
    events.StreamEndEvent: _take_nothing,
    events.DocumentStartEvent: _take_document,
    events.DocumentEndEvent: _take_nothing,
    events.MappingStartEvent: _take_mapping,
    events.MappingEndEvent: _close,
    events.SequenceStartEvent: _take_sequence,
    events.SequenceEndEvent: _close,
    events.ScalarEvent: _take_scalar,
    events.AliasEvent: _take_alias,
}


def _take_key(reading: _Reading, frame: _Frame, node: Node, text: str, plain_style: bool) -> None:
    frame.expects_key = False
    frame.key, frame.key_place = None, node.place
    line = node.place.line
    if text == "<<" and plain_style:
        _report(
            reading, "merge keys '<<' are not part of YAML 1.2.", line, hint="Repeat the keys, or use a stage file."
        )
    elif not isinstance(node.value, str):
        _report(reading, f"a key must be text, found {text[:40]}.", line, hint=f'Quote it: "{text[:40]}".')
    elif node.value in (seen := cast(dict[str, Node], frame.node.value)):
        path = path_text((*_path(reading)[:-1], node.value)) if reading.frames else node.value
        _report(
            reading,
            f"key {node.value[:80]!r} is defined twice; first in line {seen[node.value].key.line}.",
            line,
            path=path,
            hint="Remove one of the two.",
        )
    else:
        frame.key = node.value


def _place_value(reading: _Reading, node: Node, height: int) -> None:
    """Put a finished value where it belongs: into its list, under its key, or at the root."""
    if not reading.frames:
        reading.root = node
        return
    frame = reading.frames[-1]
    frame.height = max(frame.height, height + 1)
    container = frame.node.value
    if isinstance(container, list):
        node.key = node.place
        container.append(node)
        return
    frame.expects_key = True
    if frame.key is not None and frame.key_place is not None:
        node.key = frame.key_place
        cast(dict[str, Node], container)[frame.key] = node


def _path(reading: _Reading) -> list[str | int]:
    return [
        len(frame.node.value) if isinstance(frame.node.value, list) else frame.key or "" for frame in reading.frames
    ]


def _count(reading: _Reading, values: int, line: int) -> None:
    reading.values += values
    if reading.values > VALUES_LIMIT:
        hint = f"At most {VALUES_LIMIT:,} values, aliases written out."
        _report(reading, "too many values in one file.", line, hint=hint)
        raise _StopError


def _refuse_tag(reading: _Reading, event: Any) -> None:
    tag = event.tag
    if tag is None or tag == "!":
        return
    hint = "Remove the tag; quote a value to make it text."
    _report(reading, f"tags such as {str(tag)[:60]!r} are not used in documents.", event.start_mark.line + 1, hint=hint)


def _resolve(reading: _Reading, text: str, line: int) -> Scalar:
    """The value of an unquoted scalar by the YAML 1.2 core schema."""
    if _NULL.fullmatch(text):
        return None
    if _TRUE.fullmatch(text) or _FALSE.fullmatch(text):
        return text[0] in "tT"
    if _NOT_FINITE.fullmatch(text):
        _report(reading, f"{text} is not a number one can use.", line, hint="Write a finite number, or leave it out.")
        return None
    if _BASED.fullmatch(text):
        return _bounded(reading, text, 8 if text[1] == "o" else 16, line)
    if _INTEGER.fullmatch(text):
        digits = text.lstrip("+-")
        if len(digits) > 1 and digits[0] == "0":
            hint = f'Quote it to make it text: "{text[:40]}".'
            _report(reading, f"number {text[:40]} begins with 0, which may mean octal or text.", line, hint=hint)
            return None
        return _bounded(reading, text, 10, line)
    if _FLOAT.fullmatch(text):
        number = float(text)
        if abs(number) == float("inf"):
            _report(reading, f"number {text[:40]} is too large.", line)
            return None
        return number
    return text


def _bounded(reading: _Reading, text: str, base: int, line: int) -> int | None:
    number = int(text, base) if len(text) <= 40 else INTEGER_LIMIT
    if -INTEGER_LIMIT <= number < INTEGER_LIMIT:
        return number
    _report(reading, f"number {text[:40]} does not fit 64 bits.", line, hint="Quote it to make it text.")
    return None


def _place(reading: _Reading, event: Any) -> Place:
    return Place(reading.file, event.start_mark.line + 1)


def _report(reading: _Reading, message: str, line: int, *, path: str = "", hint: str = "") -> None:
    reading.errors.append(SpecError(message, path=path, file=reading.file, line=line, hint=hint))
    if len(reading.errors) >= ERRORS_LIMIT:
        raise _StopError


def _syntax_error(file: str, text: str, error: MarkedYAMLError) -> SpecError:
    line = error.problem_mark.line + 1 if error.problem_mark is not None else 1
    problem = str(error.problem)
    lines = text.splitlines()
    written = lines[line - 1] if line <= len(lines) else ""
    hint = ""
    if "${" in written and "expected ',' or '}'" in problem:
        hint = 'Inside braces a reference needs quotes: "${NAME}".'
    elif "cannot start any token" in problem and written.lstrip(" ").startswith("\t"):
        problem, hint = "a tab in the indentation.", "YAML indents with spaces."
    elif "Unicode character escape" in problem:
        problem, hint = "an escape names no character.", 'Write the character itself, or such as "\\U0001F600".'
    elif "mapping values are not allowed" in problem:
        hint = "Quote a text that holds ': ', and check the indentation."
    elif "did not find expected key" in problem or "expected <block end>" in problem:
        hint = "Keys of one mapping begin in the same column."
    elif "could not find expected ':'" in problem:
        hint = "Write 'key: value'."
    elif error.context_mark is not None and error.context_mark.line + 1 != line:
        hint = f"It began in line {error.context_mark.line + 1}: {error.context}."
    return SpecError(f"not YAML: {problem.rstrip('.')}.", file=file, line=line, hint=hint)
