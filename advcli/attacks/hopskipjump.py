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
from advcli.attacks.decision import (
    BISECT,
    START,
    Bracket,
    Estimate,
    after_start,
    between,
    by_phase,
    descend,
    first_of,
    levels,
    merge,
    no_estimate,
    start_asked,
    start_points,
    until_first,
)
from advcli.lazy import Tensor, tf
from advcli.threats.budget import Norm
from advcli.threats.randomness import Random
from advcli.threats.space import Space, norms_of, per_row, select

ESTIMATE, JUMP = 2, 3  # after START and BISECT
_Q = 32  # points asked at once; a search tree of five levels has 31 inner nodes


class State(NamedTuple):
    phase: Tensor  # int32 [S]
    x: Tensor  # the current adversarial point, [S, H, W, C]
    bracket: Bracket  # shares of the way (L2) or of the distance (Linf) from x0 to x
    rounds: Tensor  # int32 [S], bisection steps or starts so far
    t: Tensor  # int32 [S], iteration, from 1
    estimate: Estimate


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
        bisections = (self.iterations + 1) * self._bisections(space) * levels(_Q)
        return self.starts + estimates + bisections + self.iterations * _Q, 0

    def _queries(self, t: int) -> int:
        return int(min(self.initial_queries * math.sqrt(t), self.max_queries))

    def _theta(self, space: Space) -> float:
        d = float(space.size)
        return self.gamma / (d * d if space.norm == "linf" else d * math.sqrt(d))

    def _bisections(self, space: Space) -> int:
        """Steps of one bisection: θ, but no finer than float32 can tell two points apart."""
        bits = min(20.0, math.log2(1.0 / self._theta(space)))
        return max(1, math.ceil(bits / levels(_Q)))

    def init(self, row: Row, space: Space, random: Random) -> State:
        counter = tf.zeros_like(row.restart)
        zero = tf.zeros_like(row.eps)
        return State(
            phase=counter + START,
            x=row.x0,
            bracket=Bracket(zero, zero + 1.0),
            rounds=counter,
            t=counter + 1,
            estimate=no_estimate(row),
        )

    def step(
        self, row: Row, state: State, k: Tensor, space: Space, oracle: Oracle, random: Random
    ) -> Step:
        probes, radius = self._probes(row, state, space, oracle, random)
        points = by_phase(
            state.phase,
            start_points(row, space, random, state.rounds, _Q),
            {
                BISECT: between(row, state.x, state.bracket.rungs(_Q), space),
                ESTIMATE: probes,
                JUMP: self._jumps(row, state, space),
            },
        )
        met = oracle.decide(points, lambda met: self._used(state, met))
        met &= self._used(state, met)
        asked = oracle.rounded(points)
        spent = (state.rounds + 1) * _Q >= self.starts
        return Step(
            *by_phase(
                state.phase,
                after_start(state, asked, met, spent),
                {
                    BISECT: self._after_bisect(row, state, met, space, oracle),
                    ESTIMATE: self._after_estimate(state, asked, met, radius),
                    JUMP: self._after_jump(row, state, asked, met),
                },
            )
        )

    # --- which points, and which of them count -------------------------------------------------

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
        direction = space.steepest(state.estimate.normal(), state.x)
        distance = space.distance(state.x, row.x0)
        first = distance / tf.sqrt(tf.cast(state.t, tf.float32))
        halved = first[:, None] * tf.pow(0.5, tf.range(_Q, dtype=tf.float32))[None]
        jumps = state.x[:, None] + halved[:, :, None, None, None] * direction[:, None]
        return tf.clip_by_value(jumps, 0.0, 1.0)

    def _used(self, state: State, met: Tensor) -> Tensor:
        """bool [S, Q]: what a sequential attacker would have asked."""
        left = self._wanted(state) - state.estimate.asked
        others = {
            BISECT: descend(met)[0],
            ESTIMATE: tf.range(_Q)[None] < left[:, None],
            JUMP: until_first(met),
        }
        asked: Tensor = by_phase(state.phase, start_asked(met, state.rounds, self.starts), others)
        return asked

    def _wanted(self, state: State) -> Tensor:
        grown = self.initial_queries * tf.sqrt(tf.cast(state.t, tf.float32))
        return tf.cast(tf.minimum(tf.floor(grown + 1e-4), float(self.max_queries)), tf.int32)

    # --- what the answers change -----------------------------------------------------------------

    def _after_bisect(
        self, row: Row, state: State, met: Tensor, space: Space, oracle: Oracle
    ) -> tuple[State, Tensor]:
        bracket = state.bracket.narrowed(met)
        rounds = state.rounds + 1
        # on the 8-bit grid nothing is gained below a fraction of a level
        reach = bracket.width * space.distance(state.x, row.x0)
        ended = (rounds >= self._bisections(space)) | (reach < 0.25 * oracle.resolution)
        nearest = between(row, state.x, bracket.met[:, None], space)[:, 0]
        # the first bisection only finds the boundary: iteration 1 has yet to run
        begun = state.estimate.asked > 0
        t = tf.where(ended & begun, state.t + 1, state.t)
        done = ended & begun & (state.t >= self.iterations)
        whole = Bracket(tf.zeros_like(reach), tf.ones_like(reach))
        new = state._replace(
            phase=tf.where(ended, ESTIMATE, BISECT),
            x=select(ended, nearest, state.x),
            bracket=merge(ended, whole, bracket),
            rounds=tf.where(ended, 0, rounds),
            t=t,
            estimate=merge(ended, no_estimate(row), state.estimate),
        )
        return new, done

    def _after_estimate(
        self, state: State, points: Tensor, met: Tensor, radius: Tensor
    ) -> tuple[State, Tensor]:
        u = (points - state.x[:, None]) / per_row(radius, points)
        estimate = state.estimate.plus(u, met, self._wanted(state))
        ended = estimate.asked >= self._wanted(state)
        new = state._replace(phase=tf.where(ended, JUMP, ESTIMATE), estimate=estimate)
        return new, tf.zeros_like(ended)

    def _after_jump(
        self, row: Row, state: State, points: Tensor, met: Tensor
    ) -> tuple[State, Tensor]:
        landed, point = first_of(points, met)
        go = state._replace(phase=tf.zeros_like(state.phase) + BISECT, x=point)
        # nowhere to land: the next iteration estimates again from the same point
        stay = state._replace(
            phase=tf.zeros_like(state.phase) + ESTIMATE,
            t=state.t + 1,
            estimate=no_estimate(row),
        )
        return merge(landed, go, stay), ~landed & (state.t >= self.iterations)
