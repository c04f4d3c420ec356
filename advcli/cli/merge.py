"""`advcli merge`: the runs of all shards as one."""

from __future__ import annotations

from pathlib import Path

import click

from advcli.cli.exits import emit
from advcli.cli.options import (
    EXAMPLES_SETTINGS,
    gate_options,
    given_options,
    printing_options,
    report_options,
)

__all__ = ["command"]


@click.command(
    "merge",
    context_settings=EXAMPLES_SETTINGS,
    short_help="Put the runs of all shards together into one.",
)
@click.argument("runs", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "--out",
    required=True,
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Where the whole run goes: a new or an empty folder.",
)
@gate_options
@report_options
@click.option("-q", "--quiet", is_flag=True, help="Write the run and the reports, print nothing.")
@printing_options("table", "json", "csv", "markdown", "github")
@click.pass_context
def command(
    ctx: click.Context,
    runs: tuple[Path, ...],
    out: Path,
    fail_under: tuple[str, ...],
    confident: bool,
    exit_zero: bool,
    reports: tuple[Path, ...],
    quiet: bool,
    output_format: str,
    color: str,
    verbose: bool,
) -> int:
    """Put the RUNS of all shards (--shard 1/N to N/N) together into one run.

    Refused (exit 2) where a shard is missing, twice or unfinished, where one was computed with
    other options, or where an image is in none or in two of them. The gates are those of the runs
    unless others are given; the exit code is the verdict's.

    \b
    advcli evaluate model.h5 test/ --shard 1/2 --out part-1
    advcli evaluate model.h5 test/ --shard 2/2 --out part-2
    advcli merge part-1 part-2 --out whole --fail-under 40
    """
    from advcli.audit.directory import RunDirectory
    from advcli.audit.gallery import pictures
    from advcli.audit.merge import merge_runs
    from advcli.cli.running import append_step_summary, rendered
    from advcli.reports.files import check_target, shows_pictures, write_report

    for report in reports:
        check_target(report, out)
    given = given_options(ctx)
    summary = merge_runs(
        runs,
        out,
        fail_under=fail_under if "fail_under" in given else None,
        confident=confident if "confident" in given else None,
        exit_zero=exit_zero if "exit_zero" in given else None,
    )
    gallery = pictures(RunDirectory(out)) if any(map(shows_pictures, reports)) else ()
    for report in reports:
        write_report(report, summary, gallery)
    unappended = append_step_summary(summary)
    if unappended:
        click.echo(f"note: {unappended}", err=True)
    if not quiet:
        emit(rendered(summary, output_format, color))
    return int(summary["exit_code"])
