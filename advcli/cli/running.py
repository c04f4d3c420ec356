"""What `attack` and `evaluate` share: from options to a run, its reports and its exit code."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from advcli.cli.configured import file_of, stated_of
from advcli.cli.exits import Terminated, emit
from advcli.cli.options import given_options, use_color

if TYPE_CHECKING:
    from advcli.audit.plan import AuditConfig
    from advcli.audit.run import Result
    from advcli.errors import NoVerdictError

__all__ = ["append_step_summary", "check_paths", "rendered", "run_audit", "screen_width"]

_NOT_CONFIG = frozenset(
    {"out", "resume", "reports", "output_format", "progress", "color", "quiet", "verbose"}
)


def run_audit(ctx: click.Context, command: str, options: dict[str, Any]) -> int:
    """Runs an audit and prints its summary; returns the exit code that the summary states."""
    from advcli.audit.plan import AuditConfig
    from advcli.cli.progress import make_watcher
    from advcli.errors import NoVerdictError
    from advcli.reports.files import check_target, shows_pictures

    for report in options["reports"]:
        check_target(report, options["out"])
    dry_run = options.pop("dry_run")
    file = file_of(ctx)
    config = AuditConfig.model_validate(
        {"command": command, "gates": [] if file is None else file.gates(command)}
        | {k: _plain(v) for k, v in options.items() if k not in _NOT_CONFIG and v is not None}
    )
    _precheck(config, options)
    out: Path | None = options["out"]
    if dry_run:
        return _dry_run(ctx, config, options)
    with make_watcher(options["progress"], options["color"], quiet=options["quiet"]) as watcher:
        from advcli.audit.run import execute

        try:
            result = execute(
                config,
                watcher,
                out=out,
                resume=options["resume"],
                given=given_options(ctx),
                file=stated_of(ctx),
                command_line=shlex.join(["advcli", *sys.argv[1:]]),
                gallery=any(map(shows_pictures, options["reports"])),
            )
        except (KeyboardInterrupt, Terminated):
            watcher.close()
            _say_how_to_go_on(out)
            raise
        except NoVerdictError as error:
            if out is not None:
                raise
            hint = "nothing was kept: give --out DIR to be able to go on after a failure"
            raise NoVerdictError(error.message, hint) from error
    unwritten = _write_reports(options["reports"], result, out)
    unappended = append_step_summary(result.summary)
    if unappended:
        watcher.note(unappended)
    if result.directory is not None:
        watcher.note(
            f"run kept in {result.directory}; results.jsonl says what became of each image"
        )
    emit(rendered(result.summary, options["output_format"], options["color"]))
    if unwritten is not None:
        raise unwritten
    return int(result.summary["exit_code"])


def _dry_run(ctx: click.Context, config: AuditConfig, options: dict[str, Any]) -> int:
    """Prints what would be run; 0, whatever gates there are."""
    from advcli.audit.journal import dumps
    from advcli.cli.progress import make_watcher
    from advcli.errors import UsageError
    from advcli.reports.plan import render

    shape = options["output_format"]
    if shape not in ("table", "json"):
        raise UsageError(f"--dry-run has no --format {shape}", "leave it away, or say json")
    with make_watcher(options["progress"], options["color"], quiet=options["quiet"]) as watcher:
        from advcli.audit.rehearsal import rehearse
        from advcli.audit.run import prepare

        plan = rehearse(
            prepare(
                config,
                watcher,
                out=options["out"],
                resume=options["resume"],
                given=given_options(ctx),
                file=stated_of(ctx),
            )
        )
    if shape == "json":
        emit(dumps(plan, indent=2) + "\n")
    else:
        emit(render(plan, width=screen_width(), color=use_color(options["color"])))
    return 0


def _write_reports(
    reports: Sequence[Path], result: Result, out: Path | None
) -> NoVerdictError | None:
    """Writes as many as it can; the first failure is for after the result is printed."""
    from advcli.errors import NoVerdictError
    from advcli.reports.files import write_report

    failure = None
    for report in reports:
        try:
            write_report(report, result.summary, result.gallery)
        except NoVerdictError as error:
            again = "the figures are on standard output; run again with -r where there is room"
            if out is not None:
                kept = shlex.quote(str(out))
                again = f"the run is finished and kept: --out {kept} --resume -r writes it again"
            failure = failure or NoVerdictError(f"--report {error.message}", again)
    return failure


def append_step_summary(summary: dict[str, Any]) -> str:
    """What GitHub shows of the step that this runs in, nothing elsewhere; returns what failed."""
    from advcli.reports import markdown
    from advcli.reports.step_summary import append

    return append(lambda: markdown.render(summary), lambda: markdown.shortened(summary))


def _plain(value: Any) -> Any:
    return str(value) if isinstance(value, Path) else value


def _precheck(config: Any, options: dict[str, Any]) -> None:
    """What can be refused before NumPy and TensorFlow are imported."""
    from advcli.errors import UsageError

    check_paths(config.model, config.images, config.surrogate)
    if config.command == "attack" and options["out"] is None:
        raise UsageError("attack writes images, and --out is missing", "add --out DIR")
    if options["out"] is not None and _inside(options["out"], Path(config.images)):
        raise UsageError(
            "--out lies inside the folder of images, and would be taken for images",
            "give a folder elsewhere to --out",
        )
    if config.only_fooled and config.command == "evaluate" and not config.save_images:
        raise UsageError("--only-fooled chooses among saved images", "add --save-images --out DIR")


def _inside(out: Path, images: Path) -> bool:
    return out.resolve().is_relative_to(images.resolve())


def check_paths(model: str, images: str | None, surrogate: str | None = None) -> None:
    """Raises for a model or a folder that is not there."""
    from advcli.errors import ImagesError, ModelError
    from advcli.images.text import printable

    # os.path: a name that no file can have is no file, where Path raises
    if not os.path.exists(model):
        raise ModelError(f"{printable(model)}: no such file", "check the path of the model")
    if surrogate is not None and not os.path.exists(surrogate):
        raise ModelError(f"{printable(surrogate)}: no such file", "check the path of --surrogate")
    if images is not None and not os.path.isdir(images):
        what = "is no folder" if os.path.exists(images) else "no such folder"
        raise ImagesError(f"{printable(images)}: {what}", "give the folder that holds the images")


def rendered(summary: dict[str, Any], output_format: str, color: str) -> str:
    """What goes to standard output; `color` is auto, always or never."""
    if output_format != "table":
        from advcli.reports.files import render

        return render(summary, output_format)
    from advcli.reports import terminal

    return terminal.render(summary, width=screen_width(), color=use_color(color))


def screen_width() -> int | None:
    """Columns of standard output; None where it is no screen."""
    import shutil

    return max(shutil.get_terminal_size().columns, 40) if sys.stdout.isatty() else None


def _say_how_to_go_on(out: Path | None) -> None:
    from advcli.images.text import printable

    if out is None:
        text = "stopped; nothing was kept, because there was no --out to resume from"
    elif not (out / "run.json").exists():
        text = "stopped before the run began; nothing was written"
    else:
        text = (
            f"stopped; what was finished is kept: go on with --out {shlex.quote(str(out))} --resume"
        )
    print(printable(text), file=sys.stderr)
