"""A linear classifier, for which the nearest adversarial image is known in closed form."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import tensorflow as tf


@dataclass(frozen=True)
class Confirmed:
    prediction: np.ndarray
    logits: np.ndarray


class LinearModel:
    """Logits = flatten(x)·W + b; stands in for `advcli.models.classifier.Classifier`."""

    jit_compile: bool | None = None
    threads_at_once = True

    def __init__(self, shape, classes: int, seed: int = 0, scale: float = 1.0) -> None:
        random = np.random.default_rng(seed)
        self.input_shape = tuple(shape)
        self.class_count = classes
        size = int(np.prod(shape))
        self.W = (scale * random.normal(size=(size, classes)) / np.sqrt(size)).astype(np.float32)
        # the average image lies near every boundary, so that distances are moderate
        self.b = (-0.5 * self.W.sum(axis=0)).astype(np.float32)

    def logits(self, x):
        flat = tf.reshape(x, [-1, self.W.shape[0]])
        return flat @ tf.constant(self.W) + tf.constant(self.b)

    def confirm(self, x) -> Confirmed:
        z = np.asarray(x, np.float64).reshape(len(x), -1) @ self.W.astype(np.float64) + self.b
        return Confirmed(z.argmax(axis=1), z.astype(np.float32))


def images(shape, count: int, seed: int = 1, low: int = 0, high: int = 256) -> np.ndarray:
    """uint8 [count, *shape]; low = 0 and high = 256 make the box bind, 96 and 160 do not."""
    return np.random.default_rng(seed).integers(low, high, (count, *shape)).astype(np.uint8)


def exact_distance(model: LinearModel, image: np.ndarray, norm: str, target=None) -> float:
    """The distance from `image` (uint8) to the nearest point of the box with another label.

    Exact, box included: per rival class a one-dimensional problem (the most margin that a budget
    can buy), solved by bisection or greedily. Two-class target: the distance to that class is only
    meaningful against the label alone.
    """
    x = image.reshape(-1) / 255.0
    z = x @ model.W.astype(np.float64) + model.b
    label = int(z.argmax())
    rivals = [j for j in range(model.class_count) if j != label]
    if target is not None:
        rivals = [target]
    best = np.inf
    for rival in rivals:
        w = model.W[:, rival].astype(np.float64) - model.W[:, label]
        gap = z[label] - z[rival]
        room = np.where(w > 0, 1.0 - x, x)
        best = min(best, _least(np.abs(w), room, gap, norm, image.shape))
    return float(best)


def _least(w, room, gap, norm, shape) -> float:
    if (w * room).sum() < gap:
        return np.inf
    if norm == "linf":
        return _bisect(lambda e: (w * np.minimum(e, room)).sum() >= gap, 0.0, 1.0)
    if norm == "l2":
        # the optimum is min(s·w, room) for some s (KKT)
        s = _bisect(lambda s: (w * np.minimum(s * w, room)).sum() >= gap, 0.0, 1e9)
        return float(np.linalg.norm(np.minimum(s * w, room)))
    if norm == "l1":
        spent, left = 0.0, gap
        for i in np.argsort(-w):
            gain = w[i] * room[i]
            if gain >= left:
                return spent + left / w[i]
            spent, left = spent + room[i], left - gain
        return np.inf
    per_pixel = (w * room).reshape(-1, shape[-1]).sum(axis=1)
    return float(1 + np.searchsorted(np.cumsum(-np.sort(-per_pixel)), gap))


def _bisect(enough, low: float, high: float) -> float:
    for _ in range(200):
        middle = 0.5 * (low + high)
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high
