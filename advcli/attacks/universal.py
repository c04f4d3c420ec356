"""Universal perturbation: one perturbation for all images, learned from a part of them.

Claims: a model has directions along which most images cross a boundary. One perturbation is
learned from a part of the images and added to all the others: no query, no gradient, no knowledge
of the image it is added to.

`method=sgd` ascends the mean over batches of a cross-entropy that is cut off per image, so that
fooled images do not outweigh the others; in Linf by signs, in L2 along the gradient, the step
falling from `rel-step`·eps along a cosine. Each image is moved a little at random (`jitter`), for
what works on moved images works better on new ones.

`method=deepfool,jitter=0` is the first published form: each image that is not yet fooled adds the
smallest perturbation that carries it, with all that was added before, over the nearest boundary,
and it ends once `1 - delta` of the images are fooled as they are met. It is slower and weaker.

Misleads: a search on each image finds far more, so what stands here is not robust. From a few
images it learns those images: the figure is that of images it has not seen, and the gap between
the two is shown while it learns. The perturbation is no secret of the model alone: it often
carries over to other models (`--surrogate`).

Cost: `steps` × `batch` gradients once (`deepfool`: up to 100 times as many); then one forward per
image.

Moosavi-Dezfooli et al., "Universal adversarial perturbations", 1610.08401.
SGD: Shafahi et al., "Universal adversarial training", 1811.11304.
"""

from __future__ import annotations

import io
import math
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
from PIL import Image
from pydantic import Field

from advcli.attacks.fitted import (
    Fitted,
    FittedAttack,
    Task,
    Trainer,
    array_bytes,
    read_array,
)
from advcli.lazy import Tensor, tf
from advcli.threats.budget import Norm
from advcli.threats.losses import Goal, margin
from advcli.threats.randomness import Random
from advcli.threats.space import normalise_l2

FILE = "universal.npy"
_RIVALS = 10  # classes that DeepFool looks at
_ROUNDS = 10  # its linearisations at most
_OVERSHOOT = 0.02
_SHOWN = 512  # pixels of the picture's longer side, at least


class Perturbation(Fitted):
    """`delta`: float32 [H, W, C] within the ball."""

    def __init__(self, delta: np.ndarray) -> None:
        self.delta = delta

    def apply(self, x: Tensor, eps: Tensor, random: Random) -> Tensor:
        return x + self.delta

    def files(self) -> dict[str, bytes]:
        return {FILE: array_bytes(self.delta), "universal.png": picture(self.delta)}


class Universal(FittedAttack):
    name: ClassVar[str] = "universal"
    summary: ClassVar[str] = "one perturbation for all images, learned from a part of them"
    norms: ClassVar[tuple[Norm, ...]] = ("linf", "l2")
    reference: ClassVar[str] = "Moosavi-Dezfooli et al., 1610.08401; Shafahi et al., 1811.11304"

    method: Literal["sgd", "deepfool"] = Field("sgd", description="how it is learned")
    steps: int = Field(300, ge=1, le=1_000_000, description="batches that it learns from, at most")
    rel_step: float = Field(
        0.2, gt=0, le=10, description="sgd: first step length, as a share of eps"
    )
    delta: float = Field(
        0.2, ge=0, lt=1, description="deepfool: ends with this share of images not fooled"
    )

    def trainer(self, task: Task) -> Trainer:
        return _Ascent(self, task) if self.method == "sgd" else _DeepFool(self, task)

    def load(self, folder: Path, shape: tuple[int, int, int]) -> Fitted:
        return Perturbation(read_array(folder / FILE, shape))

    def fit_cost(self) -> tuple[int, int]:
        each = 1 if self.method == "sgd" else 1 + _RIVALS * _ROUNDS
        return self.steps * self.batch * each, self.steps * self.batch * each


class _Ascent(Trainer):
    """Stochastic gradient ascent of the mean loss."""

    def __init__(self, settings: Universal, task: Task) -> None:
        self._settings, self._task = settings, task
        self._delta = tf.Variable(tf.zeros(task.shape))

    def step(self, x: Tensor, label: Tensor, done: Tensor) -> Tensor:
        settings, task = self._settings, self._task
        with tf.GradientTape() as tape:
            point = tf.clip_by_value(x + self._delta, 0.0, 1.0)
            loss, fooled = task.loss(point, label)
            value = tf.reduce_mean(loss)
        g = tape.gradient(value, self._delta)
        g = tf.where(tf.math.is_finite(g), g, 0.0)
        length = settings.rel_step * task.eps * 0.5 * (1.0 + tf.cos(math.pi * done))
        direction = tf.sign(g) if task.norm == "linf" else normalise_l2(g[None])[0]
        self._delta.assign(_inside(self._delta + length * direction, task))
        return fooled

    def fitted(self) -> Fitted:
        return Perturbation(self._delta.numpy())


