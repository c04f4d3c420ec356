"""A mean of cross-entropy gradients over several passes, without the cross-entropy's underflow.

An ascent takes the gradient of the log-odds, which is the cross-entropy's divided by 1 − p. Where
gradients of several points are added up, that factor is what they weigh. It may be too small for
float32, so the logarithms are kept and everything is divided by the largest weight.
"""

from __future__ import annotations

from typing import NamedTuple

from advcli.lazy import Tensor, tf
from advcli.threats.losses import Goal, LossName
from advcli.threats.space import per_row


class Mean(NamedTuple):
    """A weighted mean of gradients, up to a positive factor."""

    total: Tensor  # [S, H, W, C]
    heaviest: Tensor  # [S], the logarithm of the largest weight so far, by which all are divided


def nothing(like: Tensor) -> Mean:
    """Before the first pass; like [S, H, W, C]."""
    return Mean(tf.zeros_like(like), tf.zeros_like(like[:, 0, 0, 0]))


def added(
    mean: Mean, first: Tensor, loss: Tensor, g: Tensor, goal: Goal, ascended: LossName
) -> Mean:
    """One more pass: what was ascended, its value [S] and gradient; anew where `first` [S]."""
    weight = tf.zeros_like(loss)
    if ascended == "ce":
        weight = -tf.nn.softplus(tf.where(goal.target < 0, -loss, loss))
    heaviest = tf.where(first, weight, tf.maximum(mean.heaviest, weight))
    old = tf.where(first, 0.0, tf.exp(tf.minimum(mean.heaviest - heaviest, 0.0)))
    total = per_row(old, g) * mean.total + per_row(tf.exp(weight - heaviest), g) * g
    return Mean(total, heaviest)
