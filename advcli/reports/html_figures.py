"""Figures as a page has them: rounded to be read, unrounded beside it, and where they come from."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from advcli.audit.journal import dumps
from advcli.reports import figures

__all__ = ["Bar", "Figure", "Reader", "Share", "pointer"]


class Figure(NamedTuple):
    """A figure to read, where summary.json has it, and what it is there (as JSON)."""

    text: str
    at: str
    value: str


class Bar(NamedTuple):
    """Where a bar and its interval end, in percent of its width."""

    share: float
    low: float
    high: float


class Share(NamedTuple):
    """A proportion with its interval, where it has one, and its bar, where it is known."""

    figure: Figure
    ci: Figure | None
    bar: Bar | None


class Reader:
    """Takes figures out of the summary by their JSON Pointer, and nothing else."""

    def __init__(self, summary: dict[str, Any]) -> None:
        self._summary = summary

    def __call__(self, at: str, show: Callable[[Any], str]) -> Figure:
        value = self._value(at)
        return Figure(show(value), at, dumps(value))

    def percent(self, at: str) -> Figure:
        return self(at, figures.percent)

    def interval(self, at: str) -> Figure:
        return self(at, figures.interval)

    def count(self, at: str) -> Figure:
        return self(at, lambda value: "–" if value is None else f"{value:,}")

    def share(self, at: str) -> Share:
        """A proportion; its interval is the `ci95` beside it."""
        row = at.rpartition("/")[0]
        share, beside = self._value(at), self._value(row)
        ci = self.interval(f"{row}/ci95") if "ci95" in beside else None
        low, high = beside.get("ci95") or (share, share)
        bar = None if share is None else Bar(100 * share, 100 * low, 100 * high)
        return Share(self.percent(at), ci, bar)

    def _value(self, at: str) -> Any:
        value: Any = self._summary
        for part in at.split("/")[1:]:
            key = part.replace("~1", "/").replace("~0", "~")
            value = value[int(key)] if isinstance(value, list) else value[key]
        return value


def pointer(key: str) -> str:
    """A key as a part of a JSON Pointer."""
    return key.replace("~", "~0").replace("/", "~1")
