"""The classifier that everything above works on: pixel space in, logits out."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np

from advcli.errors import ModelError
from advcli.lazy import Tensor, tf
from advcli.models.backward import own_gradients
from advcli.models.branches import adds_branches
from advcli.models.findings import Finding
from advcli.models.folding import Folding, fold
from advcli.models.footprint import row_bytes
from advcli.models.head import SMALLEST, Head, without_peeling
from advcli.models.loader import LoadedModel, first_line
from advcli.models.preprocessing import Preprocessing
from advcli.models.sniff import shown

Array = np.ndarray[Any, Any]

FOLDING_TOLERANCE = 1e-4
"""How far, relative to the largest, logits may move where batch normalisation is folded."""

LARGEST_CONSTANTS = 300 * 2**20
"""Bytes of weights up to which they are embedded in each graph (10–25 % faster)."""


@dataclass(frozen=True)
class Confirmed:
    """The model's own answer: class int64 [N], and the logits behind it, float32 [N, K]."""

    prediction: Array
    logits: Array


class Classifier:
    """An image classifier with its preprocessing; see `build`.

    `input_shape` is (H, W, C) in pixel space; `jit_compile` the path that `check_gradient` found
    right (None before it ran, False the plain graph, True XLA). `threads_at_once`: whether one
    graph of it may be run by several threads at the same time.
    """

    input_shape: tuple[int, int, int]
    class_count: int
    findings: tuple[Finding, ...]
    jit_compile: bool | None
    threads_at_once: bool

    def __init__(
        self,
        loaded: LoadedModel,
        preprocessing: Preprocessing,
        head: Head,
        *,
        confirm_batch: int,
        findings: tuple[Finding, ...] = (),
        folding: Folding | None = None,
    ) -> None:
        self.input_shape = loaded.image.shape
        self.class_count = head.class_count
        self.preprocessing = preprocessing
        self.findings = findings
        self.jit_compile = None
        self.confirm_batch = confirm_batch
        self._loaded = loaded
        self.head = head
        self._folding = folding or Folding({}, ())
        model = loaded.model
        self._weights = tuple(
            [self._folding.weights.get(id(variable), variable.numpy()) for variable in variables]
            for variables in (model.trainable_variables, model.non_trainable_variables)
        )
        size = sum(weight.nbytes for weights in self._weights for weight in weights)
        if size > LARGEST_CONSTANTS:
            # A graph definition ends at 2 GB, so big weights come in as captured tensors.
            with tf.init_scope():
                self._weights = tuple(
                    [tf.constant(weight) for weight in weights] for weights in self._weights
                )
        self._confirm = self._compile_confirm()
        self.threads_at_once = not adds_branches(model)
        self._turn = threading.Lock()

    @property
    def row_bytes(self) -> int:
        """What one image costs in memory while its gradient is computed."""
        return row_bytes(self._loaded.model, self.input_shape)

    def logits(self, x: Tensor) -> Tensor:
        """Float32 [B, H, W, C] in [0, 1] to float32 logits [B, K], differentiably.

        Call it inside a `tf.function`: it builds graph, with the weights as constants.
        """
        trainable, others = (
            [tf.constant(w) if isinstance(w, np.ndarray) else w for w in weights]
            for weights in self._weights
        )
        y = self._loaded.image.arrange(self.preprocessing.apply(x))

        def run() -> Any:
            outputs, _ = self._loaded.model.stateless_call(trainable, others, y, training=False)
            return outputs

        with own_gradients(), self._folding.applied():
            logits, _ = self.head.forward(run)
        return logits

    def confirm(self, x: Array) -> Confirmed:
        """Asks the model as loaded (Keras's variables, float32) at one fixed batch shape.

        **Arguments**
        - `x`: float32 [N, H, W, C] in [0, 1], any N. Preprocessed in float64 and rounded once.
        """
        batch = self.confirm_batch
        answers = [self._confirmed(x[start : start + batch]) for start in range(0, len(x), batch)]
        return Confirmed(
            np.concatenate([np.zeros(0, np.int64), *(answer.prediction for answer in answers)]),
            np.concatenate(
                [np.zeros((0, self.class_count), np.float32), *(each.logits for each in answers)]
            ),
        )

    def _confirmed(self, x: Array) -> Confirmed:
        """Of one batch at most."""
        count = len(x)
        if count < self.confirm_batch:
            x = x[np.arange(self.confirm_batch) % count]
        fed = tf.constant(self.preprocessing.apply_exactly(x))
        with nullcontext() if self.threads_at_once else self._turn:
            prediction, logits = self._confirm(fed)
            return Confirmed(prediction.numpy()[:count], logits.numpy()[:count])

    def _compile_confirm(self) -> Callable[[Tensor], tuple[Tensor, Tensor]]:
        head, loaded = self.head, self._loaded

        def confirm(y: Tensor) -> tuple[Tensor, Tensor]:
            logits, output = head.forward(
                lambda: loaded.model(loaded.image.arrange(y), training=False)
            )
            return head.predict(output), logits

        signature = [tf.TensorSpec((self.confirm_batch, *self.input_shape), tf.float32)]
        compiled: Callable[[Tensor], tuple[Tensor, Tensor]] = tf.function(
            confirm, input_signature=signature, autograph=False
        )
        return compiled


