"""Figures in words: what every format shows alike. Rounded for reading, never for deciding."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from advcli.images.text import printable
from advcli.threats.budget import format_eps

__all__ = [
    "budget",
    "distance",
    "fooled",
    "interval",
    "labels_note",
    "legend",
    "percent",
    "resized_note",
    "target",
    "verdict",
]

_VERDICTS = {
    "pass": "PASS: every gate holds",
    "fail": "FAIL: the model is not robust enough",
    "inconclusive": "INCONCLUSIVE: no verdict can rest on these figures",
    "none": "no gate was set",
}


def percent(value: float | None) -> str:
    """A fraction as a percentage with one decimal; 100.0 % and 0.0 % only where exact."""
    if value is None:
        return "–"
    shown = f"{100 * value:.1f}"
    if shown == "100.0" and value < 1:
        return "99.9+ %"
    if shown == "0.0" and value > 0:
        return "<0.1 %"
    return f"{shown} %"


def interval(ci95: Sequence[float] | None) -> str:
    """A 95 % interval, in percent."""
    if ci95 is None:
        return "–"
    return f"{100 * ci95[0]:.1f}–{100 * ci95[1]:.1f}"


def budget(norm: str, eps: float) -> str:
    """`linf 8/255`."""
    return f"{norm} {format_eps(eps)}"


def distance(value: float | None, norm: str) -> str:
    """A median distance; a whole number of 8-bit levels as such, in linf."""
    if value is None:
        return "–"
    if norm == "linf":
        return f"{255 * value:.3g}/255"
    return f"{value:.3g}"


def verdict(summary: dict[str, Any]) -> str:
    return _VERDICTS[summary["verdict"]]


def target(summary: dict[str, Any]) -> str | None:
    """What a targeted run aimed at (a class's name, least-likely, next); None: untargeted."""
    aim: str | None = summary["provenance"].get("targeted")
    return aim


def fooled(summary: dict[str, Any], row: dict[str, Any]) -> str:
    """`3/40`: images that met the attack's goal, of those attacked."""
    if target(summary) is None:
        return f"{row['broken']}/{row['attempted']}"
    return f"{round((row['success_rate'] or 0) * row['attempted'])}/{row['attempted']}"


def legend(summary: dict[str, Any]) -> list[str]:
    """Sentences without which the columns could be misread."""
    lines = []
    aim = target(summary)
    if aim is not None:
        shown = {"least-likely": "each image's least likely class", "next": "the class after its"}
        what = shown.get(aim, f"class '{printable(aim, 40)}'")
        row = next(iter(summary["attacks"]), None)
        left_out = summary["clean"]["total"] - row["total"] if row else 0
        lines.append(
            f"targeted at {what}: success and hits = the target was hit, robust = the label was "
            f"kept; {left_out} image(s) skipped because the label is the target"
        )
    if summary["provenance"].get("cascade"):
        lines.append(
            "cascade: each attack saw only the images still standing before it, so robust is "
            "cumulative"
        )
    lines.append(
        "median: distance of the attacked images, those that withstood counting as infinitely "
        "far (– where half or more did)"
    )
    return lines


def labels_note(summary: dict[str, Any]) -> str:
    """Empty, or that the reference is the model itself."""
    if summary["images"]["labels"] != "model":
        return ""
    return (
        "no labels were given: the reference is the model's own prediction on each clean image, "
        "so clean accuracy is 100 % by definition"
    )


def resized_note(summary: dict[str, Any]) -> str:
    """Empty, or that files did not have the model's input size."""
    resized = summary["images"]["resized"]
    if not resized:
        return ""
    height, width = resized["to"]
    return (
        f"{resized['count']} image(s) were resized to the model's {width}×{height}, "
        f"e.g. {printable(resized['example'], 40)} from {resized['from'][1]}×{resized['from'][0]}; "
        "perturbed images have the model's size"
    )
