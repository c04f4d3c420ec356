"""NES: gradient ascent on a gradient estimated from scores, with Gaussian probes.

Claims: where scores can be had and gradients cannot, some fifty queries a step stand in for a
gradient. Pairs of probes at x ± sigma·u, u normal, give the estimate Σ (f₊ − f₋)·u; with momentum,
its sign (L2: its direction) is the step. The step is halved where the loss has not risen over five
steps.

Differs from the paper in where two of the queries go: to x itself and to the point of the ball
farthest along the momentum, which on nearly linear models is where the attack ends. Probes are
kept within the ball, so every query may succeed, and at the default 8-bit pixels they are at least
one level away.

Misleads: the estimate is as noisy as the image is large; `square` is the stronger attack at equal
queries. It follows the true gradient, so it fails where that is masked by roughness finer than
sigma, though not where it merely cannot be computed.

Cost: `steps`·`samples` forwards per image, eps and restart; fewer where it succeeds. The samples of
a step are asked together, and all of them count.

Ilyas et al., "Black-box adversarial attacks with limited queries and information", 1804.08598.
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

_MOMENTUM = 0.9
_PLATEAU = 5  # steps
_SMALLEST = 1 / 200  # of the first step


class State(NamedTuple):
    x: Tensor
    trend: Tensor  # the momentum
    rate: Tensor  # step length as a share of eps
    recent: Tensor  # [S, _PLATEAU], the mean loss of the last steps


class NES(Attack):
    name: ClassVar[str] = "nes"
    summary: ClassVar[str] = "ascent on gradients estimated from Gaussian probes"
    kind: ClassVar = "budget"
    access: ClassVar = "scores"
    norms: ClassVar[tuple[Norm, ...]] = ("linf", "l2")
    reference: ClassVar[str] = "Ilyas et al., 1804.08598"

    steps: int = Field(104, ge=1, le=100_000, description="steps of `samples` queries each")
    samples: int = Field(48, ge=8, le=4096, multiple_of=8, description="queries per step")
    sigma: float = Field(0.001, gt=0, le=1, description="standard deviation of the probes")
    rel_step: float = Field(0.2, gt=0, le=10, description="first step length, as a share of eps")
    loss: LossName = Field("ce", description="what is ascended")
    restarts: int = Field(1, ge=1, le=10_000, description="independent runs, in order")

    def length(self, space: Space) -> int:
        return self.steps

    def width(self, space: Space) -> int:
        return self.samples

    def cost(self, space: Space) -> tuple[int, int]:
        return self.steps * self.samples * self.restarts, 0

    def init(self, row: Row, space: Space, random: Random) -> State:
        rate = tf.zeros_like(row.eps) + self.rel_step
        recent = tf.repeat(tf.zeros_like(row.eps)[:, None], _PLATEAU, axis=1) - float("inf")
        return State(row.x0, tf.zeros_like(row.x0), rate, recent)

    def step(
        self, row: Row, state: State, k: Tensor, space: Space, oracle: Oracle, random: Random
    ) -> Step:
        noise = random.normal((pairs(self.samples), *space.shape))
        loss = LOSSES[self.loss]
        found = estimate(row, state.x, state.trend, noise, self.sigma, loss, space, oracle)
        trend = _MOMENTUM * state.trend + (1.0 - _MOMENTUM) * found.gradient
        recent = tf.concat([state.recent[:, 1:], found.mean[:, None]], axis=1)
        flat = recent[:, -1] < recent[:, 0]
        rate = tf.where(flat, tf.maximum(0.5 * state.rate, _SMALLEST * self.rel_step), state.rate)
        recent = tf.where(flat[:, None], float("-inf"), recent)
        x = state.x + per_row(rate * row.eps, trend) * space.steepest(trend, state.x)
        x = space.project(x, row.x0, row.eps)
        return Step(State(x, trend, rate, recent), tf.zeros_like(k, tf.bool))

    def finish(self, row: Row, state: State, space: Space) -> Tensor:
        return state.x
