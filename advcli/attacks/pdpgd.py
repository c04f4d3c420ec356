"""PDPGD: distance and margin as a game of two players, the distance by proximal steps.

Claims: small distances in L1 and Linf (also L2) on robust and undefended networks. Adam descends
a smooth loss of the margin; the proximal operator of the norm, in Adam's own metric, then shrinks
the perturbation. How much one weighs against the other is the second player's: the log of that
weight falls by a step wherever the point is adversarial, and grows where it is not.

Differs from the paper: likely rivals are looked at first (`scouts`; 0: not, as published); the last
steps go straight to the boundary (`settle`; 0: not, as published); the learning rate falls to a
thirtieth (as published: `final-rate=0.01`), which ends nearer in L1; and its L0 form is left out:
it needs more pixels than `sigma-zero` on every model tried.

Misleads: with less than some 300 steps the weight has no time to settle, and the distances are far
too large.

Cost: `steps` gradients per image.

Matyasko & Chau, "PDPGD: primal-dual proximal gradient descent adversarial attack", 2106.01538.
"""

from __future__ import annotations

import math
from typing import ClassVar, NamedTuple

from pydantic import Field

from advcli.attacks.base import Row
from advcli.attacks.nearest import Answer, Nearest
from advcli.lazy import Tensor, tf
from advcli.threats.budget import Norm
from advcli.threats.space import Space, norms_of, per_row, select

_BETA1, _BETA2 = 0.9, 0.999  # Adam's defaults
_AXES = [1, 2, 3]
_NEWTON = 8
_SETTLED = 1e-2  # a proximal step ends where a round changes it by a smaller share


class Path(NamedTuple):
    m: Tensor  # Adam's moments
    v: Tensor
    dual: Tensor  # log of the weight of the margin over that of the distance
    weight: Tensor  # the distance's share of both weights, averaged over the steps


class PDPGD(Nearest):
    name: ClassVar[str] = "pdpgd"
    summary: ClassVar[str] = "minimum distance by primal-dual proximal gradient descent"
    norms: ClassVar[tuple[Norm, ...]] = ("l1", "linf", "l2")
    reference: ClassVar[str] = "Matyasko & Chau, 2106.01538"

    steps: int = Field(500, ge=2, le=100_000, description="gradient steps, scouts included")
    learning_rate: float = Field(0.1, gt=0, le=10, description="Adam's first step")
    final_rate: float = Field(0.03, gt=0, le=1, description="its last step, as a share of it")
    dual_rate: float = Field(0.1, gt=0, le=10, description="first step of the log of the weights")
    ratio: float = Field(
        0.01, gt=0, lt=1, description="first weight of the distance / the margin's"
    )
    proximal_steps: int = Field(5, ge=1, le=100, description="rounds of each proximal step at most")

    def begin(self, row: Row, space: Space) -> Path:
        zero = tf.zeros_like(row.eps)
        blank = tf.zeros_like(row.x0)
        share = self.ratio / (1.0 + self.ratio)
        return Path(blank, blank, zero - math.log(self.ratio), zero + share)

    def onward(self, row: Row, path: Path, answer: Answer, space: Space) -> tuple[Tensor, Path]:
        slope = -per_row(tf.sigmoid(-answer.margin), answer.x) * answer.gradient
        t = answer.t + 1.0
        m = _BETA1 * path.m + (1.0 - _BETA1) * slope
        v = _BETA2 * path.v + (1.0 - _BETA2) * tf.square(slope)
        root = tf.sqrt(v / per_row(1.0 - tf.pow(_BETA2, t), v)) + 1e-8
        rate = self.learning_rate * tf.pow(self.final_rate, answer.done)
        pace = per_row(rate / (1.0 - tf.pow(_BETA1, t)), m)
        x = tf.clip_by_value(answer.x - pace * m / root, 0.0, 1.0)

        steepest = tf.reduce_max(root, axis=_AXES)
        strength = path.weight / (1.0 - path.weight) * rate / steepest
        x = self._shrunk(row, x, root / per_row(steepest, root), strength, space)

        towards = tf.where(answer.met, -1.0, 1.0) * self.dual_rate * (1.0 - 0.9 * answer.done)
        most = math.log(1e6)
        dual = tf.clip_by_value(path.dual + towards, -most, most)
        weight = 0.9 * path.weight + 0.1 * tf.sigmoid(-dual)
        return x, Path(m, v, dual, weight)

    def _shrunk(self, row: Row, x: Tensor, scale: Tensor, strength: Tensor, space: Space) -> Tensor:
        """The proximal step in Adam's metric: its own fixed point, found in a few rounds."""
        r = x - row.x0
        z = r
        moving = tf.ones_like(strength, tf.bool)
        for _ in range(self.proximal_steps):
            nearer = _proximal(z - scale * (z - r), strength, space.norm)
            nearer = tf.clip_by_value(row.x0 + nearer, 0.0, 1.0) - row.x0
            change = norms_of(nearer - z, "l2")
            z = select(moving, nearer, z)
            moving &= change > _SETTLED * norms_of(nearer, "l2")
        return row.x0 + z


def _proximal(r: Tensor, strength: Tensor, norm: Norm) -> Tensor:
    """argmin over z of ‖z − r‖²/2 + strength·‖z‖."""
    cut = per_row(strength, r)
    if norm == "l1":
        return tf.sign(r) * tf.maximum(tf.abs(r) - cut, 0.0)
    if norm == "l2":
        length = per_row(norms_of(r, "l2"), r)
        return r * tf.maximum(1.0 - tf.math.divide_no_nan(cut, length), 0.0)
    # Linf: the largest values come down to one level, by `strength` in sum
    size = tf.abs(r)
    level = tf.zeros_like(strength)
    for _ in range(_NEWTON):
        above = tf.cast(size > per_row(level, size), tf.float32)
        many = tf.maximum(tf.reduce_sum(above, axis=_AXES), 1.0)
        level = (tf.reduce_sum(above * size, axis=_AXES) - strength) / many
        level = tf.maximum(level, 0.0)
    return tf.clip_by_value(r, -per_row(level, r), per_row(level, r))
