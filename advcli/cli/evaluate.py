"""`advcli evaluate`: accuracy under attack."""

from __future__ import annotations

from typing import Any

import click

from advcli.cli.configured import Configured
from advcli.cli.options import (
    EXAMPLES_SETTINGS,
    FileName,
    audit_options,
    images_options,
    model_options,
    output_options,
)

__all__ = ["command"]


@click.command("evaluate", cls=Configured, context_settings=EXAMPLES_SETTINGS)
@click.argument("model", type=FileName())
@click.argument("images", type=FileName())
@audit_options
@click.option(
    "--curve",
    is_flag=True,
    help="Also robust accuracy over a whole range of eps, from the distances that minimum-norm "
    "attacks find; alone it runs one of them (linf: fmn).",
)
@click.option("--save-images", is_flag=True, help="Write clean and perturbed images into --out.")
@images_options
@model_options
@output_options("table", "json", "csv", "markdown", "github")
@click.pass_context
def command(ctx: click.Context, /, **options: Any) -> int:
    """Accuracy of MODEL on IMAGES, unperturbed and under attack.

    IMAGES is a folder of class sub-folders, or a flat folder with --labels FILE; without labels
    the model's own prediction is the reference. Neither --preset nor -a: the preset audit.

    \b
    advcli evaluate model.h5 test/ --eps 2/255,8/255
    advcli evaluate model.h5 test/ -a pgd:steps=100 -a cw --limit 200
    advcli evaluate model.h5 test/ --preset autoattack --limit 200
    advcli evaluate model.h5 test/ --curve
    advcli evaluate model.h5 test/ --fail-under 40 --out run/ -r report.md
    advcli evaluate model.h5 test/ --baseline last-release/ --max-drop 2
    """
    from advcli.cli.running import run_audit

    return run_audit(ctx, "evaluate", options)
