"""SurFree: the smallest perturbation found from the predicted label alone, without any estimate.

Each direction is a random sum of the image's low frequencies, orthogonal to those tried before.
With the line from the clean image x0 to the current adversarial point it spans a plane. On the
circle through both points over that line, every point is nearer to x0 than the current one: two
queries look at ±θ. If one is adversarial, a binary search between θ and 2θ turns as far as the
label allows, and θ grows by 1/ρ; else the next direction is tried with ρ·θ. Once as many
directions were tried as there are low frequencies, all frequencies are drawn from. The last queries
go straight towards x0.

A step asks about 8 points at once (four directions, or all nodes of a search tree) and counts and
judges only those that a sequential attacker would have asked.

Misleads: as any decision-based attack, distances stay above the optimum for thousands of queries.
It shows that masked gradients are no defence, not how robust a model is.

Cost: `queries` forwards per image, 5,000 by default. It is at its best below about 1,000.

Maho et al., "SurFree: a fast surrogate-free black-box attack", 2011.12807.
"""

from __future__ import annotations

import math
from typing import ClassVar, NamedTuple

import numpy as np
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
    levels,
    merge,
    on_circle,
    start_asked,
    start_points,
    until_first,
)
from advcli.lazy import Tensor, tf
from advcli.threats.budget import Norm
from advcli.threats.dct import dct2, idct2, lowest
from advcli.threats.randomness import Random
from advcli.threats.space import Space, normalise_l2, per_row, select

TRY, TURN, FINISH = 2, 3, 4  # after START and BISECT
_Q = 8  # points asked at once
_DIRECTIONS = _Q // 2  # each is looked at on both sides
_WIDEST = 0.25 * math.pi  # so that 2θ never passes x0
_LAST = 0.8  # the last search: no closer to x0 than this share of the way
_LAST_ROUNDS = 3
_RESERVE = (_LAST_ROUNDS + 1) * levels(_Q)  # queries for it, and for a turn under way


class State(NamedTuple):
    phase: Tensor  # int32 [S]
    x: Tensor  # the current adversarial point, [S, H, W, C]
    bracket: Bracket  # BISECT, FINISH: shares of the way from x0 to x. TURN: angles from x
    rounds: Tensor  # int32 [S], searching steps or starts so far
    asked: Tensor  # int32 [S], queries so far
    theta: Tensor  # [S], the angle to be tried
    direction: Tensor  # the one that is being searched along, [S, H, W, C]
    past: Tensor  # directions tried, orthonormal, the last ones: [S, P, H, W, C]
    tried: Tensor  # int32 [S], how many there were


