"""Talking to the running server over HTTP, one request at a time, with errors in our words."""

import http.client
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from turnout.cli import exposition, places
from turnout.errors import UnavailableError

TIMEOUT_S = 30.0


@dataclass(frozen=True)
class Reply:
    """One HTTP reply, body read."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


def ask(
    url: str,
    path: str,
    *,
    method: str = "GET",
    body: bytes = b"",
    headers: Mapping[str, str] | None = None,
    timeout_s: float = TIMEOUT_S,
) -> Reply:
    """One request, on a connection of its own. Header names in the reply are lower-case.

    Raises:
        UnavailableError: Nobody answers there, or not with HTTP.
    """
    place = urlsplit(url)
    if place.scheme not in ("http", "https") or not place.hostname:
        raise UnavailableError(f"{url!r} is no address of a server.", hint="Write it like http://127.0.0.1:8000.")
    kind = http.client.HTTPSConnection if place.scheme == "https" else http.client.HTTPConnection
    connection = kind(place.hostname, place.port, timeout=timeout_s)
    try:
        connection.request(method, place.path.rstrip("/") + path, body=body or None, headers=dict(headers or {}))
        answer = connection.getresponse()
        return Reply(answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read())
    except (OSError, http.client.HTTPException) as error:
        reason = os.strerror(error.errno) if isinstance(error, OSError) and error.errno else str(error) or "no answer"
        raise UnavailableError(
            f"the server at {url} does not answer: {reason}.", hint="Is it running? `turnout status` says."
        ) from error
    finally:
        connection.close()


def status(url: str) -> dict[str, Any]:
    """The server's `/status`.

    Raises:
        UnavailableError: It does not answer, or not with 200.
    """
    reply = ask(url, "/status")
    if reply.status != 200:
        raise UnavailableError(f"{url}/status answered {reply.status}: {problem(reply)}")
    return dict(reply.json())


def problem(reply: Reply) -> str:
    """What an error reply says, as one line."""
    try:
        said = reply.json()
        told = said.get("detail") or said.get("title") or ""
        path = said.get("path") or ""
        where = f"{path}:" if path and path not in told else ""
        return " ".join(part for part in (where, told, said.get("hint") or "") if part)
    except (ValueError, AttributeError):
        return reply.body[:200].decode("utf-8", "replace")


def counted(place: places.Place) -> exposition.Samples | None:
    """What the running server's `/metrics` says; None when none runs, or it does not answer."""
    server = place.running()
    if server is None:
        return None
    try:
        return exposition.parse(ask(server.url, "/metrics", timeout_s=5.0).body.decode())
    except UnavailableError:
        return None
