"""OFREP: other services ask which variant a unit has, in OpenFeature's protocol, and get the endpoint's own answer.

    POST /ofrep/v1/evaluate/flags/{key}     one flag
    POST /ofrep/v1/evaluate/flags           all of them, with ETag and If-None-Match

A flag is an experiment or a rollout; its value is the variant's name. `EXPERIMENT.params` is a flag
too where variants bring params: its value are these params as written, without what came from a
secret or a variable. Asking is not an exposure; calling the endpoint is.

Called by `routes`. Source: OpenFeature Remote Evaluation Protocol 0.1, service/openapi.yaml.
"""

import hashlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

import msgspec

from turnout.assembly import assembly, endpoint, reading
from turnout.errors import InputError, did_you_mean
from turnout.experiments import allocations, assignment, overrides, phases
from turnout.transport import http

FLAGS: Final = "/ofrep/v1/evaluate/flags"
PARAMS: Final = ".params"

REASONS: Final[Mapping[str, str]] = {
    assignment.Reason.SPLIT: "SPLIT",
    assignment.Reason.EXTERNAL: "SPLIT",
    assignment.Reason.OVERRIDE: "TARGETING_MATCH",
    assignment.Reason.WINNER: "STATIC",
    assignment.Reason.DISABLED: "DISABLED",
    assignment.Reason.EXTERNAL_UNKNOWN: "DEFAULT",
    assignment.Reason.HOLDOUT: "DEFAULT",
    assignment.Reason.NOT_IN_LAYER: "DEFAULT",
    assignment.Reason.TARGETING: "DEFAULT",
    assignment.Reason.NOT_IN_RAMP: "DEFAULT",
    assignment.Reason.ERROR: "ERROR",
}
"""Our reason to OpenFeature's; NO_UNIT is the error TARGETING_KEY_MISSING. Ours stands in the metadata."""

MAX_BODY_BYTES: Final = 256 * 1024
"""A longer context is refused: it is read between other requests, and no condition looks at so much."""

Header = Callable[[bytes], bytes | None]


class Flag(msgspec.Struct, frozen=True):
    """One experiment or rollout as OFREP shows it.

    Attributes:
        header: The header that names the variant; None where the split decides.
        reads: Names in the context that the decision looks at.
        params: Variant to its params as written; empty where no variant has any.
    """

    endpoint: str
    allocation: assignment.Allocation
    header: bytes | None = None
    reads: tuple[str, ...] = ()
    params: Mapping[str, Mapping[str, Any]] = {}


class Evaluation(msgspec.Struct, omit_defaults=True):
    """An answer for one flag."""

    key: str
    value: Any
    variant: str
    reason: str
    metadata: dict[str, str]


class Failure(msgspec.Struct, rename="camel", omit_defaults=True):
    """No answer, for one flag or for the whole request."""

    error_code: str
    error_details: str
    key: str | msgspec.UnsetType = msgspec.UNSET


class Flags:
    """The flags of the document in force, and answers to requests for them."""

    def __init__(self) -> None:
        self._revision = ""
        self._flags: Mapping[str, Flag] = {}

    def answer(self, current: assembly.Assembly, request: http.Request, *, now: float) -> http.Response:
        """The response to one POST under `FLAGS`. Failures have OFREP's form, not that of other paths.

        Args:
            now: Epoch seconds, for signed overrides.
        """
        flags = self._of(current)
        key = request.path[len(FLAGS) :].removeprefix("/")
        try:
            if key:
                _known(key, flags)
            asked = _Asked(request, current, now)
            if not key:
                body = msgspec.json.encode({"flags": [asked.evaluate(each, flags) for each in _keys(flags)]})
                return _cached(body, request.headers.get(b"if-none-match"))
            found = asked.evaluate(key, flags)
        except _Refused as refused:
            found = Failure(refused.code, refused.details, key or msgspec.UNSET)
        status = 200 if isinstance(found, Evaluation) else 404 if found.error_code == "FLAG_NOT_FOUND" else 400
        return http.Response(status, msgspec.json.encode(found))

    def _of(self, current: assembly.Assembly) -> Mapping[str, Flag]:
        """Built once per revision; it keeps allocations and never an assembly, whose models could not leave."""
        if self._revision != current.revision:
            self._flags = dict(_flags(current))
            self._revision = current.revision
        return self._flags


class _Refused(Exception):
    """A request that no flag can be evaluated for."""

    def __init__(self, code: str, details: str) -> None:
        super().__init__(details)
        self.code = code
        self.details = details


