"""The last word: a candidate is confirmed on the model as loaded, at the bytes of its file."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np

from advcli.engine.jobs import Job
from advcli.engine.judge import NOISE
from advcli.threats.grid import from_bytes, to_bytes
from advcli.threats.space import distances

# Points asked beyond an unconfirmed minimum, the last one 1.8 times as far
_OUTWARDS = 14


class Confirming(Protocol):
    """What is needed of a classifier here."""

    def confirm(self, x: np.ndarray) -> Any: ...


def verdict(job: Job, prediction: int, logits: np.ndarray) -> tuple[bool, bool]:
    """(the goal is met, and by more than float32 noise) by the model as loaded."""
    subject = job.subject
    wanted = subject.label if subject.target is None else subject.target
    met = prediction != wanted if subject.target is None else prediction == wanted
    success = met and bool(np.isfinite(logits).all())
    others = np.delete(logits, wanted)
    gap = abs(float(others.max()) - float(logits[wanted]))
    return success, gap > 0.5 * NOISE * float(np.abs(logits).max())


def measured(job: Job, point: np.ndarray) -> dict[str, float]:
    """All distances of a candidate from its image, as its file holds it."""
    pixels = job.subject.pixels
    return distances(point, pixels if point.dtype == np.uint8 else from_bytes(pixels))


def outwards(
    classifier: Confirming, job: Job, point: np.ndarray, prediction: int
) -> tuple[bool, int, np.ndarray, int]:
    """The closest adversarial point was not confirmed: the first one behind it that is.

    It lies on the boundary by construction, where the model as loaded and as compiled may differ
    in their last bits; a little farther out along the same line they do not.

    Returns (success, prediction, point, confirmations asked).
    """
    origin = from_bytes(job.subject.pixels)
    x = from_bytes(point) if point.dtype == np.uint8 else point
    stretch = 1.0 + 1e-4 * 2.0 ** np.arange(_OUTWARDS)
    ladder = np.clip(origin + stretch[:, None, None, None] * (x - origin), 0.0, 1.0)
    ladder = ladder.astype(np.float32)
    if point.dtype == np.uint8:
        levels = to_bytes(ladder)
        ladder = from_bytes(levels)
    else:
        levels = ladder
    confirmed = classifier.confirm(ladder)
    for rung in range(_OUTWARDS):
        found = int(confirmed.prediction[rung])
        success, clear = verdict(job, found, confirmed.logits[rung])
        if success and clear:
            return True, found, levels[rung], rung + 1
    return False, prediction, point, _OUTWARDS
