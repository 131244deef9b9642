"""`turnout override`: a signed header that chooses a variant for requests of people who test."""

import os
import time

import click

from turnout.cli import documents, exits, places, screen
from turnout.errors import NotFoundError, UnavailableError, did_you_mean
from turnout.experiments import allocations, overrides
from turnout.reports import explain
from turnout.spec import document as documents_of
from turnout.spec import references, snapshot, tree, units

LONGEST_S = 30 * 86_400.0


@click.command(short_help="A signed header that gives its sender a certain variant.")
@click.argument("experiment")
@click.argument("variant")
@click.option("--for", "lasting", default="1h", show_default=True, metavar="TIME", help="How long it is valid.")
@click.option("--json", "as_json", is_flag=True, help="For machines: header, value, expires.")
@documents.secrets_option
@places.near
def command(  # noqa: PLR0913  # click hands over every option
    experiment: str,
    variant: str,
    lasting: str,
    as_json: bool,
    secrets_folder: str | None,
    document: str | None,
    state: str | None,
    stage: str,
) -> int:
    """Print a header that gives its sender VARIANT of EXPERIMENT (or of a rollout).

    It is signed with the document's override_key, which must be at hand as it is for the server.
    Such requests have the reason OVERRIDE and are never analysed. To send it with curl:

    \b
      curl -H "$(turnout override structure generation)" ...
    """
    admitted = documents.in_force(places.find(document, state, stage), secrets_folder=secrets_folder)
    content = admitted.document
    _known(content, experiment, variant)
    key = _key(admitted, secrets_folder)
    lasting_s = units.duration(lasting)
    if not 0 < lasting_s <= LONGEST_S:
        raise click.BadParameter(f"--for {lasting}: expected more than 0 and at most 30d.")
    expires = int(time.time() + lasting_s)
    value = overrides.sign(overrides.Override(experiment, variant, expires), key)
    if as_json:
        screen.print_json({"header": overrides.SHOWN, "value": value, "expires": expires})
    else:
        click.echo(f"{overrides.SHOWN}: {value}")
    return exits.OK


def _key(admitted: snapshot.Snapshot, secrets_folder: str | None) -> str:
    """The document's key. Commands may read a document whose secrets are not at hand; this one needs the real one."""
    written = admitted.written.get("override_key")
    if written is None:
        hint = "Add override_key: secret:NAME, and put the key into that secret."
        raise UnavailableError("the document takes no overrides.", hint=hint)
    filling = references.Filling(os.environ, documents.secrets(secrets_folder))
    place = tree.NOWHERE
    found = filling.fill(tree.Node(str(written), place, place)).value
    if filling.errors:
        raise UnavailableError(f"override_key: {filling.errors[0].message}", hint="Name their folder: --secrets DIR.")
    return str(found)


def _known(content: documents_of.Document, experiment: str, variant: str) -> None:
    """Refuse a variant that a request could not be given."""
    spec = explain.find(content, experiment)
    names = list(spec.variants if isinstance(spec, documents_of.ExperimentSpec) else allocations.VARIANTS[spec.kind])
    if variant not in names:
        hint = did_you_mean(variant, names, f"There are {', '.join(names)}.")
        raise NotFoundError(f"{experiment!r} has no variant {variant!r}.", hint=hint)
