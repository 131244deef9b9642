"""Runtimes by their names."""

import pytest

from turnout.errors import SpecError
from turnout.runtimes import catalog


@pytest.mark.parametrize("name", sorted(catalog.RUNTIMES))
def test_every_short_name_opens(name: str) -> None:
    assert catalog.load(name).__module__ == catalog.RUNTIMES[name].partition(":")[0]


def test_a_users_own_class_is_taken_by_module_and_name() -> None:
    assert catalog.load("fractions:Fraction").__name__ == "Fraction"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("onxx", "runtime 'onxx' does not exist; there are index, onnx, python, sklearn"),
        ("no_such_module:Class", "needs the module 'no_such_module', which is not there"),
        ("fractions:Nothing", "module 'fractions' has no class 'Nothing'"),
        ("math:pi", "module 'math' has no class 'pi'"),
    ],
    ids=["typo", "no module", "no class", "no type"],
)
def test_what_does_not_exist_is_the_documents_error(name: str, message: str) -> None:
    with pytest.raises(SpecError, match=message):
        catalog.load(name)
