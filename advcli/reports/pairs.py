"""Figures on the same images in words: what `compare` and a baseline show alike."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from advcli.images.text import printable
from advcli.reports import figures

__all__ = ["baseline_lines", "changes", "p_value", "pairing", "shown_rows"]

_NATURAL_ROWS = 10


def p_value(p: float) -> str:
    """Two digits; below a thousandth only that it is."""
    return "< 0.001" if p < 0.001 else f"{p:.2g}"


def changes(row: dict[str, Any]) -> str:
    """`12 newly broken, 3 fixed, p = 0.035`."""
    p = p_value(row["p"])
    return (
        f"{row['newly_broken']} newly broken, {row['fixed']} fixed, "
        f"p {p if p.startswith('<') else f'= {p}'}"
    )


def shown_rows(rows: Sequence[dict[str, Any]]) -> tuple[list[dict[str, Any]], int]:
    """(all rows of attacks and the natural ones that lost most, how many are left out)"""
    natural = [row for row in rows if row["scope"] == "natural"]
    natural.sort(key=lambda row: row["difference"] or 0.0)
    kept = [row for row in rows if row["scope"] != "natural"] + natural[:_NATURAL_ROWS]
    return kept, len(rows) - len(kept)


def pairing(images: dict[str, int], names: tuple[str, str]) -> str:
    """How many images the two runs share, and which were left out of the comparison."""
    parts = [f"{images['paired']} images paired by content"]
    parts += [
        f"{images[key]} only in {name}"
        for key, name in zip(("only_base", "only_new"), names, strict=True)
        if images[key]
    ]
    if images["relabelled"]:
        parts.append(f"{images['relabelled']} of these with another label")
    if images["repeated"]:
        parts.append(f"{images['repeated']} repeated files count once")
    return "; ".join(parts)


def baseline_lines(baseline: dict[str, Any]) -> list[str]:
    """How a run compares with its baseline: a line for each threat that a gate judges."""
    model = baseline["model"]
    lines = [
        f"baseline {printable(baseline['run'], 60)} (model {printable(model['path'], 60)}, sha256 "
        f"{model['sha256'][:12]}): " + pairing(baseline["images"], ("the baseline", "this run"))
    ]
    rows, hidden = shown_rows([row for row in baseline["threats"] if row["gated"]])
    for row in rows:
        lines.append(
            f"{printable(row['threat'])}: {changes(row)}; "
            f"{figures.percent(row['base_accuracy'])} then, "
            f"{figures.percent(row['new_accuracy'])} now, {figures.points(row['difference'])} "
            f"points (95 %: {figures.points_interval(row['ci95'])})"
        )
    if hidden:
        lines.append(f"{hidden} more natural threats lost less (--format json)")
    lines += [f"left out: {printable(text)}" for text in baseline["left_out"]]
    return lines + [f"note: {printable(text)}" for text in baseline["notes"]]
