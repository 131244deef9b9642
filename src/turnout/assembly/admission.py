"""The whole check of a document, as `serve` would make it: text, code, models, pipelines, contracts; every stage.

Called by `turnout check`. Models that several stages share are loaded once.
"""

from collections.abc import Callable, Mapping

from msgspec import Struct

from turnout import telemetry
from turnout.assembly import building, code, pool
from turnout.errors import DocumentError, SpecError
from turnout.expressions import targeting
from turnout.sources import artifacts
from turnout.spec import references, snapshot


class Verdict(Struct, frozen=True):
    """What one stage of a document came to.

    Attributes:
        stage: "" for the document without a stage.
        revision: 64 hex digits; "" when the text itself is wrong.
        errors: Empty when `serve` would accept it.
        warnings: Legal, but hardly meant.
        endpoints: Names that would be served.
    """

    stage: str
    revision: str
    errors: tuple[SpecError, ...]
    warnings: tuple[SpecError, ...] = ()
    endpoints: tuple[str, ...] = ()


async def check(
    files: Mapping[str, str],
    *,
    directory: str,
    environment: Mapping[str, str],
    read_secret: Callable[[str], str | None] = references.no_secrets,
    load: bool = True,
) -> list[Verdict]:
    """Check the document and each of its stages.

    Args:
        files: File name to text.
        directory: The document's folder; user code must be importable already.
        environment: What `${NAME}` reads.
        read_secret: What `secret:NAME` reads.
        load: Also import code, load models and bind pipelines; without, only the text with its conditions and the
            artifacts' digests.
    """
    admitted = snapshot.admit_stages(
        files,
        environment=environment,
        read_secret=read_secret,
        digests=artifacts.digest_under(directory),
        directory=directory,
    )
    user_code, loaded = code.Code(), pool.Pool()
    try:
        return [await _verdict(stage, found, user_code, loaded, load=load) for stage, found in admitted.items()]
    finally:
        await loaded.close()


async def _verdict(
    stage: str, found: snapshot.Snapshot | DocumentError, user_code: code.Code, loaded: pool.Pool, *, load: bool
) -> Verdict:
    if isinstance(found, DocumentError):
        return Verdict(stage, "", found.errors)
    endpoints = tuple(sorted(found.document.endpoints))
    if load:
        try:
            built = await building.build(found, user_code=user_code, loaded=loaded, registry=telemetry.Registry())
        except DocumentError as error:
            return Verdict(stage, found.revision, error.errors, found.warnings, endpoints)
        return Verdict(stage, found.revision, (), built.warnings, endpoints)
    _, errors = targeting.compiled(found.document, found.written)
    return Verdict(stage, found.revision, tuple(map(found.located, errors)), found.warnings, endpoints)
