"""The security curve as geometry: robust accuracy over eps, a chart for each norm.

Coordinates are those of an SVG picture; the template draws them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from advcli.audit.curve import WORST_CASE
from advcli.audit.statistics import wilson
from advcli.reports import figures
from advcli.threats.budget import format_eps, same_eps

__all__ = ["FRAME", "Chart", "Point", "Series", "charts"]


class Frame(NamedTuple):
    """The picture's size, and the box of the axes within it."""

    width: float = 480
    height: float = 280
    left: float = 48
    right: float = 466
    top: float = 12
    bottom: float = 238


FRAME = Frame()
_TICK = 56  # the least distance between two figures below the axis
_DASHES = ("6 3", "2 3", "9 3 2 3", "1 5", "12 4", "4 2 1 2")  # told apart without colour


@dataclass(frozen=True)
class Point:
    """A robust accuracy at an eps, and where it is drawn; `at` its place in the summary."""

    eps: float
    share: float
    low: float
    high: float
    x: float
    y: float
    at: str


@dataclass(frozen=True)
class Series:
    """One line. `dash` is empty for the main one, whose interval is drawn as a band."""

    name: str
    points: list[Point]
    dash: str

    @property
    def line(self) -> str:
        return " ".join(f"{p.x:.1f},{p.y:.1f}" for p in self.points)

    @property
    def band(self) -> str:
        upper = [f"{p.x:.1f},{_y(p.high):.1f}" for p in self.points]
        lower = [f"{p.x:.1f},{_y(p.low):.1f}" for p in reversed(self.points)]
        return " ".join((*upper, *lower))


@dataclass(frozen=True)
class Chart:
    """`ticks`: (x, eps in words); `levels`: (y, percent); `table`: (eps, a cell per series).
    `same`: attacks whose line is the worst case's."""

    norm: str
    series: list[Series]
    ticks: list[tuple[float, str]]
    levels: list[tuple[float, str]]
    table: list[tuple[str, list[Point | None]]]
    alt: str
    same: list[str]


_Raw = list[tuple[float, float, tuple[float, float], str]]  # eps, share, interval, pointer


def charts(summary: dict[str, Any]) -> list[Chart]:
    """A chart for each norm in which something is known at two budgets, 0 included."""
    found = []
    for norm in dict.fromkeys(row["norm"] for row in summary["attacks"] if row["norm"]):
        raw = _curves(summary, norm) or _rows(summary, norm)
        raw = {name: points for name, points in raw.items() if len(points) > 1}
        if raw:
            found.append(_chart(norm, raw))
    return found


def _curves(summary: dict[str, Any], norm: str) -> dict[str, _Raw]:
    """What a run with --curve knows."""
    found: dict[str, _Raw] = {}
    for c, curve in enumerate(summary["curve"]):
        if curve["norm"] != norm:
            continue
        total = curve["total"]
        found[curve["attack"]] = [
            (
                point["eps"],
                point["robust_accuracy"],
                wilson(round(point["robust_accuracy"] * total), total) or (0.0, 1.0),
                f"/curve/{c}/points/{p}/robust_accuracy",
            )
            for p, point in enumerate(curve["points"])
            if point["robust_accuracy"] is not None
        ]
    if len(found) == 1 and summary["worst_case"]:  # of one attack it is the worst case
        return {WORST_CASE: next(iter(found.values()))}
    return found


def _rows(summary: dict[str, Any], norm: str) -> dict[str, _Raw]:
    """What the rows of the attacks and of the worst case say, beginning at eps 0.

    At 0 stands the clean accuracy, where it is a share of the same images.
    """
    clean = summary["clean"]
    own = [(i, row) for i, row in enumerate(summary["attacks"]) if row["norm"] == norm]
    found: dict[str, _Raw] = {}

    def add(name: str, row: dict[str, Any], at: str, *, whole: bool) -> None:
        if row["robust_accuracy"] is None or row["eps"] is None:
            return
        if name not in found:
            start = (0.0, clean["accuracy"], tuple(clean["ci95"]), "/clean/accuracy")
            found[name] = [start] if whole else []
        figure = row["eps"], row["robust_accuracy"], tuple(row["ci95"]), f"{at}/robust_accuracy"
        found[name].append(figure)

    for i, row in own:
        add(row["attack"], row, f"/attacks/{i}", whole=row["total"] == clean["total"])
    if len(found) == 1 and summary["worst_case"]:
        found.clear()
    fitted = any(row.get("fitted") for _, row in own)
    for i, row in enumerate(summary["worst_case"]):
        if row["norm"] == norm:
            add(WORST_CASE, row, f"/worst_case/{i}", whole=not fitted)
    return {name: sorted(points) for name, points in found.items()}


def _chart(norm: str, raw: dict[str, _Raw]) -> Chart:
    end = max(eps for points in raw.values() for eps, *_ in points)
    worst = _shape(raw.get(WORST_CASE, []))
    same = [name for name in raw if name != WORST_CASE and _shape(raw[name]) == worst]
    names = [name for name in raw if name not in (*same, WORST_CASE)]
    names += [WORST_CASE] if worst else []  # drawn last, over the others
    dashes = {name: _DASHES[i % len(_DASHES)] for i, name in enumerate(names)}
    series = [
        Series(
            name,
            [
                Point(eps, share, low, high, _x(eps, end), _y(share), at)
                for eps, share, (low, high), at in raw[name]
            ],
            "" if name == WORST_CASE else dashes[name],
        )
        for name in names
    ]
    budgets = sorted({point.eps for one in series for point in one.points})
    shown = series[-1]
    ends = [shown.points[0], shown.points[len(shown.points) // 2], shown.points[-1]]
    told = ", ".join(f"{figures.percent(p.share)} at {_eps(p.eps)}" for p in dict.fromkeys(ends))
    return Chart(
        norm,
        series,
        _ticks(budgets, end),
        [(_y(level / 100), f"{level} %") for level in (0, 25, 50, 75, 100)],
        [(_eps(eps), [_at(one.points, eps) for one in series]) for eps in budgets],
        f"Robust accuracy over eps in {norm}; {shown.name}: {told}. All figures are in the table "
        "that follows.",
        same,
    )


def _shape(points: _Raw) -> list[tuple[float, float]]:
    return [(eps, share) for eps, share, *_ in points]


def _eps(eps: float) -> str:
    return format_eps(eps) if eps else "0"


def _at(points: Sequence[Point], eps: float) -> Point | None:
    return next((p for p in points if p.eps == eps or (eps and same_eps(p.eps, eps))), None)


def _x(eps: float, end: float) -> float:
    return FRAME.left + (FRAME.right - FRAME.left) * eps / end


def _y(share: float) -> float:
    return FRAME.top + (FRAME.bottom - FRAME.top) * (1 - share)


def _ticks(budgets: Sequence[float], end: float) -> list[tuple[float, str]]:
    """As many budgets as can be read beside one another; the first and the last always."""
    chosen = list(budgets[:1])
    for eps in budgets[1:-1]:
        if _x(eps, end) - _x(chosen[-1], end) >= _TICK <= _x(end, end) - _x(eps, end):
            chosen.append(eps)
    return [(_x(eps, end), _eps(eps)) for eps in (*chosen, end)]
