"""Robust accuracy over a whole range of eps, from distances that are known anyway.

A minimum-norm attack leaves each image's distance, so one run says what would stand at any eps. An
attack with budgets speaks only about those it was run at. In a cascade a curve includes the attacks
before its own, as its row does. The last curve of a norm is the worst case: each image counts as
broken from the smallest distance, or budget, at which any untargeted attack in that norm broke it.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Iterable, Sequence
from typing import Any

from advcli.audit.ledger import Ledger
from advcli.audit.plan import Phase
from advcli.audit.statistics import proportion
from advcli.threats.budget import Norm

__all__ = ["WORST_CASE", "curves"]

WORST_CASE = "worst case"
_POINTS = 40  # evenly spaced ones, up to where nearly every image that falls has fallen
_MAIN = 0.95
_TOLERANCE = 1 + 1e-6
_Distances = dict[str, float]  # image -> the smallest known distance of an adversarial, inf: none


def curves(
    ledger: Ledger, phases: Sequence[Phase], *, whole_levels: bool, worst_case: bool
) -> list[dict[str, Any]]:
    """`[{attack, norm, total, points: [{eps, robust_accuracy}]}]`, eps ascending from 0.

    `whole_levels`: in Linf only multiples of 1/255 make sense. Attacks in one norm share their eps.
    """
    found: list[dict[str, Any]] = []
    for norm in dict.fromkeys(phase.norm for phase in phases if phase.norm is not None):
        chosen = [phase for phase in phases if phase.norm == norm]
        falls = [_fall(ledger, phases, phase) for phase in chosen]
        asked = sorted({eps for phase in chosen for eps in phase.eps})
        grid = _grid(norm, falls, asked, whole_levels=whole_levels)
        for phase, fall in zip(chosen, falls, strict=True):
            at = grid if phase.minimum else [0.0, *phase.eps]
            found.append(_curve(phase.spec, norm, fall, at))
        if worst_case and len(chosen) > 1:
            # as in the summary: of the images that all were to see
            images = [image for image in falls[0] if all(image in fall for fall in falls)]
            fall = {image: min(fall[image] for fall in falls) for image in images}
            at = grid if any(phase.minimum for phase in chosen) else [0.0, *asked]
            found.append(_curve(WORST_CASE, norm, fall, at))
    return found


def _fall(ledger: Ledger, phases: Sequence[Phase], phase: Phase) -> _Distances:
    """From which eps on each image of the figures is no longer robust: 0 where it never was."""
    falls = {
        image: math.inf if clean.correct else 0.0
        for image, clean in ledger.evaluated()
        if (clean.target is None or clean.target != clean.label) and phase.judges(clean.sha256)
    }
    for earlier in phases:
        last = earlier.key == phase.key
        if last or (phase.cascade and earlier.cascade and earlier.norm == phase.norm):
            _lower(falls, ledger, earlier, errors=last)
        if last:
            break
    return falls


def _lower(falls: _Distances, ledger: Ledger, phase: Phase, *, errors: bool) -> None:
    for eps in phase.eps[:1] if phase.minimum else phase.eps:
        for image, answer in ledger.of(phase, eps).items():
            if image not in falls:
                continue
            if answer.error:
                falls[image] = 0.0 if errors else falls[image]
            elif answer.broken_at(math.inf, minimum=phase.minimum):
                at = answer.distance if phase.minimum else eps or 0.0
                falls[image] = min(falls[image], at)


def _grid(
    norm: Norm, falls: Iterable[_Distances], asked: Sequence[float], *, whole_levels: bool
) -> list[float]:
    """Round numbers up to where nearly all have fallen, the budgets asked, and the very end."""
    known = [sorted(d for d in fall.values() if 0 < d < math.inf) for fall in falls]
    main = [far[math.ceil(_MAIN * len(far)) - 1] for far in known if far]
    unit = 1 / 255 if norm == "linf" else 1.0
    whole = norm == "l0" or (norm == "linf" and whole_levels)
    end = max([*main, *asked], default=unit)
    step = _round_up(end / unit / _POINTS)
    if whole:
        step = max(1.0, step)
    points = [round(number * step, 9) * unit for number in range(math.ceil(end / unit / step) + 1)]
    last = max((far[-1] for far in known if far), default=0.0)
    beyond = [math.ceil(last / unit / step) * step * unit] if last > points[-1] else []
    most = 1.0 if norm == "linf" else math.inf
    grid = sorted({min(eps, most) for eps in (*points, *asked, *beyond)})
    return [
        eps
        for place, eps in enumerate(grid)
        if place == 0 or not math.isclose(eps, grid[place - 1], rel_tol=1e-6)
    ]


def _round_up(value: float) -> float:
    """The next of … 0.1, 0.2, 0.5, 1, 2, 5, 10 …"""
    if value <= 0:
        return 1.0
    magnitude = 10.0 ** math.floor(math.log10(value))
    return next(
        factor * magnitude for factor in (1.0, 2.0, 5.0, 10.0) if factor * magnitude >= value
    )


def _curve(attack: str, norm: str, fall: _Distances, at: Iterable[float]) -> dict[str, Any]:
    ordered = sorted(fall.values())
    points = [
        {
            "eps": eps,
            "robust_accuracy": proportion(
                len(ordered) - bisect_right(ordered, eps * _TOLERANCE), len(ordered)
            ),
        }
        for eps in at
    ]
    return {"attack": attack, "norm": norm, "total": len(ordered), "points": points}
