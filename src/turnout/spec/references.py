"""`${NAME}` and `secret:NAME` in a document, filled in after its revision is computed.

`${NAME}` may stand anywhere in a text value and is replaced by the environment variable;
`$${` is a literal `${`. `secret:NAME` is a whole value, given by whatever holds secrets. Both
always give text. What was filled in is never printed: nodes keep what was written.

Called by `snapshot`. Who reads a document far from its server, where some of them are not set, asks
`stand_ins` what to read in their place.
"""

import re
from collections.abc import Callable, Iterator, Mapping

from turnout.errors import SpecError, nearest
from turnout.spec.tree import Node, path_text

_REFERENCE = re.compile(r"\$\$\{|\$\{([^}]*)\}?")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,254}")
_SECRET = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,254}")
FILLED_LIMIT = 65_536
VARIABLE_LIKENESS = 0.75
"""An environment is full of names that look a little alike; only a slip of the finger is worth a question."""


STAND_INS = ("unset", "1s", "1MiB", "50%")
"""What a missing reference may stand for: a text, a duration, a size, a ratio; nothing else takes references."""


def no_secrets(name: str) -> str | None:
    """Where no secrets are at hand."""
    return None


def stand_ins(
    environment: Mapping[str, str], read_secret: Callable[[str], str | None] = no_secrets
) -> Iterator[tuple[Mapping[str, str], Callable[[str], str | None]]]:
    """Environments and readers of secrets in which nothing is missing, one for each kind of value it may stand for.

    For those to whom the values do not matter, but the rest of the document does. What is there is used.
    """
    for text in STAND_INS:
        yield _StandIn(environment, text), lambda name, text=text: read_secret(name) or text  # type: ignore[misc]


class _StandIn(Mapping[str, str]):
    """An environment, with one text for every variable that is not set."""

    def __init__(self, environment: Mapping[str, str], text: str) -> None:
        self._environment = environment
        self._text = text

    def __getitem__(self, name: str) -> str:
        return self._environment.get(name, self._text)

    def __contains__(self, name: object) -> bool:
        return True

    def __iter__(self) -> Iterator[str]:
        return iter(self._environment)

    def __len__(self) -> int:
        return len(self._environment)


class Filling:
    """One pass over one document.

    Args:
        environment: What `${NAME}` reads.
        read_secret: What `secret:NAME` reads; None when there is no such secret.
    """

    def __init__(self, environment: Mapping[str, str], read_secret: Callable[[str], str | None]) -> None:
        self._environment = environment
        self._read_secret = read_secret
        self.errors: list[SpecError] = []

    def fill(self, node: Node, path: tuple[str | int, ...] = ()) -> Node:
        """A copy of the tree with every reference filled in; what is missing goes to `errors`."""
        if isinstance(node.value, dict):
            children = {}
            for key, child in node.value.items():
                if "${" in key:
                    hint = "Write the key out; references fill in values."
                    self._report("a key holds a reference.", (*path, key), child, hint, at_key=True)
                children[key] = self.fill(child, (*path, key))
            return Node(children, node.place, node.key)
        if isinstance(node.value, list):
            items = [self.fill(child, (*path, index)) for index, child in enumerate(node.value)]
            return Node(items, node.place, node.key)
        if isinstance(node.value, str) and ("${" in node.value or node.value.startswith("secret:")):
            return self._filled(node, node.value, path)
        return node

    def _filled(self, node: Node, text: str, path: tuple[str | int, ...]) -> Node:
        if text.startswith("secret:"):
            value: str | None = self._secret(node, text.removeprefix("secret:"), path)
        else:
            failed = len(self.errors)
            value = _REFERENCE.sub(lambda found: self._variable(node, found, path), text)
            if len(self.errors) > failed:
                value = None
        if value is not None and len(value) > FILLED_LIMIT:
            self._report(f"the value is longer than {FILLED_LIMIT:,} characters.", path, node)
        return Node(value, node.place, node.key, written=text)

    def _variable(self, node: Node, found: re.Match[str], path: tuple[str | int, ...]) -> str:
        if found[0] == "$${":
            return "${"
        name = found[1]
        if not found[0].endswith("}") or _NAME.fullmatch(name) is None:
            hint = "Write ${NAME} with letters, digits and '_', or $${ for a literal ${."
            self._report(f"{found[0][:60]!r} is not a reference.", path, node, hint)
        elif name not in self._environment:
            near = nearest(name, self._environment, likeness=VARIABLE_LIKENESS)
            hint = f"Did you mean ${{{near}}}?" if near else f"Set it before the start: {name}=..."
            self._report(f"environment variable {name} is not set.", path, node, hint)
        else:
            return self._environment[name]
        return ""

    def _secret(self, node: Node, name: str, path: tuple[str | int, ...]) -> str | None:
        if _SECRET.fullmatch(name) is None:
            hint = "Write secret:NAME with letters, digits, '.', '_' and '-'."
            self._report(f"'secret:{name[:60]}' is not a reference to a secret.", path, node, hint)
            return None
        value = self._read_secret(name)
        if value is None:
            self._report(f"secret {name!r} is not there.", path, node, "Add it where this process finds its secrets.")
        return value

    def _report(
        self, message: str, path: tuple[str | int, ...], node: Node, hint: str = "", *, at_key: bool = False
    ) -> None:
        place = node.key if at_key else node.place
        self.errors.append(SpecError(message, path=path_text(path), file=place.file, line=place.line, hint=hint))
