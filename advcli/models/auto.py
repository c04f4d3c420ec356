"""`--preprocess auto`: which preprocessing the model's own behaviour on the images speaks for.

Highest accuracy alone picks the wrong one in a third of real models, and a confident softmax speaks
for over-scaling. So candidates are *excluded*, never voted in: by a layer inside the model that
scales by itself; by accuracy, compared image by image with the best (exact McNemar test); by what
the first BatchNormalization expects to see. What stays is reported, and if more than one stays the
choice is suspect. Accuracy often cannot see a wrong scale (a network of ReLUs without much bias
hardly minds), BatchNormalization cannot see swapped channels.

McNemar, *Psychometrika* 12 (1947). KL between normal distributions: per channel, the batch's
moments against the moving statistics, averaged over channels.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from advcli.lazy import Tensor, tf
from advcli.models.batchnorm import divergence, entering, first_batchnorm
from advcli.models.candidates import candidates_for, scaled_inside
from advcli.models.loader import LoadedModel
from advcli.models.preprocessing import Preprocessing

Array = np.ndarray[Any, Any]

MAX_IMAGES = 256
FIRST_IMAGES = 32
"""All candidates see these; those not excluded by them go on to `MAX_IMAGES`."""

SIGNIFICANCE = 0.01
MAX_KL = 1.0
KL_FACTOR = 10.0
"""A BatchNormalization fit is excluded above `MAX_KL` and `KL_FACTOR` times the best fit's."""


@dataclass(frozen=True)
class Candidate:
    """A preprocessing and what was measured with it on `images` of them; None: it could not be.

    `excluded_because` is empty for one that the evidence allows.
    """

    preprocessing: Preprocessing
    accuracy: float | None = None
    images: int = 0
    ci95: tuple[float, float] | None = None
    batchnorm_kl: float | None = None
    excluded_because: str = ""


@dataclass(frozen=True)
class PreprocessingChoice:
    """The preprocessing to go on with, all that were weighed, and whether to trust it.

    `suspect`: more than one candidate is left. `at_chance`: even the chosen one is right no more
    often than guessing.
    """

    preprocessing: Preprocessing
    candidates: tuple[Candidate, ...]
    suspect: bool
    at_chance: bool
    reason: str


def choose_preprocessing(
    loaded: LoadedModel, pixels: Array, labels: Array | None
) -> PreprocessingChoice:
    """Chooses by the images' evidence; at most 256 images per candidate are evaluated.

    **Arguments**
    - `pixels`: uint8 [n, H, W, C] at the model's input size, a fixed sample of the whole folder.
    - `labels`: class indices [n], or None: then BatchNormalization is all there is to go by.
    """
    pixels = pixels[:MAX_IMAGES]
    labels = None if labels is None else np.asarray(labels)[:MAX_IMAGES]
    measure = _Measurement(loaded, pixels)
    inside = scaled_inside(loaded.config)
    options = candidates_for(loaded.image.shape[2])
    if inside is not None:
        name, reason = inside
        options = tuple(option for option in options if option.name == name)
    else:
        reason = ""
    first = min(FIRST_IMAGES, len(pixels))
    candidates = [Candidate(option) for option in options]
    right: dict[str, Array] = {}
    for stage in sorted({first, len(pixels)}):
        for i, candidate in enumerate(candidates):
            if candidate.excluded_because:
                continue
            prediction, kl = measure(candidate.preprocessing, stage)
            if stage == first:
                candidate = replace(candidate, batchnorm_kl=kl)
            if labels is not None:
                hits = prediction == labels[:stage]
                right[candidate.preprocessing.name] = hits
                correct = int(hits.sum())
                candidate = replace(
                    candidate, accuracy=correct / stage, ci95=wilson(correct, stage)
                )
            candidate = replace(candidate, images=stage)
            candidates[i] = candidate
        candidates = _exclude_by_batchnorm(_exclude_by_accuracy(candidates, right))
    return _conclude(loaded, candidates, right, reason)


def _conclude(
    loaded: LoadedModel, candidates: list[Candidate], right: dict[str, Array], reason: str
) -> PreprocessingChoice:
    left = [candidate for candidate in candidates if not candidate.excluded_because]
    best = _prefer(left, right)
    hits = right.get(best.preprocessing.name)
    at_chance = hits is not None and near_chance(
        int(hits.sum()), len(hits), loaded.head.class_count
    )
    if not reason:
        evidence = []
        if best.accuracy is not None and hits is not None:
            evidence.append(f"accuracy {best.accuracy:.3f} on {len(hits)} images")
        if best.batchnorm_kl is not None:
            evidence.append(f"BatchNormalization KL {best.batchnorm_kl:.3g}")
        if not evidence:
            evidence.append("nothing speaks for any: no labels and no BatchNormalization")
        rest = [c.preprocessing.flag for c in left if c is not best]
        if rest:
            evidence.append(f"not excluded: {'; '.join(rest)}")
        elif len(candidates) > 1:
            evidence.append(f"the other {len(candidates) - 1} candidates are excluded")
        reason = ", ".join(evidence)
    return PreprocessingChoice(
        preprocessing=best.preprocessing.because(f"auto: {reason}"),
        candidates=tuple(candidates),
        suspect=len(left) > 1,
        at_chance=at_chance,
        reason=reason,
    )


