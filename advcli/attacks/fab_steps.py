"""What `fab` and `fab-t` share: the biased step, the backward step, restarts, the final search.

Both of Croce & Hein, 1907.02044, and of the authors' code (fra31/auto-attack, `fab_base.py`).
"""

from __future__ import annotations

from typing import NamedTuple

from advcli.attacks.base import Oracle, Row
from advcli.attacks.linearise import least_step
from advcli.lazy import Tensor, tf
from advcli.threats.hyperplane import to_hyperplane
from advcli.threats.randomness import Random
from advcli.threats.space import Space, norms_of, per_row, select

ALPHA_MAX = 0.1  # the most that x0 may pull
OVERSHOOT = 1.05  # η
BACKWARD = 0.9  # β
ROUNDS = 6  # halvings of the last tenth of the way: 0.2 % of the distance
# half the way of the authors' restarts while nothing has been found
_START = {"linf": 0.15, "l2": 0.5, "l1": 2.5}


class Near(NamedTuple):
    """The closest point of the goal so far."""

    x: Tensor  # [S, H, W, C], as it was asked; x0 while there is none
    distance: Tensor  # [S]; inf while there is none


def none_yet(row: Row) -> Near:
    return Near(row.x0, tf.fill(tf.shape(row.eps), float("inf")))


def nearer(near: Near, row: Row, x: Tensor, met: Tensor, space: Space, oracle: Oracle) -> Near:
    """`near`, or x where it meets the goal and is closer."""
    asked = oracle.rounded(x)
    distance = space.distance(asked, row.x0)
    better = met & (distance < near.distance)
    return Near(select(better, asked, near.x), tf.where(better, distance, near.distance))


def towards_boundary(
    row: Row, x: Tensor, normal: Tensor, value: Tensor, space: Space, resolution: float
) -> Tensor:
    """The step: from x and from x0 onto the linearised boundary, a little beyond, and mixed.

    `value` [S] is the loss at x, > 0 beyond the boundary, `normal` its gradient.
    """
    gap = -value
    behind = tf.reduce_sum(normal * (x - row.x0), axis=[1, 2, 3])
    # both at once: small operations cost as much as large ones
    points, normals = tf.concat([x, row.x0], axis=0), tf.concat([normal, normal], axis=0)
    both = to_hyperplane(points, normals, tf.concat([gap, gap + behind], axis=0), space.norm)
    d, d0 = tf.split(both, 2)
    here = tf.maximum(norms_of(d, space.norm), 1e-8)
    there = tf.maximum(norms_of(d0, space.norm), 1e-8)
    alpha = per_row(tf.minimum(here / (here + there), ALPHA_MAX), x)
    # differs from the authors: a step that rounding undoes would be taken for ever
    d *= per_row(tf.where(gap > 0.0, tf.maximum(1.0, least_step(space, resolution) / here), 1.0), d)
    mixed = (1.0 - alpha) * (x + OVERSHOOT * d) + alpha * (row.x0 + OVERSHOOT * d0)
    return tf.clip_by_value(mixed, 0.0, 1.0)


def backward(row: Row, x: Tensor) -> Tensor:
    return row.x0 + BACKWARD * (x - row.x0)


def random_start(row: Row, near: Near, space: Space, random: Random) -> Tensor:
    """A point half as far away as the closest one found."""
    if space.norm == "linf":
        drawn = 2.0 * random.uniform(space.shape) - 1.0
    else:
        drawn = random.normal(space.shape)
    found = near.distance < float("inf")
    radius = tf.where(found, 0.5 * near.distance, _START[space.norm])
    drawn *= per_row(radius / norms_of(drawn, space.norm), drawn)
    return tf.clip_by_value(row.x0 + drawn, 0.0, 1.0)


class Bracket(NamedTuple):
    """The final search: shares of the way from x0 to the closest point, [S] each."""

    low: Tensor
    high: Tensor


def bracket(row: Row) -> Bracket:
    """A tenth shorter has been asked about, by the backward step, and was not nearer."""
    one = tf.ones_like(row.eps)
    return Bracket(BACKWARD * one, one)


def middle(row: Row, near: Near, between: Bracket) -> Tensor:
    return row.x0 + per_row(0.5 * (between.low + between.high), row.x0) * (near.x - row.x0)


def halved(between: Bracket, met: Tensor, active: Tensor) -> Bracket:
    share = 0.5 * (between.low + between.high)
    return Bracket(
        tf.where(active & ~met, share, between.low), tf.where(active & met, share, between.high)
    )
