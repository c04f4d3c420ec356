"""PMA: ascent of the margin between probabilities, max p_j − p_y.

Beside the margin of the logits it weighs all classes, as the cross-entropy does, and beside the
cross-entropy it does not lose sight of the strongest rival. Its authors find it the strongest
single attack on adversarially trained networks. Each run is two halves of `steps`/2, in each of
which the step falls from 2·eps to 0 along a cosine. The first half follows one term of the margin
(the label's probability down; in every second run the rival's up), the second one both.

Where the softmax saturates, the probabilities' gradient is zero in float32; here its direction is
computed from their logarithms, so that logits × 60 do not stop it. The authors' very first step,
which raises the label's probability, is left out. Instead the first run looks at the likeliest
rivals, as `pgd` does, and starts from the best point found; `scouts=0` does not.

Misleads: like every ascent of one loss, by a few points on robust networks; `apgd-t` and `malt`
aim at each class.

Cost: `steps` gradients per image, eps and restart, and one more a scout; fewer where it succeeds.

Xie et al., "Towards million-scale adversarial robustness evaluation with stronger individual
attacks", 2411.15210. The two halves: Ma et al., "Imbalanced gradients", 2006.13726.
"""

from __future__ import annotations

import math
from typing import ClassVar, NamedTuple

from pydantic import Field

from advcli.attacks.base import Attack, Oracle, Row, Step
from advcli.attacks.scouting import Scouting, Scouts
from advcli.lazy import Tensor, tf
from advcli.threats.budget import Norm
from advcli.threats.losses import Goal, log_odds
from advcli.threats.randomness import Random
from advcli.threats.space import Space, per_row, select

_FAR = 1e30


class State(NamedTuple):
    x: Tensor  # the point to be asked next
    scouts: Scouts | tuple[()]


class PMA(Attack):
    name: ClassVar[str] = "pma"
    summary: ClassVar[str] = "ascent of the margin between probabilities"
    kind: ClassVar = "budget"
    access: ClassVar = "gradient"
    norms: ClassVar[tuple[Norm, ...]] = ("linf", "l2")
    reference: ClassVar[str] = "Xie et al., 2411.15210"

    steps: int = Field(100, ge=2, le=100_000, description="gradient steps, both halves together")
    restarts: int = Field(2, ge=1, le=10_000, description="random starts, tried in order")
    scouts: int = Field(9, ge=0, le=1000, description="rival classes looked at first")

    def length(self, space: Space) -> int:
        return Scouting(self.scouts).length + self.steps

    def cost(self, space: Space) -> tuple[int, int]:
        calls = Scouting(self.scouts).length + self.steps * self.restarts
        return calls, calls

    def init(self, row: Row, space: Space, random: Random) -> State:
        x = space.project(row.x0 + space.sample(random, row.eps), row.x0, row.eps)
        return State(x, Scouting(self.scouts).begin(x) if self.scouts else ())

    def step(
        self, row: Row, state: State, k: Tensor, space: Space, oracle: Oracle, random: Random
    ) -> Step:
        scouting, scouts = Scouting(self.scouts), state.scouts

        def ascended(z: Tensor, goal: Goal) -> Tensor:
            n = k - scouting.asks(row, int(z.shape[-1]))
            one = tf.where(row.restart % 2 == 0, log_odds(z, goal), _rival(z, goal))
            return tf.where(2 * n < self.steps, one, probability_margin(z, goal))

        loss = ascended
        if isinstance(scouts, Scouts):
            loss = scouting.loss(row, scouts, k, ascended)
        slope = oracle.gradient(state.x, loss)
        n = k - scouting.asks(row, int(slope.logits.shape[-1]))
        size = row.eps * self._share(n)
        direction = space.steepest(slope.gradient, state.x)
        x = space.project(state.x + per_row(size, direction) * direction, row.x0, row.eps)
        if isinstance(scouts, Scouts):
            scouts, ahead = scouting.advance(row, scouts, k, state.x, slope, space)
            x = select(n < 0, ahead, x)
        return Step(State(x, scouts), n + 1 >= self.steps)

    def _share(self, n: Tensor) -> Tensor:
        """The step length as a share of eps: 2 to 0 along a cosine, twice."""
        half = (self.steps + 1) // 2
        first = tf.cast(n, tf.float32) / half
        second = tf.cast(n - half, tf.float32) / max(1, self.steps - half)
        return 1.0 + tf.cos(math.pi * tf.where(n < half, first, second))

    def finish(self, row: Row, state: State, space: Space) -> Tensor:
        return state.x


def _pair(z: Tensor, goal: Goal) -> tuple[Tensor, Tensor]:
    """(the class wanted, the class in its way): int32 [S] each."""
    aimed = goal.target >= 0
    known = tf.where(aimed, goal.target, goal.label)
    taken = tf.one_hot(known, int(z.shape[-1]), on_value=True, off_value=False, dtype=tf.bool)
    other = tf.argmax(tf.where(taken, -_FAR, z), axis=-1, output_type=tf.int32)
    return tf.where(aimed, known, other), tf.where(aimed, other, known)


def _rival(z: Tensor, goal: Goal) -> Tensor:
    """log p of the class wanted: the strongest rival, or the target."""
    return tf.gather(tf.nn.log_softmax(z), _pair(z, goal)[0], batch_dims=1)


def probability_margin(logits: Tensor, goal: Goal) -> Tensor:
    """p_a − p_b, of the class wanted and the one in its way; the gradient by its direction alone.

    ∂(p_a − p_b)/∂z is p_a(1 − p_a + p_b) at a, −p_b(1 − p_b + p_a) at b and −p_i(p_a − p_b)
    elsewhere. All of it comes from logarithms and is divided by the largest, so nothing underflows.
    """
    log_p = tf.nn.log_softmax(tf.stop_gradient(logits))
    ahead, behind = _pair(log_p, goal)
    at_a, at_b = (tf.one_hot(place, int(logits.shape[-1])) for place in (ahead, behind))

    def size(index: Tensor, here: Tensor, there: Tensor) -> Tensor:
        """log of p(1 − p + q): 1 − p is summed up from the other classes, not subtracted."""
        rest = tf.reduce_logsumexp(log_p + math.log(2.0) * there - _FAR * here, axis=-1)
        return tf.gather(log_p, index, batch_dims=1) + rest

    size_a, size_b = size(ahead, at_a, at_b), size(behind, at_b, at_a)
    most = tf.maximum(size_a, size_b)  # no other class outweighs both
    difference = tf.reduce_sum((at_a - at_b) * tf.exp(log_p), axis=-1)
    size_i = log_p + tf.math.log(tf.maximum(tf.abs(difference), 1e-30))[:, None]
    # a and b themselves may exceed it, beyond what float32 holds
    size_i = tf.minimum(size_i - most[:, None], 0.0)
    weight = at_a * tf.exp(size_a - most)[:, None] - at_b * tf.exp(size_b - most)[:, None]
    weight -= (1.0 - at_a - at_b) * tf.sign(difference)[:, None] * tf.exp(size_i)
    value = tf.reduce_sum(tf.stop_gradient(weight) * logits, axis=-1)
    return difference + value - tf.stop_gradient(value)
