"""What a document may say: models, pipelines, endpoints, experiments, and what else steers traffic.

Frozen pydantic models, unknown keys refused. Attributes carry their unit (`deadline_s`),
keys of the document do not (`deadline: 5s`). Build them through `snapshot.admit`, which adds
the checks across parts and the places of errors; `Document.model_validate` alone checks shapes.

Reprs name the fields that are set and never show values: any text may have come from a secret.
"""

from pathlib import PurePosixPath
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import BeforeValidator, Discriminator, Field, Tag

from turnout.spec import fields, measures, traffic
from turnout.spec.part import Ineffective, NoValues, Part

RUNTIMES = ("index", "onnx", "python", "sklearn")
"""Built-in runtimes; anything with a colon names a user's own class."""
RUNTIME_OF_SUFFIX = {
    ".onnx": "onnx",
    ".joblib": "sklearn",
    ".skops": "sklearn",
    ".pkl": "sklearn",
    ".pickle": "sklearn",
    ".npz": "index",
    ".npy": "index",
}
"""The runtime of a model that names none, by its source's suffix. A model with `code` is `python`."""


class Batching(Part):
    """How rows of many requests join into one call of the model."""

    max_rows: int = Field(default=64, strict=True, ge=1, le=65_536, description="Most rows in one batch.")
    max_delay_s: fields.Duration = Field(
        default=0.0,
        alias="max_delay",
        le=10.0,
        description="How long a row may wait for company; 0ms takes whatever waits, which is nearly always right.",
    )
    max_queue_rows: int = Field(
        default=1024,
        strict=True,
        ge=1,
        le=1_000_000,
        alias="max_queue",
        description="Rows that may wait; further requests are refused at once with 503.",
    )


class ModelSpec(Part):
    """A named, versioned artifact and the runtime that loads it."""

    runtime: str
    source: fields.Text | None = Field(
        default=None, description="The artifact: a file or folder, relative to the document."
    )
    code: fields.Code | None = Field(
        default=None, description="The class that loads and predicts, as 'package.module:Class'."
    )
    digest: fields.Digest | None = Field(
        default=None, description="The artifact's digest; any other content is refused. `sha256sum FILE` prints it."
    )
    params: fields.Values = Field(default_factory=dict, description="Keyword arguments of the model's class.")
    options: fields.Values = Field(
        default_factory=dict, description="Settings of the runtime, handed to it as they are."
    )
    batching: Batching = Field(default=Batching(), description="How rows of many requests are joined.")
    execution: Literal["auto", "loop", "thread"] = Field(
        default="auto",
        description="Where predictions run; auto measures and decides. Python code always runs in a thread.",
    )
    instances: int = Field(default=1, strict=True, ge=1, le=64, description="Loaded copies per process.")
    threads: int = Field(default=1, strict=True, ge=1, le=256, description="Compute threads of one instance.")
    timeout_s: fields.Duration = Field(
        default=30.0,
        alias="timeout",
        gt=0,
        le=3600.0,
        description="A prediction that takes longer is stuck: it is answered and its instance replaced.",
    )
    warmup: fields.Flag = Field(default=True, description="Predict once with an example before the first request.")
    description: str = Field(default="", strict=True, max_length=4096, description="For people.")

    def runtime_options(self) -> dict[str, Any]:
        """What the runtime gets beside the artifact."""
        return dict(self.options)


class OnnxModel(ModelSpec):
    """An ONNX graph, run by onnxruntime."""

    runtime: Literal["onnx"] = Field(default="onnx", description="May be left out when the source ends in .onnx.")
    source: fields.Text = Field(description="The .onnx file, relative to the document.")
    providers: tuple[fields.Text, ...] | None = Field(
        default=None,
        min_length=1,
        max_length=16,
        description="Execution providers by onnxruntime's names; default: CPU.",
    )
    code: Ineffective = None
    params: NoValues = Field(default_factory=dict)
    options: NoValues = Field(default_factory=dict)

    def runtime_options(self) -> dict[str, Any]:
        return {} if self.providers is None else {"providers": list(self.providers)}


