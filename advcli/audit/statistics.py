"""Proportions and how sure they are, from the standard library's maths."""

from __future__ import annotations

import math
from collections.abc import Iterable
from statistics import NormalDist, median

__all__ = ["mcnemar", "median_distance", "proportion", "wilson"]

_Z95 = NormalDist().inv_cdf(0.975)


def proportion(count: int, total: int) -> float | None:
    """count / total, None where there is nothing to divide by."""
    return count / total if total else None


def wilson(count: float, total: int) -> tuple[float, float] | None:
    """The 95 % score interval of a proportion, None of none.

    Wilson, "Probable inference, the law of succession, and statistical inference", 1927. Unlike
    the normal interval it stays within [0, 1] and does not shrink to nothing at 0 % or 100 %.
    A `count` between two whole numbers is a mean over several answers of each.
    """
    if total == 0:
        return None
    share = count / total
    square = _Z95 * _Z95
    scale = 1 + square / total
    centre = (share + square / (2 * total)) / scale
    half = _Z95 / scale * math.sqrt(share * (1 - share) / total + square / (4 * total * total))
    low = 0.0 if count == 0 else max(0.0, centre - half)
    high = 1.0 if count == total else min(1.0, centre + half)
    return low, high


def mcnemar(first: int, second: int) -> float:
    """The exact two-sided p-value of a difference between paired answers that disagree so often."""
    n, least = first + second, min(first, second)
    return min(1.0, float(2 * sum(math.comb(n, k) for k in range(least + 1)) / 2**n))


def median_distance(distances: Iterable[float]) -> float | None:
    """The median, None where it is infinite (over half were failures) or of nothing."""
    found = list(distances)
    if not found:
        return None
    middle = median(found)
    return middle if math.isfinite(middle) else None
