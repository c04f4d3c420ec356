"""Is the gradient that attacks will follow right, and is there one? Asked before any attack runs.

TensorFlow's eager gradient crashes on some convolutions and its compiled one has been wrong
elsewhere, so nothing is taken on trust: the compiled gradient of the margin is compared with a
central finite difference along itself, first as a plain graph, then under XLA, and the first path
that agrees is taken. Nothing here ever differentiates eagerly.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from advcli.lazy import Tensor, tf
from advcli.models.classifier import Classifier
from advcli.models.convolution import gradient_of
from advcli.models.findings import Finding, Verdict
from advcli.models.head import SMALLEST

Array = np.ndarray[Any, Any]

MAX_IMAGES = 8
TOLERANCE = 0.05
"""Median relative error allowed between the gradient's norm and the difference quotient."""

_CHANGES = (1e-3, 1e-2, 1e-1)
"""Steps are sized by the change of the margin that they should cause, relative to the logits."""

_JITTER = 0.02
_REPEATS = 5
_ZERO_SHARE = 0.1
_FLOOR = float(np.log(SMALLEST)) * 0.999


@dataclass(frozen=True)
class _Answer:
    """Logits [B, K], and input gradients [B, H, W, C] of the margin and of cross-entropy."""

    logits: Array
    margin_gradient: Array
    entropy_gradient: Array


def margin(logits: Tensor, labels: Tensor) -> Tensor:
    """Largest other logit − the label's: float32 [B], positive where misclassified."""
    chosen = tf.one_hot(labels, tf.shape(logits)[1], on_value=True, off_value=False, dtype=tf.bool)
    own = tf.reduce_max(tf.where(chosen, logits, -np.inf), axis=1)
    other = tf.reduce_max(tf.where(chosen, -np.inf, logits), axis=1)
    return other - own


def check_gradient(
    classifier: Classifier, pixels: Array, labels: Array, batch_size: int
) -> list[Finding]:
    """Chooses the compile path whose gradient is right, and reports what puts attacks in doubt.

    Sets `classifier.jit_compile`. Costs about 15 forwards and 10 gradients of one batch.

    **Arguments**
    - `pixels`: float32 [n, H, W, C] in pixel space, n ≥ 1; the first 8 are used, repeated to
      `batch_size` rows, the shape that the engine will compile.
    - `labels`: class indices [n].
    """
    count = min(len(pixels), MAX_IMAGES, batch_size)
    rows = np.arange(batch_size) % count
    batch = _Batch(
        np.asarray(pixels[:count], np.float32)[rows],
        np.asarray(labels[:count], np.int64)[rows],
        count,
    )
    # Flat backgrounds put many units exactly on a kink, where no difference quotient is right.
    noise = np.random.default_rng(0).uniform(-_JITTER, _JITTER, batch.x.shape)
    generic = _Batch((batch.x + noise).astype(np.float32), batch.y, count)
    forward = tf.function(classifier.logits, autograph=False)
    tried: dict[bool, tuple[_Run, _Answer, float | None]] = {}
    for jit in (False, True):
        run = _compile(classifier, jit)
        try:
            answer = run(batch.x, batch.y)
        except (tf.errors.OpError, NotImplementedError, LookupError):
            continue  # an operation without a gradient, or one that XLA does not know
        if not np.isfinite(answer.logits).all():
            classifier.jit_compile = jit
            detail = "the model's logits are not finite on clean images"
            return [Finding("finite-logits", "suspect", detail)]
        error = _disagreement(forward, run(generic.x, generic.y).margin_gradient, generic)
        tried[jit] = run, answer, error
        if error is None or error <= TOLERANCE:
            break
    if not tried:
        classifier.jit_compile = False
        detail = "TensorFlow cannot differentiate the model: only attacks without gradients work"
        return [Finding("gradient", "suspect", detail)]
    # The last one tried if it agrees; else the plain graph, which at least every model can run.
    jit = list(tried)[-1]
    agrees = tried[jit][2] is None or (tried[jit][2] or 0.0) <= TOLERANCE
    jit = jit if agrees else next(iter(tried))
    classifier.jit_compile = jit
    run, answer, error = tried[jit]
    findings = _properties(classifier, forward, run, answer, batch)
    return [_verdict(jit, error, findings), *findings]


@dataclass(frozen=True)
class _Batch:
    """`count` images, repeated to fill the rows."""

    x: Array
    y: Array
    count: int


_Run = Callable[[Array, Array], _Answer]


