"""One row per figure, for spreadsheets; nothing in it can become a formula."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator
from typing import Any

from advcli.images.text import printable
from advcli.reports import figures

__all__ = ["render"]

COLUMNS = (
    "section",
    "kind",
    "name",
    "norm",
    "eps",
    "severity",
    "robust_accuracy",
    "ci95_low",
    "ci95_high",
    "success_rate",
    "robust",
    "broken",
    "errors",
    "attempted",
    "total",
    "median_distance",
    "forwards",
    "gradients",
    "forwards_per_image",
    "gradients_per_image",
    "seconds",
    "verdict",
    "images_needed",
    "waiver",
)
_FORMULA = ("=", "+", "-", "@", "＝", "＋", "－", "＠")
# Half of Europe's spreadsheets split at semicolons, whatever the quotes around them.
_NEW_CELL = re.compile(rf"(;[\s\"]*)(?=[{re.escape(''.join(_FORMULA))}])")


def render(summary: dict[str, Any]) -> str:
    """The figures as CSV with a header row and Unix line ends; fractions are not rounded.

    Sections: `clean`, `attack`, `worst case`, `curve`, `class`, `gate` (its threshold is in the
    name).
    `kind` tells the rows of a class apart (`clean`, `worst case`), and says `untargeted` or
    `targeted` of an attack: there `broken` are labels lost, success_rate · attempted are hits.
    The gate `baseline` has a difference in the place of an accuracy.
    """
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, restval="", lineterminator="\n")
    writer.writeheader()
    for row in _rows(summary):
        writer.writerow({key: guarded(value) for key, value in row.items() if value is not None})
    return text.getvalue()


def guarded(value: object) -> object:
    """Text as visible characters; what a spreadsheet would run, behind an apostrophe (OWASP).

    Every text goes through here, so a name is spelt alike wherever it stands.
    """
    if not isinstance(value, str):
        return value
    shown = _NEW_CELL.sub(r"\1'", printable(value))
    return "'" + shown if value.lstrip().startswith(_FORMULA) else shown


def _rows(summary: dict[str, Any]) -> Iterator[dict[str, Any]]:
    clean = summary["clean"]
    yield {
        "section": "clean",
        "name": "clean",
        "robust_accuracy": clean["accuracy"],
        **_interval(clean["ci95"]),
        "robust": clean["correct"],
        "errors": clean["errors"],
        "total": clean["total"],
        "verdict": summary["verdict"],
    }
    for row in summary["attacks"]:
        known = {key: row[key] for key in COLUMNS if key in row}
        kind = "targeted" if figures.target(summary) is not None else "untargeted"
        names = {"section": "attack", "kind": kind, "name": row["attack"]}
        yield {**names, **known, **_interval(row["ci95"])}
    for row in summary["worst_case"]:
        known = {key: row[key] for key in COLUMNS if key in row}
        yield {"section": "worst case", "name": "worst case", **known, **_interval(row["ci95"])}
    for curve in summary["curve"]:
        names = {"section": "curve", "name": curve["attack"], "norm": curve["norm"]}
        for point in curve["points"]:
            yield {**names, **point, "total": curve["total"]}
    yield from _natural(summary)
    for entry in summary["per_class"]:
        yield {
            "section": "class",
            "kind": "clean",
            "name": entry["class"],
            "robust_accuracy": entry["clean_accuracy"],
            "total": entry["total"],
        }
        for row in entry["worst_case"]:
            names = {"section": "class", "kind": "worst case", "name": entry["class"]}
            known = {key: row[key] for key in COLUMNS if key in row}
            yield {**names, "total": entry["total"], **known, **_interval(row["ci95"])}
    for gate in summary["gates"]:
        yield {
            "section": "gate",
            "name": gate["gate"],
            "robust_accuracy": gate["value"],
            **_interval(gate["ci95"]),
            "verdict": gate["verdict"],
            "waiver": figures.waiver(gate) or None,
            "images_needed": gate.get("images_needed"),
        }


def _natural(summary: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for row in summary["natural"]:
        known = {key: row[key] for key in COLUMNS if key in row}
        names = {"section": "natural", "name": row["attack"], "robust": row["correct"]}
        shares = {"robust_accuracy": row["accuracy"], "median_distance": row["median_severity"]}
        yield {**names, **known, **shares, **_interval(row["ci95"])}
    for mean in summary.get("natural_means", ()):
        names = {"section": "natural mean", "name": mean["attack"], "total": mean["total"]}
        yield {**names, "robust_accuracy": mean["accuracy"], **_interval(mean["ci95"])}
        for kind, share in mean["kinds"].items():
            yield {**names, "kind": kind, "robust_accuracy": share}


def _interval(ci95: list[float] | None) -> dict[str, float]:
    return {"ci95_low": ci95[0], "ci95_high": ci95[1]} if ci95 else {}
