"""`advcli report`: a run, rendered again; no model is run."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING

import click

from advcli.cli.exits import emit
from advcli.cli.options import EXAMPLES_SETTINGS, printing_options, report_options

if TYPE_CHECKING:
    from advcli.audit.directory import RunDirectory

__all__ = ["command"]


def _print_schema(ctx: click.Context, param: click.Parameter, asked: bool) -> None:
    if asked:
        emit(files("advcli.reports").joinpath("summary.schema.json").read_text(encoding="utf-8"))
        ctx.exit()


@click.command("report", context_settings=EXAMPLES_SETTINGS)
@click.argument("run", type=click.Path(path_type=Path))
@report_options
@click.option(
    "--evidence",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Write evidence of a finished run for an auditor into a new folder.",
)
@click.option(
    "--schema",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    allow_from_autoenv=False,
    callback=_print_schema,
    help="Print the JSON Schema of summary.json and exit.",
)
@click.option("-q", "--quiet", is_flag=True, help="Write the reports, print nothing.")
@printing_options("table", "json", "csv", "markdown", "github")
def command(
    run: Path,
    reports: tuple[Path, ...],
    evidence: Path | None,
    output_format: str,
    color: str,
    quiet: bool,
    verbose: bool,
) -> int:
    """Render the run in RUN again; no model is run.

    --evidence writes a folder with test log, configuration, hashes, what was tested and what was
    not, and what that is relevant to (EU AI Act, NIST AI RMF, MITRE ATLAS), and a model card.

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
    if evidence is not None:
        _write_evidence(directory, evidence)
    summary = summary_of(directory)
    gallery = pictures(directory) if any(map(shows_pictures, reports)) else ()
    for report in reports:
        write_report(report, summary, gallery)
    if not quiet:
        from advcli.cli.running import rendered

        emit(rendered(summary, output_format, color))
    return 0


def _write_evidence(directory: RunDirectory, folder: Path) -> None:
    from advcli.audit.record import read_record
    from advcli.reports.evidence import evidence_files
    from advcli.reports.evidence_folder import check_folder, write_folder

    check_folder(folder)
    write_folder(folder, evidence_files(read_record(directory)))
