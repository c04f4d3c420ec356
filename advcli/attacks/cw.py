"""C&W: the L2 attack that trades distance against a margin, with a search over the trade.

Minimises ‖x − x0‖² + c·max(κ − margin, 0) with Adam in tanh space (so the box never binds), for
a sequence of c: ten times larger while nothing succeeds, then bisected. The closest adversarial
image ever asked about is kept.

The searches are nested loops in the paper; here each row carries its own c and inner counter, so
rows in different searches share one batch.

Misleads: a few distances stay large where `searches` or `steps` are too few.

Cost: at most `searches`·`steps` gradients per image; a search ends early once its objective
stops falling.

Carlini & Wagner, "Towards evaluating the robustness of neural networks", 1608.04644.
"""

from __future__ import annotations

from typing import ClassVar, NamedTuple

from pydantic import Field

from advcli.attacks.base import Attack, Oracle, Row, Step
from advcli.lazy import Tensor, tf
from advcli.threats.budget import Norm
from advcli.threats.losses import margin
from advcli.threats.randomness import Random
from advcli.threats.space import Space, per_row, select

_UNBOUNDED = 1e10
_BETA1, _BETA2 = 0.9, 0.999  # Adam's defaults


class State(NamedTuple):
    w: Tensor  # [S, H, W, C], x = (1 + tanh w)/2
    m: Tensor  # Adam's moments
    v: Tensor
    t: Tensor  # int32 [S], step within the search
    search: Tensor  # int32 [S]
    c: Tensor  # float32 [S]
    low: Tensor  # the largest c that failed
    high: Tensor  # the smallest c that succeeded
    hit: Tensor  # bool [S], this search found an adversarial image
    before: Tensor  # the objective at the last check


def _to_tanh(x: Tensor) -> Tensor:
    return tf.atanh((2.0 * x - 1.0) * 0.999999)


class CW(Attack):
    name: ClassVar[str] = "cw"
    summary: ClassVar[str] = "minimum L2 distance by a penalised margin"
    kind: ClassVar = "minimum-norm"
    access: ClassVar = "gradient"
    norms: ClassVar[tuple[Norm, ...]] = ("l2",)
    reference: ClassVar[str] = "Carlini & Wagner, 1608.04644"

    steps: int = Field(1000, ge=1, le=100_000, description="gradient steps per search")
    searches: int = Field(9, ge=1, le=50, description="values of c tried")
    learning_rate: float = Field(0.01, gt=0, le=1, description="Adam's step in tanh space")
    initial_c: float = Field(1e-3, gt=0, description="first weight of the margin")
    confidence: float = Field(0.0, ge=0, description="κ: the margin that counts as success")

    def length(self, space: Space) -> int:
        return self.steps * self.searches

    def cost(self, space: Space) -> tuple[int, int]:
        return self.length(space), self.length(space)

    def init(self, row: Row, space: Space, random: Random) -> State:
        w = _to_tanh(row.x0)
        counter = tf.zeros_like(row.restart)
        zero = tf.zeros_like(row.eps)
        return State(
            w=w,
            m=tf.zeros_like(w),
            v=tf.zeros_like(w),
            t=counter,
            search=counter,
            c=zero + self.initial_c,
            low=zero,
            high=zero + _UNBOUNDED,
            hit=tf.zeros_like(zero, tf.bool),
            before=zero + _UNBOUNDED,
        )

    def step(
        self, row: Row, state: State, k: Tensor, space: Space, oracle: Oracle, random: Random
    ) -> Step:
        bent = tf.tanh(state.w)
        x = 0.5 * (1.0 + bent)
        value, g = oracle.gradient(x, margin)
        delta = x - row.x0
        short = tf.maximum(self.confidence - value, 0.0)
        objective = tf.reduce_sum(tf.square(delta), axis=[1, 2, 3]) + state.c * short
        pull = per_row(state.c * tf.cast(short > 0.0, tf.float32), g)
        slope = (2.0 * delta - pull * g) * 0.5 * (1.0 - tf.square(bent))

        t = state.t + 1
        m = _BETA1 * state.m + (1.0 - _BETA1) * slope
        v = _BETA2 * state.v + (1.0 - _BETA2) * tf.square(slope)
        moment = tf.cast(t, tf.float32)
        m_hat = m / per_row(1.0 - tf.pow(_BETA1, moment), m)
        v_hat = v / per_row(1.0 - tf.pow(_BETA2, moment), v)
        w = state.w - self.learning_rate * m_hat / (tf.sqrt(v_hat) + 1e-8)
        moved = state._replace(w=w, m=m, v=v, t=t, hit=state.hit | (value > self.confidence))

        check = tf.equal(t % max(1, self.steps // 10), 0)
        stuck = check & (objective > 0.9999 * state.before)
        moved = moved._replace(before=tf.where(check, objective, state.before))
        return self._next_search(row, moved, stuck | (t >= self.steps))

    def _next_search(self, row: Row, state: State, ended: Tensor) -> Step:
        """Rows whose search ended start the next one from the clean image with another c."""
        low = tf.where(state.hit, state.low, tf.maximum(state.low, state.c))
        high = tf.where(state.hit, tf.minimum(state.high, state.c), state.high)
        c = tf.where(high < _UNBOUNDED, 0.5 * (low + high), 10.0 * state.c)
        search = state.search + 1
        fresh = State(
            w=_to_tanh(row.x0),
            m=tf.zeros_like(state.m),
            v=tf.zeros_like(state.v),
            t=tf.zeros_like(state.t),
            search=search,
            c=c,
            low=low,
            high=high,
            hit=tf.zeros_like(state.hit),
            before=tf.zeros_like(state.before) + _UNBOUNDED,
        )
        mixed = State(*(select(ended, new, old) for new, old in zip(fresh, state, strict=True)))
        return Step(mixed, ended & (search >= self.searches))
