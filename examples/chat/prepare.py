"""Build the index once: `data/questions.npz`, a vector for each stored question (half a minute on two cores).

Run by `make demo` at set-up. A second run sees that the data's version is the same and
does nothing.
"""

import json
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import corpus
import numpy as np
from chat import models
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

HERE = Path(__file__).parent
DATA = HERE / "data"
INDEX, QUESTIONS = DATA / "questions.npz", DATA / "questions.json"
BATCH = 16


def main() -> None:
    console = Console()
    if ready():
        console.print(f"The index is there: {INDEX.relative_to(HERE.parent.parent)}")
        return
    entries = corpus.read()
    console.print(f"chatterbot-corpus: {len(entries):,} questions, {len(corpus.texts(entries)):,} different texts")
    vectors = embed([entry.question for entry in entries], console)
    write(entries, vectors)
    console.print(f"{INDEX.relative_to(HERE.parent.parent)}: {INDEX.stat().st_size / 2**20:.1f} MiB")


def ready() -> bool:
    """Is the index there, and of this version of data and code?"""
    if not (INDEX.exists() and QUESTIONS.exists()):
        return False
    return bool(json.loads(QUESTIONS.read_text("utf-8"))["version"] == corpus.version())


def embed(texts: list[str], console: Console) -> Any:
    """Vectors of the texts, float32 of shape [texts, 384], by the same class that serves."""
    model = models.SentenceEmbedder()
    model.load()
    order = sorted(range(len(texts)), key=lambda index: len(texts[index]))
    batches = [order[start : start + BATCH] for start in range(0, len(order), BATCH)]
    vectors = np.empty((len(texts), 384), dtype=np.float32)
    columns = (TextColumn("embedding"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with ThreadPoolExecutor(os.cpu_count()) as pool, Progress(*columns, console=console) as progress:
        task = progress.add_task("", total=len(texts))
        for batch, found in zip(batches, _embedded(pool, model, texts, batches), strict=True):
            vectors[batch] = found
            progress.advance(task, len(batch))
    return vectors


def _embedded(pool: ThreadPoolExecutor, model: Any, texts: list[str], batches: list[list[int]]) -> Iterator[Any]:
    return pool.map(lambda batch: np.stack(model.predict([texts[index] for index in batch])), batches)


def write(entries: list[corpus.Entry], vectors: Any) -> None:
    """The index with its payload columns for the server, and the right answers for the simulated people."""
    DATA.mkdir(exist_ok=True)
    columns = {
        "question": [entry.question for entry in entries],
        "answer": [entry.answers[0] for entry in entries],
        "language": [entry.language for entry in entries],
    }
    temporary = DATA / "questions.partial.npz"
    np.savez_compressed(temporary, vectors=vectors, **{name: np.array(column) for name, column in columns.items()})
    temporary.replace(INDEX)
    known = [
        {"question": entry.question, "answers": entry.answers, "language": entry.language}
        for entry in entries
        if corpus.held_out(entry.question)
    ]
    QUESTIONS.write_text(json.dumps({"version": corpus.version(), "held_out": known}, ensure_ascii=False), "utf-8")


if __name__ == "__main__":
    main()