def build(
    loaded: LoadedModel, preprocessing: Preprocessing, *, confirm_batch: int | None = None
) -> Classifier:
    """Puts a loaded model and its preprocessing together, after a look at its ending.

    The logits under a softmax or sigmoid are checked against the model's own output on a few
    probes; where they disagree, or where there is nothing to peel, a model whose outputs are
    probabilities is used through their logarithm.
    """
    preprocessing.check(loaded.image.shape[2])
    head, findings = _settle_head(loaded)
    if loaded.header.iterations == 0:
        findings += (
            Finding(
                "untrained", "note", "saved at optimizer step 0: it may never have been trained"
            ),
        )
    if loaded.image.layout == "flat":
        height, width, channels = loaded.image.shape
        detail = f"its flat input is read as an image of {height}×{width}×{channels}"
        findings += (Finding("flat-input", "note", detail),)
    if confirm_batch is None:
        # a lane has 32 answers confirmed at a time
        confirm_batch = max(8, min(32, 2**18 // math.prod(loaded.image.shape) // 8 * 8))

    def made(folding: Folding | None, findings: tuple[Finding, ...]) -> Classifier:
        return Classifier(
            loaded,
            preprocessing,
            head,
            confirm_batch=confirm_batch,
            findings=findings,
            folding=folding,
        )

    folding = fold(loaded.model)
    if folding.biases:
        folded = made(folding, findings)
        error = _folding_error(folded)
        if error <= FOLDING_TOLERANCE:
            return folded
        detail = f"batch normalisation is not folded: the logits would differ by {error:.2g}"
        findings += (Finding("folding", "note", detail),)
    return made(None, findings)


def _folding_error(classifier: Classifier) -> float:
    """Largest change of a logit relative to the largest logit, on noise and on flat colours."""
    shape = (classifier.confirm_batch, *classifier.input_shape)
    random = np.random.default_rng(0)
    x = random.random(shape, dtype=np.float32)
    x[::2] = random.random((*shape[:1], 1, 1, shape[3]), dtype=np.float32)[::2]
    found = tf.function(classifier.logits, autograph=False)(tf.constant(x)).numpy()
    expected = classifier.confirm(x).logits
    error = np.abs(found - expected).max() / max(np.abs(expected).max(), 1e-30)
    return float(error) if np.isfinite(error) else math.inf


def _settle_head(loaded: LoadedModel) -> tuple[Head, tuple[Finding, ...]]:
    head = loaded.head
    logits, output = _probe(loaded, head)
    where = shown(loaded.header.path)
    if head.ending == "softmax":
        expected = _softmax(logits)
    elif head.ending == "sigmoid unit":
        expected = _sigmoid(logits[:, 1:])
    elif head.ending == "sigmoids":
        expected = _sigmoid(logits)
    elif head.ending == "tanh unit":
        expected = np.tanh(logits[:, 1:] / 2)
    elif head.ending == "tanh":
        expected = np.tanh(logits)
    else:
        expected = output
    unpeeled = head.ending == "logits" and _are_probabilities(output)
    if unpeeled or not np.allclose(expected, output, atol=1e-4, equal_nan=True):
        head = without_peeling(head)
    if head.ending == "probabilities":
        if not _are_probabilities(output):
            raise ModelError(
                f"{where}: its output is neither logits nor probabilities",
                "advcli audits image classifiers: one image in, one score per class out",
            )
        detail = (
            "the model ends in probabilities without a softmax layer to take off; attacks work on "
            f"their logarithm, clipped at {SMALLEST:g}"
        )
        return head, (Finding("log-probabilities", "note", detail),)
    if head.ending == "sigmoids":
        detail = f"{head.class_count} sigmoid units: the largest is taken to be the class"
        return head, (Finding("sigmoid-outputs", "note", detail),)
    return head, ()


def _probe(loaded: LoadedModel, head: Head) -> tuple[Array, Array]:
    """Logits and output of a few fixed inputs: noise and flat colour at two scales."""
    random = np.random.default_rng(0)
    noise = random.random((2, *loaded.image.shape), dtype=np.float32)
    inputs = np.concatenate([noise[:1], noise[1:] * 255, noise[:1] * 0 + 0.5])

    def run(y: Tensor) -> tuple[Tensor, Tensor]:
        return head.forward(lambda: loaded.model(loaded.image.arrange(y), training=False))

    try:
        logits, output = tf.function(run, autograph=False)(tf.constant(inputs))
    except (ValueError, TypeError, IndexError, tf.errors.OpError) as error:
        raise ModelError(
            f"{shown(loaded.header.path)}: cannot be computed here: {first_line(error)}",
            "try --device cpu or another TensorFlow version",
        ) from error
    return logits.numpy(), output.numpy()


def _are_probabilities(output: Array) -> bool:
    sums = output.sum(axis=1)
    return bool(
        np.isfinite(output).all() and (output >= 0).all() and np.allclose(sums, 1, atol=1e-3)
    )


def _softmax(z: Array) -> Array:
    shifted = np.exp(z.astype(np.float64) - z.max(axis=1, keepdims=True))
    return np.asarray(shifted / shifted.sum(axis=1, keepdims=True))


def _sigmoid(z: Array) -> Array:
    return np.asarray(0.5 * (1 + np.tanh(0.5 * z.astype(np.float64))))
