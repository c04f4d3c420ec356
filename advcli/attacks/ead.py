"""EAD: the elastic-net attack, few pixels changed by much, in L1.

Claims: small L1 distances, where L2 attacks spread theirs over the whole image. Minimises
c·max(κ − margin, 0) + ‖x − x0‖₁ + `l2`·‖x − x0‖² by accelerated proximal gradient steps (FISTA):
a step on the smooth part, then every value is drawn back towards x0 by the same amount, and those
that come too near return to it altogether. The step length falls with the square root of what is
left. A sequence of c: ten times larger while nothing succeeds, then bisected. The closest point in
L1 of all that were asked about is kept (the authors' L1 rule; their EN rule keeps another, which
is never closer in L1).

Differs from the authors' code. There the pull of L1 is `beta` a step however short the step is,
and the square counts in full, which spreads the perturbation; here L1 sets the scale and the
square is small beside it. c is relative to the gradient at the clean image, so that it begins
where something happens. And as the margin follows whichever rival leads, the first few gradients,
at the clean image, look for the nearest boundary, and every second search aims at it.

Misleads: where `steps` are too few, values hover about the boundary and distances stay large.

Cost: at most `steps`·`searches` gradients per image; fewer once two searches gained nothing.

Chen et al., "EAD: elastic-net attacks to deep neural networks via adversarial examples",
1709.04114.
"""

from __future__ import annotations

from typing import ClassVar, NamedTuple

from pydantic import Field

from advcli.attacks.base import Attack, Oracle, Row, Step
from advcli.attacks.linearise import Nearest, blank, compared, count_of, rivals_of, towards
from advcli.lazy import Tensor, tf
from advcli.threats.budget import Norm
from advcli.threats.losses import Goal, margin
from advcli.threats.randomness import Random
from advcli.threats.space import Space, per_row, select

_UNBOUNDED = 1e10
_SCOUTS = 9
_GAIN, _STALE = 1e-3, 2  # so many searches that each gained less end the run


class State(NamedTuple):
    y: Tensor  # the point to be asked next: x and its momentum
    x: Tensor  # after the last proximal step
    t: Tensor  # int32 [S], step within the search
    search: Tensor  # int32 [S]
    c: Tensor  # float32 [S], times the steepest slope at the clean image
    low: Tensor  # the largest c that failed
    high: Tensor  # the smallest c that succeeded
    hit: Tensor  # bool [S], this search has succeeded
    closest: Tensor  # float32 [S], the least distance so far
    before: Tensor  # the same, when this search began
    stale: Tensor  # int32 [S], searches in a row that succeeded and gained nothing
    rivals: Tensor  # int32 [S, _SCOUTS], from the likeliest
    nearest: Nearest  # of their boundaries at the clean image


