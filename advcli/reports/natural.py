"""Natural threats as tables: kind × severity, and searches; what every format shows alike."""

from __future__ import annotations

from typing import Any, NamedTuple

from advcli.reports import figures

__all__ = ["Grid", "Searches", "grids", "searches"]


class Grid(NamedTuple):
    """Accuracy of one threat. `rows`: (kind, a figure per severity, their mean); the last row is
    the mean over the kinds that count. `note` says what the mean is."""

    attack: str
    severities: list[str]
    rows: list[tuple[str, list[str], str]]
    note: str


class Searches(NamedTuple):
    """The threats that look for the first picture that fools; `note` explains them."""

    rows: list[list[str]]  # attack, kind, accuracy, interval, median severity
    note: str


def grids(summary: dict[str, Any]) -> list[Grid]:
    """A table per threat with severities."""
    found = []
    for mean in summary.get("natural_means", ()):
        own = [row for row in summary["natural"] if row["attack"] == mean["attack"]]
        severities = list(mean["severities"])
        at = {(row["kind"], str(row["severity"])): row["accuracy"] for row in own}
        rows = [
            (kind, [figures.percent(at.get((kind, s))) for s in severities], figures.percent(share))
            for kind, share in mean["kinds"].items()
        ]
        last = [figures.percent(mean["severities"][severity]) for severity in severities]
        rows.append(("mean", last, figures.percent(mean["accuracy"])))
        found.append(Grid(mean["attack"], severities, rows, _note(mean)))
    return found


def _note(mean: dict[str, Any]) -> str:
    left_out = [kind for kind in mean["kinds"] if kind not in mean["over"]]
    over = f"over {len(mean['over'])} kind{'s' if len(mean['over']) != 1 else ''}"
    whose = {"imagenet": " (ImageNet-C's constants)", "cifar": " (CIFAR-C's constants)"}
    without = f", not over {', '.join(left_out)}" if left_out else ""
    return (
        f"mean corruption accuracy {figures.percent(mean['accuracy'])} "
        f"(95 %: {figures.interval(mean['ci95'])}), error {figures.percent(mean['error'])}: "
        f"{over}{without}{whose.get(mean['constants'], '')}; every image counts, those that the "
        "model gets wrong unperturbed too"
    )


def searches(summary: dict[str, Any]) -> Searches | None:
    """One table of all searches; None where none was run."""
    rows = [
        [
            row["attack"],
            row["kind"],
            figures.percent(row["accuracy"]),
            figures.interval(row["ci95"]),
            "–" if row["median_severity"] is None else f"{row['median_severity']:.3g}",
        ]
        for row in summary["natural"]
        if row["severity"] is None
    ]
    if not rows:
        return None
    return Searches(
        rows,
        "a search: right is the model where no picture of it fooled; median: the smallest severity "
        "that fooled, of the images that it gets right unperturbed (– where half or more withstood "
        "it, or where severity is no single number)",
    )
