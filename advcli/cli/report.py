"""`advcli report`: a run, rendered again; no model is run."""

from __future__ import annotations

from pathlib import Path

import click

from advcli.cli.exits import emit
from advcli.cli.options import EXAMPLES_SETTINGS, printing_options, report_options

__all__ = ["command"]


@click.command("report", context_settings=EXAMPLES_SETTINGS)
@click.argument("run", type=click.Path(path_type=Path))
@report_options
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
    """Render the run in RUN again; no model is run.

    Of a run that was stopped: the attacks that had been through, called suspect. Exit 0 whatever
    the run's own verdict was, which stands in what is rendered; 2 for a folder that holds no run.
    """
    from advcli.audit.directory import RunDirectory
    from advcli.audit.gallery import pictures
    from advcli.audit.unfinished import summary_of
    from advcli.reports.files import check_target, shows_pictures, write_report

    for report in reports:
        check_target(report)
    directory = RunDirectory(run)
    summary = summary_of(directory)
    gallery = pictures(directory) if any(map(shows_pictures, reports)) else ()
    for report in reports:
        write_report(report, summary, gallery)
    if not quiet:
        from advcli.cli.running import rendered

        emit(rendered(summary, output_format, color))
    return 0
