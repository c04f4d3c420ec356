"""`advcli compare`: two finished runs on the same images; no model is run."""

from __future__ import annotations

from pathlib import Path

import click

from advcli.cli.exits import emit
from advcli.cli.options import (
    EXAMPLES_SETTINGS,
    confident_option,
    max_drop_option,
    printing_options,
    use_color,
)

__all__ = ["command"]


@click.command(
    "compare",
    context_settings=EXAMPLES_SETTINGS,
    short_help="What broke and what got fixed between two runs.",
)
@click.argument("base", type=click.Path(path_type=Path))
@click.argument("new", type=click.Path(path_type=Path))
@max_drop_option("Without it no gate is set.")
@confident_option
@printing_options("table", "json", "csv", "markdown", "github")
def command(
    base: Path,
    new: Path,
    max_drop: float | None,
    confident: bool,
    output_format: str,
    color: str,
    verbose: bool,
) -> int:
    """What broke and what got fixed from the run in BASE to that in NEW, and is it chance.

    Images are paired by their pixels and labels. For each threat that both runs have: images newly
    broken and fixed, the difference with its 95 % interval, and the p value of McNemar's exact
    test. Runs with another preprocessing, other pixels or other threats are refused (exit 2).

    \b
    advcli compare last-release/ run/
    advcli compare last-release/ run/ --max-drop 2
    """
    from advcli.audit.compare import compare, with_gate
    from advcli.audit.side import Side
    from advcli.cli.running import screen_width
    from advcli.reports import comparison as reports
    from advcli.reports.step_summary import append

    found = compare(Side.read(base), Side.read(new), gate=max_drop is not None)
    found = with_gate(found, max_drop, confident=confident)
    unwritten = append(lambda: reports.markdown(found), lambda: reports.markdown(found, short=True))
    if unwritten:
        click.echo(f"note: {unwritten}", err=True)
    if output_format == "table":
        emit(reports.render(found, width=screen_width(), color=use_color(color)))
    else:
        emit(reports.FORMATS[output_format](found))
    return int(found["exit_code"])
