"""BIM: sign steps (L2: normalised ones) of one length from the clean image itself, and few.

Weaker than PGD for want of random starts and of a step that falls; kept because many published
figures use it. They have `scouts=0`: an ascent stays with the class that it meets first, so likely
rivals are looked at before, as `pgd` does, and it starts from the best point found. On a surrogate
it is as published.

Cost: `steps` gradients per image and eps, and `scouts` more and one; fewer where it succeeds.

Kurakin et al., "Adversarial examples in the physical world", 1607.02533.
"""

from __future__ import annotations

from typing import ClassVar, NamedTuple

from pydantic import Field

from advcli.attacks.base import Attack, Oracle, Row, Step
from advcli.attacks.scouting import Scouting, Scouts
from advcli.lazy import Tensor, tf
from advcli.threats.budget import Norm
from advcli.threats.losses import LOSSES, LossName
from advcli.threats.randomness import Random
from advcli.threats.space import Space, per_row, select


class State(NamedTuple):
    x: Tensor  # the point to be asked next
    scouts: Scouts | tuple[()]
    asks: Tensor  # int32 [S], points asked before the first step


class BIM(Attack):
    name: ClassVar[str] = "bim"
    summary: ClassVar[str] = "iterated FGSM: steps of one length, no random start"
    kind: ClassVar = "budget"
    access: ClassVar = "gradient"
    norms: ClassVar[tuple[Norm, ...]] = ("linf", "l2")
    reference: ClassVar[str] = "Kurakin et al., 1607.02533"

    steps: int = Field(10, ge=1, le=100_000, description="gradient steps")
    rel_step: float = Field(0.2, gt=0, le=10, description="step length as a share of eps")
    loss: LossName = Field("ce", description="what is ascended")
    scouts: int = Field(
        9, ge=0, le=1000, description="rival classes looked at first; not on a surrogate"
    )

    def length(self, space: Space) -> int:
        return Scouting(self.scouts).length + self.steps

    def cost(self, space: Space) -> tuple[int, int]:
        return self.length(space), self.length(space)

    def init(self, row: Row, space: Space, random: Random) -> State:
        scouts = Scouting(self.scouts).begin(row.x0) if self.scouts else ()
        return State(row.x0, scouts, Scouting(self.scouts).asks_at_least(row))

    def step(
        self, row: Row, state: State, k: Tensor, space: Space, oracle: Oracle, random: Random
    ) -> Step:
        scouting = Scouting(0 if oracle.transfer else self.scouts)
        scouts, asks = state.scouts, tf.zeros_like(state.asks) if oracle.transfer else state.asks
        loss = LOSSES[self.loss]
        if isinstance(scouts, Scouts):
            loss = scouting.loss(row, scouts, k, loss)
        slope = oracle.gradient(state.x, loss)
        g = slope.gradient
        step = per_row(self.rel_step * row.eps, g) * space.steepest(g, state.x)
        x = space.project(state.x + step, row.x0, row.eps)
        if isinstance(scouts, Scouts) and not oracle.transfer:
            asks = scouting.asks(row, int(slope.logits.shape[-1]))
            scouts, ahead = scouting.advance(row, scouts, k, state.x, slope, space)
            x = select(k < asks, ahead, x)
        return Step(State(x, scouts, asks), k + 1 >= asks + self.steps)

    def finish(self, row: Row, state: State, space: Space) -> Tensor:
        return state.x
