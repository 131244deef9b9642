"""What is written in two places because neither may import the other says the same in both."""

import re
from pathlib import Path
from typing import get_args

import msgspec
import pytest

from turnout.experiments import assignment, growthbook, layers
from turnout.gateway import openapi, outcomes
from turnout.pipelines import catalog as pipeline_catalog
from turnout.runtimes import catalog as runtime_catalog
from turnout.spec import assignment_checks, document, fields, traffic

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]


def test_the_document_takes_the_runtimes_and_pipelines_that_there_are() -> None:
    assert set(document.RUNTIMES) == set(runtime_catalog.RUNTIMES)
    assert set(fields.BUILT_IN) == set(pipeline_catalog.PIPELINES)


def test_the_document_cuts_a_layer_into_the_slots_that_units_are_placed_in() -> None:
    assert traffic.SLOTS == layers.SLOTS


def test_the_document_knows_the_hashes_that_there_are() -> None:
    hashes = get_args(document.ExperimentSpec.model_fields["hash"].annotation)
    assert hashes == (assignment.V1, growthbook.V1, growthbook.V2)
    assert assignment_checks.V1 == assignment.V1


def test_openapi_describes_the_fields_of_an_outcome() -> None:
    posted = msgspec.structs.fields(outcomes.Posted)
    assert list(openapi.OUTCOME["properties"]) == [field.name for field in posted]  # type: ignore[call-overload]
    assert openapi.OUTCOME["required"] == [field.name for field in posted if field.required]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_between_files_leads_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+?)(?:#[^)]*)?\)", page.read_text()):
        assert "://" in target or (page.parent / target).exists(), f"{page.name} links to {target}"
