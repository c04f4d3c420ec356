"""Proportions and how sure they are, from the standard library's maths."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from statistics import NormalDist, median

__all__ = [
    "mcnemar",
    "median_distance",
    "paired_difference",
    "paired_images_to_settle",
    "proportion",
    "wilson",
    "wilson_images_to_settle",
]

_Z95 = NormalDist().inv_cdf(0.975)
_MOST_IMAGES = 2**64  # what would need more than these is as good as never settled
_NEGLIGIBLE = 1e-18


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


def wilson_images_to_settle(share: float, threshold: float) -> int | None:
    """The fewest images on which Wilson's interval of `share` would leave `threshold` on one side.

    "On one side" as a gate has it: the lower bound reaches it, or the upper bound is below it.
    None where no number would do, because the share is the threshold itself.
    """
    if share == threshold:
        return None

    def settled(images: int) -> bool:
        low, high = wilson(share * images, images) or (0.0, 1.0)
        return low >= threshold if share > threshold else high < threshold

    return _first(settled, 1)


def mcnemar(broken: int, fixed: int) -> float:
    """The exact two-sided p value of `broken` against `fixed` pairs that changed.

    If a change were as likely one way as the other, their split would be that of a fair coin: twice
    the smaller tail of the binomial distribution, 1 at most. The pairs that did not change say
    nothing. McNemar, *Psychometrika* 12 (1947); exact as in Agresti, *Categorical Data Analysis*.
    Good to eight digits at a million changes.
    """
    changed, fewer = broken + fixed, min(broken, fixed)
    if 2 * fewer == changed:
        return 1.0
    # the tail from its largest term down, each the one before times k / (n - k + 1)
    term, tail, k = 1.0, 1.0, fewer
    while k > 0 and term > _NEGLIGIBLE * tail:
        term *= k / (changed - k + 1)
        tail += term
        k -= 1
    largest = (
        math.lgamma(changed + 1)
        - math.lgamma(fewer + 1)
        - math.lgamma(changed - fewer + 1)
        - changed * math.log(2)
    )
    return min(1.0, 2 * math.exp(largest + math.log(tail)))


def paired_difference(broken: float, fixed: float, total: int) -> tuple[float, float] | None:
    """The 95 % interval of (fixed - broken) / total, None of no pairs.

    Bonett and Price, "Adjusted Wald confidence interval for a difference of binomial proportions
    based on paired data", *Journal of Educational and Behavioral Statistics* 37 (2012): Wald's,
    with half a pair added to each of the four cells. It does not shrink to nothing where no image
    changed.
    """
    if total == 0:
        return None
    up, down = (fixed + 1) / (total + 2), (broken + 1) / (total + 2)
    centre = up - down
    half = _Z95 * math.sqrt((up + down - centre * centre) / (total + 2))
    return max(-1.0, centre - half), min(1.0, centre + half)


def paired_images_to_settle(broken: int, fixed: int, total: int, threshold: float) -> int | None:
    """As `wilson_images_to_settle`, of a difference of pairs; `total` or more."""
    difference = (fixed - broken) / total
    if difference == threshold:
        return None

    def settled(images: int) -> bool:
        scale = images / total
        found = paired_difference(broken * scale, fixed * scale, images)
        low, high = found or (-1.0, 1.0)
        return low >= threshold if difference > threshold else high < threshold

    return _first(settled, total)


def _first(settled: Callable[[int], bool], start: int) -> int | None:
    """The smallest number from `start` on that is settled, if all behind it are."""
    step = 1
    last = start
    while not settled(last):
        start, last, step = last + 1, last + step, 2 * step
        if last > _MOST_IMAGES:
            return None
    while start < last:
        middle = (start + last) // 2
        start, last = (start, middle) if settled(middle) else (middle + 1, last)
    return last


def median_distance(distances: Iterable[float]) -> float | None:
    """The median, None where it is infinite (over half were failures) or of nothing."""
    found = list(distances)
    if not found:
        return None
    middle = median(found)
    return middle if math.isfinite(middle) else None
