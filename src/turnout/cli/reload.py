"""`turnout reload`: SIGHUP to the supervisor, then watch how it goes."""

import os
import signal
import time

import click

from turnout.cli import exits, places, remote, status
from turnout.errors import UnavailableError

POLL_S = 0.2


@click.command(short_help="Replace the workers one by one, so that they run new code.")
@places.near
@click.option("--timeout", "timeout_s", default=600.0, show_default=True, metavar="SECONDS", help="Longest wait.")
@click.option("--no-wait", is_flag=True, help="Only ask; `turnout status` shows how it went.")
def command(document: str | None, state: str | None, stage: str, timeout_s: float, no_wait: bool) -> int:
    """Replace the workers one by one with fresh processes that run the code as it is now.

    Each successor is warm before its predecessor drains; no request is dropped. If one fails,
    the old workers serve on and the exit status is 1.
    """
    place = places.find(document, state, stage)
    server = place.server()
    before = {worker["worker"] for worker in remote.status(server.url)["workers"]}
    try:
        os.kill(server.pid, signal.SIGHUP)
    except PermissionError as error:
        raise UnavailableError(
            f"the server (pid {server.pid}) belongs to another user.", hint="Run this as that user, or send it SIGHUP."
        ) from error
    if no_wait:
        return exits.OK
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        time.sleep(POLL_S)
        now = remote.status(server.url)
        state_now = now["reload"]["state"]
        names = {worker["worker"] for worker in now["workers"]}
        if state_now == "failed":
            click.echo("reload failed; the old workers serve on:", err=True)
            for problem in (now["reload"]["failed"] or {}).get("errors", []):
                click.echo(f"  {status.one_line(problem)}", err=True)
            return exits.WRONG
        if state_now == "done" and names.isdisjoint(before):
            count = "the worker is" if len(names) == 1 else f"all {len(names)} workers are"
            build = f", build {now['build'][:12]}" if now.get("build") else ""
            click.echo(f"{count} replaced{build}")
            return exits.OK
    raise UnavailableError(f"the reload has not ended after {timeout_s:g} s.", hint="See `turnout status`.")
