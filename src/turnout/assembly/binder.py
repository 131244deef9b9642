"""Binds a document's pipelines to its loaded models: as written, as a variant changes them, as a shadow copies them.

Called by `routing`; calls `pipelines.binding`. What does not bind is noted where the document says it.
"""

from collections.abc import Mapping
from typing import Any

from turnout.assembly import reading, refusals, variants
from turnout.errors import DocumentError, SpecError
from turnout.models import handle, host
from turnout.pipelines import binding, definition
from turnout.spec import document, snapshot, tree


class Binder:
    """Knows one document, its code and its loaded models.

    Args:
        definitions: Pipelines by name; those whose code did not load are not in it.
        hosts: Models by alias; those that did not load are not in it.
        noted: Takes the errors.
    """

    def __init__(
        self,
        admitted: snapshot.Snapshot,
        definitions: Mapping[str, definition.Definition],
        hosts: Mapping[str, host.Host],
        noted: refusals.Refusals,
    ) -> None:
        self._snapshot = admitted
        self._pipelines = admitted.document.pipelines
        self._definitions = definitions
        self._hosts = hosts
        self._noted = noted

    def bind(
        self,
        spec: document.EndpointSpec,
        side: variants.Side,
        laid: variants.Chosen = (),
        *,
        shy: bool = False,
    ) -> binding.BoundPipeline | None:
        """One pipeline with its models and params, a variant's over them, other experiments' params on top.

        Args:
            spec: The endpoint in front of it.
            shy: Whether its model calls give way to others'.

        Returns:
            None when something is wrong, which is noted.
        """
        defined = self._definitions.get(side.pipeline)
        pipeline = self._pipelines.get(side.pipeline)
        if defined is None or pipeline is None:
            return None
        aliases = {**pipeline.models, **side.models}
        if any(alias not in self._hosts for alias in aliases.values()):
            return None  # the model's own error is noted already
        params, filled = self._params(side, laid)
        made = handle.ShyHandle if shy else handle.Handle
        try:
            return binding.bind(
                side.pipeline,
                defined,
                {port: made(port, self._hosts[alias]) for port, alias in aliases.items()},
                params=params,
                filled=filled,
                signatures={port: self._hosts[alias].signature for port, alias in aliases.items()},
                extra_request_fields=_read_beside(spec),
                extra_fields=spec.extra_fields,
            )
        except SpecError as error:
            self._note(side, laid, error)
            return None

    def _params(self, side: variants.Side, laid: variants.Chosen) -> tuple[dict[str, Any], frozenset[str]]:
        """Params as laid over one another, and the names of those that hold what a reference stood for."""
        params = dict(self._pipelines[side.pipeline].params)
        as_written = dict(self._written(f"pipelines.{side.pipeline}"))
        for each in (side, *(part.sides[variant] for part, variant in laid)):
            params.update(each.params)
            as_written.update(self._written(each.path))
        return params, frozenset(name for name, value in params.items() if as_written.get(name) != value)

    def _written(self, path: str) -> Mapping[str, Any]:
        """The params at a key path, before references were filled in; empty where there are none."""
        found: Any = self._snapshot.written
        for key in (*tree.path_from(path), "params"):
            found = found.get(key) if isinstance(found, Mapping) else None
        return found if isinstance(found, Mapping) else {}

    def _note(self, side: variants.Side, laid: variants.Chosen, error: SpecError) -> None:
        """A param of another experiment is noted where that one sets it."""
        others = [part.sides[variant] for part, variant in laid]
        owners = {f"params.{name}": each.path for each in others for name in each.params}
        for each in error.errors if isinstance(error, DocumentError) else (error,):
            owner = owners.get(each.path)
            if owner is None:
                self._noted.note(side.path, each)
            else:
                told = SpecError(f"together with {side.path}: {each.message}", path=each.path, hint=each.hint)
                self._noted.note(owner, told)


def _read_beside(spec: document.EndpointSpec) -> frozenset[str]:
    """Top-level fields of the body that the endpoint reads, whether or not the request's type has them."""
    paths = filter(None, (spec.unit, *spec.attributes.values()))
    return frozenset(keys[0] for path in paths if (keys := reading.keys_of(path)))
