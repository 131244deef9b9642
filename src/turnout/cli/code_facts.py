"""What only a document's code tells: the contracts of its endpoints, and its build. A process of its own.

`diff` starts one per side, because two folders may have modules of the same name, and because
what code does when it is imported is nobody's business in the process that compares.

    python -P -m turnout.cli.code_facts < question > answer         both JSON

Models are loaded only for pipelines that take what their model takes (`Inputs`, `Outputs`).
"""

import asyncio
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import msgspec
from msgspec import Struct

from turnout import telemetry
from turnout.assembly import building, code, pool, reading
from turnout.authoring import Inputs, Outputs
from turnout.changes import tables
from turnout.cli import documents
from turnout.errors import DocumentError, SpecError, TurnoutError, UnavailableError
from turnout.pipelines import catalog as pipeline_catalog
from turnout.pipelines import codec, definition
from turnout.spec import snapshot

TIMEOUT_S: Final = 300.0


class Question(Struct, frozen=True, kw_only=True):
    """A document, as `documents.admitted` takes it.

    Attributes:
        digests: By source, so that no artifact is read twice.
        revision: Whether it is one that git keeps, written out: code of other folders is then not of that revision.
    """

    files: Mapping[str, str]
    directory: str
    stage: str = ""
    secrets_folder: str = ""
    digests: Mapping[str, str] = {}
    revision: bool = False


class Complaint(Struct, frozen=True, kw_only=True):
    """One error, as `SpecError` has it."""

    message: str
    path: str = ""
    file: str = ""
    line: int = 0
    hint: str = ""


class Answer(Struct, frozen=True, kw_only=True):
    """What was found.

    Attributes:
        errors: Code that does not import, or is no pipeline.
        notes: Why the contract of an endpoint is not known, or what code is not of the revision.
    """

    contracts: Mapping[str, tables.Contract] = {}
    build: str = ""
    errors: tuple[Complaint, ...] = ()
    notes: tuple[str, ...] = ()


