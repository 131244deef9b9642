"""What sends requests elsewhere beside experiments' variants: layers, holdouts, rollouts, shadows.

Part of the document's classes; `traffic_checks` says how they fit together on one endpoint.
"""

from typing import Annotated, Any, Literal, TypeAlias

from pydantic import BeforeValidator, Field, WithJsonSchema

from turnout.spec import fields, measures
from turnout.spec.part import Part

SLOTS = 1000
"""A layer is split into so many slots."""

State: TypeAlias = Literal["pending", "ramping", "holding", "rolled_back", "promoting", "baking", "done"]

Models: TypeAlias = Annotated[dict[fields.Keyword, fields.Name], BeforeValidator(fields.none_is_empty)]


def slots(value: Any) -> tuple[tuple[int, int], ...]:
    """Slot ranges from text such as "0-499", or a list of such texts; both ends belong to a range."""
    texts = value if isinstance(value, list | tuple) else [value]
    ranges = []
    for text in texts:
        first, dash, last = text.partition("-") if isinstance(text, str) else ("", "", "")
        if not dash or not first.strip().isdecimal() or not last.strip().isdecimal():
            raise fields.refuse('slots such as "0-499", or a list of them', "A layer has the slots 0-999.")
        if not int(first) <= int(last) < SLOTS:
            raise fields.refuse(f'slots from 0 to {SLOTS - 1}, the smaller first, such as "0-499"')
        ranges.append((int(first), int(last)))
    if not ranges or any(one[1] >= other[0] for one, other in zip(sorted(ranges), sorted(ranges)[1:], strict=False)):
        raise fields.refuse("at least one range of slots, and none that overlap")
    return tuple(sorted(ranges))


Slots: TypeAlias = Annotated[
    tuple[tuple[int, int], ...],
    BeforeValidator(slots),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "string", "pattern": "^[0-9]{1,3} *- *[0-9]{1,3}$", "examples": ["0-499"]},
                {"type": "array", "minItems": 1, "items": {"type": "string", "pattern": "^[0-9]{1,3} *- *[0-9]{1,3}$"}},
            ]
        }
    ),
]


class LayerSpec(Part):
    """The share of a layer that an experiment owns; experiments of one layer exclude each other."""

    name: fields.NewName = Field(description="The layer's name; it seeds the slots.")
    slots: Slots = Field(description='Thousandths of the layer, such as 0-499 or ["0-99", "200-299"].')
    seed: fields.Seed | None = Field(default=None, description="Seed of the slots; default: layer:NAME.")


class HoldoutSpec(Part):
    """Units that get control of everything, to see what all experiments together are worth."""

    ratio: fields.Ratio = Field(description="Share of units held out, such as 5%.")
    endpoints: Annotated[tuple[fields.Name, ...], Field(max_length=1000)] = Field(
        default=(), description="Where it holds; left out, everywhere."
    )
    seed: fields.Seed | None = Field(default=None, description="Seed of the choice; default: holdout:NAME.")
    enabled: fields.Flag = Field(default=True, description="false lets everybody take part.")
    description: str = Field(default="", strict=True, max_length=4096, description="For people.")

    @property
    def ratio_ppm(self) -> int:
        """The share in millionths."""
        return round(self.ratio * 1_000_000)


class TargetSpec(Part):
    """What a rollout moves an endpoint to; laid over the endpoint's own pipeline."""

    pipeline: fields.Name | None = Field(default=None, description="The pipeline; the endpoint's own when left out.")
    models: Models = Field(default_factory=dict, description="Laid over the pipeline's models.")
    params: fields.Values = Field(default_factory=dict, description="Laid over the pipeline's params.")


class StepSpec(Part):
    """How long each step of a canary lasts."""

    min_s: fields.Duration = Field(
        default=300.0, alias="min", le=30 * measures.DAY_S, description="Shortest time in a step."
    )
    max_s: fields.Duration = Field(
        default=3600.0,
        alias="max",
        gt=0,
        le=30 * measures.DAY_S,
        description="After this time `on_inconclusive` decides.",
    )
    units: fields.Count = Field(default=50, description="Fewest units (or requests) per side in a step.")


