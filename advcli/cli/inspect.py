"""`advcli inspect`: what is in a model file, and the preprocessing it wants."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from advcli.cli.configured import Configured
from advcli.cli.exits import emit
from advcli.cli.options import (
    EXAMPLES_SETTINGS,
    FileName,
    images_options,
    model_options,
    output_options,
    use_color,
)

__all__ = ["command"]

_DROPPED = frozenset({"output_format", "progress", "color", "quiet", "verbose"})


@click.command("inspect", cls=Configured, context_settings=EXAMPLES_SETTINGS)
@click.argument("model", type=FileName())
@click.argument("images", type=FileName(), required=False)
@images_options
@model_options
@click.option(
    "--save-preprocess",
    is_flag=True,
    help="Write the preprocessing to MODEL.advcli.toml, which later commands read.",
)
@output_options("table", "json")
def command(save_preprocess: bool, **options: Any) -> int:
    """What is in MODEL, is it safe, and the preprocessing it wants.

    With IMAGES: the clean accuracy under each preprocessing, and the flag to paste.
    """
    from advcli.audit.plan import AuditConfig
    from advcli.cli.running import check_paths, screen_width

    with_images = options["images"] is not None
    config = AuditConfig.model_validate(
        {"command": "evaluate"}
        | {
            key: str(value) if isinstance(value, Path) else value
            for key, value in options.items()
            if key not in _DROPPED and value is not None
        }
        | {"images": options["images"] or ""}
    )
    check_paths(config.model, config.images if with_images else None)
    from advcli.audit.inspection import inspect_model

    facts = inspect_model(config, with_images=with_images, save_preprocess=save_preprocess)
    if options["output_format"] == "json":
        from advcli.audit.journal import dumps

        emit(dumps(facts, indent=2) + "\n")
    else:
        from advcli.reports.inspection import render

        emit(render(facts, width=screen_width(), color=use_color(options["color"])))
    return 0