def ask(question: Question) -> Answer:
    """Start the process and wait for its answer.

    Raises:
        UnavailableError: It died, or took too long.
    """
    command = [sys.executable, "-P", "-m", "turnout.cli.code_facts"]
    try:
        ended = subprocess.run(  # noqa: S603  # ourselves
            command, input=msgspec.json.encode(question), capture_output=True, timeout=TIMEOUT_S, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise UnavailableError(
            f"the code of {question.directory} was not imported within {TIMEOUT_S:g} s.",
            hint="--no-code compares without it.",
        ) from error
    if ended.returncode != 0:
        last = (ended.stderr.decode("utf-8", "replace").strip().splitlines() or ["no word"])[-1]
        raise UnavailableError(
            f"the code of {question.directory} ended its process ({ended.returncode}): {last}",
            hint="--no-code compares without it.",
        )
    return msgspec.json.decode(ended.stdout, type=Answer)


async def answer(question: Question) -> Answer:
    """Import the code, and describe every endpoint."""
    admitted = documents.admitted(
        question.files,
        directory=Path(question.directory),
        stage=question.stage,
        secrets_folder=question.secrets_folder or None,
        digests=lambda source: question.digests[source],
    )
    user_code, errors, notes = code.Code(), list[SpecError](), list[str]()
    defined: dict[str, definition.Definition] = {}
    for name, spec in admitted.document.pipelines.items():
        try:
            defined[name] = definition.define(user_code.load(pipeline_catalog.PIPELINES.get(spec.code, spec.code)))
        except TurnoutError as error:
            each = error.errors if isinstance(error, DocumentError) else (error,)
            errors += [SpecError(one.message, path=f"pipelines.{name}.code", hint=one.hint) for one in each]
    for name, model in admitted.document.models.items():
        if model.code:
            try:
                user_code.load(model.code)
            except SpecError as error:
                errors.append(SpecError(error.message, path=f"models.{name}.code", hint=error.hint))
    contracts: dict[str, tables.Contract] = {}
    for name in admitted.document.endpoints:
        try:
            found = await _contract(admitted, name, defined, user_code)
        except TurnoutError as error:
            notes.append(f"The contract of {name} is not known: {error}")
            continue
        if found is not None:
            contracts[name] = found
    if question.revision:
        notes += _elsewhere(admitted, Path(question.directory))
    return Answer(
        contracts=contracts,
        build=user_code.build,
        errors=tuple(_complaint(admitted.located(error)) for error in errors),
        notes=tuple(notes),
    )


def _elsewhere(admitted: snapshot.Snapshot, directory: Path) -> Iterator[str]:
    """Modules that were not found beside the document but where they are installed."""
    content = admitted.document
    references = [*(each.code for each in content.pipelines.values()), *(each.code for each in content.models.values())]
    for top in sorted({text.partition(":")[0].partition(".")[0] for text in references if text and ":" in text}):
        places = [getattr(sys.modules.get(top), "__file__", None), *getattr(sys.modules.get(top), "__path__", ())]
        found = [Path(place) for place in places if place]
        if found and top != code.OWN and not any(place.is_relative_to(directory) for place in found):
            yield f"The code of {top} is not beside the document: the installed one stands for that of the revision."


def _complaint(error: SpecError) -> Complaint:
    return Complaint(message=error.message, path=error.path, file=error.file, line=error.line, hint=error.hint)


async def _contract(
    admitted: snapshot.Snapshot, name: str, defined: Mapping[str, definition.Definition], user_code: code.Code
) -> tables.Contract | None:
    """The contract of one endpoint; None where its pipeline's code is wrong, which is told already."""
    spec = admitted.document.endpoints[name]
    declared = defined.get(spec.pipeline)
    if declared is None:
        return None
    if declared.request is Inputs or declared.reply is Outputs:
        return await _loaded(admitted, name, user_code)
    paths = filter(None, (spec.unit, *spec.attributes.values()))
    extra = frozenset(keys[0] for path in paths if (keys := reading.keys_of(path)))
    request = codec.of(declared.request, extra_fields=spec.extra_fields, extra_names=extra)
    return tables.Contract(
        request=_with_extra(request.json_schema(), extra),
        reply=codec.of(declared.reply).json_schema(),
        streams=declared.streams,
    )


async def _loaded(admitted: snapshot.Snapshot, name: str, user_code: code.Code) -> tables.Contract:
    """The contract of an endpoint whose models say what it takes: loads them."""
    nothing: dict[str, Any] = {"experiments": {}, "rollouts": {}, "shadows": {}, "holdouts": {}}
    own = admitted.document.endpoints[name].model_copy(update={"fallback": None})
    alone = admitted.document.model_copy(update={"endpoints": {name: own}, **nothing})
    few = snapshot.Snapshot(
        revision=admitted.revision,
        document=alone,
        digests=admitted.digests,
        directory=admitted.directory,
        root=admitted.root,
    )
    loaded = pool.Pool()
    try:
        built = await building.build(few, user_code=user_code, loaded=loaded, registry=telemetry.Registry())
        contract = built.endpoints[name].contract
        return tables.Contract(
            request=contract.request.json_schema(), reply=contract.reply.json_schema(), streams=contract.streams
        )
    finally:
        await loaded.close()


def _with_extra(schema: Any, names: frozenset[str]) -> Any:
    """The request with the endpoint's own fields, such as its unit, which are allowed beside the type's."""
    target = schema
    reference = schema.get("$ref", "").rpartition("/")[2]
    if reference:
        target = schema["$defs"][reference]
    properties = target.get("properties")
    missing = [name for name in sorted(names) if isinstance(properties, dict) and name not in properties]
    if not missing:
        return schema
    extended = {**target, "properties": {**properties, **{name: {} for name in missing}}}
    return {**schema, "$defs": {**schema["$defs"], reference: extended}} if reference else extended


def main() -> None:
    """Answer the one question on stdin. What the code prints goes to stderr."""
    out = os.dup(1)
    os.dup2(2, 1)
    question = msgspec.json.decode(sys.stdin.buffer.read(), type=Question)
    documents.make_importable(Path(question.directory))
    told = asyncio.run(answer(question))
    with os.fdopen(out, "wb") as pipe:
        pipe.write(msgspec.json.encode(told))


if __name__ == "__main__":
    main()