class _Asked:
    """One request for flags: the unit, attributes and what headers say."""

    def __init__(self, request: http.Request, current: assembly.Assembly, now: float) -> None:
        self._context = _context(request.body)
        self._unit = _unit(self._context.get("targetingKey"))
        self._header: Header = request.headers.get
        self._revision = current.revision
        signed = request.headers.get(overrides.HEADER)
        try:
            key = current.snapshot.document.override_key
            self._override = overrides.verify(signed, key, now=now) if signed is not None else None
        except InputError as error:
            raise _Refused("INVALID_CONTEXT", str(error)) from error

    def evaluate(self, key: str, flags: Mapping[str, Flag]) -> Evaluation | Failure:
        """The answer for one flag, by the function that the endpoint uses."""
        flag = flags[key.removesuffix(PARAMS)]
        name = flag.allocation.name
        external = self._header(flag.header) if flag.header is not None else None
        self._check_override(flag.allocation)
        found = assignment.assign(
            self._unit,
            flag.allocation,
            attributes={each: reading.attribute_of(self._context.get(each)) for each in flag.reads},
            external=external.decode("latin-1") if external is not None else None,
            override=self._override.of(name) if self._override is not None else None,
        )
        if found.reason == assignment.Reason.NO_UNIT:
            unit = flag.allocation.unit_type or "the request"
            return Failure(
                "TARGETING_KEY_MISSING", f"the context needs targetingKey: {unit} as the endpoint gets it.", key
            )
        metadata = {
            "revision": self._revision,
            "phase": flag.allocation.phase,
            "endpoint": flag.endpoint,
            "reason": found.reason,
        }
        metadata |= {what: said for what, said in (("missing", found.missing), ("error", found.error)) if said}
        value = found.variant if key == name else flag.params.get(found.variant, {})
        return Evaluation(key, value, found.variant, REASONS[found.reason], metadata)

    def _check_override(self, allocation: assignment.Allocation) -> None:
        if self._override is None:
            return
        try:
            self._override.check(allocation.name, [share.name for share in allocation.shares])
        except InputError as error:
            raise _Refused("INVALID_CONTEXT", str(error)) from error


def _context(body: bytes) -> dict[str, Any]:
    if len(body) > MAX_BODY_BYTES:
        raise _Refused("INVALID_CONTEXT", f"the body has {len(body):,} bytes; at most {MAX_BODY_BYTES:,} are taken.")
    try:
        sent = msgspec.json.decode(body) if body.strip() else {}
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise _Refused("PARSE_ERROR", f"the body is not JSON: {error}") from error
    context = sent.get("context", {}) if isinstance(sent, dict) else None
    if not isinstance(context, dict):
        raise _Refused("INVALID_CONTEXT", 'expected {"context": {"targetingKey": "...", ...}}')
    return context


def _unit(key: object) -> str | None:
    """By the endpoint's own rule, so that both hash the same text."""
    try:
        return reading.unit_of(key, "targetingKey")
    except InputError as error:
        raise _Refused("INVALID_CONTEXT", str(error)) from error


def _flags(current: assembly.Assembly) -> Iterator[tuple[str, Flag]]:
    """Everything that splits an endpoint, rollouts first, so that an experiment of the same name stays visible."""
    document = current.snapshot.document
    splits = [(each, split) for each in current.endpoints.values() for split in each.splits]
    for each, split in sorted(splits, key=lambda pair: not pair[1].rollout):
        yield split.name, _flag(current, each, split)
    known = {split.name for _, split in splits if not split.rollout}
    for name, spec in document.experiments.items():
        if name not in known:  # switched off; the endpoint does not even hold it
            snapshot, unit = current.snapshot, document.endpoints[spec.endpoint].unit or ""
            phase = phases.of(name, document, written=snapshot.written, digests=snapshot.digests)
            allocation = allocations.of(name, spec, phase=phase, unit_type=unit)
            yield name, Flag(spec.endpoint, allocation, reads=_reads(allocation), params=_params(current, name))


def _flag(current: assembly.Assembly, each: endpoint.Endpoint, split: endpoint.Split) -> Flag:
    params = {} if split.rollout else _params(current, split.name)
    return Flag(each.name, split.allocation, split.header, _reads(split.allocation), params)


def _reads(allocation: assignment.Allocation) -> tuple[str, ...]:
    """What targeting looks at, and what may stand in for the unit."""
    gates = allocation.gates
    stand_in = gates.on_missing_unit.removeprefix(assignment.ATTRIBUTE)
    names = () if stand_in == gates.on_missing_unit else (stand_in,)
    return names if gates.targeting is None else (*gates.targeting.names, *names)


def _params(current: assembly.Assembly, name: str) -> dict[str, dict[str, Any]]:
    """Each variant's own params, but for those into which a secret or a variable was filled."""
    spec = current.snapshot.document.experiments[name]
    written: Any = current.snapshot.written.get("experiments", {})
    found = {}
    for variant, each in spec.variants.items():
        raw = written.get(name, {}).get("variants", {}).get(variant, {}).get("params") or {}
        found[variant] = {key: value for key, value in each.params.items() if key in raw and raw[key] == value}
    return found if any(found.values()) else {}


def _keys(flags: Mapping[str, Flag]) -> list[str]:
    return sorted([*flags, *(f"{name}{PARAMS}" for name, flag in flags.items() if flag.params)])


def _known(key: str, flags: Mapping[str, Flag]) -> None:
    name = key.removesuffix(PARAMS)
    if name not in flags:
        known = f"There are {', '.join(sorted(flags)[:20]) or 'none'}."
        raise _Refused("FLAG_NOT_FOUND", f"no experiment {name[:100]!r}. {did_you_mean(name, flags, known)}")
    if key != name and not flags[name].params:
        raise _Refused("FLAG_NOT_FOUND", f"no variant of {name!r} brings params; ask for {name!r}.")


def _cached(body: bytes, known: bytes | None) -> http.Response:
    """The bulk answer, or 304 when the caller has it: the tag is of the answer, so a new revision changes it."""
    tag = b'"%s"' % hashlib.sha256(body).hexdigest()[:32].encode()
    tags = [each.strip().removeprefix(b"W/") for each in known.split(b",")] if known else []
    headers = ((b"etag", tag), (b"cache-control", b"no-cache"))
    if tag in tags or b"*" in tags:
        return http.Response(304, b"", content_type=b"", headers=headers)
    return http.Response(200, body, headers=headers)
