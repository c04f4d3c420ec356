"""A look at the likeliest rivals before an ascent, which alone stays with the class it meets first.

Each of the first steps takes the gradient of one rival's logit against the label's, and jumps to
the point of ball ∩ box where that linear function is largest. The ascent starts from the best of
these points. On a linear model with no more rivals than scouts the jumps decide every image.
"""

from __future__ import annotations

from typing import NamedTuple

from advcli.attacks.base import LossFunction, Row, Slope
from advcli.lazy import Tensor, tf
from advcli.threats.losses import Goal, lead_over, margin, ranked_rivals
from advcli.threats.space import Space, select


class Scouts(NamedTuple):
    best: Tensor  # the scouted point with the largest margin, [S, H, W, C]
    score: Tensor  # its margin, [S]
    rivals: Tensor  # int32 [S, count], from the likeliest


class Scouting:
    """`count` rivals at most; the first untargeted run of an image scouts, others do not."""

    def __init__(self, count: int) -> None:
        self._count = count
        self.length = count + 1 if count else 0  # points asked at most

    def begin(self, x: Tensor) -> Scouts:
        score = tf.fill(tf.shape(x)[:1], float("-inf"))
        return Scouts(x, score, tf.zeros([tf.shape(x)[0], max(1, self._count)], tf.int32))

    def asks(self, row: Row, classes: int) -> Tensor:
        """int32 [S], the points that a row asks before its ascent: a start, and a jump a rival."""
        many = min(self._count, classes - 1) + 1 if self._count else 0
        return tf.where((row.goal.target < 0) & (row.restart == 0), many, 0)

    def asks_at_least(self, row: Row) -> Tensor:
        """The same before the number of classes is known: 1 where any are asked."""
        return tf.where((row.goal.target < 0) & (row.restart == 0), min(self._count, 1), 0)

    def loss(self, row: Row, state: Scouts, k: Tensor, ascended: LossFunction) -> LossFunction:
        """What step `k` ascends: one rival's lead, or after the scouts what the ascent does."""

        def value(z: Tensor, goal: Goal) -> Tensor:
            rivals = self._ranked(z, row, state, k)
            rival = tf.gather(rivals, tf.minimum(k, self._count - 1), batch_dims=1)
            lead = lead_over(z, rival, goal.label)
            return tf.where(k < self.asks(row, int(z.shape[-1])), lead, ascended(z, goal))

        return value if self._count else ascended

    def advance(
        self, row: Row, state: Scouts, k: Tensor, x: Tensor, slope: Slope, space: Space
    ) -> tuple[Scouts, Tensor]:
        """The new state, and the point that a scouting row asks next."""
        asks = self.asks(row, int(slope.logits.shape[-1]))
        reached = margin(slope.logits, row.goal)
        better = (k < asks) & (reached > state.score)
        best = select(better, x, state.best)
        jump = space.farthest(slope.gradient, row.x0, row.eps)
        rivals = self._ranked(slope.logits, row, state, k)
        score = tf.where(better, reached, state.score)
        return Scouts(best, score, rivals), select(k < asks - 1, jump, best)

    def _ranked(self, z: Tensor, row: Row, state: Scouts, k: Tensor) -> Tensor:
        ranked = ranked_rivals(z, row.goal.label, self._count)
        return tf.where((k == 0)[:, None], ranked, state.rivals)
