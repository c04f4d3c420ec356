"""PGD: projected gradient descent, the reference white-box attack.

Claims: no first-order attack with the same loss and budget does much better on an undefended or
adversarially trained network. From a random point of the ball, each step follows the steepest
direction of the loss in the norm (sign, normalised gradient, or the L1 step shared by the
largest values) and projects back onto the ball and the box.

The step length falls from eps to 0 along a cosine: the first steps cross the ball, and the last
ones settle. Before that, up to `scouts` of the steps look around: each takes the gradient of one
likely rival's logit against the label's and jumps to the point of the ball where that linear
function is largest; the descent starts from the best of them. An ascent of the loss alone climbs
towards one class and stays with it, though another may be nearer. On a linear model with up to
`scouts` rivals the jumps decide every image exactly; on an undefended network the first or second
one usually succeeds. The first run of an image scouts, further restarts and targeted ones do not.

The published form has neither: `scouts=0,schedule=constant` with, say, `rel-step=0.0625`
(2.5/steps) or 0.0333 (Foolbox). The loss is cross-entropy in its log-odds form, which does not
underflow; `loss=margin` often finds a little more.

Misleads: on networks that randomise or shatter their gradients, and by a few points on robust
ones, where targeted attacks and restarts still find something.

Cost: `steps` gradients per image, eps and restart; fewer where it succeeds.

Madry et al., "Towards deep learning models resistant to adversarial attacks", 1706.06083.
L1 steps: Tramèr & Boneh, "Adversarial training and robustness for multiple perturbations",
1904.13000 (SLIDE).
"""

from __future__ import annotations

import math
from typing import ClassVar, Literal, NamedTuple

from pydantic import Field

from advcli.attacks.base import Attack, Oracle, Row, Step
from advcli.lazy import Tensor, tf
from advcli.threats.budget import Norm
from advcli.threats.losses import LOSSES, Goal, LossName, lead_over, margin, ranked_rivals
from advcli.threats.randomness import Random
from advcli.threats.space import Space, per_row, select


class State(NamedTuple):
    x: Tensor  # the point to be asked next
    best: Tensor  # the scouted point with the largest margin
    score: Tensor  # its margin
    rivals: Tensor  # int32 [S, scouts], from the likeliest


class PGD(Attack):
    name: ClassVar[str] = "pgd"
    summary: ClassVar[str] = "projected gradient descent from random starts"
    kind: ClassVar = "budget"
    access: ClassVar = "gradient"
    norms: ClassVar[tuple[Norm, ...]] = ("linf", "l2", "l1")
    reference: ClassVar[str] = "Madry et al., 1706.06083"

    steps: int = Field(40, ge=1, le=100_000, description="gradient steps, scouts included")
    rel_step: float = Field(1.0, gt=0, le=10, description="first step length, as a share of eps")
    schedule: Literal["cosine", "constant"] = Field(
        "cosine", description="how the step length falls: to 0 along a cosine, or not at all"
    )
    scouts: int = Field(9, ge=0, le=1000, description="rival classes looked at first")
    restarts: int = Field(1, ge=1, le=10_000, description="random starts, tried in order")
    random_start: bool = Field(True, description="start at a random point of the ball")
    loss: LossName = Field("ce", description="what is ascended")
    sparsity: float = Field(
        0.05,
        gt=0,
        le=1,
        description="L1: share of values that the first step moves, falling to one",
    )

    def length(self, space: Space) -> int:
        return self.steps

    def cost(self, space: Space) -> tuple[int, int]:
        return self.steps * self.restarts, self.steps * self.restarts

    def init(self, row: Row, space: Space, random: Random) -> State:
        x = row.x0
        if self.random_start:
            x = space.project(row.x0 + space.sample(random, row.eps), row.x0, row.eps)
        score = tf.fill(tf.shape(row.eps), float("-inf"))
        return State(x, x, score, tf.zeros([tf.shape(row.eps)[0], max(1, self.scouts)], tf.int32))

    def step(
        self, row: Row, state: State, k: Tensor, space: Space, oracle: Oracle, random: Random
    ) -> Step:
        if self._most_scouts() == 0:
            g = oracle.gradient(state.x, LOSSES[self.loss]).gradient
            return Step(state._replace(x=self._moved(row, state.x, g, k, 0, space)), _never(k))

        def loss(z: Tensor, goal: Goal) -> Tensor:
            scouts = self._scouts(row, int(z.shape[-1]))
            rival = tf.gather(
                self._rivals(row, z, state, k), tf.minimum(k, self._most_scouts() - 1), batch_dims=1
            )
            aimed = lead_over(z, rival, goal.label)
            return tf.where(k < scouts, aimed, LOSSES[self.loss](z, goal))

        _, g, z = oracle.gradient(state.x, loss)
        scouts = self._scouts(row, int(z.shape[-1]))
        x = self._moved(row, state.x, g, k - scouts, scouts, space)
        moved = state._replace(x=x)
        # most steps are the descent's, and have nothing to do with the state of the scouts
        state = tf.cond(
            tf.reduce_any(k <= scouts),
            lambda: self._scouted(row, state, g, z, k, scouts, x, space),
            lambda: moved,
        )
        return Step(state, _never(k))

    def _scouted(
        self,
        row: Row,
        state: State,
        g: Tensor,
        z: Tensor,
        k: Tensor,
        scouts: Tensor,
        x: Tensor,
        space: Space,
    ) -> State:
        reached = margin(z, row.goal)
        better = (k > 0) & (k <= scouts) & (reached > state.score)
        best = select(better, state.x, state.best)
        # the descent begins at the best scouted point; its gradient is known only if it is this one
        x = select((k == scouts) & (scouts > 0) & ~better, best, x)
        x = select(k < scouts, space.farthest(g, row.x0, row.eps), x)
        score = tf.where(better, reached, state.score)
        return State(x, best, score, self._rivals(row, z, state, k))

    def _most_scouts(self) -> int:
        """Half of the steps at most: the descent needs its own."""
        return min(self.scouts, self.steps // 2)

    def _scouts(self, row: Row, classes: int) -> Tensor:
        """int32 [S], how many of its steps a row scouts for."""
        many = min(self._most_scouts(), classes - 1)
        return tf.where((row.goal.target < 0) & (row.restart == 0), many, 0)

    def _rivals(self, row: Row, z: Tensor, state: State, k: Tensor) -> Tensor:
        ranked = ranked_rivals(z, row.goal.label, int(state.rivals.shape[1]))
        return tf.where((k == 0)[:, None], ranked, state.rivals)

    def _moved(
        self, row: Row, x: Tensor, g: Tensor, k: Tensor, scouts: Tensor | int, space: Space
    ) -> Tensor:
        """One step of the descent, its `k`-th of `steps` − `scouts`."""
        # while a row scouts its `k` is negative, and what this returns is not used
        done = tf.cast(tf.maximum(k, 0), tf.float32) / tf.cast(self.steps - scouts, tf.float32)
        share = tf.fill(tf.shape(k), self.rel_step)
        if self.schedule == "cosine":
            share *= 0.5 * (1.0 + tf.cos(math.pi * done))
        # L1: wide steps find the region, the last ones the few values that matter most
        direction = space.steepest(g, x, self.sparsity * (1.0 - done))
        return space.project(x + per_row(row.eps * share, g) * direction, row.x0, row.eps)

    def finish(self, row: Row, state: State, space: Space) -> Tensor:
        return state.x


def _never(k: Tensor) -> Tensor:
    return tf.zeros_like(k, tf.bool)
