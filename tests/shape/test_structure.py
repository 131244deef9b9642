"""The shape of the house: what import contracts cannot say."""

import ast
import inspect
import subprocess
import sys
from pathlib import Path

import pytest

import turnout
from turnout import errors

SOURCE = Path(turnout.__file__).parent
MODULES = sorted(SOURCE.rglob("*.py"))
# A ratchet: the list may only shrink. Module path -> why it is longer than 500 lines.
LONG_MODULES: dict[str, str] = {}
FUNCTION_LINES = 70
MODULE_LINES = 500


def functions(tree: ast.AST) -> list[ast.FunctionDef | ast.AsyncFunctionDef]:
    return [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]


def test_only_the_root_package_holds_code_in_its_init() -> None:
    for path in MODULES:
        if path.name == "__init__.py" and path.parent != SOURCE:
            body = ast.parse(path.read_text()).body
            assert all(isinstance(node, ast.Expr) for node in body), f"{path} holds code"
            assert body, f"{path} has no docstring"


def test_root_exports_are_the_authoring_names() -> None:
    from_authoring = set(turnout.authoring.__all__)
    assert set(turnout.__all__) == from_authoring


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(SOURCE)))
def test_module_keeps_to_the_sizes(path: Path) -> None:
    text = path.read_text()
    name = str(path.relative_to(SOURCE))
    if name not in LONG_MODULES:
        assert len(text.splitlines()) <= MODULE_LINES, f"{name} is too long"
    tree = ast.parse(text)
    for function in functions(tree):
        lines = (function.end_lineno or 0) - function.body[0].lineno + 1
        assert lines <= FUNCTION_LINES, f"{name}: {function.name} has {lines} lines"


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(SOURCE)))
def test_module_imports_nothing_inside_functions_and_nothing_from_the_bare_root(path: Path) -> None:
    tree = ast.parse(path.read_text())
    for function in functions(tree):
        for node in ast.walk(function):
            assert not isinstance(node, ast.Import | ast.ImportFrom), f"{path}: import inside {function.name}"
    for node in tree.body:
        if isinstance(node, ast.Import) and path.parent != SOURCE:
            assert all(alias.name != "turnout" for alias in node.names), f"{path} imports the bare root"


def test_dispatch_is_at_most_seventy_lines_of_code() -> None:
    lines = 0
    tree = ast.parse((SOURCE / "dispatch.py").read_text())
    for function in functions(tree):
        docstring = ast.get_docstring(function, clean=False)
        length = (function.end_lineno or 0) - function.lineno + 1
        lines += length - (len(docstring.splitlines()) if docstring else 0)
    assert lines <= 70


def test_every_error_has_a_stable_code_and_a_docstring() -> None:
    classes = [item for item in vars(errors).values() if inspect.isclass(item) and issubclass(item, Exception)]
    assert all(item.__doc__ for item in classes)
    ours = [item for item in classes if issubclass(item, errors.TurnoutError) and item is not errors.DocumentError]
    codes = {item.__name__: item.code for item in ours}
    assert len(set(codes.values())) == len(codes)


@pytest.mark.parametrize(
    ("module", "forbidden"),
    [
        ("turnout", {"numpy", "pydantic", "onnxruntime", "sqlalchemy"}),
        ("turnout.gateway.app", {"sqlalchemy", "alembic", "scipy", "rich", "click", "onnxruntime"}),
        ("turnout.supervisor.app", {"sqlalchemy", "pydantic", "numpy", "onnxruntime", "rich", "click"}),
    ],
)
def test_program_starts_without_heavy_libraries(module: str, forbidden: set[str]) -> None:
    code = f"import sys, {module}; print(' '.join(sorted(sys.modules)))"
    loaded = set(subprocess.check_output([sys.executable, "-c", code], text=True).split())
    assert not loaded & forbidden
