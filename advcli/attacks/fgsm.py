"""FGSM: one step of length eps along the sign of the gradient.

Exact on a linear model, cheap everywhere, and weak on anything that was trained against it:
a model that withstands FGSM and falls to PGD has learnt to bend its gradient at the data.

Cost: 1 gradient per image and eps.

Goodfellow et al., "Explaining and harnessing adversarial examples", 1412.6572.
"""

from __future__ import annotations

from typing import ClassVar, NamedTuple

from pydantic import Field

from advcli.attacks.base import Attack, Oracle, Row, Step
from advcli.lazy import Tensor, tf
from advcli.threats.budget import Norm
from advcli.threats.losses import LOSSES, LossName
from advcli.threats.randomness import Random
from advcli.threats.space import Space, per_row


class State(NamedTuple):
    x: Tensor


class FGSM(Attack):
    name: ClassVar[str] = "fgsm"
    summary: ClassVar[str] = "one signed gradient step"
    kind: ClassVar = "budget"
    access: ClassVar = "gradient"
    norms: ClassVar[tuple[Norm, ...]] = ("linf",)
    reference: ClassVar[str] = "Goodfellow et al., 1412.6572"

    loss: LossName = Field("ce", description="what is ascended")

    def length(self, space: Space) -> int:
        return 1

    def cost(self, space: Space) -> tuple[int, int]:
        return 1, 1

    def init(self, row: Row, space: Space, random: Random) -> State:
        return State(row.x0)

    def step(
        self, row: Row, state: State, k: Tensor, space: Space, oracle: Oracle, random: Random
    ) -> Step:
        g = oracle.gradient(state.x, LOSSES[self.loss]).gradient
        x = row.x0 + per_row(row.eps, g) * tf.sign(g)
        return Step(State(space.project(x, row.x0, row.eps)), tf.ones_like(k, tf.bool))

    def finish(self, row: Row, state: State, space: Space) -> Tensor:
        return state.x
