"""`advcli attack`: perturbed images, and the table."""

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


@click.command(
    "attack",
    cls=Configured,
    context_settings=EXAMPLES_SETTINGS,
    short_help="Perturb IMAGES until MODEL errs, and write them.",
)
@click.argument("model", type=FileName())
@click.argument("images", type=FileName())
@audit_options
@click.option(
    "--include-misclassified",
    is_flag=True,
    help="Also perturb images that MODEL gets wrong unperturbed; the figures stay the same.",
)
@images_options
@model_options
@output_options("table", "json", "csv", "markdown", "github")
@click.pass_context
def command(ctx: click.Context, /, **options: Any) -> int:
    """Perturb IMAGES so that MODEL gets them wrong, and write them into --out.

    One image is written per attacked image, fooled or not, and the clean ones beside them:
    OUT/images/<attack>/<norm>-<eps>/ and OUT/images/clean/. Of several eps, up to the
    smallest that fooled it; smallest perturbations lie under OUT/images/<attack>/<norm>/.
    Neither -a nor --preset: pgd.

    \b
    advcli attack model.h5 test/ -a pgd --eps 8/255 --out run/
    advcli attack model.h5 test/ -a cw --targeted cat --only-fooled --out run/
    """
    from advcli.cli.running import run_audit

    return run_audit(ctx, "attack", options)
