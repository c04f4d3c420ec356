"""DeepFool: step onto the nearest linearised boundary until the label changes.

Claims: a small distance in the fewest gradients of all, a handful per class. At every step the
boundaries between the label and the likeliest wrong classes at the clean image are taken for flat,
and the point moves onto the nearest of them. The sum of all steps is exceeded by `overshoot`, so
that the point lies beyond the boundary and not on it.

A step ignores the box, as in the paper, and what lies outside is cut off. (Making up for that
elsewhere in the same step took half the gradients and ended up to 5 % farther away.) Differs from
the paper: which boundary is nearest is measured within the box; at the end the way from the image
to the first success is halved `refine` times (`refine=0`: never, as in the paper); and on the 8-bit
grid a step is at least so long that rounding does not undo it.

Targeted runs follow the one boundary between the target and whichever other class leads.

Misleads: the steps are never taken back, so on curved networks the distance is larger than what
`fab`, `cw` or `fmn` find: a first look, not a robustness figure.

Cost: at most `steps`·`classes` + 1 + `refine` gradients, usually those of two or three steps.

Moosavi-Dezfooli et al., "DeepFool: a simple and accurate method to fool deep neural networks",
1511.04599.
"""

from __future__ import annotations

from typing import ClassVar, NamedTuple

from pydantic import Field

from advcli.attacks.base import Attack, Oracle, Row, Step
from advcli.attacks.fab_steps import Bracket, Near, halved, middle, nearer, none_yet
from advcli.attacks.linearise import (
    Nearest,
    blank,
    compared,
    count_of,
    least_step,
    rivals_of,
    towards,
)
from advcli.lazy import Tensor, tf
from advcli.threats.budget import Norm
from advcli.threats.hyperplane import dual_norms
from advcli.threats.losses import Goal, margin
from advcli.threats.randomness import Random
from advcli.threats.space import Space, per_row, select

# how far beyond the boundary is a success that another batch shape cannot undo, as a share of the
# largest logit: twice what the judge asks for
_CLEAR = 2e-5


class State(NamedTuple):
    x: Tensor  # the point that is being linearised
    total: Tensor  # the sum of all steps, before the overshoot
    t: Tensor  # int32 [S], steps taken
    rivals: Tensor  # int32 [S, classes], from the likeliest
    j: Tensor  # int32 [S], the rival whose turn it is
    nearest: Nearest  # of the boundaries at x so far
    near: Near  # the success
    between: Bracket  # the halvings that follow it


class DeepFool(Attack):
    name: ClassVar[str] = "deepfool"
    summary: ClassVar[str] = "steps onto the nearest linearised boundary"
    kind: ClassVar = "minimum-norm"
    access: ClassVar = "gradient"
    norms: ClassVar[tuple[Norm, ...]] = ("l2", "linf")
    reference: ClassVar[str] = "Moosavi-Dezfooli et al., 1511.04599"

    steps: int = Field(50, ge=1, le=10_000, description="steps onto a boundary")
    classes: int = Field(9, ge=1, le=1000, description="likeliest wrong classes linearised")
    overshoot: float = Field(0.02, gt=0, le=10, description="how far beyond the boundary, relative")
    refine: int = Field(8, ge=0, le=50, description="halvings of the way back after the success")

    def length(self, space: Space) -> int:
        return self.steps * self.classes + 1 + self.refine

    def cost(self, space: Space) -> tuple[int, int]:
        return self.length(space), self.length(space)

    def init(self, row: Row, space: Space, random: Random) -> State:
        counter = tf.zeros_like(row.restart)
        rivals = tf.zeros([tf.shape(row.eps)[0], self.classes], tf.int32)
        one = tf.ones_like(row.eps)
        return State(
            x=row.x0,
            total=tf.zeros_like(row.x0),
            t=counter,
            rivals=rivals,
            j=counter,
            nearest=blank(row),
            near=none_yet(row),
            between=Bracket(0.0 * one, one),
        )

    def step(
        self, row: Row, state: State, k: Tensor, space: Space, oracle: Oracle, random: Random
    ) -> Step:
        def loss(z: Tensor, goal: Goal) -> Tensor:
            rivals = rivals_of(z, row, state.rivals, k == 0)
            return towards(z, goal, tf.gather(rivals, state.j, batch_dims=1))

        value, g, z = oracle.gradient(state.x, loss)
        rivals = rivals_of(z, row, state.rivals, k == 0)
        first = tf.equal(state.j, 0)
        clear = _CLEAR * tf.reduce_max(tf.abs(z), axis=-1)
        met = margin(z, row.goal) >= clear
        refining = state.near.distance < float("inf")
        near = nearer(state.near, row, state.x, met & ~refining, space, oracle)
        between = halved(state.between, met, refining)

        rival = tf.gather(rivals, state.j, batch_dims=1)
        nearest = compared(state.nearest, state.x, g, value - clear, rival, first, space)
        ended = ~met & ~refining & (state.j + 1 >= count_of(z, row, self.classes))
        total, x = tf.cond(
            tf.reduce_any(ended),
            lambda: self._moved(row, state, nearest, ended, space, oracle.resolution),
            lambda: (state.total, state.x),
        )
        begins = met & ~refining
        x = select(begins | refining, middle(row, near, between), x)
        t = tf.where(begins, 0, state.t + tf.cast(ended | refining, tf.int32))
        lost = first & ~begins & ~refining & (state.t >= self.steps)
        done = lost | ((begins | refining) & (t >= self.refine))
        j = tf.where(ended | begins | refining, 0, state.j + 1)
        return Step(State(x, total, t, rivals, j, nearest, near, between), done)

    def _moved(
        self,
        row: Row,
        state: State,
        nearest: Nearest,
        ended: Tensor,
        space: Space,
        resolution: float,
    ) -> tuple[Tensor, Tensor]:
        length = tf.math.divide_no_nan(-nearest.value, dual_norms(nearest.normal, space.norm))
        length = tf.clip_by_value(length, least_step(space, resolution), float(space.size))
        d = per_row(length, state.x) * space.steepest(nearest.normal, state.x)
        total = select(ended, state.total + d, state.total)
        x = tf.clip_by_value(row.x0 + (1.0 + self.overshoot) * total, 0.0, 1.0)
        return total, select(ended, x, state.x)
