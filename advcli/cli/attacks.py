"""`advcli attacks`: the catalogue."""

from __future__ import annotations

import click

from advcli.cli.exits import emit
from advcli.cli.options import EXAMPLES_SETTINGS, printing_options, use_color

__all__ = ["command"]


@click.command(
    "attacks",
    context_settings=EXAMPLES_SETTINGS,
    short_help="The catalogue of attacks, or one of them.",
)
@click.argument("name", required=False)
@printing_options("table", "json")
def command(name: str | None, output_format: str, color: str, verbose: bool) -> int:
    """The catalogue of attacks, or one: what, how, cost, options, reference."""
    from advcli.audit.journal import dumps
    from advcli.cli.running import screen_width
    from advcli.reports.catalogue import describe, describe_all, table_of, text_of

    if name is None:
        everything = describe_all()
        if output_format == "json":
            emit(dumps(everything, indent=2) + "\n")
        else:
            emit(table_of(everything, width=screen_width(), color=use_color(color)))
        return 0
    attack = describe(name)
    if output_format == "json":
        emit(dumps(attack, indent=2) + "\n")
    else:
        emit(text_of(attack, width=screen_width(), color=use_color(color)))
    return 0
