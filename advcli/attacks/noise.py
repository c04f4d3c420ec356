"""Random noise: the floor that every attack must beat.

Claims nothing about robustness against an adversary. It says how the model takes perturbations
that nobody chose: `repeats` independent draws from the ball, success if any of them is
misclassified. An attack that does not do clearly better than this at the same eps has failed.

Uniform: uniform in the ball (Linf: in each value). Gaussian: Linf and L1 have a standard deviation
of eps/2 before projection; L2 is a random direction of length eps.

Cost: `repeats` forwards per image and eps.
"""

from __future__ import annotations

from typing import ClassVar, Literal, NamedTuple

from pydantic import Field

from advcli.attacks.base import Attack, Oracle, Row, Step
from advcli.lazy import Tensor, tf
from advcli.threats.budget import Norm
from advcli.threats.randomness import Random
from advcli.threats.space import Space, normalise_l2, per_row


class State(NamedTuple):
    unused: Tensor  # the draws are independent: nothing is carried from one to the next


class Noise(Attack):
    name: ClassVar[str] = "noise"
    summary: ClassVar[str] = "random noise, repeated: the floor every attack must beat"
    kind: ClassVar = "budget"
    access: ClassVar = "none"
    norms: ClassVar[tuple[Norm, ...]] = ("linf", "l2", "l1", "l0")
    reference: ClassVar[str] = "baseline"

    repeats: int = Field(10, ge=1, le=1_000_000, description="independent draws")
    distribution: Literal["uniform", "gaussian"] = Field(
        "uniform", description="how a perturbation is drawn"
    )

    def length(self, space: Space) -> int:
        return self.repeats

    def cost(self, space: Space) -> tuple[int, int]:
        return self.repeats, 0

    def init(self, row: Row, space: Space, random: Random) -> State:
        return State(tf.zeros_like(row.eps))

    def step(
        self, row: Row, state: State, k: Tensor, space: Space, oracle: Oracle, random: Random
    ) -> Step:
        if self.distribution == "uniform" or space.norm == "l0":
            delta = space.sample(random, row.eps)
        else:
            delta = random.normal(space.shape)
            if space.norm == "l2":
                delta = normalise_l2(delta)
            delta *= per_row(row.eps * (1.0 if space.norm == "l2" else 0.5), delta)
        oracle.decide(space.project(row.x0 + delta, row.x0, row.eps))
        return Step(state, tf.zeros_like(k, tf.bool))
