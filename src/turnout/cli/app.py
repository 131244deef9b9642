"""The entrance: finds the command's module by name and loads only that, and says errors without tracebacks.

`turnout --help` loads no command at all; `serve` starts workers before anything heavy is imported here.
"""

import importlib
import os
import sys
from collections.abc import Mapping, Sequence

import click

from turnout.cli import exits
from turnout.errors import DocumentError, TurnoutError, did_you_mean

COMMANDS: Mapping[str, str] = {
    "init": "Write a project that runs: a document, a model, a request.",
    "check": "Check a document, all stages, and name every error with its line.",
    "diff": "What a change of the document does, before it is made.",
    "serve": "Serve a document, or a model file as it is.",
    "call": "Send one request to an endpoint of the running server.",
    "status": "What the running server serves: workers, models, endpoints, refusals.",
    "plan": "How many units an experiment needs, and how long that takes.",
    "report": "What an experiment says: ship, stop, keep going, or broken.",
    "aa": "Whether a metric finds differences where there are none.",
    "shadow": "What shadows would have said, beside what callers got.",
    "explain": "Which variant a unit gets, and why.",
    "rollout": "Where rollouts stand; pause, resume, abort, promote.",
    "override": "A signed header that gives its sender a certain variant.",
    "history": "What was live when, who changed it, and what changed.",
    "reload": "Replace the workers one by one, so that they run new code.",
    "schema": "Print the JSON Schema of documents, for editors.",
}
"""Command to its one line of help, in the order of a user's first day; the module has the command's name."""

EPILOG = """\b
Exit status:
  0  done; for `serve`: stopped as asked
  1  it found something wrong, or could not be done
  2  wrong usage; for `serve`: the document is refused
  130  interrupted

\b
`serve` takes variables too, such as TURNOUT_WORKERS=2; `serve --help` lists them.
NO_COLOR=1 turns colours off; piped output has none. --json is for machines.
"""


class LazyGroup(click.Group):
    """A group whose commands live in modules that are imported when they are asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module = importlib.import_module(f"turnout.cli.{cmd_name}")
        command = module.command
        assert isinstance(command, click.Command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0] not in COMMANDS and not args[0].startswith("-"):
            known = f"Commands: {', '.join(COMMANDS)}."
            ctx.fail(f"no command {args[0]!r}. {did_you_mean(args[0], COMMANDS)} {known}")
        return super().resolve_command(ctx, args)


def _version(ctx: click.Context, _parameter: click.Parameter, wanted: bool) -> None:
    if wanted:
        metadata = importlib.import_module("importlib.metadata")  # heavy, and wanted here only
        click.echo(f"turnout {metadata.version('turnout')}")
        ctx.exit()


@click.group(cls=LazyGroup, epilog=EPILOG, context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--version", is_flag=True, is_eager=True, expose_value=False, callback=_version, help="The version.")
def group() -> None:
    """Serve machine-learning pipelines behind one endpoint, and learn which variant is better."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status. User errors are one clear text on stderr, never a traceback."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    try:
        colour = False if os.environ.get("NO_COLOR") else None
        result = group.main(given, prog_name="turnout", standalone_mode=False, color=colour)
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except click.Abort:
        return exits.INTERRUPTED
    except KeyboardInterrupt:
        return exits.INTERRUPTED
    except BrokenPipeError:  # the reader, such as `head`, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return exits.OK
    except DocumentError as error:
        click.echo(f"turnout: {error}", err=True)
        return exits.WRONG
    except TurnoutError as error:
        click.echo(f"turnout: {error}", err=True)
        return exits.WRONG
    return result if isinstance(result, int) else exits.OK
