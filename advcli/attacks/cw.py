"""C&W: trades distance against a margin, with a search over the trade (L2) or the wall (L∞).

L2. Minimises ‖x − x0‖² + c·max(κ − margin, 0) with Adam in tanh space (so the box never binds), for
a sequence of c: ten times larger while nothing succeeds, then bisected. The closest adversarial
image ever asked about is kept.

Differs from the paper in three ways. Where the objective stops falling, Adam's step is cut to a
fifth, three times before the search ends: a fixed step cannot settle on an image whose boundary is
nearer than the step is long. For the same reason c has succeeded only if the end of its search did.
And the margin follows whichever rival leads, and that need not be the class
that is nearest. The first few gradients, at the clean image, estimate the distance to the likeliest
rivals; every second search aims at the nearest of them.

The searches are nested loops in the paper; here each row carries its own c and inner counter, so
rows in different searches share one batch.

L∞. The distance alone would be felt by one value at a time; a wall at tau is felt by all beyond it:
minimises (κ − margin)+ + Σ (|x − x0| − tau)+ from the closest point so far, and each success lowers
tau by a tenth. Differs from the paper and the authors' code: where a tau fails, the way back to the
last success is halved, until the two are within 0.5 %; the gradient is scaled to a mean of 1 in
place of a search over c; Adam moves the image itself, clipped to the box, as in tanh space a value
at the end of the box hardly moves; its step shrinks with that of tau; and the first success aims
at the boundary that looks nearest at the clean image.

Misleads: a few distances stay large where `searches` or `steps` are too few.

Cost: at most `searches`·`steps` gradients per image; an L2 search ends early once its objective
stops falling at the smallest step; L∞ usually needs a tenth.

Carlini & Wagner, "Towards evaluating the robustness of neural networks", 1608.04644.
"""

from __future__ import annotations

from typing import Any, ClassVar, NamedTuple

from pydantic import Field

from advcli.attacks import cw_linf
from advcli.attacks.base import Attack, Oracle, Row, Step
from advcli.lazy import Tensor, tf
from advcli.threats.budget import Norm
from advcli.threats.losses import Goal, lead_over, margin, ranked_rivals
from advcli.threats.randomness import Random
from advcli.threats.space import Space, norms_of, per_row, select

_UNBOUNDED = 1e10
_SCOUTS = 9
_SLOWER, _SLOWEST = 0.2, 0.003
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
    hit: Tensor  # bool [S], an adversarial image was seen since the last check
    before: Tensor  # the objective at the last check
    rate: Tensor  # Adam's step, smaller each time the objective stops falling
    rivals: Tensor  # int32 [S, _SCOUTS], from the likeliest
    aim: Tensor  # int32 [S], the rival that looks nearest
    nearest: Tensor  # its linearised distance


def _to_tanh(x: Tensor) -> Tensor:
    return tf.atanh((2.0 * x - 1.0) * 0.999999)