class SklearnModel(ModelSpec):
    """A scikit-learn estimator saved with joblib, skops or pickle. Loading one runs code, hence the pinned digest."""

    runtime: Literal["sklearn"] = Field(
        default="sklearn", description="May be left out when the source ends in .joblib, .skops, .pkl or .pickle."
    )
    source: fields.Text = Field(description="The saved estimator, relative to the document.")
    digest: fields.Digest = Field(description="The file's digest; required, because loading a pickle runs its code.")
    method: Literal["predict", "predict_proba", "decision_function", "transform"] = Field(
        default="predict", description="What to call on the estimator."
    )
    trusted: Annotated[tuple[fields.Text, ...], Field(max_length=1000)] = Field(
        default=(), description="Types that a .skops file may hold beyond the safe ones."
    )
    execution: Literal["auto", "thread"] = Field(
        default="auto", description="Both mean a thread: Python code never runs on the event loop."
    )
    code: Ineffective = None
    params: NoValues = Field(default_factory=dict)
    options: NoValues = Field(default_factory=dict)

    def runtime_options(self) -> dict[str, Any]:
        return {"method": self.method, "trusted": list(self.trusted)}


class PythonModel(ModelSpec):
    """A user's class with `load` and `predict(list) -> list`."""

    runtime: Literal["python"] = Field(default="python", description="May be left out when `code` is given.")
    code: fields.Code = Field(description="The class, as 'package.module:Class'.")
    execution: Literal["auto", "thread"] = Field(
        default="auto", description="Both mean a thread: Python code never runs on the event loop."
    )
    options: NoValues = Field(default_factory=dict)

    def runtime_options(self) -> dict[str, Any]:
        return dict(self.params)


class IndexModel(ModelSpec):
    """A vector index over the rows of an .npz or .npy file."""

    runtime: Literal["index"] = Field(
        default="index", description="May be left out when the source ends in .npz or .npy."
    )
    source: fields.Text = Field(description="The .npz file with 'vectors' and columns, relative to the document.")
    exact: fields.Flag = Field(default=True, description="Compare with every row; false searches approximately.")
    metric: Literal["cos", "ip", "l2"] = Field(
        default="cos", description="Cosine, inner product, or negative squared distance."
    )
    vectors: fields.Flag = Field(default=False, description="Matches carry their vector.")
    expansion: int = Field(
        default=128,
        strict=True,
        ge=1,
        le=65_536,
        description="Approximate search: candidates a query; more finds more.",
    )
    code: Ineffective = None
    params: NoValues = Field(default_factory=dict)
    options: NoValues = Field(default_factory=dict)

    def runtime_options(self) -> dict[str, Any]:
        return {"exact": self.exact, "metric": self.metric, "vectors": self.vectors, "expansion": self.expansion}


class CustomModel(ModelSpec):
    """A model on a user's own runtime."""

    runtime: fields.Code = Field(description="The runtime class, as 'package.module:Class'.")
    code: Ineffective = None
    params: NoValues = Field(default_factory=dict)


def runtime_of(value: object) -> str | None:
    """The tag of the model class for one model's raw mapping.

    Returns:
        A built-in runtime's name, "custom" for a "module:Class", the text itself when it is
        neither (so that the error can name it), None when nothing tells.
    """
    if isinstance(value, ModelSpec):
        return "custom" if isinstance(value, CustomModel) else value.runtime
    if not isinstance(value, dict):
        return None
    runtime = value.get("runtime")
    if isinstance(runtime, str):
        return "custom" if ":" in runtime else runtime
    if runtime is not None:
        return str(runtime)
    source, code = value.get("source"), value.get("code")
    if isinstance(code, str):
        return "python"
    return RUNTIME_OF_SUFFIX.get(PurePosixPath(source).suffix) if isinstance(source, str) else None


MODEL_CLASSES: dict[str, type[ModelSpec]] = {
    "onnx": OnnxModel,
    "sklearn": SklearnModel,
    "python": PythonModel,
    "index": IndexModel,
    "custom": CustomModel,
}
AnyModel: TypeAlias = Annotated[
    Annotated[OnnxModel, Tag("onnx")]
    | Annotated[SklearnModel, Tag("sklearn")]
    | Annotated[PythonModel, Tag("python")]
    | Annotated[IndexModel, Tag("index")]
    | Annotated[CustomModel, Tag("custom")],
    Discriminator(runtime_of),
]


