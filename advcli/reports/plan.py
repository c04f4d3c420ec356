"""What `--dry-run` found, for people."""

from __future__ import annotations

from typing import Any

from rich import box
from rich.table import Table
from rich.text import Text

from advcli.images.text import printable
from advcli.reports.terminal import console_text
from advcli.threats.budget import format_eps

__all__ = ["duration", "render"]


def duration(seconds: float | None) -> str:
    """`2 min`, `40 s`, `3.1 h`: as exact as an upper bound deserves; – where it is not known."""
    if seconds is None:
        return "–"
    if seconds < 1:
        return "<1 s"
    for unit, size in (("h", 3600.0), ("min", 60.0)):
        if seconds >= 2 * size:
            return (
                f"{seconds / size:.2g} {unit}"
                if seconds < 10 * size
                else (f"{seconds / size:,.0f} {unit}")
            )
    return f"{seconds:.0f} s"


def render(plan: dict[str, Any], *, width: int | None = None, color: bool = False) -> str:
    """A row per attack, in the order of the run, and what all of it costs at most."""
    model, step, total = plan["model"], plan["step"], plan["total"]
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, collapse_padding=True)
    table.add_column("attack", overflow="fold", min_width=10)
    table.add_column("budget", overflow="fold")
    for heading in ("images", "forwards", "gradients", "at most"):
        table.add_column(heading, justify="right", no_wrap=True)
    for job in plan["jobs"]:
        at = ", ".join(format_eps(eps) for eps in job["eps"])
        table.add_row(
            job["attack"],
            f"{job['norm']} {at}" if job["norm"] else "no norm",
            f"{job['images']:,}",
            f"{job['forwards_at_most']:,}",
            f"{job['gradients_at_most']:,}",
            duration(job["seconds_at_most"]),
        )
    table.add_section()
    table.add_row(
        "all",
        "",
        f"{plan['images']['evaluated']:,}",
        f"{total['forwards_at_most']:,}",
        f"{total['gradients_at_most']:,}",
        duration(total["seconds_at_most"]),
        style="bold",
    )
    rows = step["batch_size"]
    parts: list[Any] = [
        Text("dry run: no attack is run, nothing is written", style="bold"),
        Text(
            f"{printable(model['path'], 60)} on {plan['images']['evaluated']} images of "
            f"{printable(plan['images']['root'], 60)} (preprocessing: "
            f"{model['preprocessing']['flag']})"
        ),
        Text(),
        table,
        Text(),
        Text(
            f"measured on {step['device']}: {1000 * step['gradient_seconds']:.3g} ms for {rows} "
            f"gradients, {1000 * step['forward_seconds']:.3g} ms for {rows} forwards; at most: "
            "every search to its end on every image"
            + (
                ", where this cascade asks only about those still standing"
                if plan["cascade"]
                else ""
            ),
            style="dim",
        ),
    ]
    for found in plan["soundness"]:
        if found["verdict"] != "ok":
            parts.append(
                Text(f"{found['verdict']}  {found['check']}: {printable(found['detail'])}")
            )
    return console_text(*parts, width=width, color=color)
