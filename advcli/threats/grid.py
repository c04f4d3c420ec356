"""The 8-bit grid: the points that a file can hold.

An attack works on real numbers; its file holds 256 levels. Rounding to the nearest level can undo
a perturbation, or leave the ball; `Grid.round` never leaves the ball, and keeps the perturbation's
size where the norm lets it.
"""

from __future__ import annotations

from typing import Literal

import numpy as np

from advcli.lazy import Tensor, tf
from advcli.threats.budget import Norm, whole_levels
from advcli.threats.space import Bounds, Space, clipped, per_row, select

Pixels = Literal["uint8", "float"]

_ROUNDS = 8
_UNIT = np.float32(1.0 / 255.0)
_SLACK = 1e-3  # of a level: float32 noise, far below any difference between levels


class Grid:
    """Rounds candidates; `pixels="float"` leaves them alone."""

    def __init__(self, pixels: Pixels, norm: Norm) -> None:
        self.pixels = pixels
        self.norm = norm

    def decode(self, pixels: Tensor) -> Tensor:
        """Clean pixels as they come into the graph -> float32: uint8 levels, or numbers already."""
        return pixels if self.pixels == "float" else decode(pixels)

    def inner(self, eps: float | None) -> float:
        """The ball that the graph works in: float32 noise must not carry a point out of `eps`."""
        if eps is None:
            return float("inf")
        if self.pixels == "float":
            return eps if self.norm == "l0" else max(eps * (1.0 - 1e-5) - 1.2e-7, 0.0)
        # on the grid the budget is a whole number of levels, and rounding sees to the others
        return whole_levels(eps) / 255 if self.norm == "linf" else eps

    def bounds(self, x0: Tensor, eps: Tensor, space: Space) -> Bounds:
        """The bounds that hold for points of this grid; they lie on it themselves."""
        if self.pixels == "float" or self.norm != "linf":
            return space.bounds(x0, eps)
        origin = tf.round(x0 * 255.0)
        most = per_row(tf.floor(eps * 255.0 + _SLACK), x0)
        return Bounds(_level(origin - most), _level(origin + most))

    def snap(self, x: Tensor, bounds: Bounds) -> Tensor:
        """`round` for uint8 and Linf, where the bounds are known."""
        return clipped(tf.round(x * 255.0) * _UNIT, bounds)

    def round(self, x: Tensor, x0: Tensor, eps: Tensor) -> Tensor:
        """The point of the grid that stands for `x`; x0 lies on the grid, eps [S] may be inf.

        Linf: the nearest level within eps. L2, L1: one threshold per image decides which values
        round away from x0: as many as leave the norm at or below that of x − x0. L0: nearest.
        """
        if self.pixels == "float":
            return x
        if self.norm == "linf":
            return self.snap(x, self.bounds(x0, eps, Space("linf", x0.shape[1:])))
        steps = (x - x0) * 255.0
        origin = tf.round(x0 * 255.0)
        if self.norm == "l0":
            return _level(origin + tf.round(steps))
        return _level(origin + tf.sign(steps) * self._share(tf.abs(steps), eps * 255.0))

    def _share(self, size: Tensor, most: Tensor) -> Tensor:
        """Whole levels for `size`: Σ levels (L1) or Σ levels² (L2) within what `size` has.

        These sums are whole numbers, so the budget is one too: `most`, or its square, rounded
        down. Float32 noise in `most` is forgiven, never a level.
        """
        l1 = self.norm == "l1"
        whole = tf.floor(most * (1.0 + 5e-7) if l1 else tf.square(most) * (1.0 + 1e-6))

        def spent(levels: Tensor) -> Tensor:
            return tf.reduce_sum(levels if l1 else tf.square(levels), axis=[1, 2, 3])

        inner = tf.floor(size + _SLACK)
        rest = size - inner
        bound = tf.minimum(spent(size) * (1.0 + 1e-5), whole)
        low = tf.zeros_like(bound)  # rounds everything outwards: too far, unless all is whole
        high = tf.ones_like(bound)  # rounds everything inwards

        def outwards(threshold: Tensor) -> Tensor:
            return inner + tf.cast(rest > per_row(threshold, rest), tf.float32)

        for _ in range(_ROUNDS):
            middle = 0.5 * (low + high)
            fits = spent(outwards(middle)) <= bound
            low, high = tf.where(fits, low, middle), tf.where(fits, middle, high)
        levels = outwards(high)
        # many values a hair below a level: the slack would add up to more than the budget
        return select(spent(levels) <= whole, levels, tf.floor(size))


def _level(level: Tensor) -> Tensor:
    return tf.clip_by_value(level, 0.0, 255.0) * _UNIT


def decode(pixels: Tensor) -> Tensor:
    """uint8 -> float32 in [0, 1], inside a graph.

    A multiplication on purpose: graph optimisers turn a division by 255 into one, here but not
    there, and a clean image must be the same number wherever it is compared.
    """
    return tf.cast(pixels, tf.float32) * _UNIT


def to_bytes(x: np.ndarray) -> np.ndarray:
    """float32 on the grid -> the uint8 that the file will hold."""
    return np.rint(x * 255.0).astype(np.uint8)


def from_bytes(pixels: np.ndarray) -> np.ndarray:
    """uint8 -> float32 in [0, 1], by the division that a user of the files would write."""
    return pixels.astype(np.float32) / np.float32(255.0)
