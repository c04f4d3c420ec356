"""Random search: perturb at random, predict, compare, adjust, repeat.

The loop that most tutorials describe, on scores alone: a proposal that raises the margin of the
goal is kept, any other is dropped, and the size of the next proposal is adjusted (larger after a
success, smaller after a failure, so that about one in five succeeds).

Linf: a random share of the values is redrawn at ±eps. L2, L1: a random step, projected back.

Misleads: needs thousands of queries where a gradient attack needs tens, and says little about a
large image in few of them. Use it where gradients cannot be trusted.

Cost: `steps` forwards per image, eps and restart; fewer where it succeeds.

Rastrigin, "The convergence of the random search method in the extremal control of a
many-parameter system", 1963; step control: Rechenberg's one-fifth rule, 1973.
"""

from __future__ import annotations

from typing import ClassVar, NamedTuple

from pydantic import Field

from advcli.attacks.base import Attack, Oracle, Row, Step
from advcli.lazy import Tensor, tf
from advcli.threats.budget import Norm
from advcli.threats.losses import margin
from advcli.threats.randomness import Random
from advcli.threats.space import Space, blend, per_row, select

_GROWTH = 1.5
_DECAY = _GROWTH**-0.25  # one success for four failures leaves the size as it was


class State(NamedTuple):
    x: Tensor
    score: Tensor
    size: Tensor  # Linf: share of the values redrawn; L2, L1: step length as a share of eps


class RandomSearch(Attack):
    name: ClassVar[str] = "random-search"
    summary: ClassVar[str] = "score-based hill climbing with random proposals"
    kind: ClassVar = "budget"
    access: ClassVar = "scores"
    norms: ClassVar[tuple[Norm, ...]] = ("linf", "l2", "l1")
    reference: ClassVar[str] = "Rastrigin 1963; Rechenberg 1973"

    steps: int = Field(1000, ge=1, le=1_000_000, description="queries")
    restarts: int = Field(1, ge=1, le=10_000, description="independent searches, in order")

    def length(self, space: Space) -> int:
        return self.steps

    def cost(self, space: Space) -> tuple[int, int]:
        return self.steps * self.restarts, 0

    def init(self, row: Row, space: Space, random: Random) -> State:
        return State(row.x0, tf.fill(tf.shape(row.eps), float("-inf")), tf.ones_like(row.eps))

    def step(
        self, row: Row, state: State, k: Tensor, space: Space, oracle: Oracle, random: Random
    ) -> Step:
        if space.norm == "linf":
            redrawn = random.uniform(space.shape, 0) < per_row(state.size, state.x)
            corner = row.x0 + random.signs(space.shape, 1) * per_row(row.eps, state.x)
            x = blend(redrawn, corner, state.x)
        else:
            x = state.x + 2.0 * space.sample(random, row.eps * state.size)
        x = space.project(x, row.x0, row.eps)
        score = margin(oracle.scores(x), row.goal)
        better = score > state.score
        size = state.size * tf.where(better, _GROWTH, _DECAY)
        state = State(
            select(better, x, state.x),
            tf.maximum(score, state.score),
            tf.clip_by_value(size, 1.0 / space.size, 1.0),
        )
        return Step(state, tf.zeros_like(k, tf.bool))
