"""pydantic's errors in the document's words: file, line, key path, found, expected, what to do.

Nothing that was filled in for a reference is shown: messages quote what is written.

Called by `snapshot`; `checks` takes its words and places from here.
"""

import types
from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import BeforeValidator, ValidationError
from pydantic.fields import FieldInfo

from turnout.errors import SpecError, did_you_mean
from turnout.spec import document, tree
from turnout.spec.part import Part, refuse_ineffective
from turnout.spec.tree import Node, path_text

_EXPECTED = {
    "string_type": "text",
    "string_too_short": "text that is not empty",
    "string_too_long": "text of at most {max_length} characters",
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "finite_number": "a finite number",
    "bool_type": "true or false",
    "dict_type": "a mapping",
    "mapping_type": "a mapping",
    "model_type": "a mapping",
    "tuple_type": "a list",
    "list_type": "a list",
    "greater_than": "more than {gt}",
    "greater_than_equal": "{ge} or more",
    "less_than": "less than {lt}",
    "less_than_equal": "at most {le}",
    "literal_error": "{expected}",
    "too_short": "at least {min_length} of them",
    "too_long": "at most {max_length} of them",
    "expected": "{expected}",
}
SHOWN_CHARACTERS = 60


def translate(error: ValidationError, root: Node) -> list[SpecError]:
    """Every error of a validation, with the place it has in the tree."""
    found = []
    for detail in error.errors(include_url=False, include_input=False):
        path = _path(detail["loc"])
        node = tree.find(root, path)
        if node is not None and node.written is not None and node.value is None:
            continue  # the reference itself is reported
        context = detail.get("ctx") or {}
        if detail["loc"][-1] == "[key]":
            found.append(_wrong_key(root, path, context))
        else:
            found.append(_WORDED.get(detail["type"], _wrong_value)(root, path, detail["type"], context))
    return found


def ordered(errors: Iterable[SpecError]) -> list[SpecError]:
    """In the order of the files and their lines, each once."""
    unique = {(error.file, error.line, error.path, error.message): error for error in errors}
    return [unique[key] for key in sorted(unique)]


def shown(node: Node | None) -> str:
    """A value as a message quotes it: short, in YAML's words, and as written."""
    if node is None:
        return "nothing"
    value = node.value if node.written is None else node.written
    if isinstance(value, str):
        return repr(value) if len(value) <= SHOWN_CHARACTERS else repr(value[:SHOWN_CHARACTERS]) + "..."
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, dict):
        return "a mapping"
    if isinstance(value, list):
        return "a list"
    return "nothing" if value is None else str(value)


def alternatives(name: str, known: Iterable[str], what: str) -> str:
    """The hint for an unknown name: the nearest one, and what there is."""
    names = sorted(known)
    listed = ", ".join(names[:20]) + (", ..." if len(names) > 20 else "")
    return f"{did_you_mean(name, names)} {what}: {listed}.".lstrip() if names else f"There are no {what.lower()}."


def at(root: Node, path: Sequence[str | int], message: str, hint: str = "", *, at_key: bool = False) -> SpecError:
    """An error at the value (or key) of a path, or at the nearest thing above it that exists."""
    node = tree.find(root, path)
    if node is None:
        place = tree.nearest(root, path).key
    else:
        place = node.key if at_key or isinstance(node.value, dict | list) else node.place
    return SpecError(message, path=path_text(path), file=place.file, line=place.line, hint=hint)


def _path(location: tuple[int | str, ...]) -> tuple[str | int, ...]:
    """pydantic's location as a key path: without the tag of the model's class and without the mark of a key."""
    path = location[:2] + location[3:] if location[0] == "models" and len(location) > 2 else location
    return tuple(step for step in path if step != "[key]")


def _missing(root: Node, path: tuple[str | int, ...], kind: str, context: Mapping[str, Any]) -> SpecError:
    part = part_at(root, path[:-1])
    field = _fields(part).get(str(path[-1])) if part is not None else None
    described = f"Expected: {field.description}" if field is not None and field.description else ""
    return at(root, path, f"key {path[-1]!r} is missing.", described)


def _unknown(root: Node, path: tuple[str | int, ...], kind: str, context: Mapping[str, Any]) -> SpecError:
    part = part_at(root, path[:-1])
    known = [name for name, field in _fields(part).items() if not _ineffective(field)] if part is not None else []
    return at(root, path, f"unknown key {path[-1]!r}.", alternatives(str(path[-1]), known, "Keys here"), at_key=True)