class _DeepFool(Trainer):
    """Image after image, the smallest perturbation that adds one more to the fooled ones."""

    def __init__(self, settings: Universal, task: Task) -> None:
        self.enough = 1.0 - settings.delta
        self._task = task
        self._delta = tf.Variable(tf.zeros(task.shape))

    def step(self, x: Tensor, label: Tensor, done: Tensor) -> Tensor:
        # differs from the paper: the share fooled is counted as a pass meets the images, not in a
        # pass of its own
        return tf.map_fn(
            lambda pair: self._visit(pair[0][None], pair[1][None]),
            (x, label),
            fn_output_signature=tf.bool,
            parallel_iterations=1,
        )

    def _visit(self, x: Tensor, label: Tensor) -> Tensor:
        goal = self._task.goal(label)
        start = x + self._delta
        met = _met(self._task.logits(start), goal)[0]

        def going(k: Tensor, r: Tensor, reached: Tensor) -> Tensor:
            return ~reached & (k < _ROUNDS)

        def linearise(k: Tensor, r: Tensor, reached: Tensor) -> tuple[Tensor, Tensor, Tensor]:
            r += self._nearest(start + (1.0 + _OVERSHOOT) * r, goal)
            z = self._task.logits(start + (1.0 + _OVERSHOOT) * r)
            return k + 1, r, _met(z, goal)[0]

        k, r, reached = tf.while_loop(going, linearise, (0, tf.zeros_like(x), met))
        # one that did not converge is passed over, as in the authors' code
        useful = reached & (k < _ROUNDS) & tf.reduce_all(tf.math.is_finite(r))
        moved = _inside(self._delta + (1.0 + _OVERSHOOT) * r[0], self._task)
        self._delta.assign(tf.where(useful & ~met, moved, self._delta))
        return met

    def _nearest(self, point: Tensor, goal: Goal) -> Tensor:
        """To the nearest of the linearised boundaries, [1, H, W, C] (DeepFool, 1511.04599)."""
        count = 2 if self._task.target >= 0 else min(_RIVALS, self._task.classes)
        many = tf.repeat(point, count, axis=0)
        with tf.GradientTape() as tape:
            tape.watch(many)
            z = self._task.logits(many)
            classes = self._candidates(z[0], goal, count)
            chosen = tf.gather(z, classes[:, None], batch_dims=1)[:, 0]
        g = tape.gradient(chosen, many)
        w, f = g[1:] - g[:1], chosen[1:] - chosen[0]
        size = tf.norm(tf.reshape(w, [count - 1, -1]), axis=1) + 1e-12
        nearest = tf.argmin(tf.abs(f) / size)
        far = (tf.abs(f) / tf.square(size))[nearest]
        return far * w[nearest][None]

    def _candidates(self, z: Tensor, goal: Goal, count: int) -> Tensor:
        """The label, and behind it the rivals that count."""
        if self._task.target >= 0:
            best = tf.argmax(z, output_type=tf.int32)[None]
            return tf.concat([best, goal.target], axis=0)
        ranked = tf.math.top_k(z, k=count).indices
        others = tf.boolean_mask(ranked, ranked != goal.label)[: count - 1]
        return tf.concat([goal.label, others], axis=0)

    def fitted(self) -> Fitted:
        return Perturbation(self._delta.numpy())


def _met(logits: Tensor, goal: Goal) -> Tensor:
    return margin(logits, goal) > 0.0


def _inside(delta: Tensor, task: Task) -> Tensor:
    """The nearest perturbation within the ball."""
    if task.norm == "linf":
        return tf.clip_by_value(delta, -task.eps, task.eps)
    size = tf.norm(delta)
    return delta * tf.minimum(1.0, tf.math.divide_no_nan(task.eps, size))


def picture(delta: np.ndarray) -> bytes:
    """A PNG to look at: grey is no change, the largest change is black or white in its channel."""
    peak = float(np.abs(delta).max(initial=0.0)) or 1.0
    levels = np.rint(127.5 * (1.0 + delta / peak)).astype(np.uint8)
    channels = delta.shape[2]
    image = Image.fromarray(levels[:, :, 0] if channels == 1 else levels[:, :, :3])
    factor = max(1, -(-_SHOWN // max(image.size)))
    image = image.resize((factor * image.width, factor * image.height), Image.Resampling.NEAREST)
    data = io.BytesIO()
    image.save(data, "PNG")
    return data.getvalue()
