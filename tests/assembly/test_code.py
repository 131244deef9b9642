"""Loading user code, and the build that names it."""

import concurrent.futures
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from turnout.assembly import code
from turnout.errors import SpecError


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    sys.path.insert(0, str(tmp_path))
    yield tmp_path
    sys.path.remove(str(tmp_path))


def test_the_build_is_a_digest_of_the_source_and_says_nothing_about_built_ins(folder: Path) -> None:
    (folder / "build_one.py").write_text("value = 1\n")
    loaded = code.Code()
    assert loaded.load("turnout.pipelines.builtin:predict").name == "predict"
    assert loaded.build == ""
    assert loaded.load("build_one:value") == 1
    first = loaded.build
    assert len(first) == 12
    sys.modules.pop("build_one")
    (folder / "build_one.py").write_text("value = 2  # changed\n")
    again = code.Code()
    again.load("build_one:value")
    assert again.build != first


def test_a_package_is_digested_whole(folder: Path) -> None:
    package = folder / "build_pack"
    package.mkdir()
    (package / "__init__.py").write_text('"""A package."""\n')
    (package / "deep.py").write_text("value = 1\n")
    before = code.source_digest("build_pack")
    (package / "deep.py").write_text("value = 2\n")
    assert code.source_digest("build_pack") != before


@pytest.mark.parametrize(
    ("source", "reference", "words"),
    [
        ("value = 1", "broken_a", "module:name"),
        ("import nothing_like_this", "broken_b:value", "nothing_like_this"),
        ("1 / 0", "broken_c:value", "ZeroDivisionError"),
        ("def f(:", "broken_d:value", "SyntaxError"),
        ("import sys\nsys.exit(7)", "broken_e:value", "SystemExit: 7.*__main__"),
    ],
    ids=["form", "missing-import", "raises", "syntax", "exits"],
)
def test_code_that_does_not_load_says_why(folder: Path, source: str, reference: str, words: str) -> None:
    (folder / f"{reference.partition(':')[0]}.py").write_text(source)
    with pytest.raises(SpecError, match=words):
        code.Code().load(reference)


def test_an_interrupt_raised_on_import_in_a_thread_is_an_error_of_the_code(folder: Path) -> None:
    (folder / "broken_f.py").write_text("raise KeyboardInterrupt\n")
    with (
        concurrent.futures.ThreadPoolExecutor(1) as pool,
        pytest.raises(SpecError, match="KeyboardInterrupt"),
    ):
        pool.submit(code.Code().load, "broken_f:value").result()
