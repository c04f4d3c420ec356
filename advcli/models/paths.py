"""A compiled path, plain graph or XLA: what it answers, and how far its gradient is off.

The gradient of the margin is compared with a central finite difference along itself. Nothing here
ever differentiates eagerly.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from advcli.lazy import Tensor, tf
from advcli.models.backward import gradient_of
from advcli.models.classifier import Classifier
from advcli.models.runtime import out_of_memory
from advcli.models.sniff import shown

Array = np.ndarray[Any, Any]

TOLERANCE = 0.05
"""Median relative error allowed between the gradient's norm and the difference quotient."""

_CHANGES = (1e-3, 1e-2, 1e-1)
"""Steps are sized by the change of the margin that they should cause, relative to the logits."""

_MOMENT = 0.3  # seconds
_LEAST_TURNS, _MOST_TURNS = 5, 100


@dataclass(frozen=True)
class Answer:
    """Logits [B, K], and input gradients [B, H, W, C] of the margin and of cross-entropy."""

    logits: Array
    margin_gradient: Array
    entropy_gradient: Array


@dataclass(frozen=True)
class Batch:
    """`count` images, repeated to fill the rows."""

    x: Array
    y: Array
    count: int


Run = Callable[[Array, Array], Answer]


@dataclass(frozen=True)
class Trial:
    """A compiled path, its answer on clean images, and how far its gradient is off (None: it is
    too small to tell)."""

    run: Run
    answer: Answer
    error: float | None

    @property
    def finite(self) -> bool:
        return bool(np.isfinite(self.answer.logits).all())

    @property
    def right(self) -> bool:
        return self.finite and (self.error is None or self.error <= TOLERANCE)


def margin(logits: Tensor, labels: Tensor) -> Tensor:
    """Largest other logit − the label's: float32 [B], positive where misclassified."""
    chosen = tf.one_hot(labels, tf.shape(logits)[1], on_value=True, off_value=False, dtype=tf.bool)
    own = tf.reduce_max(tf.where(chosen, logits, -np.inf), axis=1)
    other = tf.reduce_max(tf.where(chosen, -np.inf, logits), axis=1)
    return other - own


def try_path(
    classifier: Classifier, jit: bool, forward: Any, batch: Batch, generic: Batch
) -> Trial | str:
    """One path's answer and how far its gradient is off; or why it cannot be had."""
    run = compiled(classifier, jit)
    try:
        answer = run(batch.x, batch.y)
    # an operation without a gradient, or one that XLA does not know
    except (tf.errors.OpError, NotImplementedError, LookupError) as error:
        if out_of_memory(error):
            raise
        return first_line(error)
    trial = Trial(run, answer, None)
    if not trial.finite:
        return trial
    off = _disagreement(forward, run(generic.x, generic.y).margin_gradient, generic)
    return replace(trial, error=off)


def seconds(runs: Sequence[Run], batch: Batch) -> list[float]:
    """The least that each takes, asked in turn for a moment."""
    least = [np.inf] * len(runs)
    began = time.perf_counter()
    for turn in range(_MOST_TURNS):
        if turn >= _LEAST_TURNS and time.perf_counter() - began > _MOMENT:
            break
        for place, run in enumerate(runs):
            start = time.perf_counter()
            run(batch.x, batch.y)
            least[place] = min(least[place], time.perf_counter() - start)
    return least


def first_line(error: BaseException) -> str:
    """What an error says, short enough for a message."""
    lines = str(error).strip().splitlines()
    return shown(lines[0] if lines else type(error).__name__)


def compiled(classifier: Classifier, jit: bool) -> Run:
    """Logits and both gradients in one graph."""

    def gradients(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        logits = classifier.logits(x)
        worst = tf.reduce_sum(margin(logits, y))
        entropy = tf.reduce_sum(
            tf.nn.sparse_softmax_cross_entropy_with_logits(labels=y, logits=logits)
        )
        return logits, gradient_of(worst, x), gradient_of(entropy, x)

    function = tf.function(gradients, autograph=False, jit_compile=jit)

    def run(x: Array, y: Array) -> Answer:
        answers = function(tf.constant(x), tf.constant(y))
        return Answer(*(answer.numpy() for answer in answers))

    return run


def _disagreement(forward: Any, gradient: Array, batch: Batch) -> float | None:
    """Median over images of the relative error at the best step; None if nothing is measurable.

    Where the gradient is zero the difference is taken along noise: it should be zero too.
    """
    shape = batch.x.shape
    flat = gradient.astype(np.float64).reshape(len(gradient), -1)
    norm = np.linalg.norm(flat, axis=1)
    noise = np.random.default_rng(0).choice((-1.0, 1.0), flat.shape[1]) / np.sqrt(flat.shape[1])
    zero = norm == 0
    direction = np.where(zero[:, None], noise, flat / np.where(zero, 1.0, norm)[:, None])
    longest = 0.05 * np.sqrt(flat.shape[1])
    scale = np.maximum(np.abs(forward(tf.constant(batch.x)).numpy()).max(axis=1), 1e-6)
    best = np.full(len(flat), np.inf)
    measurable = np.zeros(len(flat), bool)
    for change in _CHANGES:
        step = np.minimum(change * scale / np.where(zero, np.inf, norm), longest)
        step = np.where(zero, longest * change, step)
        offset = (direction * step[:, None]).reshape(shape)
        ahead, behind = (
            _margins(forward, (batch.x + sign * offset).astype(np.float32), batch.y)
            for sign in (1, -1)
        )
        # Below this, rounding in the logits is most of the difference.
        seen = np.maximum(np.abs(ahead - behind), 2 * step * norm) > 2e-4 * scale
        measurable |= seen
        quotient = (ahead - behind) / (2 * step)
        largest = np.maximum(np.maximum(np.abs(quotient), norm), 1e-300)
        error = np.where(seen, np.abs(quotient - norm) / largest, np.inf)
        best = np.fmin(best, error)
    judged = best[: batch.count][measurable[: batch.count]]
    return float(np.median(judged)) if len(judged) else None


def _margins(forward: Any, x: Array, labels: Array) -> Array:
    logits = forward(tf.constant(x)).numpy().astype(np.float64)
    own = np.take_along_axis(logits, labels[:, None], axis=1)[:, 0]
    np.put_along_axis(logits, labels[:, None], -np.inf, axis=1)
    return np.asarray(logits.max(axis=1) - own)
