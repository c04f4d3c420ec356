"""`advcli report`: a finished run, rendered again; no model is run."""

from __future__ import annotations

from pathlib import Path

import click

from advcli.cli.exits import emit
from advcli.cli.options import EXAMPLES_SETTINGS, printing_options

__all__ = ["command"]


@click.command("report", context_settings=EXAMPLES_SETTINGS)
@click.argument("run", type=click.Path(path_type=Path))
@click.option(
    "-r",
    "--report",
    "reports",
    multiple=True,
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Write a report: .json, .csv, .md, .junit.xml or .sarif; repeatable.",
)
@click.option("-q", "--quiet", is_flag=True, help="Write the reports, print nothing.")
@printing_options("table", "json", "csv", "markdown", "github")
def command(
    run: Path,
    reports: tuple[Path, ...],
    output_format: str,
    color: str,
    quiet: bool,
    verbose: bool,
) -> int:
    """Render the finished run in RUN again.

    Exit 0 whatever the run's own verdict was, which stands in what is rendered; 2 for a folder
    that holds no finished run.
    """
    from advcli.audit.directory import RunDirectory
    from advcli.reports.files import check_target, write_report

    for report in reports:
        check_target(report)
    summary = RunDirectory(run).read_summary()
    for report in reports:
        write_report(report, summary)
    if not quiet:
        from advcli.cli.running import rendered

        emit(rendered(summary, output_format, color))
    return 0