def _without_effect(root: Node, path: tuple[str | int, ...], kind: str, context: Mapping[str, Any]) -> SpecError:
    runtime = document.runtime_of(tree.plain(tree.nearest(root, path[:2])))
    named = "a runtime of your own" if runtime == "custom" else f"runtime {runtime!r}"
    takers = [name for name, part in document.MODEL_CLASSES.items() if not _ineffective(_fields(part)[str(path[-1])])]
    hint = f"Remove it; it belongs to {', '.join(takers)} models."
    return at(root, path, f"{path[-1]!r} has no effect with {named}.", hint, at_key=True)


def _runtime(root: Node, path: tuple[str | int, ...], kind: str, context: Mapping[str, Any]) -> SpecError:
    node = tree.find(root, (*path, "runtime"))
    if node is None:
        suffixes = ", ".join(document.RUNTIME_OF_SUFFIX)
        hint = (
            f"Runtimes: {', '.join(document.RUNTIMES)}, or 'package.module:Class'. Not needed for {suffixes} sources."
        )
        return at(root, (*path, "runtime"), "key 'runtime' is missing.", hint)
    written = node.value if isinstance(node.value, str) and node.written is None else ""
    hint = alternatives(written, document.RUNTIMES, "Runtimes")[:-1] + ", or 'package.module:Class' for your own."
    return at(root, (*path, "runtime"), f"unknown runtime {shown(node)}.", hint)


def _wrong_value(root: Node, path: tuple[str | int, ...], kind: str, context: Mapping[str, Any]) -> SpecError:
    node = tree.find(root, path)
    expected = _EXPECTED.get(kind, "another value").format_map(context)
    hint = str(context.get("hint", ""))
    if kind in ("too_short", "too_long") and node is not None and isinstance(node.value, dict | list):
        return at(root, path, f"found {len(node.value)}; expected {expected}.", hint)
    if node is not None and node.written is not None:
        hint = "It is filled in from a reference, which always gives text."
    elif kind in ("int_type", "float_type", "bool_type") and node is not None and isinstance(node.value, str):
        hint = "Remove the quotes." if node.value.replace(".", "", 1).isdecimal() else hint
    return at(root, path, f"found {shown(node)}; expected {expected}.", hint)


def _wrong_key(root: Node, path: tuple[str | int, ...], context: Mapping[str, Any]) -> SpecError:
    hint = str(context.get("hint", ""))
    return at(root, path, f"found the name {path[-1]!r}; expected {context['expected']}.", hint, at_key=True)


_WORDED = {
    "missing": _missing,
    "extra_forbidden": _unknown,
    "ineffective": _without_effect,
    "union_tag_invalid": _runtime,
    "union_tag_not_found": _runtime,
}


def part_at(root: Node, path: Sequence[str | int]) -> type[Part] | None:
    """The class of the mapping at a key path; None where there is no fixed set of keys."""
    current: Any = document.Document
    for depth, step in enumerate(path):
        if isinstance(current, type) and issubclass(current, Part):
            field = _fields(current).get(str(step))
            current = field.annotation if field is not None else None
        else:
            values = get_args(current)
            current = values[1] if len(values) == 2 else None
        current = _unwrap(current, root, path[: depth + 1])
    return current if isinstance(current, type) and issubclass(current, Part) else None


def _unwrap(annotation: Any, root: Node, path: Sequence[str | int]) -> Any:
    while get_origin(annotation) is Annotated:
        annotation = get_args(annotation)[0]
    if get_origin(annotation) not in (Union, types.UnionType):
        return annotation
    members = [_unwrap(member, root, path) for member in get_args(annotation)]
    parts = [member for member in members if isinstance(member, type) and issubclass(member, Part)]
    if len(parts) <= 1:
        return parts[0] if parts else None
    return document.MODEL_CLASSES.get(document.runtime_of(tree.plain(tree.nearest(root, path))) or "")


def _fields(part: type[Part]) -> dict[str, FieldInfo]:
    return {field.alias or name: field for name, field in part.model_fields.items()}


def _ineffective(field: FieldInfo) -> bool:
    return any(isinstance(item, BeforeValidator) and item.func is refuse_ineffective for item in field.metadata)
