"""What `change` found, as commands show it and `--json` prints it. Shares are of an endpoint's units, in [0, 1]."""

from collections.abc import Mapping
from typing import Any, Literal

from msgspec import Struct

from turnout.changes import compatibility

State = Literal["begins", "ends", "continues", "new phase"]


class Contract(Struct, frozen=True, kw_only=True):
    """What callers of one endpoint send and get.

    Attributes:
        request: JSON Schema.
        reply: JSON Schema; of one chunk where it streams.
    """

    request: Any
    reply: Any
    streams: bool = False


class Facts(Struct, frozen=True, kw_only=True):
    """What the text of a document does not tell.

    Attributes:
        contracts: By endpoint; an endpoint that is missing is not known.
        build: Digest of the user code; "" when it was not looked at.
        artifact_bytes: Size of a model's artifact; models without one are missing.
        memory_bytes: What a model takes where it runs now, summed over workers.
        workers: Processes that load the models; 0 when no server was asked.
    """

    contracts: Mapping[str, Contract] = {}
    build: str = ""
    artifact_bytes: Mapping[str, int] = {}
    memory_bytes: Mapping[str, int] = {}
    workers: int = 0


class Key(Struct, frozen=True, kw_only=True):
    """One key of the document that says something else.

    Attributes:
        before: As written; None where there was none.
        place: "file:line" where it is written, or was.
    """

    path: str
    before: Any
    after: Any
    place: str


class Flow(Struct, frozen=True, kw_only=True):
    """Units that go from one thing to another."""

    source: str
    target: str
    share: float


class Logged(Struct, frozen=True, kw_only=True):
    """Units of the exposure log, assigned by both documents.

    Attributes:
        units: All that were looked at.
        moved: Those whose variant changes.
        flows: (from, to) as "a -> b" to how many; only those that move.
        complete: False when the log has more units than are looked at.
    """

    units: int
    moved: int
    flows: Mapping[str, int]
    complete: bool = True


class Experiment(Struct, frozen=True, kw_only=True):
    """What becomes of one experiment.

    Attributes:
        state: "continues" when the phase is the same and goes on.
        phases: Before and after; "" where it does not run.
        taking_part: Share of the units that is split, before and after.
        moved: Share whose variant changes; 0 when it begins or ends: the endpoint says what its units see.
        flows: Largest first; sum to `moved`.
        keys: All that is written otherwise.
        plan: The keys among these that a running phase was planned with: what follows is not confirmatory.
        notes: What the numbers leave open, in sentences.
    """

    name: str
    endpoint: str
    state: State
    phases: tuple[str, str]
    taking_part: tuple[float, float]
    moved: float
    flows: tuple[Flow, ...]
    keys: tuple[Key, ...]
    plan: tuple[str, ...]
    notes: tuple[str, ...]
    logged: Logged | None = None


class Endpoint(Struct, frozen=True, kw_only=True):
    """What becomes of one endpoint.

    Attributes:
        moved: Share of the units that get something else than before: another pipeline, models or params.
        flows: From what to what, largest first; sum to `moved`.
        shares: What units get, to its share before and after.
        findings: What callers notice; None when the contracts were not compared.
    """

    name: str
    state: Literal["added", "removed", "changed", "same"]
    moved: float
    flows: tuple[Flow, ...]
    shares: Mapping[str, tuple[float, float]]
    keys: tuple[Key, ...]
    findings: tuple[compatibility.Finding, ...] | None
    notes: tuple[str, ...] = ()


class Part(Struct, frozen=True, kw_only=True):
    """A rollout, shadow or holdout that begins, ends or says something else."""

    kind: Literal["rollout", "shadow", "holdout"]
    name: str
    state: Literal["begins", "ends", "changes"]
    endpoint: str
    text: str
    keys: tuple[Key, ...]


class Model(Struct, frozen=True, kw_only=True):
    """A model that loads, unloads, or loads anew because something of it is different.

    Attributes:
        why: Keys that differ, or "artifact", or "code".
        artifact_bytes: None without an artifact.
        memory_bytes: Measured where it runs; None where it does not.
    """

    name: str
    state: Literal["loads", "unloads", "reloads"]
    why: tuple[str, ...] = ()
    artifact_bytes: int | None = None
    memory_bytes: int | None = None


class Memory(Struct, frozen=True, kw_only=True):
    """Bytes that models need, over all workers that were asked about (else of one).

    Attributes:
        during_bytes: While old and new are both loaded.
        measured: Whether every number was measured; else sizes of artifacts stand for what is not, a lower bound.
        unknown: Models of which not even that is known.
    """

    before_bytes: int
    after_bytes: int
    during_bytes: int
    measured: bool
    unknown: tuple[str, ...]


class Change(Struct, frozen=True, kw_only=True):
    """All that a change of the document does.

    Attributes:
        revisions: Before and after.
        elsewhere: Keys that are written otherwise outside of what the other lists tell: pipelines, models, the rest.
        breaks: Whether a caller that was right is wrong now.
        effect: Whether anything happens at all.
    """

    revisions: tuple[str, str]
    endpoints: tuple[Endpoint, ...]
    experiments: tuple[Experiment, ...]
    parts: tuple[Part, ...]
    models: tuple[Model, ...]
    memory: Memory
    elsewhere: tuple[Key, ...]
    notes: tuple[str, ...]
    breaks: bool
    effect: bool
