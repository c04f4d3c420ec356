"""FMN: the fast minimum-norm attack, an ascent inside a ball whose radius adapts at every step.

Claims: near-optimal distances in L0, L1, L2 and Linf from a few hundred gradients. Each step goes
along the normalised gradient of the margin and back into the ball around the clean image. The
radius shrinks by a factor 1 − γ where the last point was adversarial, and to the closest one known
at most; else it grows by 1 + γ, or, while nothing adversarial is known, to where the boundary
would lie if the model were flat. The step falls from 1 to 0.01 and γ from 0.05 to 0.001 along a
cosine. In L0 the radius is a whole number of pixels.

Differs from the paper: likely rivals are looked at first (`scouts`; 0: not, as published); the last
steps go straight to the boundary (`settle`; 0: not, as published); the projection is onto ball and
box together, where the paper clips afterwards; until something adversarial is known the radius only
grows, and goes a little beyond a flat model's boundary, where the paper's may come to rest short of
it; L0 counts pixels, not values, and its radius too starts from what a flat model would need.

Misleads: by some percent where `steps` are few; a distance in L0 is the loosest of the four.

Cost: `steps` gradients per image.

Pintor et al., "Fast minimum-norm adversarial attacks through adaptive norm constraints",
2102.12827.
"""

from __future__ import annotations

import math
from typing import ClassVar, NamedTuple

from pydantic import Field

from advcli.attacks.base import Row
from advcli.attacks.nearest import Answer, Nearest, fewest_pixels
from advcli.lazy import Tensor, tf
from advcli.threats.budget import Norm
from advcli.threats.hyperplane import dual_norms
from advcli.threats.space import Space, normalise_l2, norms_of, per_row


class Path(NamedTuple):
    eps: Tensor  # the radius that the next point is projected to


class FMN(Nearest):
    name: ClassVar[str] = "fmn"
    summary: ClassVar[str] = "fast minimum norm: projected ascent on a ball that adapts"
    norms: ClassVar[tuple[Norm, ...]] = ("linf", "l2", "l1", "l0")
    reference: ClassVar[str] = "Pintor et al., 2102.12827"

    alpha: float = Field(1.0, gt=0, le=100, description="first step length, in L2")
    final_alpha: float = Field(0.01, gt=0, le=100, description="last step length")
    gamma: float = Field(0.05, gt=0, lt=1, description="first relative change of the radius")
    final_gamma: float = Field(0.001, gt=0, lt=1, description="last relative change of the radius")

    def begin(self, row: Row, space: Space) -> Path:
        start = 1.0 if space.norm == "l0" else 0.0
        return Path(tf.fill(tf.shape(row.eps), start))

    def onward(self, row: Row, path: Path, answer: Answer, space: Space) -> tuple[Tensor, Path]:
        cosine = 0.5 * (1.0 + tf.cos(math.pi * answer.done))
        alpha = self.final_alpha + (self.alpha - self.final_alpha) * cosine
        gamma = self.final_gamma + (self.gamma - self.final_gamma) * cosine
        eps = self._radius(row, path.eps, answer, gamma, space)
        x = answer.x + per_row(alpha, answer.x) * normalise_l2(answer.gradient)
        return space.project(x, row.x0, eps), Path(eps)

    def _radius(self, row: Row, eps: Tensor, answer: Answer, gamma: Tensor, space: Space) -> Tensor:
        worst = norms_of(tf.maximum(row.x0, 1.0 - row.x0), space.norm)
        eps = tf.where(tf.equal(answer.t, 0.0) & answer.met, answer.reach, eps)
        if space.norm == "l0":
            less = tf.minimum(tf.minimum(eps - 1.0, tf.floor(eps * (1.0 - gamma))), answer.reach)
            more = tf.maximum(eps + 1.0, tf.floor(eps * (1.0 + gamma)))
            gap = -answer.margin - tf.reduce_sum(
                answer.gradient * (row.x0 - answer.x), axis=[1, 2, 3]
            )
            flat = fewest_pixels(row.x0, answer.gradient, gap, space)
            more = tf.where(answer.found, more, tf.maximum(more, flat))
            return tf.clip_by_value(tf.where(answer.met, less, more), 0.0, worst)
        less = tf.minimum(eps * (1.0 - gamma), answer.reach)
        slope = tf.maximum(dual_norms(answer.gradient, space.norm), 1e-12)
        flat = answer.distance + tf.abs(answer.margin) / slope
        more = tf.where(answer.found, eps, tf.maximum(eps, flat)) * (1.0 + gamma)
        return tf.minimum(tf.where(answer.met, less, more), worst)