class EAD(Attack):
    name: ClassVar[str] = "ead"
    summary: ClassVar[str] = "minimum L1 distance by an elastic net"
    kind: ClassVar = "minimum-norm"
    access: ClassVar = "gradient"
    norms: ClassVar[tuple[Norm, ...]] = ("l1",)
    reference: ClassVar[str] = "Chen et al., 1709.04114"

    steps: int = Field(1000, ge=1, le=100_000, description="gradient steps per search")
    searches: int = Field(9, ge=1, le=50, description="values of c tried")
    learning_rate: float = Field(0.01, gt=0, le=1, description="first step length")
    initial_c: float = Field(2.0, gt=0, description="first weight of the margin, relative")
    l2: float = Field(0.01, ge=0, le=1e6, description="weight of the squared L2 distance")
    confidence: float = Field(
        0.0,
        ge=0,
        description="κ: the margin searched for; what is kept is the closest misclassified point",
    )

    def length(self, space: Space) -> int:
        return self.steps * self.searches + _SCOUTS

    def cost(self, space: Space) -> tuple[int, int]:
        return self.length(space), self.length(space)

    def init(self, row: Row, space: Space, random: Random) -> State:
        counter = tf.zeros_like(row.restart)
        zero = tf.zeros_like(row.eps)
        return State(
            y=row.x0,
            x=row.x0,
            t=counter,
            search=counter,
            c=zero + self.initial_c,
            low=zero,
            high=zero + _UNBOUNDED,
            hit=tf.zeros_like(zero, tf.bool),
            closest=zero + _UNBOUNDED,
            before=zero + _UNBOUNDED,
            stale=counter,
            rivals=tf.zeros([tf.shape(row.eps)[0], _SCOUTS], tf.int32),
            nearest=blank(row),
        )

    def step(
        self, row: Row, state: State, k: Tensor, space: Space, oracle: Oracle, random: Random
    ) -> Step:
        turn = tf.minimum(k, _SCOUTS - 1)

        def loss(z: Tensor, goal: Goal) -> Tensor:
            rivals = rivals_of(z, row, state.rivals, k == 0)
            rival = tf.gather(rivals, turn, batch_dims=1)
            scouting = k < count_of(z, row, _SCOUTS)
            aim = tf.where(scouting, rival, state.nearest.rival)
            aiming = scouting | (state.search % 2 == 0)
            return tf.where(aiming, towards(z, goal, aim), margin(z, goal))

        value, g, z = oracle.gradient(state.y, loss)
        rivals = rivals_of(z, row, state.rivals, k == 0)
        scouting = k < count_of(z, row, _SCOUTS)
        rival = tf.gather(rivals, turn, batch_dims=1)
        nearest = tf.cond(
            tf.reduce_any(scouting),
            lambda: compared(state.nearest, state.y, g, value, rival, k == 0, space),
            lambda: state.nearest,
        )
        kept = Nearest(
            *(select(scouting, a, b) for a, b in zip(nearest, state.nearest, strict=True))
        )
        state = state._replace(rivals=rivals, nearest=kept)
        reached = margin(z, row.goal)
        away = tf.where(
            reached > 0.0, space.distance(oracle.rounded(state.y), row.x0), state.closest
        )
        closer = state._replace(closest=tf.minimum(state.closest, away))
        moved = self._descended(row, closer, value, reached, g)
        mixed = tf.nest.map_structure(lambda a, b: select(scouting, a, b), state, moved.state)
        return Step(mixed, moved.done & ~scouting)

    def _descended(self, row: Row, state: State, value: Tensor, reached: Tensor, g: Tensor) -> Step:
        """One proximal step."""
        steepest = tf.reduce_max(tf.abs(state.nearest.normal), axis=[1, 2, 3])
        weight = tf.math.divide_no_nan(state.c, steepest)
        weight *= tf.cast(value <= self.confidence, tf.float32)
        slope = 2.0 * self.l2 * (state.y - row.x0) - per_row(weight, g) * g

        share = tf.cast(state.t, tf.float32) / float(self.steps)
        rate = self.learning_rate * tf.sqrt(1.0 - share)
        delta = state.y - per_row(rate, g) * slope - row.x0
        size = tf.maximum(tf.abs(delta) - per_row(rate, delta), 0.0)
        x = tf.clip_by_value(row.x0 + tf.sign(delta) * size, 0.0, 1.0)
        speed = tf.cast(state.t, tf.float32) / (tf.cast(state.t, tf.float32) + 3.0)
        y = tf.clip_by_value(x + per_row(speed, x) * (x - state.x), 0.0, 1.0)
        t = state.t + 1
        moved = state._replace(x=x, y=y, t=t, hit=state.hit | (reached > self.confidence))
        # the slopes at x0 are too flat for this c: nothing will ever move
        still = tf.reduce_all(tf.equal(x, row.x0) & tf.equal(y, row.x0), axis=[1, 2, 3])
        return self._next_search(row, moved, still | (t >= self.steps))

    def _next_search(self, row: Row, state: State, ended: Tensor) -> Step:
        """Rows whose search ended start the next one from the clean image with another c."""
        low = tf.where(state.hit, state.low, tf.maximum(state.low, state.c))
        high = tf.where(state.hit, tf.minimum(state.high, state.c), state.high)
        c = tf.where(high < _UNBOUNDED, 0.5 * (low + high), 10.0 * state.c)
        search = state.search + 1
        gained = state.closest < (1.0 - _GAIN) * state.before
        stale = tf.where(gained, 0, state.stale + tf.cast(state.hit, tf.int32))
        fresh = state._replace(
            y=row.x0,
            x=row.x0,
            t=tf.zeros_like(state.t),
            search=search,
            c=c,
            low=low,
            high=high,
            hit=tf.zeros_like(state.hit),
            before=state.closest,
            stale=stale,
        )
        mixed = tf.nest.map_structure(lambda a, b: select(ended, a, b), fresh, state)
        return Step(mixed, ended & ((search >= self.searches) | (stale >= _STALE)))
