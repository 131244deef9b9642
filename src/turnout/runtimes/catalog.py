"""Runtimes by name: the only place that knows where they live. Heavy libraries load with them.

Called by `assembly/building`.
"""

import importlib

from turnout.errors import SpecError
from turnout.runtimes import base

RUNTIMES: dict[str, str] = {
    "index": "turnout.runtimes.index:IndexRuntime",
    "onnx": "turnout.runtimes.onnx:OnnxRuntime",
    "python": "turnout.runtimes.python:PythonRuntime",
    "sklearn": "turnout.runtimes.sklearn:SklearnRuntime",
}
"""Short name of a runtime to "module:Class"."""

EXTRAS: dict[str, str] = {"sklearn": "sklearn"}
"""Library that a runtime's module imports to the extra of this package that installs it."""


def load(name: str) -> type[base.Runtime]:
    """The runtime class behind a short name or a user's own "module:Class". Blocking: imports on first use.

    Raises:
        SpecError: No such name, or its module does not import.

    >>> load("onnx").__name__
    'OnnxRuntime'
    """
    target = RUNTIMES.get(name, name)
    module_name, _, class_name = target.partition(":")
    if not class_name:
        known = ", ".join(sorted(RUNTIMES))
        raise SpecError(
            f"runtime {name!r} does not exist; there are {known}.", hint='Or give your own as "module:Class".'
        )
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        extra = EXTRAS.get((error.name or "").partition(".")[0])
        hint = f'Install it: pip install "turnout[{extra}]".' if extra else "Is it installed, and spelled so?"
        raise SpecError(f"runtime {name!r} needs the module {error.name!r}, which is not there.", hint=hint) from error
    found = getattr(module, class_name, None)
    if not isinstance(found, type):
        raise SpecError(f"runtime {name!r}: module {module_name!r} has no class {class_name!r}.")
    return found
