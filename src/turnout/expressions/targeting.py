"""The targeting conditions of a document, compiled.

Called by `assembly/building` and `assembly/admission`.
"""

from collections.abc import Mapping
from typing import Any

from turnout.errors import SpecError
from turnout.expressions import catalog
from turnout.spec import document


def compiled(
    content: document.Document, written: Mapping[str, Any]
) -> tuple[dict[str, catalog.Condition], list[SpecError]]:
    """Conditions by experiment, and what is wrong with the others, under their key paths.

    Those of experiments that are off are compiled, too: the overlay may switch them on. What is wrong with a
    condition into which a variable was filled is not told: it would show the variable.

    Args:
        written: The document before references were filled in.

    Blocking when there are some: imports CEL on first use.
    """
    found: dict[str, catalog.Condition] = {}
    errors = []
    for name, spec in content.experiments.items():
        if spec.targeting is not None:
            try:
                found[name] = catalog.compile(spec.targeting, content.endpoints[spec.endpoint].attributes)
            except SpecError as error:
                told, hint = error.message, error.hint
                if written["experiments"][name]["targeting"] != spec.targeting:
                    told = "the condition does not fit as it was filled in."
                    hint = "What a reference gave is not shown; `turnout check` with the text written out tells more."
                errors.append(SpecError(told, path=f"experiments.{name}.targeting", hint=hint))
    return found, errors
