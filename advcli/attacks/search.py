"""What the score-based searches share: their score, their schedules, a cheap way into a ball."""

from __future__ import annotations

import math
from collections.abc import Sequence

from advcli.attacks.base import Row
from advcli.lazy import Tensor, tf
from advcli.threats.losses import Goal, log_odds, margin
from advcli.threats.space import Space, norms_of, per_row


def progress(logits: Tensor, goal: Goal) -> Tensor:
    """What a random search raises, [S]: the margin, or towards a target its log-odds."""
    return tf.where(goal.target < 0, margin(logits, goal), log_odds(logits, goal))


def stage(k: Tensor, after: Sequence[int], total: int) -> Tensor:
    """int32 [S], how many of the marks `after`, of 10,000, query k of `total` has passed."""
    marks = tf.constant([math.ceil((mark + 1) * total / 10_000) for mark in after])
    return tf.reduce_sum(tf.cast(k[:, None] >= marks[None], tf.int32), axis=1)


def drawn_in(x: Tensor, row: Row, space: Space) -> Tensor:
    """Points of ball ∩ box near `x`: clipped to the box, then (L2) drawn towards x0.

    Cheaper than the nearest point. `x` is [S, H, W, C] or [S, Q, H, W, C].
    """
    many = len(x.shape) == 5
    if space.norm == "linf":
        low, high = space.bounds(row.x0, row.eps)
        return tf.clip_by_value(x, low[:, None] if many else low, high[:, None] if many else high)
    x0, most = (row.x0[:, None], row.eps[:, None]) if many else (row.x0, row.eps)
    delta = tf.clip_by_value(x, 0.0, 1.0) - x0
    length = tf.maximum(norms_of(delta, space.norm), 1e-12)
    return x0 + delta * per_row(tf.minimum(1.0, most / length), delta)
