"""`advcli verify`: a finished run against its files and its model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from advcli.cli.configured import Configured
from advcli.cli.exits import emit
from advcli.cli.options import (
    EXAMPLES_SETTINGS,
    FileName,
    loading_options,
    printing_options,
    use_color,
)

__all__ = ["command"]


@click.command(
    "verify",
    cls=Configured,
    context_settings=EXAMPLES_SETTINGS,
    short_help="Check the files, hashes and verdicts of RUN.",
)
@click.argument("run", type=click.Path(path_type=Path))
@click.option(
    "--replay",
    type=click.IntRange(min=1),
    metavar="N",
    help="Also run the attacks on N images again and compare bit for bit.",
)
@click.option(
    "--model",
    type=FileName(),
    allow_from_autoenv=False,
    metavar="FILE",
    help="The run's model, where it is not where it was.",
)
@click.option(
    "--images",
    type=FileName(),
    allow_from_autoenv=False,
    metavar="DIR",
    help="The run's images, where they are not where they were.",
)
@loading_options
@printing_options("table", "json")
def command(run: Path, replay: int | None, **options: Any) -> int:
    """Re-read every file of RUN and check hashes, distances and verdicts against the model.

    Exit 3 where something does not match. Runs without written images are checked for what they
    have; --replay checks the attack itself.
    """
    from advcli.audit.directory import RunDirectory

    RunDirectory(run).read_run()
    from advcli.audit.verify import verify

    found = verify(
        run,
        replay=replay or 0,
        device=options["device"],
        allow_unsafe=options["allow_unsafe_model"],
        custom_objects=options["custom_objects"],
        model=options["model"],
        images=options["images"],
    )
    if options["output_format"] == "json":
        from advcli.audit.journal import dumps

        emit(dumps(found.as_dict(), indent=2) + "\n")
    else:
        from advcli.cli.running import screen_width
        from advcli.reports.verification import render

        color = use_color(options["color"])
        emit(render(found.as_dict(), width=screen_width(), color=color))
    return found.exit_code
