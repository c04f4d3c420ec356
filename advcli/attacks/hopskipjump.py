"""HopSkipJump: the smallest perturbation found from the predicted label alone.

From a random image of another class (targeted: from an image of that class), each iteration
(1) estimates the boundary's normal at the current point from B·√t label queries around it,
(2) jumps along it, halving the jump until the label is still wrong, and (3) bisects back to the
boundary towards the clean image.

Bisection and halving need one answer after the other. Here a step asks about 32 points at once
(all nodes of a search tree, all halvings) and then counts and judges only those that a sequential
attacker would have asked. What was displaced by the box or by rounding to 8 bits enters the
estimate as it was really asked.

Misleads: a start of another class may not be found on a model that puts noise into one class
(the image then counts as not fooled), and distances stay well above the optimum for thousands of
queries. It shows that masked gradients are no defence, not how robust a model is.

Cost: about 17,000 forwards per image by default.

Chen et al., "HopSkipJumpAttack: a query-efficient decision-based attack", 1904.02144.
"""

from __future__ import annotations

import math
from typing import ClassVar, NamedTuple

from pydantic import Field

from advcli.attacks.base import Attack, Oracle, Row, Step
from advcli.lazy import Tensor, tf
from advcli.threats.budget import Norm
from advcli.threats.randomness import Random
from advcli.threats.space import Space, norms_of, per_row, select

START, BISECT, ESTIMATE, JUMP = range(4)
_Q = 32  # points asked at once; a search tree of _LEVELS levels has 31 inner nodes
_LEVELS = 5


class State(NamedTuple):
    phase: Tensor  # int32 [S]
    x: Tensor  # the current adversarial point, [S, H, W, C]
    goalward: Tensor  # the far end of the bisection: adversarial
    low: Tensor  # bisection bounds as shares of the way (L2) or of the distance (Linf)
    high: Tensor
    rounds: Tensor  # int32 [S], bisection steps or starts so far
    t: Tensor  # int32 [S], iteration, from 1
    asked: Tensor  # int32 [S], queries of the running estimate
    sum_u: Tensor  # Σ u, [S, H, W, C]
    sum_fu: Tensor  # Σ ±u
    sum_f: Tensor  # Σ ±1, [S]