class CW(Attack):
    name: ClassVar[str] = "cw"
    summary: ClassVar[str] = "minimum distance by a penalised margin"
    kind: ClassVar = "minimum-norm"
    access: ClassVar = "gradient"
    norms: ClassVar[tuple[Norm, ...]] = ("l2", "linf")
    reference: ClassVar[str] = "Carlini & Wagner, 1608.04644"

    steps: int = Field(1000, ge=1, le=100_000, description="gradient steps per search")
    searches: int = Field(9, ge=1, le=50, description="values of c tried")
    learning_rate: float = Field(
        0.01, gt=0, le=1, description="Adam's step in tanh space; L∞: in pixels"
    )
    initial_c: float = Field(1e-3, gt=0, description="L2: first weight of the margin")
    confidence: float = Field(
        0.0,
        ge=0,
        description="κ: the margin searched for; what is kept is the closest misclassified point",
    )

    def length(self, space: Space) -> int:
        return self.steps * self.searches + _SCOUTS  # in L∞ the same, shared out otherwise

    def cost(self, space: Space) -> tuple[int, int]:
        return self.length(space), self.length(space)

    def init(self, row: Row, space: Space, random: Random) -> State | cw_linf.State:
        if space.norm == "linf":
            return cw_linf.init(row)
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
            rate=zero + self.learning_rate,
            rivals=tf.zeros([tf.shape(row.eps)[0], _SCOUTS], tf.int32),
            aim=counter,
            nearest=zero + _UNBOUNDED,
        )

    def step(
        self, row: Row, state: Any, k: Tensor, space: Space, oracle: Oracle, random: Random
    ) -> Step:
        if space.norm == "linf":
            return cw_linf.step(self, row, state, k, space, oracle)
        x = 0.5 * (1.0 + tf.tanh(state.w))

        def loss(z: Tensor, goal: Goal) -> Tensor:
            rivals, scouting = self._rivals(row, z, state, k)
            rival = tf.gather(rivals, tf.minimum(k, _SCOUTS - 1), batch_dims=1)
            rival = tf.where(scouting, rival, state.aim)
            aimed = lead_over(z, rival, goal.label)
            aiming = (goal.target < 0) & (state.search % 2 == 1)
            return tf.where(scouting | aiming, aimed, margin(z, goal))

        value, g, z = oracle.gradient(x, loss)
        rivals, scouting = self._rivals(row, z, state, k)
        moved = self._descended(row, state, x, value, g)
        scouted = self._scouted(state, value, g, rivals, k)
        return Step(
            State(*(select(scouting, a, b) for a, b in zip(scouted, moved.state, strict=True))),
            moved.done & ~scouting,
        )

    def _rivals(self, row: Row, z: Tensor, state: State, k: Tensor) -> tuple[Tensor, Tensor]:
        """The rivals, ranked at the clean image, and whether step `k` is still looking at them."""
        ranked = ranked_rivals(z, row.goal.label, _SCOUTS)
        rivals = tf.where((k == 0)[:, None], ranked, state.rivals)
        scouts = min(_SCOUTS, int(z.shape[-1]) - 1)
        return rivals, (row.goal.target < 0) & (k < scouts)

    def _scouted(self, state: State, value: Tensor, g: Tensor, rivals: Tensor, k: Tensor) -> State:
        """The gap to this rival over the slope towards it: how far away its boundary looks."""
        rival = tf.gather(rivals, tf.minimum(k, _SCOUTS - 1), batch_dims=1)
        slope = norms_of(g, "l2")
        distance = tf.where(slope > 0.0, -value / tf.maximum(slope, 1e-30), _UNBOUNDED)
        nearer = distance < state.nearest
        return state._replace(
            rivals=rivals,
            aim=tf.where(nearer, rival, state.aim),
            nearest=tf.where(nearer, distance, state.nearest),
        )

    def _descended(self, row: Row, state: State, x: Tensor, value: Tensor, g: Tensor) -> Step:
        """One step of Adam on the objective."""
        bent = tf.tanh(state.w)
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
        w = state.w - per_row(state.rate, m_hat) * m_hat / (tf.sqrt(v_hat) + 1e-8)
        moved = state._replace(w=w, m=m, v=v, t=t, hit=state.hit | (value > self.confidence))

        check = tf.equal(t % max(1, self.steps // 10), 0)
        stuck = check & (objective > 0.9999 * state.before)
        moved = moved._replace(
            before=tf.where(check, objective, state.before),
            rate=tf.where(stuck, _SLOWER * state.rate, state.rate),
        )
        ended = (moved.rate < self.learning_rate * _SLOWEST) | (t >= self.steps)
        # what an early, long step overshot into says nothing about c: only the last window does
        moved = moved._replace(hit=moved.hit & (ended | ~check))
        return self._next_search(row, moved, ended)

    def _next_search(self, row: Row, state: State, ended: Tensor) -> Step:
        """Rows whose search ended start the next one from the clean image with another c."""
        low = tf.where(state.hit, state.low, tf.maximum(state.low, state.c))
        high = tf.where(state.hit, tf.minimum(state.high, state.c), state.high)
        c = tf.where(high < _UNBOUNDED, 0.5 * (low + high), 10.0 * state.c)
        search = state.search + 1
        fresh = state._replace(
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
            rate=tf.zeros_like(state.rate) + self.learning_rate,
        )
        mixed = State(*(select(ended, new, old) for new, old in zip(fresh, state, strict=True)))
        return Step(mixed, ended & (search >= self.searches))
