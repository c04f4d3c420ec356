"""Annotations for GitHub Actions: what is wrong as errors and warnings, else one notice.

GitHub, "Workflow commands for GitHub Actions": `::error title=…::message`, a line each. It shows
ten of a kind for a step, so no more than ten are printed, the worst first. Whatever comes from
outside is escaped, so that no name can be a command.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal, NamedTuple

from advcli.audit.waivers import accepted
from advcli.images.text import printable
from advcli.reports import figures, pairs

__all__ = ["annotation", "render", "render_comparison"]

_MOST = 10
_LEVELS: dict[str, Literal["error", "warning"]] = {"fail": "error", "inconclusive": "warning"}


class _Note(NamedTuple):
    level: Literal["error", "warning", "notice"]
    title: str
    message: str


def annotation(level: str, title: str, message: str) -> str:
    """One workflow command."""
    escaped = _data(printable(title)).replace(":", "%3A").replace(",", "%2C")
    return f"::{level} title={escaped}::{_data(printable(message))}"


def _data(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def render(summary: dict[str, Any]) -> str:
    """The annotations of a run."""
    notes = [*_gates(summary), *_suspicions(summary)]
    errors = figures.error_count(summary)
    if errors:
        notes.append(_Note("warning", "advcli: no verdict", f"{errors} error(s) on images"))
    if all(note.level == "notice" for note in notes):
        notes.append(_Note("notice", "advcli", f"{figures.verdict(summary)}; {_headline(summary)}"))
    return _printed(notes, "advcli report RUN shows all")


def render_comparison(found: dict[str, Any]) -> str:
    """The annotations of two runs compared."""
    notes = list(_gates(found))
    if not notes:
        said = [
            f"{row['threat']}: {pairs.changes(row)}"
            for row in pairs.shown_rows(found["threats"])[0]
            if row["gated"]
        ]
        notes = [_Note("notice", "advcli compare", text) for text in said]
    notes += [
        _Note("warning", "advcli compare", f"the figures of {name} are suspect")
        for key, name in (("base", "BASE"), ("new", "NEW"))
        if found[key]["soundness"] == "suspect"
    ]
    return _printed(notes, "advcli compare BASE NEW shows all")


def _gates(found: dict[str, Any]) -> Iterator[_Note]:
    for gate in found["gates"]:
        text = figures.gate_and_waiver(gate)
        title = f"advcli: gate {figures.gate_name(gate)}: {gate['verdict']}"
        if accepted(gate):
            yield _Note("notice", f"{title}, waived", text)
        elif gate["verdict"] in _LEVELS:
            yield _Note(_LEVELS[gate["verdict"]], title, text)


def _suspicions(summary: dict[str, Any]) -> Iterator[_Note]:
    for finding in summary["soundness"]["findings"]:
        if finding["verdict"] == "suspect":
            yield _Note("warning", f"advcli: suspect: {finding['check']}", finding["detail"])


def _headline(summary: dict[str, Any]) -> str:
    rows = sorted(summary["worst_case"], key=lambda row: row["robust_accuracy"] or 0.0)
    clean = f"clean {figures.percent(summary['clean']['accuracy'])}"
    if not rows:
        return clean
    worst = rows[0]
    return (
        f"worst case {figures.budget(worst['norm'], worst['eps'])}: "
        f"{figures.percent(worst['robust_accuracy'])} (95 %: {figures.interval(worst['ci95'])}), "
        f"{clean}"
    )


def _printed(notes: list[_Note], how: str) -> str:
    order = ("error", "warning", "notice")
    notes = sorted(notes, key=lambda note: order.index(note.level))
    if len(notes) > _MOST:
        left = len(notes) - _MOST + 1
        more = _Note(notes[_MOST - 1].level, "advcli", f"and {left} more: {how}")
        notes = [*notes[: _MOST - 1], more]
    return "".join(annotation(*note) + "\n" for note in notes)
