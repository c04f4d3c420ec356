"""The group of commands; each lives in its own module, imported when it is asked for."""

from __future__ import annotations

import difflib
import importlib

import click

from advcli import __version__
from advcli.cli.variables import unread_variables

__all__ = ["COMMANDS", "cli"]

COMMANDS = (
    *("attack", "evaluate", "inspect", "attacks"),
    *("compare", "report", "merge", "verify", "config"),
)

_EPILOG = """\b
Exit codes:
  0    finished; every gate passed, or none was set
  1    a gate failed: the model is not robust enough, or got worse
  2    refused: bad usage, model, images or run directory; nothing was written
  3    no verdict: a crash, errors on images, a gate that would pass on suspect
       figures, or with --confident one that more images would settle; verify:
       files or verdicts do not match
  130  interrupted, 143 terminated: what was finished is kept in --out, for --resume

\b
Every option can be set by a variable: ADVCLI_EPS=4/255 is --eps 4/255; several values
are separated by spaces, reports by ':' (Windows ';'). Options of attack, evaluate,
inspect and verify can stand in advcli.toml: `advcli config init`.
"""


class LazyGroup(click.Group):
    """Imports a command's module when it is looked up."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module = importlib.import_module(f"advcli.cli.{cmd_name}")
        command: click.Command = module.command
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name = args[0] if args else ""
        if name and not name.startswith("-") and name not in COMMANDS:
            near = difflib.get_close_matches(name, COMMANDS, n=1, cutoff=0.5)
            hint = f" Did you mean '{near[0]}'?" if near else f" Commands: {', '.join(COMMANDS)}."
            raise click.UsageError(f"No such command '{name}'.{hint}", ctx)
        return super().resolve_command(ctx, args)


@click.group(
    cls=LazyGroup,
    invoke_without_command=True,
    epilog=_EPILOG,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(__version__, "-V", "--version", message="advcli %(version)s")
@click.pass_context
def cli(ctx: click.Context) -> int:
    """Audits the adversarial robustness of Keras .h5 image classifiers.

    \b
    advcli evaluate model.h5 images/            accuracy under attack
    advcli evaluate model.h5 images/ --fail-under 40
    advcli attack model.h5 images/ -a pgd --out run/
    advcli inspect model.h5 images/             what is in the file
    advcli compare run-before/ run-after/       what broke, what got fixed
    """
    for note in unread_variables(ctx):
        click.echo(f"note: {note}", err=True)
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help(), err=True)
        return 2
    return 0
