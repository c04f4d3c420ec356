"""The summary as GitHub-flavoured Markdown; names of files and classes cannot break out of it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any

from advcli.audit.drop import GATE
from advcli.images.text import printable
from advcli.reports import figures, natural, pairs

__all__ = ["escaped", "pipe_table", "render", "shortened"]

_CURVE_COLUMNS = 10
_FEW = 100
_SPECIAL = re.compile(r"([\\`*_{}\[\]()<>+!|~&:$-])")
# GitHub looks for mentions, references, mail and web addresses in the finished text, where a
# backslash is gone; a space without width breaks them.
_REFERENCES = re.compile(r"(@|#|:(?=//)|(?i:www|xmpp|mailto)(?=\\?[.:])|(?i:gh)(?=\\-))")
_BREAK = "&#8203;"


def escaped(text: object) -> str:
    """Text from outside as plain characters: no markup, no mention, no link, one line."""
    return _REFERENCES.sub(rf"\1{_BREAK}", _SPECIAL.sub(r"\\\1", printable(str(text))))


def render(summary: dict[str, Any]) -> str:
    return "\n".join(_lines(summary)) + "\n"


def _lines(summary: dict[str, Any]) -> Iterator[str]:
    clean, images = summary["clean"], summary["images"]
    yield from _headline(summary)
    notes = [
        figures.sample_note(summary),
        figures.labels_note(summary),
        figures.resized_note(summary),
    ]
    if images["skipped"]:
        notes.append(f"{len(images['skipped'])} file(s) were skipped")
    for note in filter(None, notes):
        yield ""
        yield f"> {escaped(note)}"
    yield ""
    with_norm, without_norm = figures.by_norm(summary)

    def cells(row: dict[str, Any]) -> list[str]:
        return [
            escaped(row["attack"]),
            figures.budget(row["norm"], row["eps"]),
            figures.percent(row["robust_accuracy"]),
            figures.interval(row["ci95"]),
            figures.percent(row["success_rate"]),
            figures.fooled(summary, row),
            str(row["errors"]),
            figures.distance(row["median_distance"], row["norm"]),
            figures.calls(row),
        ]

    rows = [cells(row) for row in with_norm]
    first = ["clean", "–", figures.percent(clean["accuracy"]), figures.interval(clean["ci95"])]
    rows.insert(0, [*first, "–", "–", str(clean["errors"]), "–", "–"])
    for row in summary["worst_case"]:
        figure = [figures.percent(row["robust_accuracy"]), figures.interval(row["ci95"])]
        bold = [f"**{cell}**" for cell in figure]
        at = figures.budget(row["norm"], row["eps"])
        rows.append(["**worst case**", at, *bold, "–", "–", "–", "–", "–"])
    rows += [cells(row) for row in without_norm]
    fooled = "fooled" if figures.target(summary) is None else "hits"
    head = ["attack", "budget", "robust", "95 %", "success", fooled, "errors", "median distance"]
    yield from pipe_table([*head, "calls per image"], rows)
    for line in figures.legend(summary):
        yield ""
        yield escaped(line[0].upper() + line[1:]) + "."
    for table in figures.curve_tables(summary, _CURVE_COLUMNS):
        yield ""
        yield f"Robust accuracy over eps in {table.norm}:"
        yield ""
        yield from pipe_table(
            ["attack", *table.eps], [[escaped(attack), *cells] for attack, cells, _ in table.rows]
        )
    yield from _natural(summary)
    if summary.get("baseline"):
        yield ""
        yield "## Against the baseline"
        for line in pairs.baseline_lines(summary["baseline"]):
            yield ""
            yield escaped(line[0].upper() + line[1:]) + "."
    yield from _gates(summary)
    yield from _findings(summary)


def _headline(summary: dict[str, Any]) -> Iterator[str]:
    yield "# Robustness"
    yield ""
    yield f"**{figures.verdict(summary)}** · figures are {summary['soundness']['verdict']}"
    yield ""
    yield (
        f"Model {escaped(summary['model']['path'])} "
        f"(sha256 {summary['model']['sha256'][:12]}), preprocessing "
        f"{escaped(summary['model']['preprocessing']['flag'])}; "
        f"{figures.sampled(summary['images'])}"
    )


def _gates(summary: dict[str, Any]) -> Iterator[str]:
    if summary["gates"]:
        yield ""
        yield from pipe_table(
            ["gate", "at least", "measured", "verdict"],
            [
                [
                    escaped(figures.gate_name(gate)),
                    *map(escaped, _compared(gate)),
                    "; ".join(filter(None, [gate["verdict"], escaped(figures.waiver(gate))])),
                ]
                for gate in summary["gates"]
            ],
        )
    for gate in summary["gates"]:
        if figures.unsettled(gate):
            yield ""
            yield escaped(f"{gate['gate']}: inconclusive: {figures.gate_text(gate)}") + "."


def _compared(gate: dict[str, Any]) -> tuple[str, str]:
    """What was asked, what was measured."""
    if gate["gate"] == GATE:
        return figures.points(gate["threshold"]) + " points", figures.points(gate["value"])
    return figures.percent(gate["threshold"]), figures.percent(gate["value"])


def _findings(summary: dict[str, Any]) -> Iterator[str]:
    findings = [f for f in summary["soundness"]["findings"] if f["verdict"] != "ok"]
    if findings:
        yield ""
        yield "## Findings"
        yield ""
        for finding in findings:
            yield f"- **{finding['verdict']}** {escaped(finding['check'])}: " + escaped(
                finding["detail"]
            )


def shortened(summary: dict[str, Any]) -> str:
    """Headline, worst cases, gates and findings, for where the whole is too long."""
    rows = [
        [
            figures.budget(row["norm"], row["eps"]),
            figures.percent(row["robust_accuracy"]),
            figures.interval(row["ci95"]),
        ]
        for row in summary["worst_case"]
    ]
    clean = summary["clean"]
    first = ["clean", figures.percent(clean["accuracy"]), figures.interval(clean["ci95"])]
    order = {"fail": 0, "suspect": 0, "inconclusive": 1}

    def worst(found: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return sorted(found, key=lambda row: order.get(row["verdict"], 2))[:_FEW]

    few = summary | {
        "gates": worst(summary["gates"]),
        "soundness": summary["soundness"] | {"findings": worst(summary["soundness"]["findings"])},
    }
    lines = [
        *_headline(summary),
        "",
        "> The report is too long for this place and was shortened; the whole one: "
        "`advcli report RUN -r report.md` of a run kept with --out",
        "",
        *pipe_table(["worst case", "robust", "95 %"], [first, *rows[:_FEW]]),
        *_gates(few),
        *_findings(few),
    ]
    return "\n".join(lines) + "\n"


def _natural(summary: dict[str, Any]) -> Iterator[str]:
    for grid in natural.grids(summary):
        yield ""
        yield f"## {escaped(grid.attack)}"
        yield ""
        rows = [[escaped(kind), *cells, mean] for kind, cells, mean in grid.rows]
        rows[-1] = [f"**{cell}**" for cell in rows[-1]]
        yield from pipe_table(["kind", *grid.severities, "mean"], rows)
        yield ""
        yield escaped(grid.note[0].upper() + grid.note[1:]) + "."
    found = natural.searches(summary)
    if found is not None:
        yield ""
        rows = [[escaped(row[0]), escaped(row[1]), *row[2:]] for row in found.rows]
        yield from pipe_table(["search", "kind", "right", "95 %", "median severity"], rows)
        yield ""
        yield escaped(found.note[0].upper() + found.note[1:]) + "."


def pipe_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    yield "| " + " | ".join(head) + " |"
    yield "|" + " --- |" * len(head)
    for row in rows:
        yield "| " + " | ".join(row) + " |"
