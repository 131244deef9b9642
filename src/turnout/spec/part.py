"""What every mapping of a document has in common: frozen, no unknown keys, no values in its repr.

Used by the classes of `document`, `measures` and `traffic`; `findings` reads `refuse_ineffective`.
"""

from typing import Annotated, Any, TypeAlias

from pydantic import BaseModel, BeforeValidator, ConfigDict, WithJsonSchema
from pydantic_core import PydanticCustomError


class Part(BaseModel):
    """Base of every mapping in a document."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True, defer_build=True)

    def __repr_args__(self) -> list[tuple[str | None, Any]]:
        return [(None, name) for name in sorted(self.model_fields_set)]


def refuse_ineffective(value: object) -> object:
    """Refuse a key that this kind of part would ignore; `findings` looks for this very function."""
    raise PydanticCustomError("ineffective", "has no effect with this runtime")


Ineffective: TypeAlias = Annotated[None, BeforeValidator(refuse_ineffective), WithJsonSchema({"not": {}})]
NoValues: TypeAlias = Annotated[dict[str, Any], BeforeValidator(refuse_ineffective), WithJsonSchema({"not": {}})]
"""Keys that models have in general and that one runtime would ignore: an error, not silence."""
