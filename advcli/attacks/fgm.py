"""FGM: one step of length eps along the normalised gradient, or along the gradient as it is.

`raw=true` is the form found in many tutorials: x + eps·gradient of the cross-entropy, not
normalised, clipped to the box (and here projected onto the ball of the chosen norm). Its strength
depends on the gradient's size, so it mostly measures how confident the model is: on a confident
one it barely moves the image. It is here to reproduce such figures, not to rely on them.

L2: g/‖g‖₂. Linf: sign g (FGSM). L1: g/‖g‖₁.

Cost: 1 gradient per image and eps.

Goodfellow et al., 1412.6572; L2 form: Miyato et al., "Adversarial training methods for
semi-supervised text classification", 1605.07725.
"""

from __future__ import annotations

from typing import ClassVar, NamedTuple

from pydantic import Field

from advcli.attacks.base import Attack, Oracle, Row, Step
from advcli.lazy import Tensor, tf
from advcli.threats.budget import Norm
from advcli.threats.losses import cross_entropy, log_odds
from advcli.threats.randomness import Random
from advcli.threats.space import Space, normalise_l2, norms_of, per_row


class State(NamedTuple):
    x: Tensor


class FGM(Attack):
    name: ClassVar[str] = "fgm"
    summary: ClassVar[str] = "one gradient step, normalised or raw"
    kind: ClassVar = "budget"
    access: ClassVar = "gradient"
    norms: ClassVar[tuple[Norm, ...]] = ("l2", "linf", "l1")
    reference: ClassVar[str] = "Goodfellow et al., 1412.6572; Miyato et al., 1605.07725"

    raw: bool = Field(False, description="x + eps·gradient, not normalised")

    def length(self, space: Space) -> int:
        return 1

    def cost(self, space: Space) -> tuple[int, int]:
        return 1, 1

    def init(self, row: Row, space: Space, random: Random) -> State:
        return State(row.x0)

    def step(
        self, row: Row, state: State, k: Tensor, space: Space, oracle: Oracle, random: Random
    ) -> Step:
        g = oracle.gradient(state.x, cross_entropy if self.raw else log_odds).gradient
        if self.raw:
            direction = g
        elif space.norm == "linf":
            direction = tf.sign(g)
        elif space.norm == "l2":
            direction = normalise_l2(g)
        else:
            unit = normalise_l2(g)  # first, so that tiny gradients do not underflow in the sum
            direction = tf.math.divide_no_nan(unit, per_row(norms_of(unit, "l1"), unit))
        x = row.x0 + per_row(row.eps, g) * direction
        return Step(State(space.project(x, row.x0, row.eps)), tf.ones_like(k, tf.bool))

    def finish(self, row: Row, state: State, space: Space) -> Tensor:
        return state.x
