"""`turnout status`: what the running server says about itself and its fleet, once or every second."""

from typing import Any

import click
from rich import console

from turnout.cli import exits, live, places, remote, screen


@click.command(short_help="What the running server serves: workers, models, endpoints, refusals.")
@click.option("--watch", is_flag=True, help="Requests, errors, latencies and outcomes per variant, every second.")
@click.option("--rounds", type=click.IntRange(1), hidden=True, help="With --watch: end after so many rounds.")
@click.option("--store", metavar="URL", help="With --watch: the event store, if it is not the state folder's.")
@places.near
@click.option("--url", help="Ask this server instead of the one on the document.")
@click.option("--json", "as_json", is_flag=True, help="As the server sends it.")
def command(  # noqa: PLR0913  # click hands over every option
    document: str | None,
    state: str | None,
    stage: str,
    url: str | None,
    as_json: bool,
    watch: bool,
    rounds: int | None,
    store: str | None,
) -> int:
    """What the running server serves: revision, workers, models, endpoints, and what it refused.

    The second line tells how far the newest revision has come in the whole fleet. With --watch a live table is
    shown until Ctrl-C; with --json too, one line of JSON a second.
    Exit status 1 if it is not as it should be: a refused document, overlay or reload, a missing worker, a server
    of the fleet that is behind.
    """
    place = places.find(document, state, stage)
    address = url or place.server().url
    if watch:
        return live.watch(address, live.store_url(place, store, given_url=url), as_json=as_json, rounds=rounds)
    status = remote.status(address)
    if as_json:
        screen.print_json(status)
    else:
        show(screen.open_console(), status)
    return exits.WRONG if troubles(status) else exits.OK


def troubles(status: dict[str, Any]) -> list[str]:
    """What is not as it should be, in words."""
    found = []
    if status.get("refused"):
        found.append("the document as it is on disk is refused; an earlier revision is in force")
    failed = (status.get("reload") or {}).get("failed")
    if failed:
        found.append("the last reload failed; the old workers serve on")
    if status.get("converged") is False and not failed:
        found.append("not every worker serves the revision in force")
    if (status.get("overlay") or {}).get("refused"):
        found.append(f"overlay {status['overlay']['refused'].get('number')} is refused; an earlier one is in force")
    elsewhere = [one for one in (status.get("convergence") or {}).get("behind", []) if one["url"] != status.get("url")]
    if elsewhere:
        count = f"{len(elsewhere)} other server{'s' if len(elsewhere) > 1 else ''}"
        found.append(f"{count} of the fleet {'are' if len(elsewhere) > 1 else 'is'} behind")
    recorder = status.get("recorder")
    if recorder and recorder.get("state") == "restarting":
        found.append("the recorder is down; events wait in segments")
    control_plane = status.get("control_plane")
    if control_plane and control_plane.get("state") == "restarting":
        found.append("the control plane is down; the fleet does not see this server, and overlays do not come")
    return found


def show(out: console.Console, status: dict[str, Any]) -> None:
    """Print the status for people."""
    build = f", build {status['build'][:12]}" if status.get("build") else ""
    stage = f", stage {status['stage']}" if status.get("stage") else ""
    out.print(
        f"revision {str(status.get('revision'))[:12]}{build}{stage}, in force since {screen.when(status.get('since'))}"
    )
    _convergence(out, status.get("convergence") or {}, own=status.get("url"))
    if status.get("document"):
        out.print(
            f"document {status['document']}, served at {status.get('url')}, state in {status.get('state_folder')}"
        )
    for trouble in troubles(status):
        out.print(f"! {trouble}", style="bold red")
    overlay = status.get("overlay") or {}
    for refused in (status.get("refused"), overlay.get("refused"), (status.get("reload") or {}).get("failed")):
        for error in (refused or {}).get("errors", []):
            out.print(f"  {one_line(error)}", style="red")
    for warning in status.get("warnings") or []:
        out.print(f"warning: {one_line(warning) if isinstance(warning, dict) else warning}", style="yellow")
    _workers(out, status.get("workers") or [status])
    _models(out, status.get("models") or {})
    _endpoints(out, status.get("endpoints") or {})
    if overlay.get("number"):
        by = " ".join(part for part in (overlay.get("author"), overlay.get("reason")) if part)
        out.print(f"overlay {overlay['number']} of {screen.when(overlay['at'])}{': ' if by else ''}{by}")
    for name in ("recorder", "control_plane"):
        beside = status.get(name)
        if beside:
            pid = screen.shown(beside.get("pid"))
            out.print(f"{name.replace('_', ' ')} {beside['state']}, pid {pid}, restarts {beside['restarts']}")
            for duty, tally in (beside.get("duties") or {}).items():
                if tally.get("error"):
                    out.print(f"  {duty} fails: {tally['error']}", style="yellow")


