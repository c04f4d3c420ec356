"""PGD: projected gradient descent, the reference white-box attack.

Claims: no first-order attack with the same loss and budget does much better on an undefended or
adversarially trained network. From a random point of the ball, each step follows the steepest
direction of the loss in the norm (sign, normalised gradient, or the L1 step shared by the
largest values) and projects back onto the ball and the box.

The step length falls from eps to 0 along a cosine: the first steps cross the ball, so that an
undefended network costs three or four of them, and the last ones settle. The published form, a
constant step, is `schedule=constant` with, say, `rel-step=0.0625` (2.5/steps) or 0.0333 (Foolbox).
The loss is cross-entropy in its log-odds form, which does not underflow.

Misleads: on networks that randomise or shatter their gradients, and by a few points on robust
ones, where other losses, targets and restarts still find something.

Cost: `steps` gradients per image, eps and restart; fewer where it succeeds.

Madry et al., "Towards deep learning models resistant to adversarial attacks", 1706.06083.
L1 steps: Tramèr & Boneh, "Adversarial training and robustness for multiple perturbations",
1904.13000 (SLIDE).
"""

from __future__ import annotations

import math
from typing import ClassVar, Literal, NamedTuple

from pydantic import Field

from advcli.attacks.base import Attack, Oracle, Row, Step
from advcli.lazy import Tensor, tf
from advcli.threats.budget import Norm
from advcli.threats.losses import LOSSES, LossName
from advcli.threats.randomness import Random
from advcli.threats.space import Space, per_row


class State(NamedTuple):
    x: Tensor


class PGD(Attack):
    name: ClassVar[str] = "pgd"
    summary: ClassVar[str] = "projected gradient descent from random starts"
    kind: ClassVar = "budget"
    access: ClassVar = "gradient"
    norms: ClassVar[tuple[Norm, ...]] = ("linf", "l2", "l1")
    reference: ClassVar[str] = "Madry et al., 1706.06083"

    steps: int = Field(40, ge=1, le=100_000, description="gradient steps")
    rel_step: float = Field(1.0, gt=0, le=10, description="first step length, as a share of eps")
    schedule: Literal["cosine", "constant"] = Field(
        "cosine", description="how the step length falls: to 0 along a cosine, or not at all"
    )
    restarts: int = Field(1, ge=1, le=10_000, description="random starts, tried in order")
    random_start: bool = Field(True, description="start at a random point of the ball")
    loss: LossName = Field("ce", description="what is ascended")
    sparsity: float = Field(
        0.05,
        gt=0,
        le=1,
        description="L1: share of values that the first step moves, falling to one",
    )

    def length(self, space: Space) -> int:
        return self.steps

    def cost(self, space: Space) -> tuple[int, int]:
        return self.steps * self.restarts, self.steps * self.restarts

    def init(self, row: Row, space: Space, random: Random) -> State:
        if not self.random_start:
            return State(row.x0)
        start = row.x0 + space.sample(random, row.eps)
        return State(space.project(start, row.x0, row.eps))

    def step(
        self, row: Row, state: State, k: Tensor, space: Space, oracle: Oracle, random: Random
    ) -> Step:
        _, g = oracle.gradient(state.x, LOSSES[self.loss])
        length = row.eps * self._share(k)
        # L1: wide steps find the region, the last ones the few values that matter most
        spread = self.sparsity * (1.0 - tf.cast(k, tf.float32) / self.steps)
        x = state.x + per_row(length, g) * space.steepest(g, state.x, spread)
        return Step(State(space.project(x, row.x0, row.eps)), tf.zeros_like(k, tf.bool))

    def _share(self, k: Tensor) -> Tensor:
        share = tf.fill(tf.shape(k), self.rel_step)
        if self.schedule == "cosine":
            share *= 0.5 * (1.0 + tf.cos(math.pi * tf.cast(k, tf.float32) / self.steps))
        return share

    def finish(self, row: Row, state: State, space: Space) -> Tensor:
        return state.x
