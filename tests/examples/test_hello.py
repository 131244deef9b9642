"""The first example stays as small as the README says, and its model knows its flowers."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import onnxruntime
import pytest


def test_the_document_has_at_most_ten_lines_and_there_is_no_python_to_serve(examples: Path) -> None:
    lines = (examples / "hello" / "turnout.yaml").read_text("utf-8").splitlines()
    assert len(lines) <= 10
    assert "code: predict" in "\n".join(lines)


def test_the_model_is_a_few_kilobytes(examples: Path) -> None:
    assert (examples / "hello" / "flower.onnx").stat().st_size < 8_192


@pytest.mark.parametrize(
    ("measurements", "species"),
    [
        pytest.param([5.1, 3.5, 1.4, 0.2], "setosa", id="setosa"),
        pytest.param([5.7, 2.8, 4.1, 1.3], "versicolor", id="versicolor"),
        pytest.param([6.3, 3.3, 6.0, 2.5], "virginica", id="virginica"),
    ],
)
def test_the_model_tells_the_species_apart(examples: Path, measurements: list[float], species: str) -> None:
    session = onnxruntime.InferenceSession(str(examples / "hello" / "flower.onnx"))
    named, chances = session.run(["species", "probabilities"], {"measurements": np.array([measurements], np.float32)})
    assert named.tolist() == [species]
    assert chances.sum() == pytest.approx(1.0)


def test_turnout_check_accepts_the_document(examples: Path) -> None:
    document = examples / "hello" / "turnout.yaml"
    done = subprocess.run(
        [sys.executable, "-m", "turnout", "check", document], capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stderr) == (0, "")
