"""The summary for people: fits 80 columns on a screen, crops nothing anywhere."""

from __future__ import annotations

import io
import re
from typing import Any

from rich import box
from rich.console import Console, ConsoleOptions, RenderResult
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from advcli.images.text import printable
from advcli.reports import figures, natural, pairs

__all__ = ["STYLES", "console_text", "render"]

PIPE_WIDTH = 10_000
_CURVE_COLUMNS = 5
STYLES = {"pass": "bold green", "fail": "bold red", "inconclusive": "bold yellow", "none": "bold"}


def console_text(*parts: Any, width: int | None, color: bool) -> str:
    """Rich's rendering as text: `width` columns, None for as wide as it takes."""
    console = Console(
        file=io.StringIO(),
        width=width or PIPE_WIDTH,
        force_terminal=color,
        no_color=not color,
        color_system="standard" if color else None,
        highlight=False,
        emoji=False,
        markup=False,
        legacy_windows=False,
    )
    with console.capture() as capture:
        for part in parts:
            console.print(part, soft_wrap=isinstance(part, str))
    return "\n".join(line.rstrip() for line in capture.get().split("\n"))


def render(summary: dict[str, Any], *, width: int | None = None, color: bool = False) -> str:
    """Table, worst case, verdict and findings.

    `width`: columns of the screen, None in a pipe.
    """
    parts: list[Any] = [_heading(summary), Text(), _table(summary)]
    for table in figures.curve_tables(summary, _CURVE_COLUMNS):
        parts += [Text(), _curve(table)]
    parts += _natural(summary)
    parts += [Text(), *(Text(line, style="dim") for line in figures.legend(summary))]
    if summary.get("baseline"):
        parts += [Text(), *map(Text, pairs.baseline_lines(summary["baseline"]))]
    if summary["gates"]:
        parts += [Text(), *map(_gate, summary["gates"])]
    parts += [Text(), _verdict(summary), *_remarks(summary)]
    return console_text(*parts, width=width, color=color)


class _Spec:
    """An attack's name, broken after `:` and `,` alone: half a number would be another number."""

    def __init__(self, text: str) -> None:
        self._parts = re.findall(r"[^:,]*[:,]?", text)[:-1]

    def __rich_measure__(self, console: Console, options: ConsoleOptions) -> Measurement:
        lengths = [len(part) for part in self._parts]
        return Measurement(max(lengths), sum(lengths))

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        lines = [""]
        for part in self._parts:
            if lines[-1] and len(lines[-1]) + len(part) > options.max_width:
                lines.append("")
            lines[-1] += part
        yield Text("\n".join(lines), overflow="fold")


def _heading(summary: dict[str, Any]) -> Text:
    model, images = summary["model"], summary["images"]
    skipped = f", {len(images['skipped'])} skipped" if images["skipped"] else ""
    return Text.assemble(
        (printable(model["path"], 60), "bold"),
        f" on {figures.sampled(images)}{skipped} of {printable(images['root'], 60)}"
        f"{_aim(summary)}"
        f" (preprocessing: {model['preprocessing']['flag']}; pixels: {summary['pixels']})",
    )


def _aim(summary: dict[str, Any]) -> str:
    aim = figures.target(summary)
    return "" if aim is None else f", targeted at {printable(aim, 40)}"


def _table(summary: dict[str, Any]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, collapse_padding=True)
    table.add_column("attack", overflow="fold", min_width=10)
    table.add_column("budget", no_wrap=True)
    fooled = "fooled" if figures.target(summary) is None else "hits"
    for heading in ("robust", "95 %", "success", fooled, "median"):
        table.add_column(heading, justify="right", no_wrap=True)
    any_errors = any(row["errors"] for row in summary["attacks"]) or summary["clean"]["errors"]
    if any_errors:
        table.add_column("errors", justify="right", no_wrap=True)
    clean = summary["clean"]
    cells = ["clean", "", figures.percent(clean["accuracy"]), figures.interval(clean["ci95"])]
    cells += ["", "", ""]
    table.add_row(*cells, *([str(clean["errors"])] if any_errors else []), end_section=True)
    with_norm, without_norm = figures.by_norm(summary)

    def add(row: dict[str, Any], *, last: bool) -> None:
        cells: list[Any] = [
            _Spec(row["attack"]),
            figures.budget(row["norm"], row["eps"]),
            figures.percent(row["robust_accuracy"]),
            figures.interval(row["ci95"]),
            figures.percent(row["success_rate"]),
            figures.fooled(summary, row),
            figures.distance(row["median_distance"], row["norm"]),
        ]
        if any_errors:
            cells.append(str(row["errors"]))
        table.add_row(*cells, end_section=last)

    for position, row in enumerate(with_norm, start=1):
        add(row, last=position == len(with_norm))
    for position, row in enumerate(summary["worst_case"], start=1):
        table.add_row(
            "worst case",
            figures.budget(row["norm"], row["eps"]),
            figures.percent(row["robust_accuracy"]),
            figures.interval(row["ci95"]),
            style="bold",
            end_section=position == len(summary["worst_case"]),
        )
    for row in without_norm:
        add(row, last=False)
    return table


