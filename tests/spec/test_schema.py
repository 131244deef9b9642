"""The JSON Schema for editors agrees with admission."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from turnout.spec import schema

OF_OTHERS = {"kustomization.yaml"}
"""Files beside documents that other tools read."""

EXAMPLES = sorted(
    path for path in (Path(__file__).parents[2] / "examples").glob("*/*.yaml") if path.name not in OF_OTHERS
)


@pytest.fixture(scope="module")
def validator() -> Any:
    made = schema.json_schema()
    jsonschema.Draft202012Validator.check_schema(made)
    return jsonschema.Draft202012Validator(made)


def _load(text: str) -> Any:
    return yaml.safe_load(text)


def test_design_document_fits_the_schema(validator: Any, chat: str) -> None:
    assert [error.message for error in validator.iter_errors(_load(chat))] == []


@pytest.mark.parametrize("path", EXAMPLES, ids=[f"{path.parent.name}/{path.name}" for path in EXAMPLES])
def test_examples_fit_the_schema(validator: Any, path: Path) -> None:
    assert [error.message for error in validator.iter_errors(_load(path.read_text()))] == []


@pytest.mark.parametrize(
    "change",
    [
        {"models": {"m": {"source": "m.bin"}}},
        {"models": {"m": {"runtime": "onxx", "source": "m.onnx"}}},
        {"models": {"m": {"runtime": "onnx", "source": "m.onnx", "code": "a:B"}}},
        {"models": {"m": {"runtime": "onnx", "source": "m.onnx", "params": {}}}},
        {"models": {"m": {"runtime": "sklearn", "source": "m.joblib"}}},
        {"models": {"M": {"source": "m.onnx"}}},
        {"models": {"m": {"source": "m.onnx", "timeout": "5 seconds"}}},
        {"pipelines": {"p": {"code": "no such"}}},
        {"endpoints": {}},
        {"endpoints": {"e": {"pipeline": "p", "deadline": 5}}},
        {"experimentz": {}},
    ],
    ids=json.dumps,
)
def test_what_admission_refuses_for_its_shape_the_schema_refuses(validator: Any, change: dict[str, Any]) -> None:
    document = {"endpoints": {"e": {"pipeline": "p"}}} | change
    assert not validator.is_valid(document)


def test_a_reference_fits_where_a_unit_is_expected(validator: Any) -> None:
    assert validator.is_valid({"endpoints": {"e": {"pipeline": "p", "deadline": "${DEADLINE}"}}})


def test_empty_section_fits(validator: Any) -> None:
    assert validator.is_valid({"endpoints": {"e": {"pipeline": "p"}}, "experiments": None})


def test_defaults_are_written_as_people_write_them() -> None:
    definitions = schema.json_schema()["$defs"]
    assert definitions["EndpointSpec"]["properties"]["deadline"]["default"] == "10s"
    assert definitions["Batching"]["properties"]["max_delay"]["default"] == "0s"


def test_every_key_is_described() -> None:
    assert list(_undescribed(schema.json_schema())) == []


def _undescribed(made: dict[str, Any]) -> Iterator[str]:
    for name, part in {"Document": made, **made["$defs"]}.items():
        if not part.get("description"):
            yield name
        yield from (f"{name}.{key}" for key, value in part["properties"].items() if not value.get("description"))
