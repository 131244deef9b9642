import json
from pathlib import Path
from typing import Any

import hypothesis
import pytest

hypothesis.settings.register_profile("untimed", deadline=None)  # a busy machine is not a failure
hypothesis.settings.load_profile("untimed")


@pytest.fixture(scope="session")
def vectors() -> list[dict[str, Any]]:
    text = Path(__file__).with_name("vectors.json").read_text("utf-8")
    found: list[dict[str, Any]] = json.loads(text)
    return found
