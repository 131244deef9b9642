"""`turnout rollout`: where rollouts stand, what their controller saw, and what a person commands.

A command writes the next overlay into the store; every server follows within a second, and a server that is
not running when it starts.
"""

import getpass
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import click
import msgspec

from turnout.cli import documents, exits, logs, places, screen
from turnout.errors import NotFoundError, StoreError
from turnout.rollouts import commands, outlook, progress, records, states
from turnout.spec import snapshot
from turnout.stores import catalog, control

EPILOG = """\b
Without a command: status.
  turnout rollout                          every rollout
  turnout rollout new-ranker               one of them
  turnout rollout abort new-ranker --reason "wrong prices"
"""


class Group(click.Group):
    """Takes what is no command for the name of a rollout."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0] not in self.commands:
            args = ["status", *args]
        return super().resolve_command(ctx, args)

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if not args or (args[0].startswith("-") and args[0] not in ("-h", "--help")):
            args = ["status", *args]
        return super().parse_args(ctx, args)


@click.group(cls=Group, short_help="Where rollouts stand; pause, resume, abort, promote.", epilog=EPILOG)
def command() -> None:
    """Where rollouts stand and what they saw; pause, resume, abort or promote one by hand."""


class Desk(NamedTuple):
    """What a command works with.

    Attributes:
        content: The document on disk, or the last good one.
    """

    store: control.ControlStore
    content: snapshot.Snapshot
    now: float


def near(function: "click.decorators.FC") -> "click.decorators.FC":
    """The options that say where the document and the store are."""
    for option in (
        click.option("--json", "as_json", is_flag=True, help="For machines."),
        documents.secrets_option,
        click.option("--store", metavar="URL", help="Event store.  [SQLite in the state folder]"),
    ):
        function = option(function)
    return places.near(function)


@contextmanager
def desk(place: places.Place, store: str | None, secrets_folder: str | None, *, write: bool = False) -> Iterator[Desk]:
    """Open the store beside a document.

    Raises:
        StoreError: It cannot be opened; nothing was served from there yet.
        DocumentError: The document is bad.
    """
    url = logs.url(place, store)
    if not place.state.exists() and url == logs.own_url(place):
        raise StoreError(
            f"nothing was served here yet: there is no state folder {place.state}.",
            hint="Start the server, or say where its state is: --state DIR, or its store: --store URL.",
        )
    content = documents.in_force(places.existing(place), secrets_folder=secrets_folder)
    opened = catalog.open_control(url, read_only=not write)
    try:
        yield Desk(opened, content, time.time())
    finally:
        opened.close()


@command.command("status", short_help="Where rollouts stand. What is meant without a command.")
@click.argument("name", required=False)
@near
def status(
    name: str | None,
    document: str | None,
    state: str | None,
    stage: str,
    store: str | None,
    secrets_folder: str | None,
    as_json: bool,
) -> int:
    """Where NAME stands (default: every rollout), and what happens next."""
    with desk(places.find(document, state, stage), store, secrets_folder) as at:
        names = [name] if name else list(at.content.document.rollouts)
        if not names:
            raise NotFoundError("the document has no rollout.", hint="docs/rollouts.md says how to write one.")
        told = [describe(at, each) for each in names]
    if as_json:
        screen.print_json(told[0] if name else told)
        return exits.OK
    for each in told:
        click.echo(f"{each['rollout']}: {each['state']}{_position(each)}{_since(each)}")
        if each["note"]:
            click.echo(f"  because: {screen.plain(each['note'])}")
        if each["last_look"]:
            click.echo(
                f"  last look {screen.when(each['last_look']['at'])}: {screen.plain(each['last_look']['reason'])}"
            )
        click.echo(f"  {each['next']}")
    return exits.OK


def describe(at: Desk, name: str) -> dict[str, Any]:
    """A rollout for people and machines.

    Raises:
        NotFoundError: The document has no such rollout.
    """
    now_at = commands.standing(at.store, at.content, name)
    spec = at.content.document.rollouts[name]
    seen = records.read(at.store.looks(name, now_at.phase, 1))
    last = {"at": seen[0].at, "kind": seen[0].kind, **msgspec.to_builtins(seen[0].record)} if seen else None
    return {
        "rollout": name,
        "endpoint": spec.endpoint,
        "kind": spec.kind,
        **msgspec.to_builtins(now_at),
        "steps": list(spec.steps) if spec.kind == "canary" else [],
        "next": outlook.words(now_at, spec, name, at.now),
        "last_look": last,
    }


def _since(told: dict[str, Any]) -> str:
    return f", since {screen.when(told['since'])}" if told["since"] else ""


def _position(told: dict[str, Any]) -> str:
    paused = ", paused by hand" if told["paused"] else ""
    if told["state"] in ("ramping", "holding"):
        return f" at {progress.percent(told['share'])} (step {told['step']} of {len(told['steps'])}){paused}"
    return paused


@command.command("looks", short_help="The audit list: every look, its numbers, and what was decided.")
@click.argument("name")
@click.option("--limit", default=20, show_default=True, type=click.IntRange(1, 10_000), help="The newest so many.")
@click.option("--moves", is_flag=True, help="Only moves, commands of people, and hard failures.")
@near
def looks(  # noqa: PLR0913  # click hands over every option
    name: str,
    limit: int,
    moves: bool,
    document: str | None,
    state: str | None,
    stage: str,
    store: str | None,
    secrets_folder: str | None,
    as_json: bool,
) -> int:
    """Every look at NAME: what was seen (n, estimate, bounds, margin), what was decided, and why; the newest last."""
    with desk(places.find(document, state, stage), store, secrets_folder) as at:
        phase = commands.standing(at.store, at.content, name).phase
        found = records.read(at.store.looks(name, phase))
    shown = [each for each in found if not moves or each.kind != records.LOOK][-limit:]
    if as_json:
        screen.print_json([msgspec.to_builtins(each) for each in shown])
        return exits.OK
    if not shown:
        click.echo("no look was made yet")
    heads = ("at", "state", ">share", "decision", ">new", ">old", "by", "why")
    screen.show_table(screen.open_console(), "", heads, (_row(each) for each in shown))
    return exits.OK


def _row(dated: records.Dated) -> tuple[object, ...]:
    record, seen = dated.record, dated.record.seen
    moved = f"{record.state} > {record.after}" if record.after != record.state else record.state
    return (
        screen.when(dated.at),
        moved,
        progress.percent(record.share_after) if record.after else None,
        record.decision,
        seen.units[0] if seen else None,
        seen.units[1] if seen else None,
        record.author,
        record.reason,
    )


COMMANDS: dict[states.Command, str] = {
    "pause": "Hold it where it is: no step forward, no deadline. Proven harm is still taken back.",
    "resume": "Go on after a pause; a rolled back one starts again and counts from now.",
    "abort": "Everybody gets the old side, in one step.",
    "promote": "Everybody gets the new side, whatever is known; in a bake, end it.",
}


def _by_hand(asked: states.Command) -> Callable[..., int]:
    def run(  # noqa: PLR0913  # click hands over every option
        name: str,
        reason: str,
        author: str | None,
        document: str | None,
        state: str | None,
        stage: str,
        store: str | None,
        secrets_folder: str | None,
        as_json: bool,
    ) -> int:
        with desk(places.find(document, state, stage), store, secrets_folder, write=True) as at:
            who = author or os.environ.get("TURNOUT_AUTHOR", "") or getpass.getuser()
            move, overlay = commands.command(at.store, at.content, name, asked, author=who, reason=reason, now=at.now)
            servers = at.store.replicas(at.now - control.GONE_S)
            spec = at.content.document.rollouts[name]
        told = {
            "rollout": name,
            "overlay": overlay.number,
            "author": who,
            "servers": len(servers),
            **msgspec.to_builtins(move),
            "next": outlook.words(move.progress, spec, name, at.now),
        }
        if as_json:
            screen.print_json(told)
            return exits.OK
        many = f"{len(servers)} server{'' if len(servers) == 1 else 's'} will follow within a second"
        click.echo(f"{name}: {move.progress.state}; overlay {overlay.number} by {who}. {many if servers else IDLE}.")
        click.echo(told["next"])
        return exits.OK

    return run


IDLE = "No server is running; the next one starts with it"

for _name, _help in COMMANDS.items():
    _made: Callable[..., int] = near(_by_hand(_name))
    for _option in (
        click.option("--author", metavar="WHO", help="Who is written down.  [TURNOUT_AUTHOR, else your user name]"),
        click.option("--reason", default="", metavar="WHY", help="Why; kept with the overlay and the looks."),
        click.argument("name"),
    ):
        _made = _option(_made)
    command.command(_name, short_help=_help, help=_help)(_made)
