"""Events as rows of `tables.py`: the record's tuple, its containers as JSON text, two values behind.

Runs once per event in the recorder, so it takes the shortest way: `astuple`, one list, no names.

Called by `sql`.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from turnout.events import Comparison, Event, Exposure, Prediction
from turnout.stores.base import Subject

Row = tuple[Any, ...]

_MODELS, _STEPS, _LAST = (Prediction.__struct_fields__.index(name) for name in ("models", "steps", "also"))
_ALSO, _ATTRIBUTES = (Exposure.__struct_fields__.index(name) for name in ("also", "attributes"))
_ARRIVAL_S = 1e-6
"""Distance of `ingested_at` within one batch: "the latest wins" then also holds inside of a batch."""


def rows(events: Sequence[Event], ingested_at: float, subject: Subject) -> dict[str, list[Row]]:
    """Rows by table name; a table without rows is left out.

    Raises:
        TypeError: A record's attributes hold something JSON cannot say.
    """
    dumps = msgspec.json.Encoder().encode
    astuple = msgspec.structs.astuple
    models_text: dict[tuple[str, ...], str] = {}
    exposures: list[Row] = []
    predictions: list[Row] = []
    outcomes: list[Row] = []
    comparisons: list[Row] = []
    for at, event in enumerate(events):
        arrival = ingested_at + at * _ARRIVAL_S
        if isinstance(event, Prediction):
            models = event.models
            text = models_text.get(models)
            if text is None:
                text = models_text[models] = dumps(models).decode()
            row = astuple(event)
            steps = dumps(event.steps).decode()
            also = dumps(event.also).decode() if event.also else "[]"
            head, middle, tail = row[:_MODELS], row[_MODELS + 1 : _STEPS], row[_STEPS + 1 : _LAST]
            predictions.append((*head, text, *middle, steps, *tail, also, arrival, subject(event.unit)))
        elif isinstance(event, Exposure):
            row = astuple(event)
            also, attributes = dumps(event.also).decode(), dumps(event.attributes).decode()
            head, tail = row[:_ALSO], row[_ATTRIBUTES + 1 :]
            exposures.append((*head, also, attributes, *tail, arrival, subject(event.unit)))
        else:
            table = comparisons if isinstance(event, Comparison) else outcomes
            table.append((*astuple(event), arrival, subject(event.unit)))
    named = {"exposures": exposures, "predictions": predictions, "outcomes": outcomes, "comparisons": comparisons}
    return {name: table for name, table in named.items() if table}


def without_nul(by_table: Mapping[str, Sequence[Row]]) -> dict[str, list[Row]]:
    """The same rows with U+FFFD in place of each NUL, in text and in the JSON within text."""
    return {
        name: [tuple(_clean(value) if isinstance(value, str) else value for value in row) for row in table]
        for name, table in by_table.items()
    }


def _clean(text: str) -> str:
    return text.replace("\x00", "\ufffd").replace("\\u0000", "\ufffd")
