"""Boundary attack: a random walk along the boundary that looks at the predicted label alone.

Each step goes a little sideways, on the sphere around the clean image x0, and then a little
towards x0; it is taken if the label is still wrong. A success lengthens both halves and a failure
shortens them, so that one step in eight succeeds. About every tenth query looks at a sideways half
alone, and sets how long it is beside the other one.

On the 8-bit grid short steps would be rounded away. There the sideways half moves as few values as
are needed for whole levels, the way back is rounded up or down at random, and only points nearer
to x0 than the current one are asked about.

A step of the engine asks about seven proposals at once and counts and judges only those up to the
first success: what a sequential attacker would have asked.

Misleads: it needs some 14 queries per value of the image even where the boundary is flat, ten
times those of HopSkipJump or CGBA. It is the field's first decision-based attack and its usual
baseline.

Cost: `queries` forwards per image at most, 25,000 by default.

Brendel et al., "Decision-based adversarial attacks", 1712.04248; without its waits between two
adaptations of the steps.
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
    after_start,
    between,
    by_phase,
    descend,
    first_of,
    merge,
    start_asked,
    start_points,
    until_first,
)
from advcli.lazy import Tensor, tf
from advcli.threats.budget import Norm
from advcli.threats.randomness import Random
from advcli.threats.space import Space, normalise_l2, norms_of, per_row, select

WALK = 2  # after START and BISECT
_Q = 8  # points asked at once: seven proposals, and the sideways half of the first
_PROPOSALS = _Q - 1
_BISECTIONS = 4
# On a flat boundary the distance falls fastest at these rates of success
_WHOLE, _SIDEWAYS = 0.12, 0.28
_MOVE = 0.7  # of a level: about what a value has to move to end at another one
_LEAST = 3e-6  # share of the distance that float32 can still tell apart


class State(NamedTuple):
    phase: Tensor  # int32 [S]
    x: Tensor  # the current adversarial point, [S, H, W, C]
    bracket: Bracket  # shares of the way from x0 to x
    rounds: Tensor  # int32 [S], starts or bisection steps so far
    asked: Tensor  # int32 [S], queries so far
    idle: Tensor  # int32 [S], queries since the last success
    sideways: Tensor  # [S], step lengths as shares of the distance
    inwards: Tensor  # [S]


class Boundary(Attack):
    name: ClassVar[str] = "boundary"
    summary: ClassVar[str] = "decision-based: random walk along the boundary"
    kind: ClassVar = "minimum-norm"
    access: ClassVar = "decision"
    norms: ClassVar[tuple[Norm, ...]] = ("l2",)
    wants_start: ClassVar[bool] = True
    reference: ClassVar[str] = "Brendel et al., 1712.04248"

    queries: int = Field(25_000, ge=100, le=10_000_000, description="label queries in all")
    spherical_step: float = Field(
        0.3, gt=0, le=1, description="first step sideways, as a share of the distance"
    )
    source_step: float = Field(
        0.05, gt=0, le=0.5, description="first step towards the clean image, likewise"
    )
    adaptation: float = Field(1.5, gt=1, le=10, description="factor by which the steps change")
    patience: int = Field(1000, ge=1, description="ends after so many failures in a row")
    starts: int = Field(320, ge=1, description="random images tried for a start")

    def width(self, space: Space) -> int:
        return _Q

    def length(self, space: Space) -> int:
        return 2 * self.queries  # a step may find nothing worth a query

    def cost(self, space: Space) -> tuple[int, int]:
        return self.queries, 0

    def init(self, row: Row, space: Space, random: Random) -> State:
        counter = tf.zeros_like(row.restart)
        zero = tf.zeros_like(row.eps)
        return State(
            phase=counter + START,
            x=row.x0,
            bracket=Bracket(zero, zero + 1.0),
            rounds=counter,
            asked=counter,
            idle=counter,
            sideways=zero + self.spherical_step,
            inwards=zero + self.source_step,
        )

    def step(
        self, row: Row, state: State, k: Tensor, space: Space, oracle: Oracle, random: Random
    ) -> Step:
        points = oracle.rounded(
            by_phase(
                state.phase,
                start_points(row, space, random, state.rounds, _Q),
                {
                    BISECT: between(row, state.x, state.bracket.rungs(_Q), space),
                    WALK: self._proposals(row, state, space, oracle.resolution, random),
                },
            )
        )
        distance = space.distance(state.x, row.x0)
        away = space.distance(points, row.x0[:, None])
        worth = away[:, :_PROPOSALS] < (1.0 - 0.3 * _LEAST) * distance[:, None]
        look = tf.equal(k % 2, 0)
        met = oracle.decide(points, lambda met: self._used(state, met, worth, look))
        used = self._used(state, met, worth, look)
        met &= used
        state = state._replace(asked=state.asked + _count(used))
        spent = (state.rounds + 1) * _Q >= self.starts
        new, done = by_phase(
            state.phase,
            after_start(state, points, met, spent),
            {
                BISECT: self._after_bisect(row, state, met, space, oracle),
                WALK: self._after_walk(state, points, met, used),
            },
        )
        return Step(new, done | (new.asked >= self.queries))

    # --- which points, and which of them count -------------------------------------------------

    def _proposals(
        self, row: Row, state: State, space: Space, level: float, random: Random
    ) -> Tensor:
        """Seven whole steps, then the sideways half of the first; `level` 0: no grid."""
        origin = row.x0[:, None]
        away = state.x[:, None] - origin
        distance = norms_of(away, "l2")  # [S, 1]
        along = normalise_l2(away)
        drawn = random.normal((_PROPOSALS, *space.shape), 2)
        size = state.sideways[:, None] * distance
        if level:
            size = tf.maximum(size, level)
            share = tf.square(size / (_MOVE * level)) / space.size
            share = tf.clip_by_value(share, min(1.0, 2.0 / space.size), 1.0)
            moved = random.uniform((_PROPOSALS, *space.shape), 3) < per_row(share, drawn)
            drawn *= tf.cast(moved, tf.float32)
        overlap = tf.reduce_sum(drawn * along, axis=[2, 3, 4])
        aside = normalise_l2(drawn - per_row(overlap, drawn) * along)
        points = tf.clip_by_value(state.x[:, None] + per_row(size, aside) * aside, 0.0, 1.0)
        if level:
            points = level * tf.round(points / level)
        points = tf.concat([points, points[:, :1]], axis=1)
        wanted = distance * tf.concat(
            [tf.repeat(1.0 - state.inwards[:, None], _PROPOSALS, axis=1), tf.ones_like(distance)],
            axis=1,
        )
        # back onto the sphere, and inwards
        back = points - origin
        share = tf.minimum(1.0, tf.math.divide_no_nan(wanted, norms_of(back, "l2")))
        if not level:
            return origin + per_row(share, back) * back
        steps = tf.abs(back) * per_row(1.0 - share, back) / level
        steps = tf.floor(steps + random.uniform((_Q, *space.shape), 4))
        return points - level * steps * tf.sign(back)

    def _used(self, state: State, met: Tensor, worth: Tensor, look: Tensor) -> Tensor:
        """bool [S, Q]: what a sequential attacker would have asked."""
        whole = worth & until_first(met[:, :_PROPOSALS] & worth)
        asked = by_phase(
            state.phase,
            start_asked(met, state.rounds, self.starts),
            {BISECT: descend(met)[0], WALK: tf.concat([whole, look[:, None]], axis=1)},
        )
        left: Tensor = tf.cumsum(tf.cast(asked, tf.int32), axis=1) <= (
            self.queries - state.asked[:, None]
        )
        return asked & left

    # --- what the answers change -----------------------------------------------------------------

    def _after_bisect(
        self, row: Row, state: State, met: Tensor, space: Space, oracle: Oracle
    ) -> tuple[State, Tensor]:
        bracket = state.bracket.narrowed(met)
        rounds = state.rounds + 1
        ended = rounds >= _BISECTIONS
        x = oracle.rounded(between(row, state.x, bracket.met[:, None], space))[:, 0]
        arrived = state._replace(phase=tf.zeros_like(state.phase) + WALK, x=x)
        going = state._replace(bracket=bracket, rounds=rounds)
        return merge(ended, arrived, going), tf.zeros_like(ended)

    def _after_walk(
        self, state: State, points: Tensor, met: Tensor, used: Tensor
    ) -> tuple[State, Tensor]:
        found, point = first_of(points[:, :_PROPOSALS], met[:, :_PROPOSALS])
        asked = _count(used[:, :_PROPOSALS])
        idle = tf.where(found, 0, state.idle + asked)
        grown = tf.cast(found, tf.float32) - _WHOLE * tf.cast(asked, tf.float32)
        longer = tf.where(met[:, -1], 1.0 - _SIDEWAYS, -_SIDEWAYS)
        longer = tf.where(used[:, -1], longer, 0.0)
        rate = math.log(self.adaptation)
        # the gain of a step grows as the square of what it goes sideways
        sideways = state.sideways * tf.exp(rate * (0.5 * grown + longer))
        inwards = state.inwards * tf.exp(rate * grown)
        new = state._replace(
            x=select(found, point, state.x),
            idle=idle,
            sideways=tf.clip_by_value(sideways, _LEAST, 1.0),
            inwards=tf.clip_by_value(inwards, _LEAST, 0.5),
        )
        return new, idle >= self.patience


def _count(used: Tensor) -> Tensor:
    return tf.reduce_sum(tf.cast(used, tf.int32), axis=1)