class PipelineSpec(Part):
    """A pipeline's code with its models and parameters."""

    code: fields.PipelineCode = Field(
        description="'package.module:function', or a built-in: predict, retrieval, generation, ensemble."
    )
    models: Annotated[dict[fields.Keyword, fields.Name], BeforeValidator(fields.none_is_empty)] = Field(
        default_factory=dict, description="Keyword of the function to model."
    )
    params: fields.Values = Field(default_factory=dict, description="Keyword of the function to value.")
    description: str = Field(default="", strict=True, max_length=4096, description="For people.")


class EndpointSpec(Part):
    """The stable public name that callers use."""

    pipeline: fields.Name = Field(description="The pipeline that answers where no experiment says otherwise.")
    unit: fields.Unit | None = Field(
        default=None, description="Whom experiments split: a field of the request such as user_id, or header:X-User."
    )
    deadline_s: fields.Duration = Field(
        default=10.0,
        alias="deadline",
        gt=0,
        le=3600.0,
        description="A request is answered or refused within this time.",
    )
    fallback: fields.Name | None = Field(
        default=None, description="A pipeline that answers when the other fails; the first gets 60 % of the deadline."
    )
    attributes: Annotated[dict[fields.Keyword, fields.Unit], BeforeValidator(fields.none_is_empty)] = Field(
        default_factory=dict,
        description="What targeting may know of a request: name to a field such as user.country, or header:X-Plan.",
    )
    extra_fields: Literal["forbid", "ignore"] = Field(
        default="forbid", description="What unknown fields of a request do."
    )
    description: str = Field(default="", strict=True, max_length=4096, description="For people; shown in OpenAPI.")


class VariantSpec(Part):
    """One side of an experiment: a pipeline, or other params or models on the endpoint's pipeline."""

    pipeline: fields.Name | None = Field(default=None, description="The pipeline; the endpoint's own when left out.")
    weight: fields.Weight = Field(description="Share relative to the other variants' weights; 0 gets nobody.")
    control: fields.Flag = Field(
        default=False, description="What the others are compared with; exactly one variant is control."
    )
    params: fields.Values = Field(default_factory=dict, description="Laid over the pipeline's params.")
    models: Annotated[dict[fields.Keyword, fields.Name], BeforeValidator(fields.none_is_empty)] = Field(
        default_factory=dict, description="Laid over the pipeline's models."
    )
    overrides: Annotated[tuple[fields.Override, ...], Field(max_length=10_000)] = Field(
        default=(), description="Units that always get this variant; they are never analysed."
    )
    description: str = Field(default="", strict=True, max_length=4096, description="For people.")


class ExperimentSpec(Part):
    """Splits an endpoint's units over variants."""

    endpoint: fields.Name = Field(description="The endpoint whose traffic is split.")
    variants: Annotated[
        dict[fields.NewName, VariantSpec], Field(min_length=2, max_length=64), BeforeValidator(fields.none_is_empty)
    ] = Field(description="At least two, exactly one of them control. The names are part of the split.")
    seed: fields.Seed | None = Field(default=None, description="Seed of the split; default: the experiment's name.")
    hash: Literal["v1", "growthbook-v1", "growthbook-v2"] = Field(
        default="v1", description="How units are split; growthbook-* gives the variants that a GrowthBook SDK gives."
    )
    assign: Literal["split", "external"] = Field(
        default="split", description="external: another system decides, `header` names the variant, Turnout logs it."
    )
    header: fields.HeaderName | None = Field(
        default=None, description="With assign: external, the request header that names the variant."
    )
    targeting: fields.Text | None = Field(
        default=None,
        description="Who takes part: a CEL condition over the endpoint's attributes, such as country in ['KR', 'JP'].",
    )
    layer: traffic.LayerSpec | None = Field(
        default=None, description="Experiments that share a layer exclude each other; each owns some of its slots."
    )
    managed: Annotated[tuple[Literal["winner", "ramp", "enabled"], ...], Field(max_length=3)] = Field(
        default=(), description="Keys that Turnout's overlay may set."
    )
    ramp: fields.Ratio = Field(
        default=1.0, description="Share of units that take part, such as 20%; the others get control."
    )
    enabled: fields.Flag = Field(default=True, description="false sends everybody to control.")
    winner: fields.Name | None = Field(default=None, description="The variant that everybody gets, once it is decided.")
    on_missing_unit: fields.OnMissingUnit = Field(
        default="control",
        description="A request without unit: control, request (split by request id), or attribute:NAME.",
    )
    fallback: Literal["control"] | None = Field(default=None, description="control answers where a variant fails.")
    metrics: measures.MetricsSpec = Field(default=measures.MetricsSpec(), description="How it is judged.")
    plan: measures.PlanSpec = Field(default=measures.PlanSpec(), description="What was decided before it began.")
    description: str = Field(default="", strict=True, max_length=4096, description="Hypothesis, for people.")

    @property
    def control(self) -> str:
        """Name of the control variant; checks make sure that there is exactly one."""
        return next(name for name, variant in self.variants.items() if variant.control)

    @property
    def ramp_ppm(self) -> int:
        """The ramp in millionths, as assignment takes it."""
        return round(self.ramp * 1_000_000)


