"""Variables named like an option's that are none's: a mistyped gate must not pass unseen."""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterator

import click

from advcli.cli.options import EXAMPLES_SETTINGS
from advcli.images.text import printable

__all__ = ["unread_variables"]

_PREFIX = f"{EXAMPLES_SETTINGS['auto_envvar_prefix']}_"


def unread_variables(ctx: click.Context) -> list[str]:
    """A line for each variable ADVCLI_… that no command has an option for."""
    set_here = sorted(name for name in os.environ if name.startswith(_PREFIX))
    if not set_here:  # as good as always, and the commands' modules are not imported
        return []
    known = sorted(set(_variables(ctx.command, ctx)))
    notes = []
    for name in set_here:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1, cutoff=0.8)
            hint = f"; did you mean {near[0]}?" if near else ""
            notes.append(f"variable {printable(name)} is not read: no option has it{hint}")
    return notes


def _variables(command: click.Command, ctx: click.Context) -> Iterator[str]:
    for param in command.get_params(ctx):
        if isinstance(param, click.Option) and (param.envvar or param.allow_from_autoenv):
            yield str(param.envvar or f"{_PREFIX}{str(param.name).upper()}")
    if isinstance(command, click.Group):
        for name in command.list_commands(ctx):
            found = command.get_command(ctx, name)
            if found is not None:
                yield from _variables(found, ctx)