def _verdict(jit: bool, error: float | None, findings: list[Finding]) -> Finding:
    path = "XLA" if jit else "graph"
    if error is None:
        return Finding("gradient", "suspect", "the gradient is too small to be checked")
    if error <= TOLERANCE:
        detail = f"the {path} gradient agrees with finite differences to {error:.1g}"
        return Finding("gradient", "ok", detail)
    if any(finding.check == "randomised" for finding in findings):
        return Finding("gradient", "suspect", "a randomised model's gradient cannot be checked")
    detail = (
        f"the gradient disagrees with finite differences by {error:.2g} (median), compiled as a "
        "graph and by XLA: gradient attacks may miss examples"
    )
    return Finding("gradient", "suspect", detail)


def _compile(classifier: Classifier, jit: bool) -> _Run:
    def gradients(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        logits = classifier.logits(x)
        worst = tf.reduce_sum(margin(logits, y))
        entropy = tf.reduce_sum(
            tf.nn.sparse_softmax_cross_entropy_with_logits(labels=y, logits=logits)
        )
        return logits, gradient_of(worst, x), gradient_of(entropy, x)

    compiled = tf.function(gradients, autograph=False, jit_compile=jit)

    def run(x: Array, y: Array) -> _Answer:
        answers = compiled(tf.constant(x), tf.constant(y))
        return _Answer(*(answer.numpy() for answer in answers))

    return run


def _disagreement(forward: Any, gradient: Array, batch: _Batch) -> float | None:
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


def _properties(
    classifier: Classifier, forward: Any, run: _Run, answer: _Answer, batch: _Batch
) -> list[Finding]:
    findings = []
    moved = _repeated(forward, batch)
    if moved > 1e-4:
        detail = f"the same image gives different logits each time (by {moved:.2g} of their size)"
        findings.append(Finding("randomised", "suspect", detail))
    else:
        if moved > 0:
            detail = f"equal inputs differ in their last bits (by {moved:.1g})"
            findings.append(Finding("repeatable", "note", detail))
        findings.extend(_row_position(run, answer, batch))
    margin_size = _sizes(answer.margin_gradient, batch.count)
    entropy_size = _sizes(answer.entropy_gradient, batch.count)
    if not (np.isfinite(margin_size).all() and np.isfinite(entropy_size).all()):
        detail = "the gradient is not finite on clean images"
        findings.append(Finding("finite-gradient", "suspect", detail))
    absent = float(np.mean(margin_size == 0))
    if absent >= _ZERO_SHARE:
        detail = f"the margin's gradient is exactly zero on {absent:.0%} of the images looked at"
        findings.append(Finding("zero-gradient", "suspect", detail))
    masked = float(np.mean((entropy_size == 0) & (margin_size != 0)))
    if masked >= _ZERO_SHARE:
        detail = (
            f"cross-entropy's gradient is exactly zero on {masked:.0%} of the images looked at, "
            "and the margin's is not: attacks on cross-entropy stand still (gradient masking)"
        )
        findings.append(Finding("saturated-cross-entropy", "suspect", detail))
    if classifier.head.ending == "probabilities":
        logits = answer.logits[: batch.count]
        share = float(np.mean((logits.max(axis=1) >= 0) | (logits.min(axis=1) < _FLOOR)))
        if share > 0:
            detail = (
                f"probabilities are exactly 0 or 1 in float32 on {share:.0%} of the images looked "
                "at, so their logarithm has no gradient there"
            )
            findings.append(Finding("saturated-probabilities", "suspect", detail))
    return findings


def _sizes(gradient: Array, count: int) -> Array:
    return np.asarray(np.abs(gradient[:count].astype(np.float64)).reshape(count, -1).sum(axis=1))


def _repeated(forward: Any, batch: _Batch) -> float:
    """Largest change of any logit over five equal calls, relative to the logits' size."""
    x = tf.constant(batch.x)
    logits = np.stack([forward(x).numpy() for _ in range(_REPEATS)])
    return float(np.ptp(logits, axis=0).max() / max(np.abs(logits).max(), 1e-30))


def _row_position(run: _Run, answer: _Answer, batch: _Batch) -> list[Finding]:
    """Whether an image's answer depends on where in the batch it stands."""
    rows = len(batch.x)
    shift = rows // 3 + 1
    if rows == 1:
        return []
    moved = run(np.roll(batch.x, shift, axis=0), np.roll(batch.y, shift))
    worst = 0.0
    for before, after in (
        (answer.logits, moved.logits),
        (answer.margin_gradient, moved.margin_gradient),
    ):
        difference = np.abs(np.roll(after, -shift, axis=0) - before).max()
        worst = max(worst, float(difference / max(np.abs(before).max(), 1e-30)))
    if worst == 0:
        return []
    verdict: Verdict = "suspect" if worst > 1e-3 else "note"
    detail = f"an image's answer depends on its place in the batch (by {worst:.1g} of its size)"
    return [Finding("row-position", verdict, detail)]