def _convergence(out: console.Console, told: dict[str, Any], *, own: str | None) -> None:
    """How far the newest revision has come, who is behind and why, and what others refuse."""
    if not told:
        return
    out.print(told["text"], style="yellow" if told["behind"] else "green")
    for one in told["behind"]:
        where = f"{one['host']} pid {one['pid']}"
        out.print(f"  {where} is on {one['revision'][:12] or 'nothing'}: {one['reason']}", style="yellow")
    said = {one["replica"] for one in told["behind"]}
    for refusal in told["refusals"]:
        if refusal["replica"] not in said and refusal["url"] != own:
            out.print(f"  {refusal['host']} pid {refusal['pid']} refuses: {refusal['error']}", style="yellow")


def one_line(error: dict[str, Any]) -> str:
    """A document error from JSON: place, key path, what, remedy."""
    place = f"{error['file']}:{error['line']}" if error.get("line") else error.get("file") or ""
    where = " ".join(part for part in (place, error.get("path") or "") if part)
    text = f"{error.get('message', '')} {error.get('hint') or ''}".strip()
    return f"{where}: {text}" if where else text


def _workers(out: console.Console, workers: list[dict[str, Any]]) -> None:
    rows = [
        (
            worker.get("worker"),
            worker.get("pid"),
            screen.styled(worker.get("state"), "green" if worker.get("state") == "ready" else "red"),
            (worker.get("revision") or "")[:12],
            (worker.get("build") or "")[:12],
            screen.when(worker.get("since")),
            worker.get("in_flight"),
            worker.get("restarts"),
            worker.get("trouble"),
        )
        for worker in workers
    ]
    heads = ("worker", ">pid", "state", "revision", "build", "since", ">in flight", ">restarts", "trouble")
    screen.show_table(out, "Workers", heads, rows)


def _models(out: console.Console, models: dict[str, Any]) -> None:
    rows = []
    for alias, entry in models.items():
        state = screen.styled(entry.get("state"), "green" if entry.get("state") == "ready" else "red")
        batch = entry.get("mean_batch_rows")
        memory = entry.get("memory_bytes")
        rows.append(
            (
                alias,
                entry.get("version"),
                state,
                entry.get("execution"),
                entry.get("instances"),
                entry.get("replaced"),
                entry.get("rows"),
                None if batch is None else f"{batch:.1f}",
                entry.get("queue_rows"),
                None if memory is None else f"{memory / 2**20:.1f} MiB",
            )
        )
    heads = (
        "model",
        "version",
        "state",
        "runs on",
        ">copies",
        ">replaced",
        ">rows",
        ">rows/batch",
        ">waiting",
        ">memory",
    )
    screen.show_table(out, "Models", heads, rows)


def _endpoints(out: console.Console, endpoints: dict[str, Any]) -> None:
    rows = []
    for name, entry in endpoints.items():
        variants = ", ".join(
            f"{variant} {share.get('weight', 0):g}{' (control)' if share.get('control') else ''}"
            for variant, share in (entry.get("variants") or {}).items()
        )
        rows.append((name, entry.get("pipeline"), entry.get("unit"), entry.get("experiment"), variants))
    screen.show_table(out, "Endpoints", ("endpoint", "pipeline", "unit", "experiment", "variants"), rows)
