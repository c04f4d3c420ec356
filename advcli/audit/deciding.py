"""A gate's verdict on the figures that it asks about: by their values, or by their intervals.

By values the lowest decides. By intervals (`--confident`) a gate passes where every lower bound
reaches the threshold, fails where any upper bound is below it, and has no verdict otherwise.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, Literal, NamedTuple

from advcli.audit.statistics import wilson_images_to_settle

__all__ = ["Figure", "decide", "share_figure"]

State = Literal["fail", "open", "pass"]
_ORDER: dict[State, int] = {"fail": 0, "open": 1, "pass": 2}


class Figure(NamedTuple):
    """One figure under a gate.

    `total` images answered, of the `images` that were shown: a fitted attack is judged on a part of
    them. `to_settle`: the fewest on which this value's interval would leave a threshold on one
    side, None where no number would do.
    """

    where: str
    value: float
    ci95: Sequence[float]
    total: int
    images: int
    to_settle: Callable[[float], int | None]

    def state(self, threshold: float) -> State:
        if self.ci95[1] < threshold:
            return "fail"
        return "pass" if self.ci95[0] >= threshold else "open"

    def missing(self, threshold: float) -> int | None:
        """How many more images would settle it, if they went as those before."""
        enough = self.to_settle(threshold)
        if enough is None:
            return None
        return max(1, math.ceil((enough - self.total) * self.images / self.total))


def share_figure(
    where: str, value: float | None, ci95: Sequence[float] | None, total: int, images: int
) -> Figure | None:
    """The figure of a share of `total` images, with Wilson's interval; None of no images.

    A mean over several answers of each image counts as one answer of each: its interval is too
    wide rather than too narrow, and so many images are enough rather than too few.
    """
    if value is None or ci95 is None:
        return None
    return Figure(where, value, ci95, total, images, lambda t: wilson_images_to_settle(value, t))


def decide(
    figures: Sequence[Figure], threshold: float, *, confident: bool, suspect: bool, errors: bool
) -> dict[str, Any]:
    """`{value, ci95, verdict, images_needed, doubt, where}`: the figure that decides, and how.

    `suspect` figures are upper bounds, so they can fail but not pass; `errors` leave no verdict.
    `images_needed`: how many more would settle it by intervals at these values, None where they
    have, or where no number would do. `doubt` says why there is no verdict.
    """
    states = {figure.state(threshold) for figure in figures}
    by_interval: State = next((s for s in _ORDER if s in states), "open")
    verdict: State = by_interval
    if not confident:
        verdict = "fail" if any(figure.value < threshold for figure in figures) else "pass"
    doubt = None
    if not figures:
        doubt = "no images"
    elif errors:
        doubt = "errors"
    elif verdict == "open":
        doubt = "interval"
    elif verdict == "pass" and suspect:
        doubt = "suspect"

    def weight(figure: Figure) -> tuple[int, float]:
        return (_ORDER[figure.state(threshold)] if confident else 0, figure.value)

    deciding = min(figures, key=weight, default=None)
    needed = _needed(figures, threshold) if by_interval == "open" and not errors else None
    return {
        "value": None if deciding is None else deciding.value,
        "ci95": None if deciding is None else deciding.ci95,
        "verdict": "inconclusive" if doubt else verdict,
        "images_needed": needed,
        "doubt": doubt,
        "where": None if deciding is None else deciding.where,
    }


def _needed(figures: Sequence[Figure], threshold: float) -> int | None:
    """One figure below the threshold is enough to fail; to pass it takes all of them."""
    below = [figure for figure in figures if figure.value < threshold]
    among = below or [f for f in figures if f.state(threshold) == "open"]
    missing = [figure.missing(threshold) for figure in among]
    known = [count for count in missing if count is not None]
    if below:
        return min(known, default=None)
    return max(known, default=None) if len(known) == len(missing) else None
