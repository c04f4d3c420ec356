"""The last word: a candidate is confirmed on the model as loaded, at the bytes of its file."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np

from advcli.engine.jobs import Attempt, Job, Seat
from advcli.engine.judge import NOISE
from advcli.threats.budget import Norm
from advcli.threats.grid import from_bytes, to_bytes
from advcli.threats.space import distances

# Points asked beyond an unconfirmed minimum, the last one 1.8 times as far
_OUTWARDS = 14


class Confirming(Protocol):
    """What is needed of a classifier here."""

    def confirm(self, x: np.ndarray) -> Any: ...


class Try(NamedTuple):
    """A row's answer before the model as loaded has seen it; the last fields are its record's."""

    seat: Seat
    slot: int  # where the row is, if it keeps its place
    point: np.ndarray
    ended: bool  # there was nothing left to try; otherwise a success ended it
    steps: int
    confirmations: int  # this one included
    found: bool
    score: float
    forwards: int
    gradients: int
    stalled: int
    nonfinite: bool


def judged(
    classifier: Confirming,
    tries: Sequence[Try],
    norm: Norm,
    *,
    minimum_norm: bool,
    transfer: bool,
) -> list[tuple[Attempt, bool]]:
    """What the model as loaded makes of each, and whether it refused what was found a success."""
    points = np.stack([tried.point for tried in tries])
    confirmed = classifier.confirm(from_bytes(points) if points.dtype == np.uint8 else points)
    answers = []
    for place, tried in enumerate(tries):
        job, point, asked = tried.seat.job, tried.point, tried.confirmations
        prediction = int(confirmed.prediction[place])
        success, clear = verdict(job, prediction, confirmed.logits[place])
        distance = measured(job, point)
        if job.eps is not None:
            success = success and distance[norm] <= job.eps * (1.0 + 1e-6)
        refused = tried.found and not (success and clear) and not transfer
        if minimum_norm and refused:
            success, prediction, point, more = outwards(classifier, job, point, prediction)
            distance, asked = measured(job, point), asked + more
        attempt = Attempt(
            success=success,
            found=tried.found and not refused and not transfer,
            prediction=prediction,
            point=point,
            distance=distance,
            score=tried.score if np.isfinite(tried.score) else -1e30,
            forwards=tried.forwards + asked,
            gradients=tried.gradients,
            steps=tried.steps,
            stalled=tried.stalled,
            nonfinite=tried.nonfinite or not np.isfinite(confirmed.logits[place]).all(),
        )
        answers.append((attempt, refused))
    return answers


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
