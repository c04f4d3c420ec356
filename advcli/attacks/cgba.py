"""CGBA: the smallest perturbation found from the predicted label alone, along semicircles.

From a point on the boundary, the boundary's normal is estimated from N·√t label queries in the
image's low frequencies. Were the boundary flat, the point nearest to the clean image x0 would lie
on the semicircle over the line from x0 to the current point, in the plane of that line and the
normal. Untargeted (CGBA), a bisection along this semicircle finds where it crosses the boundary.
Targeted (CGBA-H), where boundaries are curved, the angle towards the normal is halved until the
image is of the target class, and a bisection goes from there straight towards x0; it starts from
an image of the target class.

A step asks about 32 points at once and counts and judges only those that a sequential attacker
would have asked. What was displaced by the box or by rounding to 8 bits enters the estimate as it
was really asked, and the answers' mean is taken off, as in HopSkipJump. Once the low frequencies
yield nothing more, the search is widened to twice as many in either direction, in the end to all.
A search ends at a share of the distance, and no probe is smaller than what the search left open.

Misleads: as any decision-based attack, distances stay above the optimum for thousands of queries.
It shows that masked gradients are no defence, not how robust a model is.

Cost: `queries` forwards per image, 20,000 by default.

Reza et al., "CGBA: Curvature-aware Geometric Black-box Attack", 2308.03163.
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
    Estimate,
    after_start,
    between,
    by_phase,
    descend,
    first_of,
    levels,
    merge,
    no_estimate,
    on_circle,
    start_asked,
    start_points,
    until_first,
)
from advcli.lazy import Tensor, tf
from advcli.threats.budget import Norm
from advcli.threats.dct import dct2, idct2
from advcli.threats.randomness import Random
from advcli.threats.space import Space, normalise_l2, per_row, select

ESTIMATE, ARC, TURN = 2, 3, 4  # after START and BISECT
_Q = 32  # points asked at once
_TURNS = 10  # halvings of an angle: what lies nearer to x is not worth a query
_STALE = 2  # iterations in a row: one alone may have had bad luck
_LAST = 1.5  # the last estimate takes what is left, up to this share of its due
_RIGHT = 0.5 * math.pi


class State(NamedTuple):
    phase: Tensor  # int32 [S]
    x: Tensor  # the current adversarial point, [S, H, W, C]
    bracket: Bracket  # BISECT: shares of the way from x0 to x. ARC: angles from x
    rounds: Tensor  # int32 [S], searching steps or starts so far
    asked: Tensor  # int32 [S], queries so far
    wanted: Tensor  # int32 [S], queries of this iteration's estimate
    t: Tensor  # int32 [S], iteration, from 1
    before: Tensor  # [S], the distance when the iteration began
    stale: Tensor  # int32 [S], iterations in a row that gained too little
    factor: Tensor  # [S], one in how many frequencies is looked at, in either direction
    estimate: Estimate


class CGBA(Attack):
    name: ClassVar[str] = "cgba"
    summary: ClassVar[str] = "decision-based: semicircles towards low-frequency normals"
    kind: ClassVar = "minimum-norm"
    access: ClassVar = "decision"
    norms: ClassVar[tuple[Norm, ...]] = ("l2",)
    wants_start: ClassVar[bool] = True
    reference: ClassVar[str] = "Reza et al., 2308.03163"

    queries: int = Field(20_000, ge=100, le=1_000_000, description="label queries in all")
    initial_queries: int = Field(30, ge=2, le=10_000, description="N: queries of the 1st estimate")
    factor: float = Field(
        4.0, ge=1, le=64, description="first estimates: height and width of frequencies / factor"
    )
    widen: float = Field(
        0.01, ge=0, lt=1, description="halve the factor where two iterations gain less than this"
    )
    sigma: float = Field(2e-4, gt=0, le=1, description="standard deviation of a probe's frequency")
    tolerance: float = Field(
        0.0005, gt=0, lt=1, description="a search ends at this share of the distance"
    )
    starts: int = Field(320, ge=1, description="random images tried for a start")

    def width(self, space: Space) -> int:
        return _Q

    def length(self, space: Space) -> int:
        return self.queries  # every step asks for one answer at least

    def cost(self, space: Space) -> tuple[int, int]:
        return self.queries, 0

    def _rounds(self) -> int:
        """Steps of one search: from the longest arc, a right angle, to the tolerance."""
        return max(1, math.ceil(math.log2(_RIGHT / self.tolerance) / levels(_Q)))

    def _search(self) -> int:
        """Queries that an iteration needs after its estimate."""
        return self._rounds() * levels(_Q)

    def init(self, row: Row, space: Space, random: Random) -> State:
        counter = tf.zeros_like(row.restart)
        zero = tf.zeros_like(row.eps)
        return State(
            phase=counter + START,
            x=row.x0,
            bracket=Bracket(zero, zero + 1.0),
            rounds=counter,
            asked=counter,
            wanted=counter,
            t=counter + 1,
            before=zero,
            stale=counter,
            factor=zero + self.factor,
            estimate=no_estimate(row),
        )

    def step(
        self, row: Row, state: State, k: Tensor, space: Space, oracle: Oracle, random: Random
    ) -> Step:
        probes, size = self._probes(row, state, space, oracle, random)
        across, turn = self._plane(row, state, space)
        halved = turn[:, None] * tf.pow(0.5, tf.range(1, _Q + 1, dtype=tf.float32))[None]
        points = by_phase(
            state.phase,
            start_points(row, space, random, state.rounds, _Q),
            {
                BISECT: between(row, state.x, state.bracket.rungs(_Q), space),
                ESTIMATE: probes,
                ARC: on_circle(row, state.x, across[:, None], state.bracket.rungs(_Q)),
                TURN: on_circle(row, state.x, across[:, None], halved),
            },
        )
        met = oracle.decide(points, lambda met: self._used(state, met))
        used = self._used(state, met)
        met &= used
        state = state._replace(asked=state.asked + tf.reduce_sum(tf.cast(used, tf.int32), axis=1))
        asked = oracle.rounded(points)
        u = (asked - state.x[:, None]) / per_row(size, asked)
        spent = (state.rounds + 1) * _Q >= self.starts
        new, done = by_phase(
            state.phase,
            after_start(state, asked, met, spent),
            {
                BISECT: self._after_search(row, state, met, space),
                ESTIMATE: self._after_estimate(row, state, met, u, space),
                ARC: self._after_search(row, state, met, space, across),
                TURN: self._after_turn(row, state, asked, met, space),
            },
        )
        return Step(new, done | (new.asked >= self.queries))

    # --- which points, and which of them count -------------------------------------------------

    def _probes(
        self, row: Row, state: State, space: Space, oracle: Oracle, random: Random
    ) -> tuple[Tensor, Tensor]:
        """Low-frequency noise around x, and the standard deviation of its frequencies [S]."""
        kept = _kept(space, state.factor)
        drawn = random.normal((_Q, *space.shape), 2) * kept[:, None]
        share = tf.reduce_sum(kept, axis=[1, 2, 3]) / float(kept.shape[1] * kept.shape[2])
        # on the 8-bit grid a smaller probe would be rounded back to where it came from
        size = tf.maximum(self.sigma, oracle.resolution / tf.sqrt(share))
        size = tf.maximum(size, self.tolerance * space.distance(state.x, row.x0))
        probes = state.x[:, None] + per_row(size, drawn) * idct2(drawn)
        return tf.clip_by_value(probes, 0.0, 1.0), size

    def _plane(self, row: Row, state: State, space: Space) -> tuple[Tensor, Tensor]:
        """The direction across x − x0 towards the estimated normal, and the normal's angle [S]."""
        normal = state.estimate.normal()
        # what the box and the grid added to the probes has other frequencies too
        kept = _kept(space, state.factor)
        normal = normalise_l2(idct2(dct2(normal) * kept))
        along = normalise_l2(state.x - row.x0)
        cosine = tf.reduce_sum(along * normal, axis=[1, 2, 3])
        across = normalise_l2(normal - per_row(cosine, along) * along)
        return across, tf.acos(tf.clip_by_value(cosine, -1.0, 1.0))

    def _used(self, state: State, met: Tensor) -> Tensor:
        """bool [S, Q]: what a sequential attacker would have asked."""
        path, _, _ = descend(met)
        place = tf.range(_Q)[None]
        others = {
            BISECT: path,
            ESTIMATE: place < (state.wanted - state.estimate.asked)[:, None],
            ARC: path,
            TURN: until_first(met) & (place < _TURNS),
        }
        asked = by_phase(state.phase, start_asked(met, state.rounds, self.starts), others)
        left: Tensor = tf.cumsum(tf.cast(asked, tf.int32), axis=1) <= (
            self.queries - state.asked[:, None]
        )
        return asked & left

    # --- what the answers change -----------------------------------------------------------------

    def _after_search(
        self, row: Row, state: State, met: Tensor, space: Space, across: Tensor | None = None
    ) -> tuple[State, Tensor]:
        """One round of a search along the line to x, or along the arc in the plane `across`."""
        bracket = state.bracket.narrowed(met)
        rounds = state.rounds + 1
        if across is None:
            point = between(row, state.x, bracket.met[:, None], space)[:, 0]
        else:
            point = on_circle(row, state.x, across[:, None], bracket.met[:, None])[:, 0]
            point = select(bracket.met > 0.0, point, state.x)
        ended = (bracket.width <= self.tolerance) | (rounds >= self._rounds())
        going = state._replace(bracket=bracket, rounds=rounds)
        arrived, done = self._next_iteration(row, state._replace(x=point), space)
        return merge(ended, arrived, going), ended & done

    def _next_iteration(self, row: Row, state: State, space: Space) -> tuple[State, Tensor]:
        """A new estimate, from where the search has ended."""
        # the first search only finds the boundary: iteration 1 has yet to run
        begun = state.estimate.asked > 0
        fell = space.distance(state.x, row.x0) < (1.0 - self.widen) * state.before
        stale = tf.where(begun & ~fell, state.stale + 1, 0)
        widened = stale >= _STALE
        t = tf.where(begun, state.t + 1, state.t)
        due = tf.floor(self.initial_queries * tf.sqrt(tf.cast(t, tf.float32)) + 1e-4)
        left = tf.cast(self.queries - self._search() - state.asked, tf.float32)
        new = state._replace(
            phase=tf.zeros_like(state.phase) + ESTIMATE,
            rounds=tf.zeros_like(state.rounds),
            t=t,
            wanted=tf.cast(tf.where(left < _LAST * due, left, due), tf.int32),
            stale=tf.where(widened, 0, stale),
            factor=tf.where(widened, tf.maximum(0.5 * state.factor, 1.0), state.factor),
            estimate=no_estimate(row),
        )
        return new, new.wanted < 2

    def _after_estimate(
        self, row: Row, state: State, met: Tensor, u: Tensor, space: Space
    ) -> tuple[State, Tensor]:
        estimate = state.estimate.plus(u, met, state.wanted)
        ended = estimate.asked >= state.wanted
        zero = tf.zeros_like(state.factor)
        searching = state._replace(
            phase=tf.where(row.goal.target >= 0, TURN, ARC),
            bracket=Bracket(zero + _RIGHT, zero),  # at a right angle lies x0
            before=space.distance(state.x, row.x0),
        )
        new = merge(ended, searching, state)
        return new._replace(estimate=estimate), tf.zeros_like(ended)

    def _after_turn(
        self, row: Row, state: State, points: Tensor, met: Tensor, space: Space
    ) -> tuple[State, Tensor]:
        landed, point = first_of(points, met)
        zero = tf.zeros_like(state.factor)
        go = state._replace(
            phase=tf.zeros_like(state.phase) + BISECT,
            x=point,
            bracket=Bracket(zero, zero + 1.0),
        )
        # nowhere to land: the next iteration estimates again from the same point
        stay, done = self._next_iteration(row, state, space)
        return merge(landed, go, stay), ~landed & done


def _kept(space: Space, factor: Tensor) -> Tensor:
    """1.0 at the frequencies that are looked at, float32 [S, H, W, 1]; always at the lowest."""
    height, width, _ = space.shape
    down = np.arange(height, dtype=np.float32)[None] < tf.math.ceil(height / factor)[:, None]
    across = np.arange(width, dtype=np.float32)[None] < tf.math.ceil(width / factor)[:, None]
    both = down[:, :, None] & across[:, None, :]
    return tf.cast(both, tf.float32)[:, :, :, None]
