"""`turnout status`: what the running server says about itself."""

from typing import Any

import click
from rich import console

from turnout.cli import exits, places, remote, screen


@click.command(short_help="What the running server serves: workers, models, endpoints, refusals.")
@places.near
@click.option("--url", help="Ask this server instead of the one on the document.")
@click.option("--json", "as_json", is_flag=True, help="As the server sends it.")
def command(document: str | None, state: str | None, stage: str, url: str | None, as_json: bool) -> int:
    """What the running server serves: revision, workers, models, endpoints, and what it refused.

    Exit status 1 if it is not as it should be: a refused document or reload, a missing worker.
    """
    place = places.find(document, state, stage)
    status = remote.status(url or place.server().url)
    if as_json:
        screen.print_json(status)
    else:
        _show(screen.open_console(), status)
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
    recorder = status.get("recorder")
    if recorder and recorder.get("state") == "restarting":
        found.append("the recorder is down; events wait in segments")
    return found


def _show(out: console.Console, status: dict[str, Any]) -> None:
    build = f", build {status['build'][:12]}" if status.get("build") else ""
    stage = f", stage {status['stage']}" if status.get("stage") else ""
    out.print(
        f"revision {str(status.get('revision'))[:12]}{build}{stage}, in force since {screen.when(status.get('since'))}"
    )
    if status.get("document"):
        out.print(
            f"document {status['document']}, served at {status.get('url')}, state in {status.get('state_folder')}"
        )
    for trouble in troubles(status):
        out.print(f"! {trouble}", style="bold red")
    for refused in (status.get("refused"), (status.get("reload") or {}).get("failed")):
        for error in (refused or {}).get("errors", []):
            out.print(f"  {one_line(error)}", style="red")
    for warning in status.get("warnings") or []:
        out.print(f"warning: {one_line(warning) if isinstance(warning, dict) else warning}", style="yellow")
    _workers(out, status.get("workers") or [status])
    _models(out, status.get("models") or {})
    _endpoints(out, status.get("endpoints") or {})
    recorder = status.get("recorder")
    if recorder:
        out.print(
            f"recorder {recorder['state']}, pid {screen.shown(recorder.get('pid'))}, restarts {recorder['restarts']}"
        )


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
