"""The summary as one HTML page that opens offline: no script, no address, pictures within it.

Every figure is printed as `<data value=… data-at=…>`: beside its rounded text stand the unrounded
value and the place in summary.json that it was read from (a JSON Pointer, RFC 6901). Whatever the
template prints goes through `printable` and is escaped, so that no name can be forgotten.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from pathlib import PurePath
from typing import TYPE_CHECKING, Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from advcli.audit.drop import GATE
from advcli.images.text import printable
from advcli.reports import figures, html_chart, html_confusion, html_pictures, natural, pairs
from advcli.reports.html_figures import Figure, Reader, pointer
from advcli.reports.html_provenance import provenance
from advcli.threats.budget import same_eps

if TYPE_CHECKING:
    from advcli.audit.gallery import Picture

__all__ = ["render"]

_MANY_CLASSES = 30  # above, the table shows the weakest and folds the rest
_WEAKEST = 15
_TILES = 4
_NAME_COLUMNS = 22
_CLEAN = "none (clean)"
_WORDS = {"pass": "PASS", "fail": "FAIL", "inconclusive": "INCONCLUSIVE", "none": "NO GATE"}


def render(summary: dict[str, Any], gallery: Sequence[Picture] = ()) -> str:
    """The page; `gallery` are the pictures to choose from."""
    environment = Environment(
        loader=PackageLoader("advcli", "reports"),
        autoescape=True,
        finalize=lambda value: value if isinstance(value, Markup) else printable(str(value)),
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
    )
    template = environment.get_template("html_report.html.j2")
    return template.render(_context(summary, gallery)) + "\n"


def _context(summary: dict[str, Any], gallery: Sequence[Picture]) -> dict[str, Any]:
    read = Reader(summary)
    names = summary["model"]["classes"]
    classes = list(_classes(summary, read))
    findings = summary["soundness"]["findings"]
    rows = [summary["clean"], *summary["attacks"], *summary["natural"]]
    return {
        "name": PurePath(summary["model"]["path"]).name,
        "verdict": summary["verdict"],
        "word": _WORDS[summary["verdict"]],
        "sentence": figures.verdict(summary).rpartition(": ")[2],
        "suspect": summary["soundness"]["verdict"] == "suspect",
        "unchecked": summary["soundness"]["verdict"] == "unchecked",
        "facts": _facts(summary, read),
        "notes": list(
            filter(
                None,
                (
                    figures.sample_note(summary),
                    figures.labels_note(summary),
                    figures.resized_note(summary),
                ),
            )
        ),
        "tiles": list(_tiles(summary, read)),
        "gates": list(_gates(summary, read)),
        "baseline": pairs.baseline_lines(summary["baseline"]) if summary.get("baseline") else [],
        "gate_notes": any(_gate_note(gate) for gate in summary["gates"]),
        "findings": [f for f in findings if f["verdict"] != "ok"],
        "passed": [f for f in findings if f["verdict"] == "ok"],
        "charts": html_chart.charts(summary),
        "frame": html_chart.FRAME,
        "percent": read.percent,
        "clean": read.share("/clean/accuracy"),
        "clean_errors": read.count("/clean/errors"),
        "groups": list(_groups(summary, read)),
        "fooled": "fooled" if figures.target(summary) is None else "hits",
        "errors": sum(row["errors"] for row in rows),
        "legend": figures.legend(summary),
        "attack_notes": _attack_notes(summary),
        "budgets": [figures.budget(r["norm"], r["eps"]) for r in summary["worst_case"]],
        "classes": classes,
        "weakest": _weakest(summary, classes) if len(classes) > _MANY_CLASSES else [],
        "confusions": html_confusion.tables(summary, names),
        "grids": list(_grids(summary, read)),
        "searches": list(_searches(summary, read)),
        "searches_note": getattr(natural.searches(summary), "note", ""),
        "shots": html_pictures.shots(summary, gallery),
        "provenance": list(provenance(summary)),
        "skipped": summary["images"]["skipped"],
        "attack_names": [_CLEAN, *(row["attack"] for row in summary["attacks"])],
        "clean_name": _CLEAN,
        "name_width": _name_width,
        "sentence_case": lambda text: text[:1].upper() + text[1:],
    }


def _name_width(names: Iterable[str]) -> str:
    """A column as wide as its names, where they are no wider than can be afforded, as CSS."""
    return f"{min(max(map(len, map(printable, names)), default=0), _NAME_COLUMNS) + 1}ch"


def _facts(summary: dict[str, Any], read: Reader) -> dict[str, Any]:
    return {
        "evaluated": read.count("/images/evaluated"),
        "of": figures.sampled(summary["images"]).partition(" ")[2],
        "classes": f"{len(summary['model']['classes']):,}",
        "preprocessing": summary["model"]["preprocessing"]["flag"],
        "pixels": summary["pixels"],
        "targeted": figures.target(summary),
        "date": str(summary["provenance"].get("finished") or "")[:10],
        "advcli": summary["advcli_version"],
    }


def _or_one(share: float | None) -> float:
    return 1.0 if share is None else share


def _tiles(summary: dict[str, Any], read: Reader) -> Iterator[dict[str, Any]]:
    """The figures that the page begins with."""

    def tile(title: str, at: str, figure: str = "robust_accuracy") -> dict[str, Any]:
        return {
            "title": title,
            "share": read.share(f"{at}/{figure}"),
        }

    yield tile("clean accuracy", "/clean", "accuracy")
    worst = summary["worst_case"]
    lowest = sorted(enumerate(worst), key=lambda found: _or_one(found[1]["robust_accuracy"]))
    for i, row in sorted(lowest[:_TILES], key=lambda found: found[0]):
        yield tile(f"worst case, {figures.budget(row['norm'], row['eps'])}", f"/worst_case/{i}")
    for i, mean in enumerate(summary["natural_means"]):
        name = mean["attack"].partition(":")[0]
        yield tile(f"{name}, mean", f"/natural_means/{i}", "accuracy")
    rows = [(row["robust_accuracy"], i, row) for i, row in enumerate(summary["attacks"])]
    for _, i, row in rows:
        if row["norm"] is None:
            yield tile(f"robust under {row['attack']}", f"/attacks/{i}")
    known = [row for row in rows if row[0] is not None and row[2]["norm"] is not None]
    if known and not worst:
        _, i, row = min(known, key=lambda found: found[:2])
        name = f"{row['attack']}, {figures.budget(row['norm'], row['eps'])}"
        yield tile(f"robust under {name}", f"/attacks/{i}")


def _gates(summary: dict[str, Any], read: Reader) -> Iterator[dict[str, Any]]:
    for i, gate in enumerate(summary["gates"]):
        share, interval = figures.percent, figures.interval
        if gate["gate"] == GATE:  # a difference of two shares
            share, interval = figures.points, figures.points_interval
        yield {
            "gate": figures.gate_name(gate),
            "threshold": read(f"/gates/{i}/threshold", share),
            "value": read(f"/gates/{i}/value", share),
            "ci": read(f"/gates/{i}/ci95", interval),
            "verdict": gate["verdict"],
            "note": _gate_note(gate),
        }


def _gate_note(gate: dict[str, Any]) -> str:
    """What else is known of a gate, printable: what would settle it, and its waiver."""
    spelt_out = figures.unsettled(gate) or gate["gate"] == GATE
    parts = [figures.gate_text(gate) if spelt_out else "", figures.waiver(gate)]
    return printable("; ".join(filter(None, parts)))


def _groups(summary: dict[str, Any], read: Reader) -> Iterator[dict[str, Any]]:
    """The attacks of each budget with their worst case; then the threats without a norm."""
    rows = summary["attacks"]
    left = list(range(len(rows)))
    for w, worst in enumerate(summary["worst_case"]):
        own = [i for i in left if _same_budget(rows[i], worst)]
        left = [i for i in left if i not in own]
        yield _group(summary, read, own, figures.budget(worst["norm"], worst["eps"]), w)
    while left:  # a targeted run has no worst case
        first = rows[left[0]]
        own = [i for i in left if _same_budget(rows[i], first)]
        left = [i for i in left if i not in own]
        title = figures.budget(first["norm"], first["eps"])
        yield _group(summary, read, own, "threats without a norm" if title == "no norm" else title)


def _same_budget(a: dict[str, Any], b: dict[str, Any]) -> bool:
    if a["norm"] != b["norm"] or None in (a["eps"], b["eps"]):
        return bool(a["norm"] == b["norm"] and a["eps"] == b["eps"])
    return same_eps(a["eps"], b["eps"])


def _group(
    summary: dict[str, Any], read: Reader, own: Iterable[int], title: str, worst: int | None = None
) -> dict[str, Any]:
    found: dict[str, Any] = {"title": title, "rows": [], "worst": None}
    for i in own:
        row, at = summary["attacks"][i], f"/attacks/{i}"
        found["rows"].append(
            {
                "attack": row["attack"],
                "robust": read.share(f"{at}/robust_accuracy"),
                "success": read.percent(f"{at}/success_rate"),
                "fooled": _fooled(summary, read, i),
                "attempted": read.count(f"{at}/attempted"),
                "errors": read.count(f"{at}/errors"),
                "median": read(
                    f"{at}/median_distance",
                    partial(figures.distance, norm=row["norm"]),
                ),
                "calls": figures.calls(row),
            }
        )
    if worst is not None:
        at = f"/worst_case/{worst}"
        by = summary["worst_case"][worst]["broken_by"]
        found["worst"] = {
            "robust": read.share(f"{at}/robust_accuracy"),
            "by": [
                (spec, read.count(f"{at}/broken_by/{pointer(spec)}"))
                for spec, count in by.items()
                if count
            ],
        }
    return found


def _fooled(summary: dict[str, Any], read: Reader, i: int) -> Figure:
    """Images that met the goal; how many hit a target stands in no row, only their share."""
    if figures.target(summary) is None:
        return read.count(f"/attacks/{i}/broken")
    hits = figures.fooled(summary, summary["attacks"][i]).partition("/")[0]
    return Figure(hits, "", hits)


def _attack_notes(summary: dict[str, Any]) -> list[str]:
    """The legend; calls have a column of their own, but for those of natural threats."""
    own = "" if summary["natural"] else figures.calls_note(summary)
    return [line for line in figures.legend(summary) if line != own]


def _classes(summary: dict[str, Any], read: Reader) -> Iterator[dict[str, Any]]:
    for i, row in enumerate(summary["per_class"]):
        yield {
            "name": row["class"],
            "total": read.count(f"/per_class/{i}/total"),
            "clean": read.share(f"/per_class/{i}/clean_accuracy"),
            "worst": [
                read.share(f"/per_class/{i}/worst_case/{j}/robust_accuracy")
                for j in range(len(row["worst_case"]))
            ],
        }


def _weakest(summary: dict[str, Any], classes: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The classes that stand least, by their worst cases, then by clean accuracy."""

    def strength(i: int) -> tuple[float, ...]:
        row = summary["per_class"][i]
        shares = [worst["robust_accuracy"] for worst in row["worst_case"]]
        known = [1.0 if share is None else share for share in (*shares, row["clean_accuracy"])]
        return sum(known[:-1]), known[-1]

    order = sorted(range(len(classes)), key=strength)
    return [classes[i] for i in order[:_WEAKEST]]


