"""`turnout call`: one request to an endpoint, the reply, and who answered."""

import json
import sys
from pathlib import Path
from typing import Any

import click

from turnout.cli import exits, places, remote, screen
from turnout.errors import InputError, NotFoundError, did_you_mean
from turnout.supervisor import banner

SHOWN = ("turnout-request-id", "turnout-revision", "turnout-experiment", "turnout-variant")


@click.command(short_help="Send one request to an endpoint of the running server.")
@click.argument("endpoint")
@click.option("--data", metavar="JSON | @FILE | @-", help="The body; @- reads standard input. Default: the example.")
@click.option("-f", "--field", "fields", multiple=True, metavar="NAME=VALUE", help="Set one field; JSON, else text.")
@click.option("-H", "--header", "headers", multiple=True, metavar="NAME:VALUE", help="Send a header.")
@click.option("--explain", is_flag=True, help="Ask for the trace too; the server must allow it.")
@click.option("--url", help="Ask this server instead of the one on the document.")
@click.option("--json", "as_json", is_flag=True, help="Status, headers and reply as one JSON document.")
@places.near
def command(endpoint: str, url: str | None, as_json: bool, explain: bool, **options: Any) -> int:
    """Send one request to ENDPOINT and show the reply and the variant that answered.

    Without --data the endpoint's own example is sent, with its unit. Fields are laid over the
    body: `turnout call reply -f user_id=u7 -f text="good morning"`.
    """
    place = places.find(options["document"], options["state"], options["stage"])
    base = url or place.server().url
    body = _body(base, endpoint, options["data"], options["fields"])
    headers = {"content-type": "application/json"} | dict(_header(text) for text in options["headers"])
    path = f"/v1/endpoints/{endpoint}{'?explain' if explain else ''}"
    reply = remote.ask(base, path, method="POST", body=body, headers=headers)
    origin = {name: reply.headers[name] for name in SHOWN if name in reply.headers}
    if as_json:
        screen.print_json({"status": reply.status, "headers": origin, "reply": _decoded(reply)})
    else:
        if explain and reply.status < 400 and "explain" not in (_decoded(reply) or {}):
            click.secho("note: the server gives no trace; start it with --allow-explain.", fg="yellow", err=True)
        for name, value in origin.items():
            click.secho(f"{name.removeprefix('turnout-')}: {value}", dim=True, err=True)
        if reply.status >= 400:
            click.secho(f"{reply.status}: {remote.problem(reply)}", fg="red", err=True)
        else:
            click.echo(_pretty(reply))
    return exits.WRONG if reply.status >= 400 else exits.OK


def _body(url: str, endpoint: str, data: str | None, fields: tuple[str, ...]) -> bytes:
    if data is None:
        given: Any = _example(url, endpoint)
    elif not fields:
        return read(data)
    else:
        given = _parsed(read(data))
    if fields:
        if not isinstance(given, dict):
            raise InputError("--field needs a body that is a JSON object.", hint="Give the whole body with --data.")
        given = given | dict(field(text) for text in fields)
    return json.dumps(given).encode()


def _example(url: str, endpoint: str) -> Any:
    known = remote.status(url).get("endpoints") or {}
    if endpoint not in known:
        raise NotFoundError(
            f"the server has no endpoint {endpoint!r}. {did_you_mean(endpoint, known)}".rstrip(),
            hint=f"Endpoints: {', '.join(known) or 'none'}.",
        )
    example, unit = known[endpoint].get("example") or {}, known[endpoint].get("unit") or ""
    if not unit or unit.startswith("header:") or not isinstance(example, dict):
        return example
    return banner.with_unit(example, unit)


def read(data: str) -> bytes:
    if data == "@-":
        return sys.stdin.buffer.read()
    if not data.startswith("@"):
        return data.encode()
    try:
        return Path(data[1:]).read_bytes()
    except OSError as error:
        raise InputError(f"--data {data}: {error.strerror}.", hint="After @ comes the path of a file.") from error


def _parsed(body: bytes) -> Any:
    try:
        return json.loads(body)
    except ValueError as error:
        raise InputError(
            f"--data is not JSON: {error}.", hint="Quote it for the shell: --data '{\"x\": 1}'."
        ) from error


def field(text: str) -> tuple[str, Any]:
    """
    >>> field("user_id=u7"), field("x=[1.5, 2]"), field('id="7"')
    (('user_id', 'u7'), ('x', [1.5, 2]), ('id', '7'))
    """
    name, found, value = text.partition("=")
    if not found or not name:
        raise InputError(f"--field {text!r} is not NAME=VALUE.", hint="Such as --field user_id=u7.")
    try:
        return name, json.loads(value)
    except ValueError:
        return name, value


def _header(text: str) -> tuple[str, str]:
    name, found, value = text.partition(":")
    if not found or not name.strip():
        raise InputError(f"--header {text!r} is not NAME:VALUE.", hint="Such as --header X-User:u7.")
    return name.strip(), value.strip()


def _decoded(reply: remote.Reply) -> Any:
    try:
        return reply.json()
    except ValueError:
        return reply.body.decode("utf-8", "replace")


def _pretty(reply: remote.Reply) -> str:
    said = _decoded(reply)
    return said.rstrip("\n") if isinstance(said, str) else json.dumps(said, indent=2, ensure_ascii=False)
