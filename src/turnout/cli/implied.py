"""The document that a bare model file implies. Reads no model: the name and the digest of the file are enough."""

import re
from pathlib import Path

from turnout.errors import NotFoundError
from turnout.sources import artifacts

RUNTIMES = {".onnx": "onnx", ".joblib": "sklearn"}
"""File suffix to runtime, for models that a `predict` pipeline can serve as they are."""


def is_model(path: Path) -> bool:
    """Whether the path looks like a model file rather than a document."""
    return path.suffix in RUNTIMES and not path.is_dir()


def document(path: Path) -> str:
    """YAML text with one model, one pipeline, one endpoint; the source is relative to the model's folder.

    Raises:
        NotFoundError: There is no such file.
    """
    if not path.is_file():
        raise NotFoundError(f"no model file at {path}.", hint="Check the path; known kinds are *.onnx and *.joblib.")
    name = re.sub(r"[^a-z0-9_-]+", "-", path.stem.lower()).strip("-_") or "model"
    if not name[0].isalpha():
        name = f"model-{name}"
    runtime = RUNTIMES[path.suffix]
    pinned = f", digest: {artifacts.DigestCache().digest(path)}" if runtime == "sklearn" else ""
    return (
        "models:\n"
        f"  {name}: {{runtime: {runtime}, source: {_quoted(path.name)}{pinned}}}\n"
        "pipelines:\n"
        f"  {name}: {{code: predict, models: {{model: {name}}}}}\n"
        "endpoints:\n"
        f"  {name}: {{pipeline: {name}, deadline: 10s}}\n"
    )


def _quoted(text: str) -> str:
    return (
        text if re.fullmatch(r"[A-Za-z0-9._/-]+", text) else '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
    )