def _grids(summary: dict[str, Any], read: Reader) -> Iterator[dict[str, Any]]:
    """Kind × severity of each natural threat that has severities."""
    places = {
        (row["attack"], row["kind"], str(row["severity"])): i
        for i, row in enumerate(summary["natural"])
    }
    for m, grid in enumerate(natural.grids(summary)):
        mean = f"/natural_means/{m}"
        rows = [
            {
                "kind": kind,
                "cells": [
                    read.percent(f"/natural/{places[grid.attack, kind, severity]}/accuracy")
                    if (grid.attack, kind, severity) in places
                    else None
                    for severity in grid.severities
                ],
                "mean": read.share(f"{mean}/kinds/{pointer(kind)}"),
            }
            for kind, _, _ in grid.rows[:-1]
        ]
        yield {
            "attack": grid.attack,
            "severities": grid.severities,
            "rows": rows,
            "whole": [read.percent(f"{mean}/severities/{s}") for s in grid.severities],
            "mean": read.share(f"{mean}/accuracy"),
            "note": grid.note,
        }


def _searches(summary: dict[str, Any], read: Reader) -> Iterator[dict[str, Any]]:
    for i, row in enumerate(summary["natural"]):
        if row["severity"] is None:
            at = f"/natural/{i}"
            yield {
                "attack": row["attack"],
                "kind": row["kind"],
                "right": read.share(f"{at}/accuracy"),
                "median": read(
                    f"{at}/median_severity",
                    lambda value: "–" if value is None else f"{value:.3g}",
                ),
            }