class SurFree(Attack):
    name: ClassVar[str] = "surfree"
    summary: ClassVar[str] = "decision-based: turns in random low-frequency planes"
    kind: ClassVar = "minimum-norm"
    access: ClassVar = "decision"
    norms: ClassVar[tuple[Norm, ...]] = ("l2",)
    wants_start: ClassVar[bool] = True
    reference: ClassVar[str] = "Maho et al., 2011.12807"

    queries: int = Field(5000, ge=100, le=1_000_000, description="label queries in all")
    theta: float = Field(30.0, gt=0, le=45, description="the first angle, in degrees")
    rho: float = Field(0.95, gt=0, lt=1, description="angle's factor after a failure, its inverse")
    frequencies: float = Field(
        0.5, gt=0, le=1, description="share of all frequencies that directions are made of"
    )
    memory: int = Field(100, ge=1, le=10_000, description="past directions to be orthogonal to")
    precision: float = Field(
        0.01,
        gt=0,
        lt=1,
        description="a turn ends when less than this share of the distance is left",
    )
    starts: int = Field(320, ge=1, description="random images tried for a start")

    def width(self, space: Space) -> int:
        return _Q

    def length(self, space: Space) -> int:
        return self.queries  # every step asks for one answer at least

    def cost(self, space: Space) -> tuple[int, int]:
        return self.queries, 0

    def _kept(self, space: Space) -> np.ndarray:
        return lowest(space.shape[0], space.shape[1], self.frequencies)

    def _memory(self, space: Space) -> int:
        """Never so many that new directions have nowhere left to point."""
        room = int(self._kept(space).sum()) * space.shape[-1]
        return max(1, min(self.memory, room // 2))

    def init(self, row: Row, space: Space, random: Random) -> State:
        counter = tf.zeros_like(row.restart)
        zero = tf.zeros_like(row.eps)
        past = tf.zeros([tf.shape(row.eps)[0], self._memory(space), *space.shape])
        return State(
            phase=counter + START,
            x=row.x0,
            bracket=Bracket(zero, zero + 1.0),
            rounds=counter,
            asked=counter,
            theta=zero + math.radians(self.theta),
            direction=tf.zeros_like(row.x0),
            past=past,
            tried=counter,
        )

    def step(
        self, row: Row, state: State, k: Tensor, space: Space, oracle: Oracle, random: Random
    ) -> Step:
        directions = self._directions(row, state, space, random)
        angles = self._angles(row, state, space, oracle)
        both = tf.repeat(directions, 2, axis=1)
        sides = tf.constant([1.0, -1.0] * _DIRECTIONS)
        rungs = state.bracket.rungs(_Q)
        line = between(row, state.x, rungs, space)
        points = by_phase(
            state.phase,
            start_points(row, space, random, state.rounds, _Q),
            {
                BISECT: line,
                TRY: on_circle(row, state.x, both, tf.repeat(angles, 2, axis=1) * sides),
                TURN: on_circle(row, state.x, state.direction[:, None], rungs),
                FINISH: line,
            },
        )
        used: list[Tensor] = []

        def count(met: Tensor) -> Tensor:
            used.append(self._used(state, met))
            return used[0]

        met = oracle.decide(points, count) & used[0]
        state = state._replace(asked=state.asked + _count(used[0]))

        spent = (state.rounds + 1) * _Q >= self.starts
        spent |= state.asked >= self.queries - 2 * _RESERVE
        arrival = self._after_line(row, state, met, space)
        new, done = by_phase(
            state.phase,
            after_start(state, oracle.rounded(points), met, spent),
            {
                BISECT: arrival,
                TRY: self._after_try(state, points, met, directions, angles),
                TURN: self._after_turn(row, state, met),
                FINISH: arrival,
            },
        )
        return Step(self._finishing(new), done)

    # --- which points, and which of them count -------------------------------------------------

    def _directions(self, row: Row, state: State, space: Space, random: Random) -> Tensor:
        """Four unit directions, orthogonal to the past, to x − x0 and to one another."""
        size = tf.tanh(tf.abs(dct2(row.x0)))
        low = tf.constant(self._kept(space)[:, :, None], tf.float32)
        used_up = state.tried >= int(self._kept(space).sum()) * space.shape[-1]
        weight = tf.maximum(size, 0.1) * tf.maximum(
            per_row(tf.cast(used_up, tf.float32), size), low
        )
        drawn = tf.cast(random.integers(3, (_DIRECTIONS, *space.shape), 2) - 1, tf.float32)
        fresh = idct2(drawn * weight[:, None])
        overlap = tf.einsum("sqhwc,sphwc->sqp", fresh, state.past)
        fresh -= tf.einsum("sqp,sphwc->sqhwc", overlap, state.past)
        before = [normalise_l2(state.x - row.x0)]
        for i in range(_DIRECTIONS):
            direction = fresh[:, i]
            for other in before:
                overlap = tf.reduce_sum(direction * other, axis=[1, 2, 3])
                direction -= per_row(overlap, other) * other
            before.append(normalise_l2(direction))
        return tf.stack(before[1:], axis=1)

    def _angles(self, row: Row, state: State, space: Space, oracle: Oracle) -> Tensor:
        """θ for each of the four directions [S, 4], the earlier ones taken as failures."""
        falling = tf.constant([self.rho**i for i in range(_DIRECTIONS)])
        # on the 8-bit grid a turn by less than half a level per value goes nowhere
        distance = tf.maximum(space.distance(state.x, row.x0), 1e-6)
        least = 0.5 * oracle.resolution * math.sqrt(space.size) / distance
        least = tf.clip_by_value(least, 1e-4, _WIDEST)
        return tf.clip_by_value(state.theta[:, None] * falling, least[:, None], _WIDEST)

    def _used(self, state: State, met: Tensor) -> Tensor:
        """bool [S, Q]: what a sequential attacker would have asked."""
        path, _, _ = descend(met)
        left = self.queries - _RESERVE - state.asked
        tries = until_first(met) & (tf.range(_Q)[None] < left[:, None])
        starts = min(self.starts, self.queries - 2 * _RESERVE)
        asked: Tensor = by_phase(
            state.phase,
            start_asked(met, state.rounds, starts),
            {BISECT: path, TRY: tries, TURN: path, FINISH: path},
        )
        return asked

    # --- what the answers change -----------------------------------------------------------------

    def _after_line(
        self, row: Row, state: State, met: Tensor, space: Space
    ) -> tuple[State, Tensor]:
        """One round of a search from x towards x0."""
        bracket = state.bracket.narrowed(met)
        rounds = state.rounds + 1
        ended = rounds >= _LAST_ROUNDS
        x = between(row, state.x, bracket.met[:, None], space)[:, 0]
        arrived = state._replace(
            phase=tf.zeros_like(state.phase) + TRY,
            x=x,
            # the first direction of all is the one that led to the boundary
            past=tf.concat([normalise_l2(x - row.x0)[:, None], state.past[:, 1:]], axis=1),
            tried=tf.ones_like(state.tried),
        )
        going = state._replace(bracket=bracket, rounds=rounds)
        return merge(ended, arrived, going), ended & tf.equal(state.phase, FINISH)

    def _after_try(
        self, state: State, points: Tensor, met: Tensor, directions: Tensor, angles: Tensor
    ) -> tuple[State, Tensor]:
        found, point = first_of(points, met)
        first = tf.argmax(tf.cast(met, tf.int32), axis=1, output_type=tf.int32)
        last = tf.where(found, first // 2, _DIRECTIONS - 1)
        angle = tf.gather(angles, last, axis=1, batch_dims=1)
        side = tf.where(tf.equal(first % 2, 0), 1.0, -1.0)
        direction = tf.gather(directions, last, axis=1, batch_dims=1)
        gain = tf.cos(angle) - tf.cos(2.0 * angle)
        new = self._remembered(state, directions, last)._replace(
            theta=angle * tf.where(found, 1.0 / self.rho, self.rho),
        )
        turn = new._replace(
            phase=tf.zeros_like(state.phase) + TURN,
            bracket=Bracket(2.0 * angle, angle),
            rounds=tf.zeros_like(state.rounds),
            direction=direction * per_row(side, direction),
        )
        new = new._replace(x=select(found, point, state.x))
        return merge(found & (gain > self.precision), turn, new), tf.zeros_like(found)

    def _remembered(self, state: State, directions: Tensor, last: Tensor) -> State:
        """The directions up to `last` take the places of the oldest ones but the very first."""
        size = int(state.past.shape[1])
        offset = tf.range(_DIRECTIONS)[None]
        if size == 1:
            return state
        place = 1 + (state.tried[:, None] - 1 + offset) % (size - 1)
        lasting = (offset <= last[:, None]) & (offset > last[:, None] - (size - 1))
        put = tf.one_hot(tf.where(lasting, place, -1), size)  # [S, 4, P]
        kept = 1.0 - tf.reduce_max(put, axis=1)
        past = state.past * per_row(kept, state.past)
        past += tf.einsum("sqp,sqhwc->sphwc", put, directions)
        return state._replace(past=past, tried=state.tried + last + 1)

    def _after_turn(self, row: Row, state: State, met: Tensor) -> tuple[State, Tensor]:
        bracket = state.bracket.narrowed(met)
        rounds = state.rounds + 1
        ended = tf.cos(bracket.met) - tf.cos(bracket.unmet) <= self.precision
        ended |= state.asked >= self.queries - _RESERVE
        x = on_circle(row, state.x, state.direction[:, None], bracket.met[:, None])[:, 0]
        arrived = state._replace(phase=tf.zeros_like(state.phase) + TRY, x=x)
        going = state._replace(bracket=bracket, rounds=rounds)
        return merge(ended, arrived, going), tf.zeros_like(ended)

    def _finishing(self, state: State) -> State:
        """The last queries are kept for a search straight towards x0."""
        spent = tf.equal(state.phase, TRY) & (state.asked >= self.queries - _RESERVE)
        whole = tf.ones_like(state.theta)
        last = state._replace(
            phase=tf.zeros_like(state.phase) + FINISH,
            bracket=Bracket(_LAST * whole, whole),
            rounds=tf.zeros_like(state.rounds),
        )
        kept: State = merge(spent, last, state)
        return kept


def _count(used: Tensor) -> Tensor:
    return tf.reduce_sum(tf.cast(used, tf.int32), axis=1)
