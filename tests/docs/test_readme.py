"""What the README shows is right when it is pasted."""

import asyncio
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

from turnout.assembly import admission

ROOT = Path(__file__).parents[2]
HELLO = ROOT / "examples" / "hello"


def test_its_documents_pass_the_check_in_the_folder_they_are_for(
    blocks: Callable[[str], list[Any]], tmp_path: Path
) -> None:
    shutil.copytree(HELLO, tmp_path / "hello")
    documents = [block for block in blocks("README.md") if block.kind == "yaml"]
    assert len(documents) == 2
    for block in documents:
        checked = admission.check({"turnout.yaml": block.text}, directory=str(tmp_path / "hello"), environment={})
        (verdict,) = asyncio.run(checked)
        assert verdict.errors == (), f"README.md, line {block.line}: {verdict.errors}"


def test_its_first_document_is_that_of_the_example(blocks: Callable[[str], list[Any]]) -> None:
    first = next(block for block in blocks("README.md") if block.kind == "yaml")
    assert yaml.safe_load(first.text) == yaml.safe_load((HELLO / "turnout.yaml").read_text())


def test_its_python_is_python_and_imports_what_there_is(blocks: Callable[[str], list[Any]]) -> None:
    for block in blocks("README.md"):
        if block.kind == "python":
            compile(block.text, "README.md", "exec")
            imports = [line for line in block.text.splitlines() if line.startswith(("from ", "import "))]
            exec("\n".join(imports), {})