def _curve(curves: figures.CurveTable) -> Table:
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, collapse_padding=True)
    table.add_column(f"robust at {curves.norm}", overflow="fold", min_width=10)
    for eps in curves.eps:
        table.add_column(eps, justify="right", no_wrap=True)
    drawn = any(line for _, _, line in curves.rows)
    if drawn:
        table.add_column(f"0 … {curves.eps[-1]}", no_wrap=True)
    for attack, cells, line in curves.rows:
        bold = "bold" if attack == "worst case" else ""
        table.add_row(_Spec(attack), *cells, *([line] if drawn else []), style=bold)
    return table


def _natural(summary: dict[str, Any]) -> list[Any]:
    """Kind × severity of each natural threat, then the searches, each with its note."""
    parts: list[Any] = []
    for grid in natural.grids(summary):
        table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, collapse_padding=True)
        table.add_column(grid.attack, overflow="fold", min_width=10)
        for severity in grid.severities:
            table.add_column(severity, justify="right", no_wrap=True)
        table.add_column("mean", justify="right", no_wrap=True)
        for position, (kind, cells, mean) in enumerate(grid.rows, start=1):
            last = position == len(grid.rows)
            ends = position == len(grid.rows) - 1
            table.add_row(kind, *cells, mean, style="bold" if last else "", end_section=ends)
        parts += [Text(), table, Text(), Text(grid.note)]
    found = natural.searches(summary)
    if found is not None:
        table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, collapse_padding=True)
        table.add_column("search", overflow="fold", min_width=10)
        table.add_column("kind", overflow="fold")
        for heading in ("right", "95 %", "median"):
            table.add_column(heading, justify="right", no_wrap=True)
        for row in found.rows:
            table.add_row(*row)
        parts += [Text(), table, Text(), Text(found.note, style="dim")]
    return parts


def _gate(gate: dict[str, Any]) -> Text:
    return Text.assemble(
        (f"gate {gate['verdict']}", STYLES[gate["verdict"]]),
        f"  {printable(figures.gate_name(gate))}: {figures.gate_text(gate)}",
        f"; {printable(figures.waiver(gate))}" if gate.get("waiver") else "",
    )


def _verdict(summary: dict[str, Any]) -> Text:
    sound = summary["soundness"]["verdict"]
    return Text.assemble(
        (figures.verdict(summary), STYLES[summary["verdict"]]),
        "; the figures are ",
        (sound, "bold yellow" if sound == "suspect" else "green"),
    )


def _remarks(summary: dict[str, Any]) -> list[Text]:
    remarks = [
        Text.assemble(
            (finding["verdict"], "bold yellow" if finding["verdict"] == "suspect" else "bold"),
            f"  {finding['check']}: {printable(finding['detail'])}",
        )
        for finding in summary["soundness"]["findings"]
        if finding["verdict"] != "ok"
    ]
    notes = [
        figures.sample_note(summary),
        figures.labels_note(summary),
        figures.resized_note(summary),
    ]
    skipped = summary["images"]["skipped"]
    if skipped:
        first = skipped[0]
        notes.append(
            f"{len(skipped)} file(s) skipped, e.g. {printable(first['file'], 40)}: "
            + printable(first["reason"], 100)
        )
    remarks += [Text.assemble(("note", "bold"), f"  {note}") for note in notes if note]
    return remarks