class Document(Part):
    """A Turnout document: models, the pipelines that use them, endpoints in front, experiments between."""

    models: Annotated[dict[fields.NewName, AnyModel], BeforeValidator(fields.none_is_empty)] = Field(
        default_factory=dict, description="Model name to artifact and runtime."
    )
    pipelines: Annotated[dict[fields.NewName, PipelineSpec], BeforeValidator(fields.none_is_empty)] = Field(
        default_factory=dict, description="Pipeline name to code, models and params."
    )
    endpoints: Annotated[dict[fields.NewName, EndpointSpec], BeforeValidator(fields.none_is_empty)] = Field(
        default_factory=dict, description="Public name to pipeline; served as POST /v1/endpoints/NAME."
    )
    experiments: Annotated[dict[fields.NewName, ExperimentSpec], BeforeValidator(fields.none_is_empty)] = Field(
        default_factory=dict, description="Experiment name to endpoint and variants."
    )

    rollouts: Annotated[dict[fields.NewName, traffic.RolloutSpec], BeforeValidator(fields.none_is_empty)] = Field(
        default_factory=dict, description="Rollout name to endpoint and what it moves to."
    )
    shadows: Annotated[dict[fields.NewName, traffic.ShadowSpec], BeforeValidator(fields.none_is_empty)] = Field(
        default_factory=dict, description="Shadow name to endpoint and the pipeline that gets a copy."
    )
    holdouts: Annotated[dict[fields.NewName, traffic.HoldoutSpec], BeforeValidator(fields.none_is_empty)] = Field(
        default_factory=dict, description="Holdout name to the share of units that experiments leave alone."
    )
    override_key: fields.Text | None = Field(
        default=None, description="Signs the Turnout-Override header, such as secret:override-key."
    )

    def experiments_on(self, endpoint: str) -> dict[str, ExperimentSpec]:
        """The enabled experiments of an endpoint, in the document's order."""
        return {name: spec for name, spec in self.experiments.items() if spec.endpoint == endpoint and spec.enabled}

    def rollout_on(self, endpoint: str) -> tuple[str, traffic.RolloutSpec] | None:
        """The rollout of an endpoint; checks make sure that there is one at most."""
        return next(((name, spec) for name, spec in self.rollouts.items() if spec.endpoint == endpoint), None)

    def holdout_on(self, endpoint: str) -> tuple[str, traffic.HoldoutSpec] | None:
        """The holdout that holds on an endpoint; checks make sure that there is one at most."""
        for name, spec in self.holdouts.items():
            if spec.enabled and (not spec.endpoints or endpoint in spec.endpoints):
                return name, spec
        return None

    def shadows_on(self, endpoint: str) -> dict[str, traffic.ShadowSpec]:
        """The shadows of an endpoint."""
        return {name: spec for name, spec in self.shadows.items() if spec.endpoint == endpoint}

    def experiment_on(self, endpoint: str) -> tuple[str, ExperimentSpec] | None:
        """The experiment that decides what an endpoint runs: the enabled one, else the first, else None."""
        found = [(name, spec) for name, spec in self.experiments.items() if spec.endpoint == endpoint]
        return next((pair for pair in found if pair[1].enabled), found[0] if found else None)
