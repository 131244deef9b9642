"""Conditions of a document: what is wrong with them is told, and what a variable gave is not."""

import pytest
import yaml

from turnout.expressions import targeting
from turnout.spec import snapshot


@pytest.mark.parametrize(
    ("condition", "told"),
    [
        ("country == KR", "column 12: unknown name 'KR'"),
        ("country == ${HOME_COUNTRY}", "does not fit as it was filled in"),
    ],
)
def test_a_variable_in_a_wrong_condition_is_not_shown(condition: str, told: str) -> None:
    variants = {"a": {"weight": 1, "control": True}, "b": {"weight": 1, "params": {"k": 1}}}
    document = {
        "pipelines": {"p": {"code": "app:p"}},
        "endpoints": {"e": {"pipeline": "p", "unit": "u", "attributes": {"country": "country"}}},
        "experiments": {"x": {"endpoint": "e", "targeting": condition, "variants": variants}},
    }
    files = {"turnout.yaml": yaml.safe_dump(document)}
    admitted = snapshot.admit(files, environment={"HOME_COUNTRY": "hidden"})
    found, errors = targeting.compiled(admitted.document, admitted.written)
    assert found == {}
    assert [error.path for error in errors] == ["experiments.x.targeting"]
    assert told in str(errors[0])
    assert "hidden" not in str(errors[0])
