"""The geometry of a perturbation: one class for every norm, always together with the box [0, 1].

Shapes: images are [S, H, W, C], or [S, Q, H, W, C] where a function says so; per-row values [S].
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from advcli.lazy import Tensor, tf
from advcli.threats.budget import Norm
from advcli.threats.randomness import Random

_TINY = 1e-12
_UNCHANGED = 1e-6  # far below a level of 1/255
_L2_ROUNDS = 10  # it ends when no scale grows, as a rule after a few
_L1_ROUNDS = 32


def per_row(value: Tensor, like: Tensor) -> Tensor:
    """[S] (or [S, Q]) -> with as many trailing axes of length 1 as `like` has more."""
    extra = len(like.shape) - len(value.shape)
    return tf.reshape(value, [*_dims(value), *([1] * extra)])


def _dims(x: Tensor) -> list[int]:
    return [-1 if n is None else int(n) for n in x.shape]


def select(mask: Tensor, new: Tensor, old: Tensor) -> Tensor:
    """Rows of `new` where `mask` [S] is true, else of `old`; both of one shape.

    It copies whole rows. `tf.where` decides value by value, one after the other: on a CPU 15 to 30
    times as long for 128 images of 32x32x3 to 48x48x3.
    """
    return tf.raw_ops.Select(condition=mask, x=new, y=old)


def blend(mask: Tensor, new: Tensor, old: Tensor) -> Tensor:
    """`new` where `mask` (it may be broadcast) is true, else `old`, value by value; both finite.

    By arithmetic, which is exact; for why not by `tf.where`, see `select`.
    """
    share = tf.cast(mask, tf.float32)
    return share * new + (1.0 - share) * old


def norms_of(delta: Tensor, norm: Norm) -> Tensor:
    """The norm of each perturbation; the last three axes are H, W, C. L0 counts pixels."""
    if norm == "linf":
        return tf.reduce_max(tf.abs(delta), axis=[-3, -2, -1])
    if norm == "l2":
        return tf.sqrt(tf.reduce_sum(tf.square(delta), axis=[-3, -2, -1]))
    if norm == "l1":
        return tf.reduce_sum(tf.abs(delta), axis=[-3, -2, -1])
    # not `!= 0`: a compiler may fuse the subtraction and leave a rounding error behind
    changed = tf.reduce_any(tf.abs(delta) > _UNCHANGED, axis=-1)
    return tf.reduce_sum(tf.cast(changed, tf.float32), axis=[-2, -1])


def distances(point: np.ndarray, origin: np.ndarray) -> dict[str, float]:
    """All four distances in pixel space between two images, exactly as their files hold them.

    uint8 images are measured in integers and scaled once, so that 8 steps are 8/255 and no more.
    """
    if point.dtype == np.uint8:
        delta, unit = np.abs(point.astype(np.int64) - origin.astype(np.int64)), 255.0
    else:
        delta, unit = np.abs(point.astype(np.float64) - origin.astype(np.float64)), 1.0
    return {
        "linf": float(delta.max(initial=0)) / unit,
        "l2": math.sqrt(float((delta * delta).sum())) / unit,
        "l1": float(delta.sum()) / unit,
        "l0": float(np.count_nonzero(delta.any(axis=-1))),
    }


class Bounds(NamedTuple):
    """The ends of Linf ball ∩ box per value, [S, H, W, C], the same for a row's whole life.

    With the other norms, which have no such ends, of size [S, 0, 0, 0].
    """

    low: Tensor
    high: Tensor


def clipped(x: Tensor, bounds: Bounds) -> Tensor:
    """`x` within bounds of its own shape; `tf.clip_by_value` goes over the images twice."""
    return tf.raw_ops.ClipByValue(t=x, clip_value_min=bounds.low, clip_value_max=bounds.high)


class Space:
    """A norm over images of shape (H, W, C)."""

    def __init__(self, norm: Norm, shape: Sequence[int]) -> None:
        self.norm = norm
        self.shape = tuple(shape)
        self.size = math.prod(self.shape)
        self._known: tuple[Tensor, Tensor, Bounds] | None = None

    def knowing(self, x0: Tensor, eps: Tensor, bounds: Bounds) -> Space:
        """The same space, spared the work of finding the bounds of just these tensors again."""
        space = Space(self.norm, self.shape)
        space._known = (x0, eps, bounds)
        return space

    def bounds(self, x0: Tensor, eps: Tensor) -> Bounds:
        """See `Bounds`; x0 [S, H, W, C], eps [S]."""
        if self._known is not None and self._known[0] is x0 and self._known[1] is eps:
            return self._known[2]
        if self.norm != "linf":
            nothing = tf.zeros([tf.shape(eps)[0], 0, 0, 0])
            return Bounds(nothing, nothing)
        e = per_row(eps, x0)
        return Bounds(tf.maximum(x0 - e, 0.0), tf.minimum(x0 + e, 1.0))

    def distance(self, x: Tensor, x0: Tensor) -> Tensor:
        """‖x − x0‖ per image; x [S, H, W, C] or [S, Q, H, W, C], x0 of as many axes."""
        return norms_of(x - x0, self.norm)

    # --- projections -------------------------------------------------------------------------

    def project(self, x: Tensor, x0: Tensor, eps: Tensor) -> Tensor:
        """The point of the ball ∩ box that is nearest to `x` in the Euclidean sense; eps [S]."""
        if self.norm == "linf":
            return clipped(x, self.bounds(x0, eps))
        if self.norm == "l2":
            return _project_l2(x, x0, eps)
        if self.norm == "l1":
            return _project_l1(x, x0, eps)
        return _project_l0(x, x0, eps)

    # --- directions --------------------------------------------------------------------------

    def farthest(self, g: Tensor, x0: Tensor, eps: Tensor) -> Tensor:
        """The point of ball ∩ box at which the linear function with gradient `g` is largest.

        L1: the room up to the box is filled in the order of |g| until eps is spent. L0: the
        pixels with the most to gain go to their corner of the box.
        """
        corner = tf.cast(g > 0.0, tf.float32)
        if self.norm == "linf":
            return self.project(x0 + per_row(eps, g) * tf.sign(g), x0, eps)
        if self.norm == "l2":
            # beyond every ball: the projection of a far point along g maximises ⟨g, ·⟩
            return self.project(x0 + 1e3 * normalise_l2(g), x0, eps)
        if self.norm == "l0":
            gain = tf.reduce_sum(tf.abs(g) * tf.abs(corner - x0), axis=-1)
            best = _largest(tf.reshape(gain, [-1, self.shape[0] * self.shape[1]]), eps, self.shape)
            return blend(best > 0.0, corner, x0)
        size = tf.reshape(tf.abs(g), [-1, self.size])
        order = tf.argsort(size, axis=1, direction="DESCENDING", stable=True)
        room = tf.gather(tf.reshape(tf.abs(corner - x0), [-1, self.size]), order, batch_dims=1)
        spent = tf.cumsum(room, axis=1, exclusive=True)
        moved = tf.clip_by_value(eps[:, None] - spent, 0.0, room)
        moved = tf.gather(moved, tf.argsort(order, axis=1), batch_dims=1)
        return self.project(x0 + tf.sign(g) * tf.reshape(moved, [-1, *self.shape]), x0, eps)

    def steepest(self, g: Tensor, x: Tensor | None, share: Tensor | None = None) -> Tensor:
        """The direction of unit norm along which a function with gradient `g` grows fastest.

        L1: that would move one value alone. As in SLIDE (Tramèr & Boneh, 1904.13000) the step is
        spread evenly over the largest gradients whose values can still move from `x` (None: over
        the largest, whether the box stops them or not): the `share` [S] of all values (None: one
        value). L0 has no steepest direction: the L2 one is returned.
        """
        if self.norm == "linf":
            return tf.sign(g)
        if self.norm == "l1":
            return self._sparse(g, x, share)
        return normalise_l2(g)

    def _sparse(self, g: Tensor, x: Tensor | None, share: Tensor | None) -> Tensor:
        size = tf.abs(g)
        if x is not None:
            stuck = ((x <= 0.0) & (g < 0.0)) | ((x >= 1.0) & (g > 0.0))
            size *= tf.cast(~stuck, tf.float32)
        ranked = tf.sort(tf.reshape(size, [-1, self.size]), axis=1, direction="DESCENDING")
        count = tf.zeros_like(ranked[:, 0]) if share is None else tf.round(share * self.size)
        last = tf.cast(tf.clip_by_value(count, 1.0, float(self.size)), tf.int32) - 1
        threshold = tf.gather(ranked, last, axis=1, batch_dims=1)
        kept = (size >= per_row(threshold, size)) & (size > 0.0)
        kept = tf.cast(kept, tf.float32) * tf.sign(g)
        return kept / per_row(tf.maximum(norms_of(kept, "l1"), 1.0), kept)

    def sample(self, random: Random, eps: Tensor, stream: int = 0) -> Tensor:
        """A perturbation drawn uniformly from the ball, before the box; eps [S].

        L2 and L1: uniform in the ball's volume. L0: `eps` pixels at random, uniform in ±1.
        """
        if self.norm == "linf":
            e = per_row(eps, tf.zeros([1, *self.shape]))
            return (2.0 * random.uniform(self.shape, stream) - 1.0) * e
        radius = random.uniform((), stream + 500) ** (1.0 / self.size) * eps
        if self.norm == "l2":
            direction = normalise_l2(random.normal(self.shape, stream))
            return direction * per_row(radius, direction)
        if self.norm == "l1":
            # Barthe et al. 2005: exponentials with random signs, divided by their sum
            size = -tf.math.log(1.0 - random.uniform(self.shape, stream))
            direction = size * random.signs(self.shape, stream + 501)
            direction /= per_row(tf.reduce_sum(size, axis=[1, 2, 3]), direction)
            return direction * per_row(radius, direction)
        noise = 2.0 * random.uniform(self.shape, stream) - 1.0
        order = random.uniform((self.shape[0] * self.shape[1],), stream + 502)
        return noise * _largest(order, eps, self.shape)


def normalise_l2(g: Tensor) -> Tensor:
    """g/‖g‖₂ per image; zero stays zero, and nothing overflows or underflows on the way."""
    axes = list(range(len(g.shape) - 3, len(g.shape)))
    peak = tf.reduce_max(tf.abs(g), axis=axes, keepdims=True)
    scaled = tf.math.divide_no_nan(g, peak)
    length = tf.sqrt(tf.reduce_sum(tf.square(scaled), axis=axes, keepdims=True))
    return tf.math.divide_no_nan(scaled, length)


def _project_l2(x: Tensor, x0: Tensor, eps: Tensor) -> Tensor:
    """x0 + clip(s·δ), with the largest s ≤ 1 that stays in the ball.

    The box makes ‖clip(s·δ)‖ piecewise smooth in s. Starting below, each round solves for s with
    the values now at the box held fixed; s grows monotonically, so every round is feasible.
    """
    delta = x - x0
    low, high = -x0, 1.0 - x0
    square_eps = tf.square(eps)
    squares = tf.square(delta)
    length = norms_of(delta, "l2")
    scale = tf.minimum(1.0, tf.math.divide_no_nan(eps, length))
    # a perturbation of zero has no direction: any scale does
    scale = tf.where(length > 0.0, scale, 1.0)

    def grown(scale: Tensor) -> Tensor:
        moved = delta * per_row(scale, delta)
        clipped = tf.clip_by_value(moved, low, high)
        free = tf.cast(tf.equal(moved, clipped), tf.float32)
        fixed = tf.reduce_sum((1.0 - free) * tf.square(clipped), axis=[1, 2, 3])
        loose = tf.reduce_sum(free * squares, axis=[1, 2, 3])
        room = tf.maximum(square_eps - fixed, 0.0)
        longer = tf.sqrt(tf.where(loose > _TINY, room / tf.maximum(loose, _TINY), 1.0))
        return tf.clip_by_value(tf.maximum(scale, longer), 0.0, 1.0)

    # what a round leaves as it was, all further ones do
    _, scale = tf.while_loop(
        lambda before, scale: tf.reduce_any(scale > before),
        lambda before, scale: (scale, grown(scale)),
        (scale - 1.0, scale),
        maximum_iterations=_L2_ROUNDS,
    )
    return tf.clip_by_value(x0 + delta * per_row(scale, delta), 0.0, 1.0)


def _project_l1(x: Tensor, x0: Tensor, eps: Tensor) -> Tensor:
    """x0 + sign(δ)·clip(|δ| − λ, 0, room), with the smallest λ ≥ 0 that stays in the ball.

    λ by bisection, from the side that stays within: 32 halvings leave nothing for float32.
    """
    delta = x - x0
    size = tf.abs(delta)
    room = tf.abs(tf.cast(delta > 0.0, tf.float32) - x0)

    def shrunk(shift: Tensor) -> Tensor:
        return tf.clip_by_value(size - per_row(shift, size), 0.0, room)

    def total(shift: Tensor) -> Tensor:
        return tf.reduce_sum(shrunk(shift), axis=[1, 2, 3])

    low = tf.zeros_like(eps)
    high = tf.reduce_max(size, axis=[1, 2, 3])

    def halve(low: Tensor, high: Tensor) -> tuple[Tensor, Tensor]:
        middle = 0.5 * (low + high)
        over = total(middle) > eps
        return tf.where(over, middle, low), tf.where(over, high, middle)

    low, high = tf.while_loop(
        lambda *_: tf.constant(True), halve, (low, high), maximum_iterations=_L1_ROUNDS
    )
    shift = tf.where(total(tf.zeros_like(eps)) <= eps, 0.0, high)
    return tf.clip_by_value(x0 + tf.sign(delta) * shrunk(shift), 0.0, 1.0)


def _project_l0(x: Tensor, x0: Tensor, eps: Tensor) -> Tensor:
    """Keep the `eps` pixels whose return to x0 would cost the most, each clipped to the box."""
    clipped = tf.clip_by_value(x, 0.0, 1.0)
    gain = tf.reduce_sum(tf.square(x - x0) - tf.square(x - clipped), axis=-1)
    pixels = int(gain.shape[1]) * int(gain.shape[2])
    keep = _largest(tf.reshape(gain, [-1, pixels]), eps, x.shape[1:])
    return blend(keep > 0.0, clipped, x0)


def _largest(value: Tensor, count: Tensor, shape: Sequence[int]) -> Tensor:
    """1.0 at the `count` [S] largest entries of `value` [S, H·W] (ties: the first), else 0."""
    order = tf.argsort(value, axis=1, direction="DESCENDING", stable=True)
    rank = tf.argsort(order, axis=1)
    chosen = tf.cast(rank, tf.float32) < tf.floor(count + 0.5)[:, None]
    return tf.reshape(tf.cast(chosen, tf.float32), [-1, shape[0], shape[1], 1])
