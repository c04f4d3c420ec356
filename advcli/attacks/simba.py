"""SimBA: a step along one random direction of an orthonormal basis at a time.

Claims: the simplest score-based attack is not far from the best. For each vector of the basis, in
random order, it asks what a step against it does to the probability of the label (or target),
then, only if that did not help, a step along it; what helps is kept.

`basis=pixel` changes one value at a time, `basis=dct` one cosine of the whole image, from the low
frequencies (the lowest eighth first, then in rings); that needs fewer queries on large images.
The steps of the published attack add up to a distance of step-length·√(steps kept), whatever that
is; here it stays within eps, drawn back to the ball where a step leaves it. When the basis is used
up, it begins again with half the step length.

Misleads: slow, unless a few directions matter most. In Linf, `square` needs far fewer queries.

Cost: `steps` forwards per image, eps and restart, one of them for the clean image; fewer where it
succeeds.

Guo et al., "Simple black-box adversarial attacks", 1905.07121, algorithm 1.
"""

from __future__ import annotations

from typing import ClassVar, Literal, NamedTuple

import numpy as np
from pydantic import Field

from advcli.attacks.base import Attack, Oracle, Row, Step
from advcli.attacks.search import drawn_in
from advcli.lazy import Tensor, tf
from advcli.threats.budget import Norm
from advcli.threats.dct import basis
from advcli.threats.losses import log_odds
from advcli.threats.randomness import Random
from advcli.threats.space import Space, per_row, select

_LOWEST, _RING = 1 / 8, 1 / 32  # shares of the frequencies: the first to be tried, and each ring


class State(NamedTuple):
    x: Tensor
    score: Tensor  # the log-odds of the goal at x
    order: Tensor  # int32 [S, H·W·C], the basis as it will be tried
    tried: Tensor  # int32 [S], vectors done with
    along: Tensor  # bool [S], whether the step against the vector was asked already


class SimBA(Attack):
    name: ClassVar[str] = "simba"
    summary: ClassVar[str] = "score-based steps along one basis vector at a time"
    kind: ClassVar = "budget"
    access: ClassVar = "scores"
    norms: ClassVar[tuple[Norm, ...]] = ("l2", "linf")
    reference: ClassVar[str] = "Guo et al., 1905.07121"

    steps: int = Field(5000, ge=1, le=1_000_000, description="queries")
    step_length: float = Field(0.2, gt=0, le=10, description="L2 length of a step, before the box")
    basis: Literal["pixel", "dct"] = Field("pixel", description="single values, or cosines")
    restarts: int = Field(1, ge=1, le=10_000, description="independent searches, in order")

    def length(self, space: Space) -> int:
        return self.steps

    def cost(self, space: Space) -> tuple[int, int]:
        return self.steps * self.restarts, 0

    def init(self, row: Row, space: Space, random: Random) -> State:
        order = random.uniform((space.size,))
        if self.basis == "dct":
            order += tf.constant(_rings(space))
        zeros = tf.zeros_like(row.restart)
        return State(
            x=row.x0,
            score=tf.fill(tf.shape(row.eps), float("-inf")),
            order=tf.argsort(order, axis=1),
            tried=zeros,
            along=tf.zeros_like(zeros, tf.bool),
        )

    def step(
        self, row: Row, state: State, k: Tensor, space: Space, oracle: Oracle, random: Random
    ) -> Step:
        first = k == 0
        turn = tf.cast(state.tried // space.size, tf.float32)
        length = self.step_length * tf.pow(0.5, turn) * tf.where(state.along, 1.0, -1.0)
        length = tf.where(first, 0.0, length)
        number = tf.gather(state.order, state.tried % space.size, axis=1, batch_dims=1)
        vector = self._vector(number, space)
        x = drawn_in(state.x + per_row(length, vector) * vector, row, space)
        score = log_odds(oracle.scores(x), row.goal)
        better = score > state.score
        passed = ~first & (better | state.along)
        state = State(
            x=select(better, x, state.x),
            score=tf.where(better, score, state.score),
            order=state.order,
            tried=state.tried + tf.cast(passed, tf.int32),
            along=~first & ~passed,
        )
        return Step(state, tf.zeros_like(first))

    def _vector(self, number: Tensor, space: Space) -> Tensor:
        """Basis vector `number` [S], of unit length: [S, H, W, C]."""
        height, width, channels = space.shape
        if self.basis == "pixel":
            return tf.reshape(tf.one_hot(number, space.size), [-1, *space.shape])
        down = tf.gather(basis(height), number // (width * channels))[:, :, None, None]
        across = tf.gather(basis(width), number // channels % width)[:, None, :, None]
        return down * across * tf.one_hot(number % channels, channels)[:, None, None, :]


def _rings(space: Space) -> np.ndarray:
    """0 for the lowest frequencies, then 1, 2, … outwards; float32 [H·W·C]."""
    height, width, channels = space.shape
    share = np.maximum(np.arange(height)[:, None] / height, np.arange(width)[None] / width)
    ring = np.maximum(np.floor((share - _LOWEST) / _RING) + 1, 0)
    return np.repeat(ring.reshape(-1), channels).astype(np.float32)
