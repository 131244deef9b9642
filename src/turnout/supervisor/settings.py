"""The settings of the supervisor, and the `TURNOUT_*` variables they come from.

Every field can be given as a variable: `TURNOUT_` and the field's name in capitals, such as
`TURNOUT_WORKERS=2`. A command-line option wins over the variable.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

import msgspec

from turnout.errors import SpecError

PREFIX = "TURNOUT_"
KUBERNETES = re.compile(r"_SERVICE_HOST$|_SERVICE_PORT(_|$)|_PORT(_|$)")
"""Variables Kubernetes injects for a Service named turnout, or turnout-anything; not ours, not errors."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Settings of `turnout serve`."""

    document: str = "turnout.yaml"
    """YAML file, or directory of them."""

    directory: str = ""
    """Where relative paths in the document start and user code is imported from; "" means the document's own."""

    stage: str = ""
    """Lays `turnout.<stage>.yaml` over the document; "" means none."""

    state: str = ""
    """Folder for event segments, the event database and the last good document; "" means `.turnout` beside the
    document, so that `report` and `status` find it without being told."""

    store: str = ""
    """SQLAlchemy URL of the event store; "" means `events.db` in the state folder."""

    parquet: str = ""
    """Folder into which the recorder seals the store's events as Parquet, hour by hour; "" means not at all. Reports
    read it as `parquet:FOLDER`."""

    listen_host: str = "127.0.0.1"
    """Address to listen on. This machine only by default: nothing is exposed by accident."""

    listen_port: int = 8000
    """TCP port; 0 takes a free one."""

    workers: int = 1
    """Worker processes on the port. One by default: every worker loads its own copy of the models."""

    last_good: str = ""
    """Folder of the last accepted document. If given, a server whose document is bad at start serves that one."""

    reload: bool = False
    """Replace the workers when a *.py file beside the document is saved. For development."""

    linger_s: float = 0.5
    """Seconds for which a draining worker keeps idle connections open, so that their next request is answered
    with `Connection: close` instead of a reset."""

    drain_s: float = 30.0
    """Seconds a draining worker may take to answer what it has accepted; then it is killed."""

    notice_s: float = 0.0
    """Seconds to go on serving at the end, with `/readyz` saying no, before draining: the time a load balancer needs
    to look elsewhere. 0 where nobody balances; Kubernetes wants about 5."""

    silent_s: float = 60.0
    """Seconds after which a worker that answers nothing on its control channel is taken for stuck and replaced; 0
    never does. Long, because Python code that holds the interpreter for a while is slow, not stuck."""

    prepare_s: float = 300.0
    """Seconds a worker may take to build and warm a document. Generous: large models load slowly."""

    hello_s: float = 30.0
    """Seconds from the start of a worker's process to its first word."""

    body_bytes: int = 16 * 2**20
    """Largest request body."""

    header_bytes: int = 32_768
    """Largest request head."""

    connections: int = 4096
    """Open connections per worker."""

    idle_s: float = 75.0
    """Seconds an idle connection is kept; longer than the 60 s of common load balancers, so that they close first."""

    segment_bytes: int = 512 * 2**20
    """Disk for event segments that wait for the store, per worker; beyond it events are dropped and counted."""

    secrets: str = ""
    """Folder whose files `secret:NAME` in the document reads, as Kubernetes mounts a Secret; "" means none."""

    explain: bool = False
    """Whether callers may add `?explain` to see variant, reason and steps of their request. Off: it shows internals."""

    author: str = ""
    """Who is written down in the history for the changes that this server sees; "" asks git, then the operating system.
    For machines that deliver documents, such as a pipeline that knows whose commit it applies."""

    ship_s: float = 30.0
    """Seconds the recorder may take at the end to ship what the workers have written; the rest is shipped next time."""


def from_environment(environ: Mapping[str, str]) -> dict[str, Any]:
    """The settings given by variables, by field name.

    Raises:
        SpecError: An unknown TURNOUT_* variable, or a value of the wrong type.
    """
    types = {PREFIX + field.name.upper(): field for field in fields(Settings)}
    given: dict[str, Any] = {}
    for name, text in sorted(environ.items()):
        if not name.startswith(PREFIX):
            continue
        field = types.get(name)
        if field is None:
            if KUBERNETES.search(name):
                continue
            raise SpecError(
                f"unknown environment variable {name}.",
                hint=f"Known: {', '.join(sorted(types))}. Unset it or correct it.",
            )
        try:
            given[field.name] = msgspec.convert(text, type=field.type, strict=False)
        except msgspec.ValidationError as exc:
            raise SpecError(f"environment variable {name}={text!r}: {exc}", hint="Correct the value.") from exc
    return given
