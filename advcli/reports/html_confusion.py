"""What the model takes each class for: a matrix if it can be read, else the commonest mistakes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from advcli.reports import figures

__all__ = ["Cell", "Confusion", "Mistake", "tables"]

_LARGEST = 20  # classes of a matrix
_LISTED = 15
_NO_ANSWER = "no answer"


class Cell(NamedTuple):
    """A field of a matrix; `strength` is its share of its row, in percent."""

    images: int
    strength: int
    right: bool


class Mistake(NamedTuple):
    """`images` of `label`, out of `total`, taken for `prediction`."""

    label: str
    prediction: str
    images: int
    total: int


@dataclass(frozen=True)
class Confusion:
    """`place` in summary.json's `confusion`. One of `rows` (label, cells) and `mistakes` is empty.

    `right` of `total` images are taken for what they are.
    """

    place: int
    title: str
    columns: list[str]
    rows: list[tuple[str, list[Cell]]]
    mistakes: list[Mistake]
    others: int
    right: int
    total: int

    @property
    def narrow(self) -> bool:
        """Whether the names above the columns are no wider than their figures."""
        return max(map(len, self.columns), default=0) <= 3


def tables(summary: dict[str, Any], names: Sequence[str]) -> list[Confusion]:
    """Unperturbed, then in the worst case at each budget; empty for a run of an older version."""
    return [_table(i, entry, names) for i, entry in enumerate(summary.get("confusion", ()))]


def _table(place: int, entry: dict[str, Any], names: Sequence[str]) -> Confusion:
    counts = Counter({(label, found): n for label, found, n in entry["counts"]})
    totals = Counter({label: 0 for label, _ in counts})
    for (label, _), n in counts.items():
        totals[label] += n
    seen = sorted({c for pair in counts for c in pair}, key=lambda c: (c is None, c or 0))
    rows: list[tuple[str, list[Cell]]] = []
    mistakes: list[Mistake] = []
    wrong = [(pair, n) for pair, n in counts.items() if pair[0] != pair[1] or None in pair]
    if len(seen) <= _LARGEST:
        for label in (c for c in seen if c in totals):
            cells = [
                Cell(counts[label, c], round(100 * counts[label, c] / totals[label]), label == c)
                for c in seen
            ]
            rows.append((_name(label, names), cells))
    else:
        wrong.sort(key=lambda item: -item[1])
        mistakes = [
            Mistake(_name(label, names), _name(found, names), n, totals[label])
            for (label, found), n in wrong[:_LISTED]
        ]
    total = sum(counts.values())
    return Confusion(
        place,
        "unperturbed"
        if entry["norm"] is None
        else f"worst case at {figures.budget(entry['norm'], entry['eps'])}",
        [_name(c, names) for c in seen],
        rows,
        mistakes,
        sum(n for _, n in wrong) - sum(m.images for m in mistakes),
        total - sum(n for _, n in wrong),
        total,
    )


def _name(index: int | None, names: Sequence[str]) -> str:
    if index is None:
        return _NO_ANSWER
    return names[index] if index < len(names) else str(index)
