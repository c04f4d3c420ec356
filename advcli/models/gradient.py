"""Is the gradient that attacks will follow right, and is there one? Asked before any attack runs.

TensorFlow's eager gradient crashes on some convolutions and its compiled one has been wrong
elsewhere, so nothing is taken on trust: the compiled gradient of the margin is compared with a
central finite difference along itself, as a plain graph and where it matters under XLA. Of the
paths that agree the faster one is taken (`faster_path`), unless the user asks for one. Nothing
here ever differentiates eagerly.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import numpy as np

from advcli.errors import UsageError
from advcli.lazy import tf
from advcli.models.classifier import Classifier
from advcli.models.findings import Finding, Verdict
from advcli.models.head import SMALLEST
from advcli.models.paths import TOLERANCE, Answer, Batch, Run, Trial, first_line, seconds, try_path
from advcli.models.runtime import out_of_memory

Array = np.ndarray[Any, Any]

CompilePath = Literal["auto", "graph", "xla"]

MAX_IMAGES = 8
GAIN = 1.15
"""How many times as fast XLA has to be to be taken."""

_NAMES = {False: "graph", True: "XLA"}
# Parts of operations' names; pooling goes backwards through a scatter
_SLOW = {"Conv": "convolutions", "While": "loops", "RNN": "loops", "Pool": "pooling"}
_JITTER = 0.02
_REPEATS = 5
_ZERO_SHARE = 0.1
_FLOOR = float(np.log(SMALLEST)) * 0.999


def check_gradient(
    classifier: Classifier,
    pixels: Array,
    labels: Array,
    batch_size: int,
    path: CompilePath = "auto",
) -> list[Finding]:
    """Chooses how gradients are compiled, and reports what puts attacks in doubt.

    Sets `classifier.jit_compile`. Costs about 15 forwards and 10 gradients of one batch.

    **Arguments**
    - `pixels`: float32 [n, H, W, C] in pixel space, n ≥ 1; the first 8 are used, repeated to
      `batch_size` rows, the shape that the engine will compile.
    - `labels`: class indices [n].
    - `path`: `graph` or `xla` is taken whatever its gradient is worth; `auto` takes the faster
      one of those that are right. Raises UsageError for one that cannot be compiled.
    """
    count = min(len(pixels), MAX_IMAGES, batch_size)
    rows = np.arange(batch_size) % count
    batch = Batch(
        np.asarray(pixels[:count], np.float32)[rows],
        np.asarray(labels[:count], np.int64)[rows],
        count,
    )
    # Flat backgrounds put many units exactly on a kink, where no difference quotient is right.
    noise = np.random.default_rng(0).uniform(-_JITTER, _JITTER, batch.x.shape)
    generic = Batch((batch.x + noise).astype(np.float32), batch.y, count)
    forward = tf.function(classifier.logits, autograph=False)

    def tried(jit: bool) -> Trial | str:
        return try_path(classifier, jit, forward, batch, generic)

    classifier.jit_compile = jit = path == "xla"
    found = tried(jit)
    if isinstance(found, Trial) and not found.finite:
        detail = "the model's logits are not finite on clean images"
        return [Finding("finite-logits", "suspect", detail)]
    other = None if isinstance(found, Trial) and found.right else tried(not jit)
    chosen, why = found, f"--compile {path}"
    if path != "auto":
        if isinstance(found, str):
            _refuse_uncompiled(classifier, jit, batch, found, other)
    elif isinstance(other, Trial) and (isinstance(found, str) or other.right):
        chosen, why, jit = other, "the plain graph's gradient is wrong here", True
    elif isinstance(found, Trial) and found.right and found.error is not None:
        chosen, why, jit = _faster(found, lambda: tried(True), forward, batch)
    else:
        why = "no gradient is known to be right by which XLA could be judged"
    classifier.jit_compile = jit
    if isinstance(chosen, str):
        detail = "TensorFlow cannot differentiate the model: only attacks without gradients work"
        return [Finding("gradient", "suspect", detail)]
    findings = _properties(classifier, forward, chosen.run, chosen.answer, batch)
    # what every run does needs no line of its own in the table
    remark: Verdict = "note" if jit or path != "auto" else "ok"
    return [
        _verdict(jit, chosen, other, findings),
        Finding("compile", remark, f"{_NAMES[jit]}: {why}"),
        *findings,
    ]


def _faster(
    graph: Trial, under_xla: Callable[[], Trial | str], forward: Any, batch: Batch
) -> tuple[Trial, str, bool]:
    """(what is taken, why, whether that is XLA), where the plain graph is right.

    On a CPU, XLA makes convolutions slower, and compiling them takes it seconds: there it is
    asked about dense networks alone. It has to win clearly, so that the next run chooses alike.
    """
    if not tf.config.list_logical_devices("GPU") and (slow := _slow_under_xla(forward, batch)):
        return graph, f"on a CPU, XLA makes {slow} slower", False
    try:
        xla = under_xla()
    except Exception as error:
        if not out_of_memory(error):
            raise
        return graph, "memory does not suffice for XLA", False
    if isinstance(xla, str):
        return graph, f"XLA cannot compile the model ({xla})", False
    if not xla.right or xla.error is None:
        return graph, "XLA's gradient is wrong here", False
    graph_seconds, xla_seconds = seconds((graph.run, xla.run), batch)
    ratio = graph_seconds / xla_seconds
    if ratio < GAIN:
        return graph, f"XLA is {ratio:.2g} times as fast here, no clear gain", False
    return xla, f"{ratio:.2g} times as fast here as the plain graph", True


def _slow_under_xla(forward: Any, batch: Batch) -> str:
    """The kind of operation that XLA computes slowly on a CPU, empty where there is none."""
    graph = forward.get_concrete_function(tf.TensorSpec(batch.x.shape, tf.float32)).graph
    kinds = {operation.type for operation in graph.get_operations()}
    for pattern, name in _SLOW.items():
        if any(pattern in kind for kind in kinds):
            return name
    return ""


def _refuse_uncompiled(
    classifier: Classifier, jit: bool, batch: Batch, reason: str, other: Trial | str | None
) -> None:
    """Raises UsageError unless it is the model that has no gradient, whichever way it is compiled.

    `reason`: why the path that the user wants has none.
    """
    if not isinstance(other, Trial):
        try:
            tf.function(classifier.logits, autograph=False, jit_compile=jit)(tf.constant(batch.x))
        except (tf.errors.OpError, NotImplementedError, LookupError) as error:
            reason = first_line(error)
        else:
            return
    asked, instead = ("xla", "graph") if jit else ("graph", "xla")
    raise UsageError(
        f"--compile {asked}: the model cannot be compiled so: {reason}",
        f"say --compile {instead}, or leave it at auto",
    )


def _verdict(
    jit: bool, chosen: Trial, other: Trial | str | None, findings: list[Finding]
) -> Finding:
    """`other`: the path that the user did not want, where it was tried."""
    error = chosen.error
    if error is None:
        return Finding("gradient", "suspect", "the gradient is too small to be checked")
    if error <= TOLERANCE:
        detail = f"the {_NAMES[jit]} gradient agrees with finite differences to {error:.1g}"
        return Finding("gradient", "ok", detail)
    if any(finding.check == "randomised" for finding in findings):
        return Finding("gradient", "suspect", "a randomised model's gradient cannot be checked")
    where = "compiled as a graph and by XLA"
    if isinstance(other, Trial) and other.right:  # and the user wants this one
        asked, instead = ("xla", "graph") if jit else ("graph", "xla")
        where = f"with --compile {asked}, and --compile {instead} computes it right"
    detail = (
        f"the gradient disagrees with finite differences by {error:.2g} (median), {where}: "
        "gradient attacks may miss examples"
    )
    return Finding("gradient", "suspect", detail)


def _properties(
    classifier: Classifier, forward: Any, run: Run, answer: Answer, batch: Batch
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


def _repeated(forward: Any, batch: Batch) -> float:
    """Largest change of any logit over five equal calls, relative to the logits' size."""
    x = tf.constant(batch.x)
    logits = np.stack([forward(x).numpy() for _ in range(_REPEATS)])
    return float(np.ptp(logits, axis=0).max() / max(np.abs(logits).max(), 1e-30))


def _row_position(run: Run, answer: Answer, batch: Batch) -> list[Finding]:
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
