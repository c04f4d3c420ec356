"""BIM: PGD from the clean image itself, with few steps of one length.

Weaker than PGD for want of random starts; kept because many published figures use it. They have
`scouts=0`: an ascent stays with the class that it meets first, so likely rivals are looked at
before, as `pgd` does, and it starts from the best point found.

Cost: `scouts` + `steps` gradients per image and eps; fewer where it succeeds.

Kurakin et al., "Adversarial examples in the physical world", 1607.02533.
"""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from advcli.attacks.base import Attack, Oracle, Row, Step
from advcli.attacks.pgd import PGD, State
from advcli.lazy import Tensor
from advcli.threats.budget import Norm
from advcli.threats.losses import LossName
from advcli.threats.randomness import Random
from advcli.threats.space import Space


class BIM(Attack):
    name: ClassVar[str] = "bim"
    summary: ClassVar[str] = "iterated FGSM: PGD without a random start"
    kind: ClassVar = "budget"
    access: ClassVar = "gradient"
    norms: ClassVar[tuple[Norm, ...]] = ("linf", "l2")
    reference: ClassVar[str] = "Kurakin et al., 1607.02533"

    steps: int = Field(10, ge=1, le=100_000, description="gradient steps")
    rel_step: float = Field(0.2, gt=0, le=10, description="step length as a share of eps")
    loss: LossName = Field("ce", description="what is ascended")
    scouts: int = Field(9, ge=0, le=1000, description="rival classes looked at first")

    def _pgd(self) -> PGD:
        return PGD(
            steps=self.steps + self.scouts,
            rel_step=self.rel_step,
            schedule="constant",
            scouts=self.scouts,
            loss=self.loss,
            random_start=False,
        )

    def length(self, space: Space) -> int:
        return self._pgd().length(space)

    def cost(self, space: Space) -> tuple[int, int]:
        return self._pgd().cost(space)

    def init(self, row: Row, space: Space, random: Random) -> State:
        return self._pgd().init(row, space, random)

    def step(
        self, row: Row, state: State, k: Tensor, space: Space, oracle: Oracle, random: Random
    ) -> Step:
        return self._pgd().step(row, state, k, space, oracle, random)

    def finish(self, row: Row, state: State, space: Space) -> Tensor:
        return state.x
