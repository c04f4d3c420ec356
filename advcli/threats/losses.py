"""What an attack ascends: every loss grows as the goal comes nearer. Logits [S, K] -> [S].

`goal` holds, per row, the reference label and the target (−1: untargeted, only the label counts).
All of them are written so that float32 does not underflow: a network whose logits are multiplied
by 60 makes the plain cross-entropy's gradient exactly zero, and with it every attack that uses it.
"""

from __future__ import annotations

import math
from typing import Literal, NamedTuple

from advcli.lazy import Tensor, tf

LossName = Literal["ce", "margin", "dlr"]
_FAR = 1e30


class Goal(NamedTuple):
    """What counts as success, per row: int32 [S] each, `target` −1 where any wrong class does."""

    label: Tensor
    target: Tensor


def picked(logits: Tensor, index: Tensor) -> Tensor:
    """The logit of class `index`. `tf.gather` by rows is some fifteen operations, its gradient
    more, and on a small network they take longer than its layers."""
    return tf.reduce_sum(tf.where(_marked(logits, index), logits, 0.0), axis=-1)


def lead_over(logits: Tensor, rival: Tensor, label: Tensor) -> Tensor:
    """By how much the logit of class `rival` lies above that of `label`."""
    return picked(logits, rival) - picked(logits, label)


def _without(logits: Tensor, index: Tensor) -> Tensor:
    return tf.where(_marked(logits, index), -_FAR, logits)


def _marked(logits: Tensor, index: Tensor) -> Tensor:
    return tf.one_hot(index, logits.shape[-1], on_value=True, off_value=False, dtype=tf.bool)


def _side(goal: Goal) -> tuple[Tensor, Tensor]:
    """(the class that decides, 1 where it is to win, −1 where it is to lose)."""
    aimless = goal.target < 0
    return tf.where(aimless, goal.label, goal.target), tf.where(aimless, -1.0, 1.0)


def margin(logits: Tensor, goal: Goal) -> Tensor:
    """> 0 exactly where the goal is met: max other − label, or target − max other.

    Accepts [S, K], or [S, Q, K] with a goal of [S, Q].
    """
    one, sign = _side(goal)
    return sign * (picked(logits, one) - tf.reduce_max(_without(logits, one), axis=-1))


def ranked_rivals(logits: Tensor, label: Tensor, count: int) -> Tensor:
    """The likeliest classes but the label, int32 [S, count]; with too few, the last one repeats."""
    many = min(count, int(logits.shape[-1]) - 1)
    ranked = tf.math.top_k(_without(logits, label), k=many).indices
    return tf.concat([ranked, tf.repeat(ranked[:, -1:], count - many, axis=1)], axis=1)


def log_odds(logits: Tensor, goal: Goal) -> Tensor:
    """log(p(goal)/(1 − p(goal))) of the softmax: the cross-entropy without its underflow.

    CE = softplus(log-odds of "not the label"), so its gradient is this one's times a positive
    number per image: sign and normalised steps are those of CE in exact arithmetic, but this
    gradient is not rounded to zero where the softmax saturates.
    """
    one, sign = _side(goal)
    return sign * (picked(logits, one) - tf.reduce_logsumexp(_without(logits, one), axis=-1))


def log_odds_slack(goal: Goal, classes: int) -> Tensor:
    """[S], how far below 0 the log-odds of a goal that is met may lie.

    A target may lead with as little as 1/classes of the probability. Where any class but the label
    will do, they are above 0: the others together have more than the label.
    """
    return tf.where(goal.target < 0, 0.0, math.log(max(1, classes - 1)))


def cross_entropy(logits: Tensor, goal: Goal) -> Tensor:
    """The plain cross-entropy, for attacks that use the gradient's size (FGM's `raw` form)."""
    one, sign = _side(goal)
    return -sign * tf.nn.sparse_softmax_cross_entropy_with_logits(labels=one, logits=logits)


def dlr(logits: Tensor, goal: Goal) -> Tensor:
    """Difference of logits ratio (Croce & Hein, 2003.01690, eq. 6 and 7), free of the scale.

    The ratio needs 3 classes untargeted and 4 targeted; with fewer the margin stands in.
    """
    classes = int(logits.shape[-1])
    top = tf.math.top_k(logits, k=min(4, classes)).values
    wanted = tf.maximum(goal.target, 0)
    if classes >= 3:
        untargeted = margin(logits, Goal(goal.label, tf.fill(tf.shape(goal.label), -1)))
        untargeted = untargeted / tf.maximum(top[:, 0] - top[:, 2], 1e-12)
    else:
        untargeted = margin(logits, goal)
    if classes >= 4:
        spread = top[:, 0] - 0.5 * (top[:, 2] + top[:, 3])
        targeted = lead_over(logits, wanted, goal.label) / tf.maximum(spread, 1e-12)
    else:
        targeted = margin(logits, goal)
    return tf.where(goal.target < 0, untargeted, targeted)


LOSSES = {"ce": log_odds, "margin": margin, "dlr": dlr}
