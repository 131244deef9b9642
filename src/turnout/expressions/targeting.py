"""The targeting conditions of a document, compiled.

Called by `assembly/building`, `assembly/admission` and `reports/explain.py`.
"""

from turnout.errors import SpecError
from turnout.expressions import catalog
from turnout.spec import document


def compiled(content: document.Document) -> tuple[dict[str, catalog.Condition], list[SpecError]]:
    """Conditions by experiment, and what is wrong with the others, under their key paths.

    Those of experiments that are off are compiled, too: the overlay may switch them on.
    Blocking when there are some: imports CEL on first use.
    """
    found: dict[str, catalog.Condition] = {}
    errors = []
    for name, spec in content.experiments.items():
        if spec.targeting is not None:
            try:
                found[name] = catalog.compile(spec.targeting, content.endpoints[spec.endpoint].attributes)
            except SpecError as error:
                path = f"experiments.{name}.targeting"
                errors.append(SpecError(error.message, path=path, hint=error.hint))
    return found, errors
