"""Two runs compared: for people, as Markdown, as CSV and as one JSON document."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterator
from typing import Any

from rich import box
from rich.table import Table
from rich.text import Text

from advcli.audit.journal import dumps
from advcli.images.text import printable
from advcli.reports import figures, github_report, pairs
from advcli.reports.csv_report import guarded
from advcli.reports.markdown import escaped, pipe_table
from advcli.reports.terminal import STYLES, console_text

__all__ = ["FORMATS", "markdown", "render"]

_NAMES = ("BASE", "NEW")
_NAMED = 10
_LISTED = 1000
_LEGEND = (
    "points: NEW - BASE on the paired images, with Bonett and Price's 95 % interval; "
    "p: McNemar's exact test of the images that changed"
)
_COLUMNS = (
    *("threat", "scope", "attack", "norm", "eps", "kind", "severity", "paired", "errors"),
    *("both_robust", "newly_broken", "fixed", "both_broken", "base_accuracy", "new_accuracy"),
    *("difference", "ci95_low", "ci95_high", "p"),
)


def verdict(found: dict[str, Any]) -> str:
    return {
        "pass": "PASS: no worse than asked",
        "fail": "FAIL: the model got worse",
        "inconclusive": "INCONCLUSIVE: no verdict can rest on these figures",
        "none": "no gate was set",
    }[found["verdict"]]


def _sides(found: dict[str, Any]) -> Iterator[tuple[str, str]]:
    for key, name in zip(("base", "new"), _NAMES, strict=True):
        side = found[key]
        yield (
            name,
            f"{printable(side['run'], 60)}: {printable(side['model']['path'], 60)} "
            f"(sha256 {side['model']['sha256'][:12]}), {side['images']} images",
        )


def _remarks(found: dict[str, Any]) -> list[str]:
    remarks = [f"left out: {printable(text)}" for text in found["left_out"]]
    remarks += [f"note: {printable(text)}" for text in found["notes"]]
    return [*remarks, *_failures(found)]


def _failures(found: dict[str, Any]) -> Iterator[str]:
    most = max((row["errors"] for row in found["threats"]), default=0)
    if most:
        yield f"note: up to {most} image(s) ended in an error in one of the runs, and are left out"


def _cells(row: dict[str, Any]) -> list[str]:
    return [
        figures.percent(row["base_accuracy"]),
        figures.percent(row["new_accuracy"]),
        figures.points(row["difference"]),
        figures.points_interval(row["ci95"]),
        str(row["newly_broken"]),
        str(row["fixed"]),
        pairs.p_value(row["p"]),
    ]


_HEAD = (*_NAMES, "points", "95 %", "broken", "fixed", "p")


def render(found: dict[str, Any], *, width: int | None = None, color: bool = False) -> str:
    """A table of the threats, and the first images that broke under each that matters."""
    shown = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, collapse_padding=True)
    shown.add_column("threat", overflow="fold", min_width=10)
    for heading in _HEAD:
        shown.add_column(heading, justify="right", no_wrap=True)
    rows, hidden = pairs.shown_rows(found["threats"])
    for row in rows:
        cells = [printable(row["threat"]), *_cells(row)]
        shown.add_row(*cells, style="bold" if row["scope"] == "worst case" else "")
    parts: list[Any] = [Text.assemble((name, "bold"), f"  {text}") for name, text in _sides(found)]
    parts += [Text(pairs.pairing(found["images"], _NAMES)), Text(), shown, Text()]
    parts.append(Text(_LEGEND, style="dim"))
    if hidden:
        parts.append(Text(f"{hidden} more natural threats lost less (--format json)", style="dim"))
    parts += [Text(line, style="dim") for line in _remarks(found)]
    for row in found["threats"]:
        if row["gated"] and row["scope"] != "natural":
            parts += [Text(), Text(f"{printable(row['threat'])}: {pairs.changes(row)}")]
            parts += [Text(f"  {name}") for name in _broken(row, _NAMED, 70)]
    parts.append(Text())
    for gate in found["gates"]:
        label = (f"gate {gate['verdict']}", STYLES[gate["verdict"]])
        parts.append(Text.assemble(label, f"  {figures.gate_text(gate)}"))
    parts.append(Text(verdict(found), style=STYLES[found["verdict"]]))
    return console_text(*parts, width=width, color=color)


def _broken(row: dict[str, Any], most: int, width: int | None) -> list[str]:
    names = [printable(entry["image"], width) for entry in row["newly_broken_images"]]
    more = [f"and {len(names) - most} more (--format json)"] if len(names) > most else []
    return names[:most] + more


def markdown(found: dict[str, Any], *, short: bool = False) -> str:
    """The same for a page; `short`: fewer rows and no list of images."""
    return "\n".join(_markdown(found, short=short)) + "\n"


def _markdown(found: dict[str, Any], *, short: bool) -> Iterator[str]:
    yield "# Robustness compared"
    yield ""
    yield f"**{verdict(found)}**"
    for name, text in _sides(found):
        yield ""
        yield f"{name}: {escaped(text)}"
    yield ""
    yield escaped(pairs.pairing(found["images"], _NAMES)) + "."
    yield ""
    rows, hidden = pairs.shown_rows(found["threats"])
    if short:
        rows = rows[:_NAMED]
        hidden = len(found["threats"]) - len(rows)
    yield from pipe_table(
        ["threat", *_HEAD], [[escaped(row["threat"]), *map(escaped, _cells(row))] for row in rows]
    )
    yield ""
    yield escaped(_LEGEND[0].upper() + _LEGEND[1:]) + "."
    if hidden:
        yield ""
        yield f"{hidden} more rows: `advcli compare BASE NEW --format json`"
    for line in _remarks(found)[: _NAMED if short else None]:
        yield ""
        yield f"> {escaped(line)}"
    for gate in found["gates"]:
        yield ""
        yield f"Gate **{gate['verdict']}**: {escaped(figures.gate_text(gate))}."
    for row in () if short else found["threats"]:
        if row["gated"] and row["scope"] != "natural" and row["newly_broken"]:
            yield ""
            yield f"## {escaped(row['threat'])}: {escaped(pairs.changes(row))}"
            yield ""
            yield from (f"- {escaped(name)}" for name in _broken(row, _LISTED, None))


def _csv(found: dict[str, Any]) -> str:
    """A row for each threat; fractions are not rounded."""
    text = io.StringIO()
    writer = csv.DictWriter(text, _COLUMNS, restval="", lineterminator="\n")
    writer.writeheader()
    for row in found["threats"]:
        low, high = row["ci95"] or (None, None)
        cells = {key: row[key] for key in _COLUMNS if key in row}
        cells |= {"ci95_low": low, "ci95_high": high}
        writer.writerow({key: guarded(value) for key, value in cells.items() if value is not None})
    return text.getvalue()


def _json(found: dict[str, Any]) -> str:
    return dumps(found, indent=2) + "\n"


FORMATS: dict[str, Callable[[dict[str, Any]], str]] = {
    "json": _json,
    "csv": _csv,
    "markdown": markdown,
    "github": github_report.render_comparison,
}
