"""The nearest point of a hyperplane inside the box [0, 1], in L∞, L2 or L1.

For attacks that take a class boundary for flat. Ignoring the box and clipping afterwards, as a
closed form of one line would, misses the hyperplane wherever a value is at its end already: most
of them in an image with a black background.

Every value may move by at most its `room` in the direction that closes the gap. L∞ and L2 move it
by min(s·u, room), with u = 1 or |normal| and one number s per image; what that closes grows with
s in pieces of falling slope, so Newton's method from s = 0 never overshoots and ends after finitely
many steps. L1 spends the whole room of the values with the steepest slope first.

Croce & Hein, "Minimally distorted adversarial examples with a fast adaptive boundary attack",
1907.02044, section 3.1, solve the same problems by sorting.
"""

from __future__ import annotations

from advcli.lazy import Tensor, tf
from advcli.threats.budget import Norm
from advcli.threats.space import per_row, select

_AXES = [1, 2, 3]
_ROUNDS = 64  # more pieces than Newton's method visits; a handful is usual
_FAR = 1e30


def to_hyperplane(x: Tensor, normal: Tensor, gap: Tensor, norm: Norm) -> Tensor:
    """The smallest d with ⟨normal, d⟩ = gap and x + d in the box.

    x, normal [S, H, W, C], x in the box; gap [S], of any sign. Where the box does not reach the
    hyperplane, d leads to the corner that comes nearest. Values without a slope do not move.
    """
    # scaled to 1 first: real gradients range over thirty powers of ten
    peak = tf.reduce_max(tf.abs(normal), axis=_AXES)
    w = tf.math.divide_no_nan(normal, per_row(peak, normal))
    need = tf.math.divide_no_nan(tf.abs(gap), peak)
    direction = tf.sign(w) * per_row(tf.sign(gap), w)
    slope = tf.abs(w)
    room = tf.abs(tf.maximum(direction, 0.0) - x) * tf.abs(direction)
    if norm == "l1":
        return direction * _greedy(slope, room, need)
    return direction * _even(slope, room, need, tf.sign(slope) if norm == "linf" else slope)


def dual_norms(normal: Tensor, norm: Norm) -> Tensor:
    """What the distance to a hyperplane is divided by: ‖normal‖ in the dual of `norm`, [S]."""
    if norm == "linf":
        return tf.reduce_sum(tf.abs(normal), axis=_AXES)
    if norm == "l1":
        return tf.reduce_max(tf.abs(normal), axis=_AXES)
    # scaled to 1 first: squares of real gradients leave float32 at both ends
    peak = tf.reduce_max(tf.abs(normal), axis=_AXES)
    scaled = tf.math.divide_no_nan(normal, per_row(peak, normal))
    return peak * tf.sqrt(tf.reduce_sum(tf.square(scaled), axis=_AXES))


def _even(slope: Tensor, room: Tensor, need: Tensor, pace: Tensor) -> Tensor:
    """min(s·pace, room) with the s at which Σ slope·that reaches `need`."""

    most, flow = slope * room, slope * pace

    def moved(s: Tensor) -> Tensor:
        return tf.minimum(per_row(s, pace) * pace, room)

    def grown(s: Tensor) -> Tensor:
        free = tf.cast(per_row(s, pace) * pace < room, tf.float32)
        fixed = tf.reduce_sum((1.0 - free) * most, axis=_AXES)
        rate = tf.reduce_sum(free * flow, axis=_AXES)
        left = tf.maximum(need - fixed, 0.0)
        return tf.maximum(s, tf.where(rate > 0.0, left / tf.maximum(rate, 1.0 / _FAR), s))

    zero = tf.zeros_like(need)
    _, s = tf.while_loop(
        lambda before, s: tf.reduce_any(s > before),
        lambda before, s: (s, grown(s)),
        (zero - 1.0, zero),
        maximum_iterations=_ROUNDS,
    )
    reached = tf.reduce_sum(most, axis=_AXES) >= need
    return select(reached, moved(s), room)  # no slope, no room


def _greedy(slope: Tensor, room: Tensor, need: Tensor) -> Tensor:
    """The room of the steepest values until `need` is reached; the last one moves in part."""
    size = slope.shape[1] * slope.shape[2] * slope.shape[3]
    flat = tf.reshape(slope, [-1, size])
    order = tf.argsort(flat, axis=1, direction="DESCENDING", stable=True)
    steep = tf.gather(flat, order, batch_dims=1)
    width = tf.gather(tf.reshape(room, [-1, size]), order, batch_dims=1)
    gain = steep * width
    left = need[:, None] - tf.cumsum(gain, axis=1, exclusive=True)
    move = tf.clip_by_value(tf.math.divide_no_nan(left, steep), 0.0, width)
    back = tf.argsort(order, axis=1)
    return tf.reshape(tf.gather(move, back, batch_dims=1), tf.shape(slope))
