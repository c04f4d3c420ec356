"""DDN: the perturbation's direction and its length are changed apart from each other.

Claims: near-optimal L2 distances in a few hundred gradients. Each step moves along the normalised
gradient of the cross-entropy, and then sets the length of the perturbation: a factor 1 − γ shorter
if the last point was adversarial, else 1 + γ longer. The step falls from 1 to 0.01 along a cosine.

Differs from the paper: likely rivals are looked at first (`scouts`; 0: not, as published); the last
steps go straight to the boundary (`settle`; 0: not, as published); the first length is what a flat
model would need, where the paper has 1; γ falls with the steps, so that the length settles
(`final-gamma=0.05`: as published); the length is set within the box, which clipping afterwards
would shorten; and the cross-entropy is taken in its log-odds form, which has the same direction and
does not underflow.

Misleads: where the gradient is masked, and where `steps` are too few for the walk along the
boundary.

Cost: `steps` gradients per image.

Rony et al., "Decoupling direction and norm for efficient gradient-based L2 adversarial attacks and
defenses", 1811.09600.
"""

from __future__ import annotations

import math
from typing import ClassVar, NamedTuple

from pydantic import Field

from advcli.attacks.base import Row
from advcli.attacks.nearest import Answer, Nearest
from advcli.lazy import Tensor, tf
from advcli.threats.budget import Norm
from advcli.threats.losses import LossName
from advcli.threats.space import Space, normalise_l2, norms_of, per_row

_FAR = 1e3  # longer than any perturbation that fits into the box


class Path(NamedTuple):
    length: Tensor  # of the next perturbation


class DDN(Nearest):
    name: ClassVar[str] = "ddn"
    summary: ClassVar[str] = "minimum L2 distance by decoupling direction and norm"
    norms: ClassVar[tuple[Norm, ...]] = ("l2",)
    climbs: ClassVar[LossName] = "ce"
    reference: ClassVar[str] = "Rony et al., 1811.09600"

    gamma: float = Field(0.05, gt=0, lt=1, description="relative change of the length")
    final_gamma: float = Field(0.001, gt=0, lt=1, description="the same at the last step")

    def begin(self, row: Row, space: Space) -> Path:
        return Path(tf.zeros_like(row.eps))

    def onward(self, row: Row, path: Path, answer: Answer, space: Space) -> tuple[Tensor, Path]:
        cosine = 0.5 * (1.0 + tf.cos(math.pi * answer.done))
        alpha = 0.01 + 0.99 * cosine
        gamma = self.final_gamma + (self.gamma - self.final_gamma) * cosine
        slope = tf.maximum(norms_of(answer.gradient, "l2"), 1e-12)
        first = tf.where(answer.met, answer.reach, tf.abs(answer.margin) / slope)
        before = tf.where(tf.equal(answer.t, 0.0), first, path.length)
        length = before * tf.where(answer.met, 1.0 - gamma, 1.0 + gamma)
        length = tf.minimum(length, norms_of(tf.maximum(row.x0, 1.0 - row.x0), "l2"))
        delta = answer.x - row.x0 + per_row(alpha, answer.x) * normalise_l2(answer.gradient)
        # projected from far outside, it comes to lie on the sphere, as far as the box lets it
        return space.project(row.x0 + _FAR * normalise_l2(delta), row.x0, length), Path(length)
