"""SPSA: Adam on a gradient estimated from scores, with probes of random signs.

Claims: its larger steps (radius 0.01 in every value) see past roughness that masks the gradient at
a point, so it breaks defences that only hide their gradients. From a random point of the ball,
pairs of probes at x ± radius·u, u of random signs, give the estimate of the margin's gradient
that Adam follows.

Differs from the published code in where two of a step's queries go: to x itself, and to the point
of the ball farthest along Adam's average. Probes are kept within the ball, so every query may
succeed.

Misleads: the estimate is as noisy as the image is large; the paper asks 8192 samples a step of
hard images. `square` is the stronger attack at equal queries.

Cost: `steps`·`samples` forwards per image, eps and restart; fewer where it succeeds. The samples of
a step are asked together, and all of them count.

Uesato et al., "Adversarial risk and the dangers of evaluating against weak attacks", 1802.05666;
Spall 1992.
"""

from __future__ import annotations

from typing import ClassVar, NamedTuple

from pydantic import Field

from advcli.attacks.antithetic import estimate, pairs
from advcli.attacks.base import Attack, Oracle, Row, Step
from advcli.lazy import Tensor, tf
from advcli.threats.budget import Norm
from advcli.threats.losses import LOSSES, LossName
from advcli.threats.randomness import Random
from advcli.threats.space import Space, per_row

_BETA1, _BETA2, _TINY = 0.9, 0.999, 1e-8  # Adam's defaults


class State(NamedTuple):
    x: Tensor
    m: Tensor  # Adam's moments
    v: Tensor


class SPSA(Attack):
    name: ClassVar[str] = "spsa"
    summary: ClassVar[str] = "Adam on gradients estimated from probes of random signs"
    kind: ClassVar = "budget"
    access: ClassVar = "scores"
    norms: ClassVar[tuple[Norm, ...]] = ("linf", "l2")
    reference: ClassVar[str] = "Uesato et al., 1802.05666"

    steps: int = Field(40, ge=1, le=100_000, description="steps of `samples` queries each")
    samples: int = Field(128, ge=8, le=16_384, multiple_of=8, description="queries per step")
    radius: float = Field(0.01, gt=0, le=1, description="how far a probe moves each value")
    rate: float = Field(0.01, gt=0, le=1, description="Adam's step length")
    loss: LossName = Field("margin", description="what is ascended")
    restarts: int = Field(1, ge=1, le=10_000, description="random starts, in order")

    def length(self, space: Space) -> int:
        return self.steps

    def width(self, space: Space) -> int:
        return self.samples

    def cost(self, space: Space) -> tuple[int, int]:
        return self.steps * self.samples * self.restarts, 0

    def init(self, row: Row, space: Space, random: Random) -> State:
        x = space.project(row.x0 + space.sample(random, row.eps), row.x0, row.eps)
        return State(x, tf.zeros_like(x), tf.zeros_like(x))

    def step(
        self, row: Row, state: State, k: Tensor, space: Space, oracle: Oracle, random: Random
    ) -> Step:
        noise = random.signs((pairs(self.samples), *space.shape))
        loss = LOSSES[self.loss]
        g = estimate(row, state.x, state.m, noise, self.radius, loss, space, oracle).gradient
        m = _BETA1 * state.m + (1.0 - _BETA1) * g
        v = _BETA2 * state.v + (1.0 - _BETA2) * tf.square(g)
        t = tf.cast(k + 1, tf.float32)
        rate = self.rate * tf.sqrt(1.0 - tf.pow(_BETA2, t)) / (1.0 - tf.pow(_BETA1, t))
        x = state.x + per_row(rate, m) * m / (tf.sqrt(v) + _TINY)
        return Step(State(space.project(x, row.x0, row.eps), m, v), tf.zeros_like(k, tf.bool))

    def finish(self, row: Row, state: State, space: Space) -> Tensor:
        return state.x