class HopSkipJump(Attack):
    name: ClassVar[str] = "hopskipjump"
    summary: ClassVar[str] = "decision-based: boundary walk with estimated normals"
    kind: ClassVar = "minimum-norm"
    access: ClassVar = "decision"
    norms: ClassVar[tuple[Norm, ...]] = ("l2", "linf")
    wants_start: ClassVar[bool] = True
    reference: ClassVar[str] = "Chen et al., 1904.02144"

    iterations: int = Field(40, ge=1, le=10_000, description="estimate, jump, bisect")
    initial_queries: int = Field(
        100, ge=1, le=10_000, description="B: queries of the first estimate"
    )
    max_queries: int = Field(10_000, ge=1, description="most queries of one estimate")
    starts: int = Field(320, ge=1, description="random images tried for a start")
    gamma: float = Field(1.0, gt=0, description="scales the bisection's tolerance")

    def width(self, space: Space) -> int:
        return _Q

    def length(self, space: Space) -> int:
        estimates = sum(math.ceil(self._queries(t) / _Q) for t in range(1, self.iterations + 1))
        bisections = (self.iterations + 1) * self._bisections(space)
        return math.ceil(self.starts / _Q) + bisections + estimates + self.iterations

    def cost(self, space: Space) -> tuple[int, int]:
        estimates = sum(self._queries(t) for t in range(1, self.iterations + 1))
        bisections = (self.iterations + 1) * self._bisections(space) * _LEVELS
        return self.starts + estimates + bisections + self.iterations * _Q, 0

    def _queries(self, t: int) -> int:
        return int(min(self.initial_queries * math.sqrt(t), self.max_queries))

    def _theta(self, space: Space) -> float:
        d = float(space.size)
        return self.gamma / (d * d if space.norm == "linf" else d * math.sqrt(d))

    def _bisections(self, space: Space) -> int:
        """Steps of one bisection: θ, but no finer than float32 can tell two points apart."""
        bits = min(20.0, math.log2(1.0 / self._theta(space)))
        return max(1, math.ceil(bits / _LEVELS))

    def init(self, row: Row, space: Space, random: Random) -> State:
        counter = tf.zeros_like(row.restart)
        zero = tf.zeros_like(row.eps)
        blank = tf.zeros_like(row.x0)
        return State(
            phase=counter + START,
            x=row.x0,
            goalward=row.x0,
            low=zero,
            high=zero + 1.0,
            rounds=counter,
            t=counter + 1,
            asked=counter,
            sum_u=blank,
            sum_fu=blank,
            sum_f=zero,
        )

    def step(
        self, row: Row, state: State, k: Tensor, space: Space, oracle: Oracle, random: Random
    ) -> Step:
        starts = self._start_points(row, space, random)
        ladder = self._ladder(row, state, space)
        probes, radius = self._probes(row, state, space, oracle, random)
        jumps = self._jumps(row, state, space)
        points = starts
        for phase, other in ((BISECT, ladder), (ESTIMATE, probes), (JUMP, jumps)):
            points = select(tf.equal(state.phase, phase), other, points)
        met = oracle.decide(points, lambda met: self._used(state, met))
        asked = oracle.rounded(points)

        outcomes = (
            self._after_start(state, asked, met),
            self._after_bisect(row, state, met, space),
            self._after_estimate(state, asked, met, radius),
            self._after_jump(state, asked, met),
        )
        new, done = outcomes[0]
        for phase in (BISECT, ESTIMATE, JUMP):
            other, ended = outcomes[phase]
            mask = tf.equal(state.phase, phase)
            new = State(*(select(mask, a, b) for a, b in zip(other, new, strict=True)))
            done = tf.where(mask, ended, done)
        return Step(new, done)

    # --- which points, and which of them count -------------------------------------------------

    def _start_points(self, row: Row, space: Space, random: Random) -> Tensor:
        """Noise, two-level noise, plain colours and the inverse: what a black box can be sent."""
        channels = space.shape[-1]
        noise = random.uniform((_Q, *space.shape), 0)
        plain = tf.reshape(random.uniform((_Q, 1, 1, channels), 1), [-1, _Q, 1, 1, channels])
        kind = tf.reshape(tf.range(_Q) % 4, [1, _Q, 1, 1, 1])
        points = tf.where(kind == 1, tf.round(noise), noise)
        points = tf.where(kind == 2, tf.broadcast_to(plain, tf.shape(noise)), points)
        inverse = (1.0 - row.x0)[:, None] + 0.5 * (noise - 0.5)
        points = tf.clip_by_value(tf.where(kind == 3, inverse, points), 0.0, 1.0)
        given = (row.goal.target >= 0)[:, None] & (tf.range(_Q) == 0)[None]
        return tf.where(given[:, :, None, None, None], row.start[:, None], points)

    def _between(self, row: Row, state: State, share: Tensor, space: Space) -> Tensor:
        """Points at `share` [S, Q] of the way from x0 to the far end, [S, Q, H, W, C]."""
        x0, delta = row.x0[:, None], (state.goalward - row.x0)[:, None]
        if space.norm == "linf":
            reach = share * norms_of(delta[:, 0], "linf")[:, None]
            limit = reach[:, :, None, None, None]
            return x0 + tf.maximum(tf.minimum(delta, limit), -limit)
        return x0 + share[:, :, None, None, None] * delta

    def _ladder(self, row: Row, state: State, space: Space) -> Tensor:
        rung = tf.range(1, _Q + 1, dtype=tf.float32) / _Q
        share = state.low[:, None] + (state.high - state.low)[:, None] * rung[None]
        return self._between(row, state, share, space)

    def _probes(
        self, row: Row, state: State, space: Space, oracle: Oracle, random: Random
    ) -> tuple[Tensor, Tensor]:
        distance = space.distance(state.x, row.x0)
        root = math.sqrt(space.size)
        scale = (root if space.norm == "l2" else float(space.size)) * self._theta(space)
        radius = tf.where(state.t == 1, 0.1, scale * distance)
        # on the 8-bit grid a smaller probe would be rounded back to where it came from
        radius = tf.maximum(radius, oracle.resolution * root)
        shape = (_Q, *space.shape)
        drawn = random.normal(shape, 2) if space.norm == "l2" else 2 * random.uniform(shape, 2) - 1
        length = norms_of(drawn, "l2")[:, :, None, None, None]
        probes = state.x[:, None] + per_row(radius, drawn) * drawn / length
        return tf.clip_by_value(probes, 0.0, 1.0), radius

    def _jumps(self, row: Row, state: State, space: Space) -> Tensor:
        direction = self._normal(state, space)
        distance = space.distance(state.x, row.x0)
        first = distance / tf.sqrt(tf.cast(state.t, tf.float32))
        halved = first[:, None] * tf.pow(0.5, tf.range(_Q, dtype=tf.float32))[None]
        jumps = state.x[:, None] + halved[:, :, None, None, None] * direction[:, None]
        return tf.clip_by_value(jumps, 0.0, 1.0)

    def _normal(self, state: State, space: Space) -> Tensor:
        """The estimate Σ(f − mean f)·u; where every answer was the same, ±Σu (as the authors)."""
        count = tf.maximum(tf.cast(state.asked, tf.float32), 1.0)
        mean = state.sum_f / count
        v = state.sum_fu - per_row(mean, state.x) * state.sum_u
        one_sided = tf.abs(mean) > 1.0 - 0.5 / count
        v = select(one_sided, per_row(tf.sign(mean), state.x) * state.sum_u, v)
        return space.steepest(v, state.x)

    def _used(self, state: State, met: Tensor) -> Tensor:
        """bool [S, Q]: what a sequential attacker would have asked."""
        index = tf.range(_Q)[None]
        before = tf.cumsum(tf.cast(met, tf.int32), axis=1, exclusive=True)
        until_first = tf.equal(before, 0)
        room = self.starts - state.rounds * _Q
        start = until_first & (index < room[:, None])
        path, _, _ = _descend(met)
        left = self._wanted(state) - state.asked
        used = start
        for phase, mask in ((BISECT, path), (ESTIMATE, index < left[:, None]), (JUMP, until_first)):
            used = tf.where(tf.equal(state.phase, phase)[:, None], mask, used)
        return used

    def _wanted(self, state: State) -> Tensor:
        grown = self.initial_queries * tf.sqrt(tf.cast(state.t, tf.float32))
        return tf.cast(tf.minimum(tf.floor(grown + 1e-4), float(self.max_queries)), tf.int32)

    # --- what the answers change -----------------------------------------------------------------

    def _after_start(self, state: State, points: Tensor, met: Tensor) -> tuple[State, Tensor]:
        met = met & self._used(state, met)
        found = tf.reduce_any(met, axis=1)
        first = tf.argmax(tf.cast(met, tf.int32), axis=1, output_type=tf.int32)
        point = tf.gather(points, first, axis=1, batch_dims=1)
        tries = state.rounds + 1
        new = state._replace(
            phase=tf.where(found, BISECT, START),
            x=select(found, point, state.x),
            goalward=select(found, point, state.goalward),
            rounds=tf.where(found, 0, tries),
        )
        return new, ~found & (tries * _Q >= self.starts)

    def _after_bisect(
        self, row: Row, state: State, met: Tensor, space: Space
    ) -> tuple[State, Tensor]:
        _, low_rung, high_rung = _descend(met)
        span = (state.high - state.low) / _Q
        low = state.low + span * tf.cast(low_rung, tf.float32)
        high = tf.where(
            tf.equal(high_rung, _Q), state.high, state.low + span * tf.cast(high_rung, tf.float32)
        )
        rounds = state.rounds + 1
        ended = rounds >= self._bisections(space)
        nearest = self._between(row, state, high[:, None], space)[:, 0]
        # the first bisection only finds the boundary: iteration 1 has yet to run
        begun = state.asked > 0
        t = tf.where(ended & begun, state.t + 1, state.t)
        done = ended & begun & (state.t >= self.iterations)
        new = state._replace(
            phase=tf.where(ended, ESTIMATE, BISECT),
            x=select(ended, nearest, state.x),
            low=tf.where(ended, 0.0, low),
            high=tf.where(ended, 1.0, high),
            rounds=tf.where(ended, 0, rounds),
            t=t,
        )
        return self._fresh_estimate(new, ended), done

    def _fresh_estimate(self, state: State, mask: Tensor) -> State:
        return state._replace(
            asked=tf.where(mask, 0, state.asked),
            sum_u=select(mask, tf.zeros_like(state.sum_u), state.sum_u),
            sum_fu=select(mask, tf.zeros_like(state.sum_fu), state.sum_fu),
            sum_f=tf.where(mask, 0.0, state.sum_f),
        )

    def _after_estimate(
        self, state: State, points: Tensor, met: Tensor, radius: Tensor
    ) -> tuple[State, Tensor]:
        left = self._wanted(state) - state.asked
        counted = tf.cast(tf.range(_Q)[None] < left[:, None], tf.float32)
        u = (points - state.x[:, None]) / per_row(radius, points)
        answer = tf.where(met, 1.0, -1.0) * counted
        asked = state.asked + tf.minimum(left, _Q)
        new = state._replace(
            phase=tf.where(asked >= self._wanted(state), JUMP, ESTIMATE),
            asked=asked,
            sum_u=state.sum_u + tf.einsum("sq,sqhwc->shwc", counted, u),
            sum_fu=state.sum_fu + tf.einsum("sq,sqhwc->shwc", answer, u),
            sum_f=state.sum_f + tf.reduce_sum(answer, axis=1),
        )
        return new, tf.zeros_like(met[:, 0])

    def _after_jump(self, state: State, points: Tensor, met: Tensor) -> tuple[State, Tensor]:
        landed = tf.reduce_any(met, axis=1)
        first = tf.argmax(tf.cast(met, tf.int32), axis=1, output_type=tf.int32)
        point = tf.gather(points, first, axis=1, batch_dims=1)
        # nowhere to land: the next iteration estimates again from the same point
        stay = self._fresh_estimate(state._replace(t=state.t + 1), tf.ones_like(landed))
        stay = stay._replace(phase=tf.zeros_like(state.phase) + ESTIMATE)
        go = state._replace(phase=tf.zeros_like(state.phase) + BISECT, goalward=point)
        new = State(*(select(landed, a, b) for a, b in zip(go, stay, strict=True)))
        return new, ~landed & (state.t >= self.iterations)


def _descend(met: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Binary search over the rungs 1…Q (rung Q is adversarial, rung 0, the clean side, is not).

    Returns the rungs visited (bool [S, Q]), and the last ones below and above (int32 [S]).
    """
    low = tf.zeros_like(met[:, 0], tf.int32)
    high = low + _Q
    path = tf.zeros_like(met)
    for _ in range(_LEVELS):
        middle = (low + high) // 2
        path = path | tf.one_hot(middle - 1, _Q, on_value=True, off_value=False, dtype=tf.bool)
        hit = tf.gather(met, middle - 1, axis=1, batch_dims=1)
        low, high = tf.where(hit, low, middle), tf.where(hit, middle, high)
    return path, low, high
