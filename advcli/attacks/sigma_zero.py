"""σ-zero: the fewest pixels, by descending a smooth count of them.

Claims: the fewest changed values at a given number of steps among gradient attacks. Adam descends
max(0, −margin) plus the mean over the pixels of s/(s + σ), with s a pixel's squared change: nearly
the share of pixels changed. After each step all pixels that moved by less than a threshold go back
to the clean image; the threshold grows while the point is adversarial and falls while it is not.

Differs from the paper: Adam's first step is four times as long (as published: learning-rate=1),
which took 1 to 12 % off the mean distance on the samples; likely rivals are looked at first
(`scouts`; 0: not, as published); the last steps take back one pixel after the other (`settle`; 0:
not, as published); it counts pixels, all channels of one together, where the paper counts values
(on gray images that is the same); and it can be targeted.

Misleads: few pixels may be very visible ones; other norms say nothing about it.

Cost: `steps` gradients per image.

Cinà et al., "σ-zero: gradient-based optimization of l0-norm adversarial examples", 2402.01879.
"""

from __future__ import annotations

import math
from typing import ClassVar, NamedTuple

from pydantic import Field

from advcli.attacks.base import Row
from advcli.attacks.nearest import Answer, Nearest
from advcli.lazy import Tensor, tf
from advcli.threats.budget import Norm
from advcli.threats.space import Space, blend, per_row

_BETA1, _BETA2 = 0.9, 0.999  # Adam's defaults
_AXES = [1, 2, 3]


class Path(NamedTuple):
    m: Tensor  # Adam's moments
    v: Tensor
    threshold: Tensor  # pixels that moved by less go back


class SigmaZero(Nearest):
    name: ClassVar[str] = "sigma-zero"
    summary: ClassVar[str] = "fewest pixels, by a smooth approximation of their number"
    norms: ClassVar[tuple[Norm, ...]] = ("l0",)
    reference: ClassVar[str] = "Cinà et al., 2402.01879"

    steps: int = Field(500, ge=2, le=100_000, description="gradient steps, scouts included")
    settle: int = Field(50, ge=0, le=1000, description="last steps, pixels taken back one by one")
    learning_rate: float = Field(4.0, gt=0, le=10, description="Adam's first step")
    sigma: float = Field(1e-3, gt=0, le=1, description="how closely pixels are counted")
    threshold: float = Field(
        0.3, ge=0, le=1, description="first size below which a pixel goes back"
    )
    adapt: float = Field(0.01, ge=0, le=1, description="how fast that size follows, × Adam's step")

    def begin(self, row: Row, space: Space) -> Path:
        blank = tf.zeros_like(row.x0)
        return Path(blank, blank, tf.fill(tf.shape(row.eps), self.threshold))

    def onward(self, row: Row, path: Path, answer: Answer, space: Space) -> tuple[Tensor, Path]:
        delta = answer.x - row.x0
        square = tf.reduce_sum(tf.square(delta), axis=-1, keepdims=True)
        pixels = float(space.shape[0] * space.shape[1])
        crowd = 2.0 * self.sigma * delta / tf.square(square + self.sigma) / pixels
        slope = crowd - per_row(tf.cast(~answer.met, tf.float32), delta) * answer.gradient
        slope /= tf.maximum(tf.reduce_max(tf.abs(slope), axis=_AXES, keepdims=True), 1e-12)

        t = answer.t + 1.0
        m = _BETA1 * path.m + (1.0 - _BETA1) * slope
        v = _BETA2 * path.v + (1.0 - _BETA2) * tf.square(slope)
        root = tf.sqrt(v / per_row(1.0 - tf.pow(_BETA2, t), v)) + 1e-8
        rate = self.learning_rate * (0.1 + 0.45 * (1.0 + tf.cos(math.pi * answer.done)))
        pace = per_row(rate / (1.0 - tf.pow(_BETA1, t)), m)
        x = tf.clip_by_value(answer.x - pace * m / root, 0.0, 1.0)

        threshold = path.threshold + tf.where(answer.met, 1.0, -1.0) * self.adapt * rate
        threshold = tf.clip_by_value(threshold, 0.0, 1.0)
        size = tf.reduce_max(tf.abs(x - row.x0), axis=-1, keepdims=True)
        x = blend(size < per_row(threshold, size), row.x0, x)
        return x, Path(m, v, threshold)