class _Measurement:
    """Predictions and the BatchNormalization fit of a model, for any preprocessing: one trace."""

    def __init__(self, loaded: LoadedModel, pixels: Array) -> None:
        self._pixels = pixels.astype(np.float32) / 255
        self._batch = max(1, min(FIRST_IMAGES, len(pixels)))
        self._norm = first_batchnorm(loaded.model)
        head = loaded.head

        def run(y: Tensor) -> tuple[Tensor, Tensor]:
            with entering(self._norm) as seen:
                outputs = loaded.model(loaded.image.arrange(y), training=False)
            prediction = head.predict(head.select(outputs))
            entered = seen[0] if seen else tf.zeros((1, 1))
            return prediction, tf.cast(entered, tf.float32)

        shape = (self._batch, *loaded.image.shape)
        self._run = tf.function(
            run, input_signature=[tf.TensorSpec(shape, tf.float32)], autograph=False
        )

    def __call__(self, preprocessing: Preprocessing, count: int) -> tuple[Array, float | None]:
        """Predictions int64 [count], and the fit on the first batch."""
        predictions: list[Array] = []
        kl = None
        for start in range(0, count, self._batch):
            rows = np.arange(start, start + self._batch)
            y = preprocessing.apply_exactly(self._pixels[np.minimum(rows, count - 1)])
            prediction, entered = self._run(tf.constant(y))
            predictions.append(prediction.numpy()[: count - start])
            if start == 0 and self._norm is not None:
                kl = divergence(entered.numpy(), self._norm)
        return np.concatenate(predictions), kl


def _exclude_by_accuracy(candidates: list[Candidate], right: dict[str, Array]) -> list[Candidate]:
    """Excludes whoever is significantly worse than the most accurate, on the same images."""
    open_ = [c for c in candidates if not c.excluded_because and c.accuracy is not None]
    if not open_:
        return candidates
    best = max(open_, key=lambda c: c.accuracy or 0.0)
    best_right = right[best.preprocessing.name]
    judged = []
    for candidate in candidates:
        if candidate in open_ and candidate is not best:
            hits = right[candidate.preprocessing.name]
            p = mcnemar(int((best_right & ~hits).sum()), int((hits & ~best_right).sum()))
            if p < SIGNIFICANCE:
                candidate = replace(
                    candidate,
                    excluded_because=f"less accurate than {best.preprocessing.flag} "
                    f"(McNemar p = {p:.1g})",
                )
        judged.append(candidate)
    return judged


def _exclude_by_batchnorm(candidates: list[Candidate]) -> list[Candidate]:
    fits = [c.batchnorm_kl for c in candidates if not c.excluded_because]
    known = [fit for fit in fits if fit is not None and math.isfinite(fit)]
    if not known:
        return candidates
    limit = max(MAX_KL, KL_FACTOR * min(known))
    return [
        replace(
            candidate,
            excluded_because=f"BatchNormalization expects other values (KL {kl:.3g}, "
            f"best {min(known):.3g})",
        )
        if not candidate.excluded_because
        and (kl := candidate.batchnorm_kl) is not None
        and not kl <= limit
        else candidate
        for candidate in candidates
    ]


def _prefer(left: list[Candidate], right: dict[str, Array]) -> Candidate:
    """The first in order of preference that no other one left clearly beats.

    A hint is enough to pass over a usual preprocessing (p < 0.2, or half its KL without being
    less accurate), but one image more is not.
    """
    for candidate in left:
        if not any(_beats(rival, candidate, right) for rival in left):
            return candidate
    if any(candidate.accuracy is not None for candidate in left):
        return max(left, key=lambda c: c.accuracy or 0.0)
    return left[0]


def _beats(rival: Candidate, candidate: Candidate, right: dict[str, Array]) -> bool:
    ours, theirs = (right.get(c.preprocessing.name) for c in (candidate, rival))
    as_accurate = True
    if ours is not None and theirs is not None:
        p = mcnemar(int((theirs & ~ours).sum()), int((ours & ~theirs).sum()))
        if theirs.sum() > ours.sum() and p < 0.2:
            return True
        as_accurate = bool(theirs.sum() >= ours.sum())
    if candidate.batchnorm_kl is None or rival.batchnorm_kl is None:
        return False
    return as_accurate and rival.batchnorm_kl < candidate.batchnorm_kl / 2


def mcnemar(only_first: int, only_second: int) -> float:
    """Exact two-sided p that two classifiers are equally often right, from where they differ."""
    n, k = only_first + only_second, min(only_first, only_second)
    if n == 0:
        return 1.0
    tail = sum(math.comb(n, i) for i in range(k + 1))
    return min(1.0, 2 * tail / (1 << n))


def wilson(correct: int, total: int) -> tuple[float, float]:
    """Wilson's 95 % interval of a proportion."""
    if total == 0:
        return 0.0, 1.0
    z, p = 1.959963984540054, correct / total
    centre = p + z * z / (2 * total)
    half = z * math.sqrt(p * (1 - p) / total + z * z / (4 * total * total))
    scale = 1 + z * z / total
    return max(0.0, (centre - half) / scale), min(1.0, (centre + half) / scale)


def near_chance(correct: int, total: int, class_count: int) -> bool:
    """Whether a classifier is right no more often than guessing would explain (p > 0.05).

    Under 20 images only a score at or below chance itself counts: few images prove nothing.
    """
    p = 1.0 / class_count
    if total == 0:
        return False
    if correct <= p * total:
        return True
    if total < 20:
        return False
    tail = sum(
        math.comb(total, i) * p**i * (1 - p) ** (total - i) for i in range(correct, total + 1)
    )
    return bool(tail > 0.05)