class ProgressSpec(Part):
    """Where a rollout stands. Turnout writes it into its overlay; a document never has it."""

    phase: str = Field(strict=True, max_length=64, description="The rollout's phase; of another phase it is void.")
    state: State = Field(description="What is happening.")
    share: fields.Ratio = Field(default=0.0, description="Share of the units that get the new side.")
    step: int = Field(
        default=0, strict=True, ge=0, le=100, description="Number of the step, from 1; 0 before the first."
    )
    since: float = Field(default=0.0, ge=0, description="When this state began, in seconds since the epoch.")
    step_since: float = Field(
        default=0.0, ge=0, description="When this step or the bake began, in seconds since the epoch."
    )
    started: float = Field(default=0.0, ge=0, description="When the rollout began, in seconds since the epoch.")
    counts_from: float = Field(default=0.0, ge=0, description="Events before this do not count; 0: all of the phase.")
    paused: fields.Flag = Field(default=False, description="A person holds it.")
    forced: fields.Flag = Field(default=False, description="A person promoted it; only a person takes it back.")
    note: str = Field(default="", strict=True, max_length=1024, description="Why, in words.")


class RolloutSpec(Part):
    """Moves an endpoint to something new: in guarded steps (canary), or at once with a way back (blue-green)."""

    endpoint: fields.Name = Field(description="The endpoint that moves.")
    kind: Literal["canary", "blue-green"] = Field(default="canary", description="In steps, or at once.")
    to: TargetSpec = Field(description="What it moves to.")
    steps: Annotated[tuple[fields.Ratio, ...], Field(min_length=1, max_length=20)] = Field(
        default=(0.01, 0.05, 0.10, 0.25, 0.50),
        description="Share of the new side in each step; an equal share of the old side is its control.",
    )
    step: StepSpec = Field(default=StepSpec(), description="How long each step lasts.")
    look_s: fields.Duration = Field(
        default=10.0, alias="look", ge=0.2, le=3600.0, description="How often the guardrails are looked at."
    )
    guardrails: Annotated[dict[fields.NewName, measures.MetricSpec], BeforeValidator(fields.none_is_empty)] = Field(
        default_factory=lambda: {"errors": measures.MetricSpec(signal="error", margin=0.005)},
        description="What must not get worse by more than its margin; default: errors by 0.005.",
    )
    outcomes: Annotated[dict[fields.NewName, measures.MetricSpec], BeforeValidator(fields.none_is_empty)] = Field(
        default_factory=dict, description="Outcomes that must be known, and not worse, before everybody gets it."
    )
    alpha: float = Field(default=0.01, strict=True, gt=0, lt=0.5, description="Accepted rate of false alarms.")
    tightest_at: fields.Count = Field(
        default=1000, description="Units on both sides at which the guardrails' bounds are tightest."
    )
    on_inconclusive: Literal["auto", "advance", "hold"] = Field(
        default="auto", description="When a step's longest time is over; auto advances up to 25 % and holds above."
    )
    deadline_s: fields.Duration = Field(
        default=measures.DAY_S,
        alias="deadline",
        gt=0,
        le=90 * measures.DAY_S,
        description="Not done by then, it is rolled back.",
    )
    bake_s: fields.Duration = Field(
        default=600.0,
        alias="bake",
        le=30 * measures.DAY_S,
        description="How long the old side stays loaded after everybody has the new one.",
    )
    seed: fields.Seed | None = Field(default=None, description="Seed of the split; default: the rollout's name.")
    progress: ProgressSpec | None = Field(default=None, description="Only Turnout writes this, into its overlay.")
    description: str = Field(default="", strict=True, max_length=4096, description="For people.")


class ShadowSpec(Part):
    """A pipeline that gets a copy of an endpoint's requests; nobody sees its answers but the report."""

    endpoint: fields.Name = Field(description="Whose requests are copied.")
    pipeline: fields.Name | None = Field(default=None, description="The pipeline; the endpoint's own when left out.")
    models: Models = Field(default_factory=dict, description="Laid over the pipeline's models.")
    params: fields.Values = Field(default_factory=dict, description="Laid over the pipeline's params.")
    ratio: fields.Ratio = Field(default=1.0, description="Share of the requests that is copied.")
    max_in_flight: int = Field(
        default=8,
        strict=True,
        ge=1,
        le=1024,
        description="Copies at work at once per worker; more are dropped, counted.",
    )
    deadline_s: fields.Duration = Field(
        default=10.0, alias="deadline", gt=0, le=3600.0, description="A copy is given up after this time."
    )
    description: str = Field(default="", strict=True, max_length=4096, description="For people.")
