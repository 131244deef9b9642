"""What travels with one request inside a process: tensors' descriptions and the current call.

The one ContextVar of Turnout lives here. `pipelines/runner.py` sets it, `models/handle.py`
reads it, nobody else touches it.
"""

import time
from contextvars import ContextVar

from msgspec import Struct, field


class TensorSpec(Struct, frozen=True):
    """One named input or output of a model.

    Attributes:
        name: As the artifact names it.
        dtype: Open Inference Protocol name: "FP32", "INT64", "BYTES", "BOOL", ...
        shape: Shape of one row, without the batch dimension; -1 stands for any length.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]

    def __str__(self) -> str:
        return f"{self.name} {self.dtype}{list(self.shape)}"


class Signature(Struct, frozen=True):
    """What a model takes and gives, per row, as read from its artifact."""

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]


class Step(Struct, array_like=True):
    """One model call inside one request, for the trace and the prediction record.

    Attributes:
        name: The keyword under which the pipeline holds the model.
        model: Alias in the document.
        version: The artifact's version.
        start_s: Seconds from the start of the call.
        duration_s: Whole step as the pipeline saw it.
        wait_s: Longest time a row of this step waited for its batch.
        compute_s: Time of the batch (the longest, where rows went into several).
        rows: Rows this step sent.
        batch_rows: Rows in the batch it travelled in (the largest).
        error: Error code, "" when fine.
    """

    name: str
    model: str
    version: str
    start_s: float = 0.0
    duration_s: float = 0.0
    wait_s: float = 0.0
    compute_s: float = 0.0
    rows: int = 1
    batch_rows: int = 0
    error: str = ""


class Call(Struct):
    """One request on its way through the pipeline of one variant.

    Attributes:
        request_id: 32 hex digits, time-ordered.
        pipeline: Name of the pipeline that runs.
        started: `time.monotonic()` when the call began.
        deadline: `time.monotonic()` after which nobody waits for the answer.
        steps: Model calls so far, in order of their start.
    """

    request_id: str
    pipeline: str
    deadline: float
    started: float = field(default_factory=time.monotonic)
    steps: list[Step] = []


current_call: ContextVar[Call | None] = ContextVar("turnout_call", default=None)
