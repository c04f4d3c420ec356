"""What `advcli verify` found, for people."""

from __future__ import annotations

from typing import Any

from rich.text import Text

from advcli.images.text import printable
from advcli.reports.terminal import console_text

__all__ = ["render"]

_SHOWN = 50


def render(found: dict[str, Any], *, width: int | None = None, color: bool = False) -> str:
    checked = (
        f"checked {found['clean_images']} clean images, {found['perturbed_files']} perturbed files "
        f"and {found['predictions']} predictions; {found['replayed']} answers replayed"
    )
    parts = [Text(checked)]
    for entry in found["mismatches"][:_SHOWN]:
        where = " ".join(printable(entry[k], 60) for k in ("image", "file") if entry[k])
        parts.append(Text(f"mismatch  {where}: {printable(entry['detail'])}", style="red"))
    if len(found["mismatches"]) > _SHOWN:
        parts.append(Text(f"and {len(found['mismatches']) - _SHOWN} more (--format json)"))
    if found["mismatches"]:
        count = len(found["mismatches"])
        parts.append(Text(f"DOES NOT MATCH: {count} difference(s)", style="bold red"))
    else:
        parts.append(Text("everything matches", style="bold green"))
    return console_text(*parts, width=width, color=color)
